"""Where a job keeps its files: a folder on this machine (`Disk`), or one in a bucket (`weevit.store.bucket`).

A file appears whole or not at all. What a job says that it has stands in its manifests; a listing is asked for names
only, and a file that a listing lacks is at worst written again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO, Protocol, runtime_checkable

from weevit.store import folder
from weevit.store.files import append_line, replace_file, sha256_file, sync
from weevit.store.folder import Kind, clear_leftovers
from weevit.store.locks import is_taken
from weevit.store.own import open_own, read_own


@runtime_checkable
class Place(Protocol):
    """A folder of files, by names relative to it; its text is the path or address as the user gave it.

    Writing raises OSError, and reading what is not there FileNotFoundError.
    """

    @property
    def checks_bytes(self) -> bool:
        """Whether the place itself finds bytes that changed, so that a size tells whether a file is whole."""
        ...

    def names(self, part: str = "") -> list[str]:
        """The names in the folder, or in a folder in it; hidden ones too."""
        ...

    def size(self, name: str) -> int | None:
        """Bytes of a file; None where there is no plain file of that name."""
        ...

    def read(self, name: str, limit: int) -> bytes:
        """A file's bytes; MalformedFileError for more than `limit`, and for what is no plain file."""
        ...

    def lines(self, name: str, limit: int) -> Iterator[bytes]:
        """A file's lines, as a stream; errors as of `read`."""
        ...

    def open(self, name: str) -> BinaryIO:
        """A file, readable and seekable; the caller closes it."""
        ...

    def sha256(self, name: str) -> str:
        """Hex sha256 of a file's bytes."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Write a file, or replace it."""
        ...

    def make(self, name: str, write: Callable[[Path], object]) -> tuple[int, str]:
        """Write a file whose content `write` writes to a path on this machine; returns its bytes and their sha256."""
        ...

    def append(self, name: str, line: bytes) -> None:
        """Append a line to a file of lines. In a bucket that is a file of this holder's, of a similar name."""
        ...

    def remove(self, name: str) -> None:
        """Delete a file, if it is there."""
        ...

    def check(self, kind: Kind, inputs: Iterable[object], lock: str) -> None:
        """Refuse a folder that `held` would refuse, with its errors, before anything is computed."""
        ...

    def refuse_strange(self, kind: Kind) -> None:
        """Refuse a folder that leads out of itself; UsageError."""
        ...

    def held(self, kind: Kind, inputs: Iterable[object], lock: str) -> AbstractContextManager[None]:
        """Hold the folder against other processes; as `weevit.store.folder.held`."""
        ...

    def ready(self, part: str, alone: bool) -> None:
        """Make a folder in it; the only holder also clears away what killed ones left."""
        ...

    def is_taken(self, lock: str) -> bool | None:
        """Whether a process holds the lock now; None where that cannot be determined."""
        ...


class Disk:
    """A folder on this machine."""

    checks_bytes = False

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def names(self, part: str = "") -> list[str]:
        """The names in the folder, or in a folder in it; hidden ones too."""
        try:
            return sorted(os.listdir(self.path / part))  # noqa: PTH208 - names, not paths
        except (FileNotFoundError, NotADirectoryError):
            return []

    def size(self, name: str) -> int | None:
        """Bytes of a file; None for what is no plain file."""
        try:
            status = (self.path / name).lstat()
        except OSError:
            return None
        return status.st_size if S_ISREG(status.st_mode) else None

    def read(self, name: str, limit: int) -> bytes:
        """As `weevit.store.own.read_own`."""
        return read_own(self.path / name, limit)

    def lines(self, name: str, limit: int) -> Iterator[bytes]:
        """A file's lines, as a stream."""
        with open_own(self.path / name, limit) as file:
            yield from file

    def open(self, name: str) -> BinaryIO:
        """A file."""
        return (self.path / name).open("rb")

    def sha256(self, name: str) -> str:
        """Hex sha256 of a file's bytes."""
        return sha256_file(self.path / name)

    def write(self, name: str, content: bytes) -> None:
        """Write a file, or replace it; synced."""
        replace_file(self.path / name, lambda tmp: tmp.write_bytes(content))

    def make(self, name: str, write: Callable[[Path], object]) -> tuple[int, str]:
        """Write a file beside the folders in it, in which there are only ever whole files, then rename it."""
        path = self.path / name
        replace_file(path, write, self.path)
        return path.stat().st_size, sha256_file(path)

    def append(self, name: str, line: bytes) -> None:
        """Append a line, synced. An incomplete last line, as a power cut leaves it, is cut off before."""
        path = self.path / name
        if path.exists():
            _mend(path)
        append_line(path, line)

    def remove(self, name: str) -> None:
        """Delete a file, if it is there."""
        (self.path / name).unlink(missing_ok=True)

    def check(self, kind: Kind, inputs: Iterable[object], lock: str) -> None:
        """As `weevit.store.folder.check_folder`."""
        folder.check_folder(self.path, kind, inputs, lock)

    def refuse_strange(self, kind: Kind) -> None:
        """Refuse links that lead out of the folder."""
        folder.refuse_strange(self.path, kind)

    def held(self, kind: Kind, inputs: Iterable[object], lock: str) -> AbstractContextManager[None]:
        """As `weevit.store.folder.held`."""
        return folder.held(self.path, kind, inputs, lock)

    def ready(self, part: str, alone: bool) -> None:
        """Make a folder in it, synced also where another worker made it: its name must be on the disk too."""
        (self.path / part).mkdir(exist_ok=True)
        sync(self.path)
        if alone:
            clear_leftovers(self.path)

    def is_taken(self, lock: str) -> bool | None:
        """As `weevit.store.locks.is_taken`."""
        return is_taken(self.path / lock)


def _mend(path: Path) -> None:
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        if end == 0:
            return
        file.seek(end - 1)
        if file.read(1) != b"\n":
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
