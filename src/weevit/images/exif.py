"""Directories of tags, of which TIFF files and EXIF consist, with a bound on what one may hold.

A tag gives the size and the offset of its value. 20,000 tags may point to the same megabyte, and Pillow before 13.0
copies it for each. The sizes are therefore added up before Pillow reads a directory.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from weevit.errors import TooLargeImageError

MAX_TAGS = 4096
"""Tags of one directory; cameras write some dozen."""

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Type of a value -> bytes."""

_ASCII = 2
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}


@dataclass(frozen=True)
class Tag:
    """One entry of a directory: where its values lie, and how many of which type."""

    number: int
    type: int
    count: int
    offset: int

    @property
    def size(self) -> int:
        """Bytes of all values."""
        return self.count * _SIZES.get(self.type, 0)


@dataclass(frozen=True)
class Directory:
    """The first directory of a file.

    Attributes:
        order: `<` or `>`.
        tags: the first tag of each number.
        whole: whether the file has all entries of the directory.
    """

    order: str
    tags: dict[int, Tag]
    whole: bool

    def integers(self, data: bytes, number: int, most: int = 1) -> tuple[int, ...]:
        """The first `most` values of a tag; empty where the tag is absent or holds no integers."""
        tag = self.tags.get(number)
        if tag is None or tag.type not in _INTEGERS:
            return ()
        count = min(most, tag.count)
        try:
            return struct.unpack_from(f"{self.order}{count}{_INTEGERS[tag.type]}", data, tag.offset)
        except struct.error:
            return ()

    def text(self, data: bytes, number: int, most: int = 64) -> str:
        """The first `most` characters of a tag, up to a NUL; empty where the tag is absent or holds no ASCII."""
        tag = self.tags.get(number)
        if tag is None or tag.type != _ASCII:
            return ""
        value = data[tag.offset : tag.offset + min(most, tag.count)].partition(b"\0")[0]
        return value.decode("ascii") if value.isascii() else ""


def read_directory(data: bytes, at: int = 0) -> Directory:
    """A directory of a TIFF file or of EXIF data.

    Args:
        data: the file, or EXIF data from its byte order on.
        at: offset of the directory; 0 for the first one.

    Raises:
        TooLargeImageError: too many tags, or values that they share.
    """
    order = "<" if data.startswith(b"II") else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    start, head, entry, inside = ("Q", "Q", "HHQ", 8) if big else ("I", "H", "HHI", 4)
    tags: dict[int, Tag] = {}
    whole = True
    try:
        (first,) = (at,) if at else struct.unpack_from(order + start, data, 8 if big else 4)
        (count,) = struct.unpack_from(order + head, data, first)
        entries = first + struct.calcsize(order + head)
        for seen, found in enumerate(_entries(data, order, entry, inside, entries, count)):
            if seen == MAX_TAGS:
                raise TooLargeImageError(f"a directory of {count:,} tags; the limit is {MAX_TAGS:,}")
            tags.setdefault(found.number, found)
    except (struct.error, OverflowError):  # Pillow also keeps the entries before the end of the file
        whole = False
    _check_sizes(tags, len(data))
    return Directory(order, tags, whole)


def _entries(data: bytes, order: str, entry: str, inside: int, at: int, count: int) -> Iterator[Tag]:
    """The entries from `at` on; a value of up to `inside` bytes stands in its entry, a longer one at an offset."""
    room = struct.calcsize(order + entry)
    for _ in range(count):
        number, kind, values = struct.unpack_from(order + entry, data, at)
        size = values * _SIZES.get(kind, 0)
        where = at + room
        if size > inside:
            (where,) = struct.unpack_from(order + ("Q" if inside == 8 else "I"), data, where)
        yield Tag(number, kind, values, where)
        at += room + inside


def _check_sizes(tags: dict[int, Tag], size: int) -> None:
    """Refuse tags whose values are more bytes than the file has; values behind its end are never read."""
    total = sum(min(tag.size, max(0, size - tag.offset)) for tag in tags.values() if tag.size > 8)
    if total > 2 * size + (1 << 16):
        raise TooLargeImageError(f"tags with {total:,} bytes of values in {size:,} bytes: they share them")


def check_directory(exif: bytes) -> None:
    """Refuse EXIF data, with or without `Exif` before it, whose directory `read_directory` refuses."""
    exif = without_name(exif)
    if len(exif) > 8:
        read_directory(exif)


def without_name(exif: bytes) -> bytes:
    """EXIF data from its byte order on."""
    while exif.startswith(b"Exif\0\0"):
        exif = exif[6:]
    return exif
