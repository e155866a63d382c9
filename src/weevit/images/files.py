"""Files that hold inputs or name them, on this machine or at an address: archives, tables, lists."""

from __future__ import annotations

import io
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from weevit.errors import MissingImageError, TooLargeImageError, TruncatedImageError, UnreadableImageError
from weevit.images.decode import Limits
from weevit.images.source import Stored, printable, stamp


class File(Protocol):
    """A file that holds inputs or names them: an archive, a table, a list. Local or remote."""

    @property
    def name(self) -> str:
        """What the user called it."""
        ...

    def open(self) -> BinaryIO:
        """The file, to be read and sought in; the caller closes it.

        Raises:
            ImageError: it is not there, or not to be read.
        """
        ...

    def fingerprint(self) -> str:
        """As `Stored.fingerprint`."""
        ...

    def beside(self, entry: str) -> Path | Stored:
        """What a line of this file means: a path from this file's folder on, an absolute path, or an address.

        Raises:
            ImageError: an address that may not be fetched; the line has no answer, the others do.
        """
        ...


@dataclass(frozen=True)
class LocalFile:
    """A file on this machine."""

    path: Path

    @property
    def name(self) -> str:
        """The path as it was given."""
        return printable(self.path)

    def open(self) -> BinaryIO:
        """The file; only a regular one, since a pipe would wait for ever."""
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
        """The path from this file's folder on."""
        if "://" in entry:
            from weevit.images.remote import listed_file

            return listed_file(entry)
        return self.path.parent / entry


@dataclass(frozen=True)
class Slice:
    """A run of bytes in a file: a member of an archive."""

    file: File
    offset: int
    size: int
    stamp: str

    def read(self, limits: Limits) -> bytes:
        """The bytes."""
        if self.size > limits.max_bytes:
            raise TooLargeImageError(f"{self.size:,} bytes; the limit is {limits.max_bytes:,}")
        with self.file.open() as file:
            file.seek(self.offset, io.SEEK_SET)
            data = file.read(self.size)
        if len(data) < self.size:
            raise TruncatedImageError(f"{self.file.name} ends in the middle of this member")
        return data

    def fingerprint(self) -> str:
        """The archive's, and the place in it."""
        return f"{self.stamp}-{self.offset:x}-{self.size:x}"


def named_file(word: str) -> File:
    """The file at a path or an address that the user gave; nothing is opened.

    Raises:
        UsageError: an address of a kind that is not read.
        MissingExtraError: fsspec, or its package for this kind, is not installed.
    """
    if "://" in word:
        from weevit.images.remote import remote_file

        return remote_file(word)
    return LocalFile(Path(word))
