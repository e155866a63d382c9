"""Files that hold or name inputs (archives, tables, lists), on this machine or at an address."""

from __future__ import annotations

import io
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from weevit.errors import MissingImageError, TruncatedImageError, UnreadableImageError
from weevit.images.decode import Limits, check_bytes
from weevit.images.source import Stored, printable, stamp, why_no_path


class File(Protocol):
    """A file that holds or names inputs: an archive, a table, a list. Local or remote."""

    @property
    def name(self) -> str:
        """The path or address as the user gave it."""
        ...

    def open(self) -> BinaryIO:
        """The file, readable and seekable; the caller closes it.

        Raises:
            ImageError: the file is absent or unreadable.
        """
        ...

    def fingerprint(self) -> str:
        """A short text that changes when the file does."""
        ...

    def beside(self, entry: str) -> Path | Stored:
        """The file that a line of this file names: a path relative to this file's folder, or an address.

        Raises:
            ImageError: an address that may not be fetched, or a text that is no path; only this line has no answer.
        """
        ...


@dataclass(frozen=True)
class LocalFile:
    """A file on this machine."""

    path: Path

    @property
    def name(self) -> str:
        """The path as the user gave it."""
        return printable(self.path)

    def open(self) -> BinaryIO:
        """The file; refused unless regular, since opening a pipe may wait for ever."""
        try:
            if not stat.S_ISREG(self.path.stat().st_mode):
                raise UnreadableImageError(f"{self.path}: a pipe, socket or device, not a file")
            return self.path.open("rb")
        except (FileNotFoundError, NotADirectoryError) as error:
            raise MissingImageError(f"{self.path}: no such file, or a link that leads nowhere") from error
        except OSError as error:
            raise UnreadableImageError(f"{self.path}: {error.strerror or error}") from error

    def fingerprint(self) -> str:
        """Size and time of modification."""
        return stamp(self.path)

    def beside(self, entry: str) -> Path | Stored:
        """The file that a line of this file names: a path relative to this file's folder, or an address."""
        return listed(entry, self.path.parent)


@dataclass(frozen=True)
class Slice:
    """Consecutive bytes of a file: a member of an archive."""

    file: File
    offset: int
    size: int
    stamp: str

    def read(self, limits: Limits) -> bytes:
        """The bytes of the member."""
        check_bytes(self.size, limits)
        with self.file.open() as file, reading(self.file.name):
            file.seek(self.offset, io.SEEK_SET)
            data = file.read(self.size)
        if len(data) < self.size:
            raise TruncatedImageError(f"{self.file.name} ends in the middle of this member")
        return data

    def fingerprint(self) -> str:
        """The archive's stamp, the offset and the size."""
        return f"{self.stamp}-{self.offset:x}-{self.size:x}"


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn errors of the disk into UnreadableImageErrors; opening a file does not find them."""
    try:
        yield
    except OSError as error:
        raise UnreadableImageError(f"{name}: {error.strerror or error}") from error


def listed(entry: str, folder: Path) -> Path | Stored:
    """The path (relative to `folder`) or address that a list, table or mapping names; ImageError for an invalid one."""
    if "://" in entry:
        from weevit.images.remote import listed_file

        return listed_file(entry)
    if wrong := why_no_path(entry):
        raise wrong
    return folder / entry
