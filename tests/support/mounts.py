"""A small disk of memory, which can be full or may only be read; needs the right to mount."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

SIZE = 8 << 20


@contextmanager
def small_disk(path: Path) -> Iterator[Path]:
    """Mount one of 8 MB; the test skips where that is not allowed."""
    path.mkdir(parents=True, exist_ok=True)
    if _mount("-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", path):
        pytest.skip("needs the right to mount a disk")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True, capture_output=True)


def fill(path: Path) -> None:
    """Leave no room on it for a single byte of a file; names are free."""
    with suppress(OSError), (path / ".filler").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 16))
    with suppress(OSError), (path / ".filler").open("ab", buffering=0) as file:
        while True:
            file.write(bytes(512))


def make_read_only(path: Path) -> None:
    """From now on it may only be read."""
    assert not _mount("-o", "remount,ro", path)


def _mount(*words: object) -> int:
    try:
        return subprocess.run(["mount", *map(str, words)], check=False, capture_output=True).returncode
    except OSError:
        return 1
