"""A lock is had by one, refuses the next with that one's words, and can be had again."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from weevit.errors import UsageError
from weevit.store.locks import is_taken, take_lock

pytest.importorskip("filelock")

BUSY = UsageError("Somebody works here.", "Wait.")


def test_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    assert not is_taken(path)
    assert not path.exists()  # asking leaves nothing
    lock = take_lock(path, BUSY)
    assert is_taken(path)
    with pytest.raises(UsageError, match="Somebody works here") as refused:
        take_lock(path, BUSY)
    assert refused.value is BUSY
    lock.release()
    assert not is_taken(path)
    take_lock(path, BUSY).release()


def test_what_cannot_be_made_is_the_systems_error(tmp_path: Path) -> None:
    (tmp_path / ".lock").mkdir()
    with pytest.raises(OSError, match="directory"):
        take_lock(tmp_path / ".lock", BUSY)


def test_a_lock_that_cannot_be_looked_at_is_not_called_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read-only mount, somebody else's file: whoever asks must not take the folder for idle."""
    path = tmp_path / ".lock"
    path.write_bytes(b"")
    real = os.open

    def refuses(name: Any, *more: Any, **others: Any) -> int:
        if Path(os.fspath(name)) == path:
            raise PermissionError(13, "Permission denied", str(path))
        return real(name, *more, **others)

    monkeypatch.setattr(os, "open", refuses)
    assert is_taken(path) is not False


def test_without_the_systems_locks_a_lock_that_cannot_be_taken_is_not_called_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows, which has no fcntl; what stands in the lock's place is a folder."""
    monkeypatch.setitem(sys.modules, "fcntl", None)
    assert is_taken(tmp_path) is None


def test_what_stands_in_a_locks_place_is_neither_followed_nor_waited_for(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    os.mkfifo(tmp_path / "pipe")
    assert is_taken(tmp_path / "link") is None
    is_taken(tmp_path / "pipe")  # without a writer, opening it would last for ever
