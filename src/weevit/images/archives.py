"""WebDataset tars: pictures in archives, each with the members of the same key beside it.

A member is read where it lies; nothing is ever unpacked onto the disk. `a/0001.jpg` and `a/0001.cls` have one key, and
the second gives the first its class. (The layout: https://github.com/webdataset/webdataset, README.)
"""

from __future__ import annotations

import tarfile
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from pathlib import PurePosixPath
from typing import Any

from weevit.errors import ImageError, TooLargeImageError, TruncatedImageError, UnreadableImageError
from weevit.images.decode import DEFAULT_LIMITS
from weevit.images.formats import EXTENSIONS
from weevit.images.source import File, Slice, Source

_MAX_CLASS_BYTES = 1000
_MAX_NAME_BYTES = 1 << 20
_NAMES = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
"""Headers that only hold a long name, or what else is said about the member behind them."""


def read_tar(file: File, left_out: Counter[str]) -> Iterator[Source]:
    """The pictures in an archive, in its order, named `archive.tar/member.jpg`.

    Bad members are sources that raise: a link or device under a picture's name, a name that leads out of the archive,
    a member that the archive is too short for. An archive that breaks off gives one more source, for what is lost.

    Args:
        file: the archive; a compressed one is read from its beginning to its end, and each member as it comes.
        left_out: counts the members that are no pictures by their endings.

    Raises:
        ImageError: it cannot be opened, or is no archive.
    """
    packed = file.name.lower().endswith("gz")
    with file.open() as handle:
        size = handle.seek(0, 2)
        handle.seek(0)
        try:
            archive = tarfile.open(fileobj=handle, mode="r|gz" if packed else "r:", tarinfo=_Header)  # noqa: SIM115
        except Exception as error:  # what reading trips over: bytes that are no archive may be anything
            raise UnreadableImageError(
                f"{file.name}: not a tar archive, or one without a beginning: {error}"
            ) from error
        stamp = file.fingerprint()
        members = _Members(archive, packed)
        for _, group in groupby(members, key=lambda member: _key(member.name)):
            pictures: list[Source] = []
            target: str | None = None
            for member in group:
                ending = PurePosixPath(member.name).suffix.lower()
                if ending in EXTENSIONS:
                    end = None if packed else size
                    pictures.append(
                        Source(f"{file.name}/{_clean(member.name)}", _value(archive, file, stamp, member, end))
                    )
                elif ending == ".cls" and member.isfile() and member.size <= _MAX_CLASS_BYTES:
                    target = _text(archive, member)
                elif member.isfile():
                    left_out[ending] += 1
            yield from (Source(picture.name, picture.value, target) for picture in pictures)
        if members.broken:
            yield Source(
                f"{file.name}#rest", TruncatedImageError(f"{file.name}: {members.broken}; what follows is lost")
            )


class _Header(tarfile.TarInfo):
    """A header that is checked: Python's takes a broken one for the archive's end, and believes any size."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if any(buf):  # zeros, or nothing at all, are the end
                raise tarfile.ReadError(f"a broken header ({error})") from error
            raise
        if header.size < 0 or (header.type in _NAMES and header.size > _MAX_NAME_BYTES):
            raise tarfile.ReadError(f"a header for {header.size:,} bytes")
        return header

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> _Header:
        header = super().fromtarfile(archive)
        if header.size < 0:  # said in an extended header; the archive would go round in circles
            raise tarfile.ReadError(f"a header for {header.size:,} bytes")
        return header


class _Members:
    """The members of an archive one after another; `broken` says afterwards why there were no more."""

    def __init__(self, archive: tarfile.TarFile, packed: bool) -> None:
        self._archive, self._packed = archive, packed
        self.broken = ""

    def __iter__(self) -> Iterator[tarfile.TarInfo]:
        try:
            while (member := self._archive.next()) is not None:
                self._archive.members = []  # type: ignore[attr-defined]  # or the archive would remember all of them
                yield member
                if self._packed:
                    self._skip()
        except Exception as error:  # tarfile lets through what a broken header makes it trip over
            self.broken = str(error) or "it ends too soon"

    def _skip(self) -> None:
        """Go behind a member of a compressed archive; tarfile would go on for years where its size is a lie."""
        stream: Any = self._archive.fileobj
        while (left := self._archive.offset - stream.tell()) > 0:
            if not stream.read(min(left, 1 << 20)):
                raise tarfile.ReadError("unexpected end of data")


def _value(
    archive: tarfile.TarFile, file: File, stamp: str, member: tarfile.TarInfo, end: int | None
) -> Slice | bytes | ImageError:
    """How to get at a member; `end` is the size of an archive in which one can seek, None of a compressed one."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        return UnreadableImageError(f"{_clean(member.name)}: a name that leads out of the archive")
    if not member.isreg() or member.issparse():
        return UnreadableImageError(f"{_clean(member.name)}: a link, folder or device in an archive, not a file")
    if end is not None:
        if member.offset_data + member.size > end:
            return TruncatedImageError(f"{_clean(member.name)}: the archive ends in the middle of it")
        return Slice(file, member.offset_data, member.size, stamp)
    if member.size > DEFAULT_LIMITS.max_bytes:
        return TooLargeImageError(f"{member.size:,} bytes; the limit is {DEFAULT_LIMITS.max_bytes:,}")
    try:
        content = archive.extractfile(member)
        return content.read() if content else b""
    except (tarfile.TarError, EOFError, OSError) as error:
        return TruncatedImageError(f"{_clean(member.name)}: the archive ends in the middle of it: {error}")


def _text(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str | None:
    try:
        content = archive.extractfile(member)
        return content.read().decode("utf-8", "replace").strip() if content else None
    except (tarfile.TarError, EOFError, OSError):
        return None  # the archive ends here, which the source of what is lost will say


def _key(name: str) -> str:
    """What belongs together: the name up to the first dot behind its last slash."""
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.partition(".")[0]


def _clean(name: str) -> str:
    """A member's name without what a terminal or a table would trip over."""
    text = name.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(sign if sign.isprintable() else f"\\x{ord(sign):02x}" for sign in text)
