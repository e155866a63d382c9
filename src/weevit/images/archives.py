"""WebDataset tars: images in archives, each with the members of the same name beside it.

A member is read where it lies; nothing is ever unpacked onto the disk. (The layout:
https://github.com/webdataset/webdataset, README.)

Members that follow one another and have the same name up to the first dot are a sample: `a/0001.seg.png` and
`a/0001.cls`. A photo's own name may have dots too, and in one sample there may then be `22.05.JPG` with `22.05.cls`
and `22.06.JPG` with `22.06.cls`. So an image has the class of the name that has most of its own, cut at a dot; where
the sample has classes of longer names, a shorter one says nothing of it.
"""

from __future__ import annotations

import json
import tarfile
from collections import Counter, deque
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import PurePosixPath
from typing import Any

from weevit.errors import ImageError, TruncatedImageError, UnreadableImageError
from weevit.images.files import File, Slice
from weevit.images.formats import EXTENSIONS
from weevit.images.packed import Packed
from weevit.images.source import MAX_PATH, TARGETS, Source, Stored, shortened

_MAX_CLASS_BYTES = 1000
_MAX_JSON_BYTES = 1 << 16
_MAX_NAME_BYTES = 1 << 20
"""Of all headers in front of a member that only hold a long name, or what else is said about it."""

_MAX_GLOBAL_BYTES = 1 << 16
"""Of all headers that speak of every member to come; each member has a copy."""

_MAX_SPARSE_BLOCKS = 1000
_MAX_BYTES, _MAX_RATIO = 1 << 30, 200
"""What a compressed archive may unpack to in any case, and how many times its bytes beyond that."""

_STEP = 16 << 20
_MAX_WAITING = 1000
"""Images of a sample that wait for their classes; archives of `2026.11.26.jpg` may be one sample."""

_MAX_DOTS = 16
_MAX_ENDING = 16
_NAMES = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)


def read_tar(file: File, left_out: Counter[str]) -> Iterator[Source]:
    """The images in an archive, in its order, named `archive.tar/member.jpg`.

    Bad members are sources that raise: a link or device under an image's name, a name that leads out of the archive,
    a member that the archive is too short for. An archive that breaks off gives one more source, for what is lost.

    Args:
        file: the archive; a compressed one is read from its beginning to its end, and each member as it comes.
        left_out: counts the members that are no images by their endings.

    Raises:
        ImageError: it cannot be opened, or is no archive.
    """
    packed = file.name.lower().endswith("gz")
    with file.open() as handle:
        size = handle.seek(0, 2)
        handle.seek(0)
        try:
            archive = _Archive.open(fileobj=handle, mode="r|gz" if packed else "r:", tarinfo=_Header)
        except Exception as error:  # what reading trips over: bytes that are no archive may be anything
            raise UnreadableImageError(
                f"{file.name}: not a tar archive, or one without a beginning: {error}"
            ) from error
        where = _Packed(archive, Packed(file, handle.tell)) if packed else _Plain(file, size)
        members = _Members(archive, handle.tell if packed else None)
        for _, group in groupby(members, key=lambda member: _key(member.name)):
            sample = _Sample(left_out)
            for member in group:
                yield from _take(sample, archive, where, member)
            yield from sample.end()
        if members.broken:
            yield Source(
                f"{file.name}#rest", TruncatedImageError(f"{file.name}: {members.broken}; what follows is lost")
            )


def _take(
    sample: _Sample, archive: tarfile.TarFile, where: _Plain | _Packed, member: tarfile.TarInfo
) -> Iterator[Source]:
    """Add a member to its sample; gives the images that are known to be complete."""
    if sample.has(member.name):  # a second sample of this name
        yield from sample.end()
    stem, ending = _cut(member.name)
    if ending in EXTENSIONS:
        sample.add(stem, f"{where.file.name}/{_clean(member.name)}", _value(where, member))
    elif ending == ".cls" and member.isfile() and member.size <= _MAX_CLASS_BYTES:
        sample.classes[stem] = _text(archive, member)
    elif ending == ".json" and member.isfile() and (told := _told(archive, member)):
        sample.told[stem] = told
    elif member.isfile():
        sample.left_out[ending] += 1
    yield from sample.complete()


class _Sample:
    """Members whose names are one up to the first dot.

    Attributes:
        classes: name without `.cls` -> class.
        told: the same of `.json`; only where there is no `.cls`.
        left_out: as for `read_tar`.
    """

    def __init__(self, left_out: Counter[str]) -> None:
        self.left_out = left_out
        self._start()

    def _start(self) -> None:
        self.classes: dict[str, str | None] = {}
        self.told: dict[str, str | None] = {}
        self._waiting: deque[tuple[str, str, Stored | ImageError]] = deque()
        self._names: set[str] = set()

    def has(self, name: str) -> bool:
        """Whether there was a member of this name; there is one from now on."""
        known = name in self._names
        self._names.add(name)
        return known

    def add(self, stem: str, name: str, value: Stored | ImageError) -> None:
        """An image; `stem` is its name without the ending."""
        self._waiting.append((stem, name, value))

    def complete(self) -> Iterator[Source]:
        """The images at the front whose own class has come, which nothing that follows could change, or is too late."""
        while self._waiting and (self._waiting[0][0] in self.classes or len(self._waiting) > _MAX_WAITING):
            stem, name, value = self._waiting.popleft()
            yield Source(name, value, self.classes.get(stem))

    def end(self) -> Iterator[Source]:
        """The other images; then all is forgotten."""
        classes = self.classes or self.told
        longer = {shorter for stem in classes for shorter in _shorter(stem)}
        while self._waiting:
            stem, name, value = self._waiting.popleft()
            yield Source(name, value, _class_of(stem, classes, longer))
        self._start()


def _class_of(stem: str, classes: dict[str, str | None], longer: set[str]) -> str | None:
    if stem in classes:
        return classes[stem]
    name = next((shorter for shorter in _shorter(stem) if shorter in classes), None)
    return None if name is None or name in longer else classes[name]


def _shorter(stem: str) -> Iterator[str]:
    """`a/b.c.d` -> `a/b.c`, `a/b`."""
    start = stem.rfind("/") + 1
    if stem.count(".", start) <= _MAX_DOTS:
        while (dot := stem.rfind(".", start)) >= 0:
            stem = stem[:dot]
            yield stem


def _cut(name: str) -> tuple[str, str]:
    """The name without its ending, and the ending in small letters."""
    ending = PurePosixPath(name[-2 * _MAX_ENDING :]).suffix
    if len(ending) > _MAX_ENDING:
        return name, ""
    return name.removesuffix(ending), ending.lower()


class _Archive(tarfile.TarFile):
    """An archive that counts what is said about its members.

    Attributes:
        names: bytes of headers in front of the member that is being read.
        everywhere: of those that hold for all members.
    """

    names = everywhere = 0
    members: list[tarfile.TarInfo]  # this one and those below: typeshed lacks them


class _Header(tarfile.TarInfo):
    """A header that is checked: Python's takes a broken one for the archive's end, and believes any size."""

    _sparse_structs: Any
    _block: Callable[[int], int]

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if any(buf):  # zeros, or nothing at all, are the end
                raise tarfile.ReadError(f"a broken header ({error})") from error
            raise
        if header.size < 0:
            raise tarfile.ReadError(f"a header for {header.size:,} bytes")
        return header

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> _Header:
        header = super().fromtarfile(archive)
        if header.size < 0:  # said in an extended header; the archive would go round in circles
            raise tarfile.ReadError(f"a header for {header.size:,} bytes")
        return header

    # The three below are called by tarfile, by the kind of a header, before what it speaks of is read into memory.

    def _proc_member(self, archive: Any) -> tarfile.TarInfo:
        if self.type in _NAMES:
            archive.names += self.size
            archive.everywhere += self.size if self.type == tarfile.XGLTYPE else 0
            if archive.names > _MAX_NAME_BYTES or archive.everywhere > _MAX_GLOBAL_BYTES:
                raise tarfile.ReadError(f"a header for {self.size:,} bytes")
        plain: Any = super()
        try:
            made: tarfile.TarInfo = plain._proc_member(archive)
        except tarfile.HeaderError as error:  # Python would take it for the archive's end
            raise tarfile.ReadError(f"a broken header ({error})") from error
        return made

    def _proc_sparse(self, archive: Any) -> tarfile.TarInfo:
        """Skip the map of a file with holes: no image has any, and a map may be gigabytes long."""
        _, more, _ = self._sparse_structs
        for _ in range(_MAX_SPARSE_BLOCKS):
            if not more:
                break
            more = bool(archive.fileobj.read(tarfile.BLOCKSIZE)[504])
        else:
            raise tarfile.ReadError("a file with too many holes")
        self.sparse: Any = []
        self.offset_data = archive.fileobj.tell()
        archive.offset = self.offset_data + self._block(self.size)
        return self

    def _proc_gnusparse_10(self, member: Any, headers: Any, archive: Any) -> None:
        member.sparse = []


class _Members:
    """The members of an archive one after another; `broken` says afterwards why there were no more."""

    def __init__(self, archive: _Archive, position: Callable[[], int] | None) -> None:
        self._archive, self._position = archive, position
        self.broken = ""

    def __iter__(self) -> Iterator[tarfile.TarInfo]:
        try:
            while (member := self._next()) is not None:
                self._archive.members = []  # or the archive would remember all of them
                yield member
                if self._position:
                    self._skip(self._position)
        except Exception as error:  # tarfile lets through what a broken header makes it trip over
            self.broken = str(error) or "it ends too soon"

    def _next(self) -> tarfile.TarInfo | None:
        self._archive.names = 0
        return self._archive.next()

    def _skip(self, position: Callable[[], int]) -> None:
        """Go behind a member of a compressed archive; tarfile would go on for years where its size is a lie."""
        stream: Any = self._archive.fileobj
        while (left := self._archive.offset - stream.tell()) > 0:
            if not stream.read(min(left, _STEP)):
                raise tarfile.ReadError("unexpected end of data")
            if stream.tell() > max(_MAX_BYTES, _MAX_RATIO * position()):
                raise tarfile.ReadError(f"it unpacks to more than {_MAX_RATIO} times its size")


class _Plain:
    """An archive in which one can seek."""

    def __init__(self, file: File, size: int) -> None:
        self.file, self._size, self._stamp = file, size, file.fingerprint()

    def member(self, member: tarfile.TarInfo) -> Stored:
        if member.offset_data + member.size > self._size:
            raise TruncatedImageError("the archive ends in the middle of it")
        return Slice(self.file, member.offset_data, member.size, self._stamp)


class _Packed:
    """A compressed one."""

    def __init__(self, archive: tarfile.TarFile, packed: Packed) -> None:
        self.file, self._packed, self._archive = packed.file, packed, archive

    def member(self, member: tarfile.TarInfo) -> Stored:
        content = self._archive.extractfile(member)
        read = content.read if content else (lambda size: b"")
        try:
            return self._packed.take(member.offset_data, member.size, read)
        except (tarfile.TarError, EOFError, OSError) as error:
            raise TruncatedImageError(f"the archive ends in the middle of it: {error}") from error


def _value(where: _Plain | _Packed, member: tarfile.TarInfo) -> Stored | ImageError:
    """How to get at a member."""
    name, path = _clean(member.name), PurePosixPath(member.name)
    if len(member.name) > MAX_PATH:
        return UnreadableImageError(f"{name}: a name of {len(member.name):,} characters; the limit is {MAX_PATH:,}")
    if path.is_absolute() or ".." in path.parts:
        return UnreadableImageError(f"{name}: a name that leads out of the archive")
    if not member.isreg() or member.issparse():
        return UnreadableImageError(f"{name}: a link, folder, device or file with holes in an archive, not a file")
    try:
        return where.member(member)
    except ImageError as error:
        return type(error)(f"{name}: {error.message}", error.hint)


def _text(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str | None:
    try:
        content = archive.extractfile(member)
        return content.read().decode("utf-8", "replace").strip() if content else None
    except (tarfile.TarError, EOFError, OSError):
        return None  # the archive ends here, which the source of what is lost will say


def _told(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str | None:
    """The class in a `.json`, if it is an object that has one."""
    try:
        found = json.loads(_text(archive, member) or "") if member.size <= _MAX_JSON_BYTES else None
    except (ValueError, RecursionError):
        return None
    told = [found[name] for name in TARGETS if name in found] if isinstance(found, dict) else []
    plain = told and isinstance(told[0], str | int) and not isinstance(told[0], bool)
    return str(told[0]) if plain else None


def _key(name: str) -> str:
    """What belongs together: the name up to the first dot behind its last slash."""
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.partition(".")[0]


def _clean(name: str) -> str:
    """A member's name without what a terminal or a table would trip over."""
    text = shortened(name.encode("utf-8", "backslashreplace").decode("utf-8"))
    return "".join(sign if sign.isprintable() else f"\\x{ord(sign):02x}" for sign in text)
