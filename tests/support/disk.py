"""A disk that forgets: what a power cut leaves of a folder, by what was synced and not by what the code believes.

`watch` records what happens below a folder (files opened for writing, renamed, removed and synced, in their order) and
what has reached the disk by each `os.fsync`. A file's bytes are safe as they were at its last fsync; a name is safe
when the folder that holds it was synced after it appeared. At every event it keeps what a power cut would leave:

    strict   names and bytes that were synced, and nothing else
    names    every name, but of the bytes only what was synced: file systems write names first

A test then opens each of these with the reader, which must find the state before or the state after, never a mixture.
It can also make an event fail, as a full or a broken disk does. POSIX only, and only what this process writes.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

needs_posix = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks files up in /proc")

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

Tree = dict[str, bytes | None]
"""Path below the folder -> its bytes; None for a folder."""


@dataclass
class Watch:
    """What happened below a folder.

    Attributes:
        folder: watched, with all below it.
        events: `write a`, `rename a b`, `remove a`, `sync a`, in their order; temporary names end in `.tmp` alone.
        left: a power cut's (strict, names) before the first event and after each.
        fail_at: the number of the event, from 0, that fails instead of happening; None for none.
        code: with which error of the operating system.
    """

    folder: Path
    events: list[str] = field(default_factory=list)
    left: list[tuple[Tree, Tree]] = field(default_factory=list)
    fail_at: int | None = None
    code: int = errno.ENOSPC
    _bytes: dict[tuple[int, int], bytes] = field(default_factory=dict)
    _names: dict[tuple[int, int], dict[str, tuple[int, int]]] = field(default_factory=dict)
    _held: list[int] = field(default_factory=list)
    _busy: bool = False

    def trees(self) -> list[Tree]:
        """All that a power cut could leave at some moment, without repetition."""
        found: list[Tree] = []
        for tree in (tree for pair in self.left for tree in pair):
            if tree not in found:
                found.append(tree)
        return found

    # ---- what happens

    def happens(self, event: str, *paths: Any) -> None:
        """An event, before it takes place; fails if it is its turn."""
        if self._busy:
            return
        names = [self._name(path) for path in paths]
        if None in names:
            return
        self._busy = True
        try:
            self.events.append(" ".join([event, *map(str, names)]))
            self.left.append((self._strict(self.folder), self._as_named()))
        finally:
            self._busy = False
        if self.fail_at == len(self.events) - 1:
            raise OSError(self.code, os.strerror(self.code), str(paths[0]))

    def synced(self, handle: int) -> None:
        """A file or folder has reached the disk as it is now."""
        path = Path(f"/proc/self/fd/{handle}").readlink()
        if self._name(path) is None:
            return
        self._busy = True
        try:
            status = os.fstat(handle)
            key = status.st_dev, status.st_ino
            self._held.append(os.dup(handle))  # while it is open, no other file gets its number
            if stat.S_ISDIR(status.st_mode):
                self._names[key] = {entry.name: _key(entry) for entry in path.iterdir()}
            else:
                self._bytes[key] = path.read_bytes()
        finally:
            self._busy = False

    def begin(self) -> None:
        """All that is there has been there for long."""
        for path in [self.folder, *self.folder.rglob("*")]:
            handle = os.open(path, os.O_RDONLY)
            self.synced(handle)
            os.close(handle)

    def end(self) -> None:
        """What a power cut leaves now, too; and give back what was held."""
        self.left.append((self._strict(self.folder), self._as_named()))
        for handle in self._held:
            os.close(handle)

    def _name(self, path: Any) -> str | None:
        if not isinstance(path, str | os.PathLike):
            return None
        found = Path(os.path.abspath(path))  # noqa: PTH100 - links stay what they are
        if not found.is_relative_to(self.folder):
            return None
        return re.sub(r"\.[0-9a-f]{8}(?=\.(tmp|old)\b)", "", found.relative_to(self.folder).as_posix())

    # ---- what is left

    def _strict(self, folder: Path) -> Tree:
        found: Tree = {}

        def add(key: tuple[int, int], name: str) -> None:
            for entry, own in self._names.get(key, {}).items():
                path = f"{name}{entry}"
                if own in self._names or own in self._folders:
                    found[path] = None
                    add(own, f"{path}/")
                else:
                    found[path] = self._bytes.get(own, b"")

        self._folders = {_key(path) for path in folder.rglob("*") if path.is_dir()}
        add(_key(folder), "")
        return found

    def _as_named(self) -> Tree:
        return {
            path.relative_to(self.folder).as_posix(): None if path.is_dir() else self._bytes.get(_key(path), b"")
            for path in sorted(self.folder.rglob("*"))
        }


def _key(path: Path) -> tuple[int, int]:
    status = os.lstat(path)
    return status.st_dev, status.st_ino


# ---- how it is seen

_watching: list[Watch] = []
_hooked: list[bool] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watching:
        return
    watch = _watching[-1]
    if event == "open" and (arguments[2] or 0) & _WRITING:
        watch.happens("write", arguments[0])
    elif event == "os.rename":
        watch.happens("rename", arguments[0], arguments[1])
    elif event in ("os.remove", "os.rmdir"):
        watch.happens("remove", arguments[0])


@contextmanager
def watch(folder: Path, fail_at: int | None = None, code: int = errno.ENOSPC) -> Iterator[Watch]:
    """Watch a folder, which is there; see `Watch`."""
    if not _hooked:
        sys.addaudithook(_hook)  # it cannot be taken back, and does nothing while nobody watches
        _hooked.append(True)
    seen = Watch(folder.absolute(), fail_at=fail_at, code=code)
    real = os.fsync

    def fsync(handle: Any) -> None:
        number = handle if isinstance(handle, int) else handle.fileno()
        seen.happens("sync", Path(f"/proc/self/fd/{number}").readlink())
        real(number)
        seen.synced(number)

    seen.begin()
    _watching.append(seen)
    os.fsync = fsync
    try:
        yield seen
    finally:
        os.fsync = real
        _watching.remove(seen)
        seen.end()


def build(tree: Tree, folder: Path) -> Path:
    """Make a folder of what a power cut left."""
    folder.mkdir(parents=True)
    for name, data in tree.items():
        path = folder / name
        if data is None:
            path.mkdir(exist_ok=True)
        else:
            path.write_bytes(data)
    return folder
