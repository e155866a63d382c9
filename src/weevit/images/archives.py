"""WebDataset tars: images in archives, each with the members of the same name beside it.

A member is read in place; nothing is unpacked onto the disk. (https://github.com/webdataset/webdataset, README.)

Consecutive members with the same name up to the first dot are a sample: `a/0001.seg.png` and `a/0001.cls`. A photo's
name may have dots too, so one sample may hold `22.05.JPG` with `22.05.cls` and `22.06.JPG` with `22.06.cls`. An image
therefore gets the class of the longest name that is its own name cut at a dot. A name that is itself the beginning of
another class's name gives no class to other images.
"""

from __future__ import annotations

import codecs
import json
import tarfile
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import groupby
from pathlib import PurePosixPath
from typing import Any, TypeAlias

from weevit.errors import ImageError, TruncatedImageError, UnreadableImageError
from weevit.images.files import File, Slice
from weevit.images.formats import EXTENSIONS
from weevit.images.packed import Packed
from weevit.images.source import MAX_PATH, TARGETS, Source, Stored, shortened

_MAX_CLASS_BYTES = 1000
_MAX_JSON_BYTES = 1 << 16
_MAX_NAME_BYTES = 1 << 20
"""Size of all extended headers in front of a member: a long name and further facts."""

_MAX_GLOBAL_BYTES = 1 << 16
"""Size of all headers that hold for every later member; each member has a copy."""

_MAX_SPARSE_BLOCKS = 1000
_MAX_BYTES, _MAX_RATIO = 1 << 30, 200
"""Unpacked size that any compressed archive may have, and the ratio to the packed size that a larger one may have."""

_STEP = 16 << 20
_BUFFER = 2048
"""Bytes of a compressed archive per step. tarfile copies what a step unpacks for each member that it reads of it."""

_MAX_WAITING = 1000
"""Images of a sample that wait for their classes; an archive of names like `2026.11.26.jpg` is one sample."""

_ATTRIBUTES = "._"
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

    A bad member is a source that raises: a link or device under an image's name, a name that leads out of the archive,
    a member that ends behind the archive's end. A truncated archive gives one more source, for its lost members.
    Members that macOS writes for the attributes of files (`._1.jpg`) are left out.

    Args:
        file: the archive; a compressed one is read once from beginning to end.
        left_out: counts the members that are not images, by ending or as `._*`.

    Raises:
        ImageError: the file cannot be opened, or is no archive.
    """
    packed = file.name.lower().endswith("gz")
    with file.open() as handle:
        try:
            size = handle.seek(0, 2)
            handle.seek(0)
            archive = _Archive.open(fileobj=handle, mode="r|gz" if packed else "r:", bufsize=_BUFFER, tarinfo=_Header)
        except ImageError:
            raise
        except Exception as error:  # tarfile raises about any type for bytes that are no archive
            raise UnreadableImageError(
                f"{file.name}: not a tar archive, or one without a beginning: {error}"
            ) from error
        locate = (
            partial(_again, Packed(file, handle.tell), archive)
            if packed
            else partial(_slice, file, file.fingerprint(), size)
        )
        members = _Members(archive, handle.tell if packed else None)
        for _, group in groupby(_without_attributes(members, left_out), key=lambda member: _key(member.name)):
            sample = _Sample(file.name, left_out)
            for member in group:
                yield from _take(sample, archive, locate, member)
            yield from sample.end()
        if members.broken:
            yield Source(
                f"{file.name}#rest", TruncatedImageError(f"{file.name}: {members.broken}; later images are lost")
            )


def _without_attributes(members: Iterable[tarfile.TarInfo], left_out: Counter[str]) -> Iterator[tarfile.TarInfo]:
    """The members without `._1.jpg`, where macOS keeps the attributes of `1.jpg`, between the members of its sample."""
    for member in members:
        if member.name.rpartition("/")[2].startswith(_ATTRIBUTES):
            left_out[f"{_ATTRIBUTES}*"] += 1
        else:
            yield member


def _take(sample: _Sample, archive: tarfile.TarFile, locate: _Locate, member: tarfile.TarInfo) -> Iterator[Source]:
    """Add a member to its sample; yields the images whose class is known."""
    if sample.has(member.name):  # a second sample of this name
        yield from sample.end()
    stem, ending = _cut(member.name)
    if ending in EXTENSIONS:
        sample.add(stem, _clean(member.name), _value(locate, member))
    elif ending == ".cls" and member.isfile() and member.size <= _MAX_CLASS_BYTES:
        sample.classes[stem] = _text(archive, member)
    elif ending == ".json" and member.isfile() and (told := _told(archive, member)):
        sample.told[stem] = told
    elif member.isfile():
        sample.left_out[ending] += 1
    yield from sample.complete()


class _Sample:
    """Consecutive members with the same name up to the first dot.

    Attributes:
        classes: name without `.cls` -> class.
        told: name without `.json` -> class; used only where there is no `.cls`.
        left_out: as for `read_tar`.
    """

    def __init__(self, archive: str, left_out: Counter[str]) -> None:
        self._archive, self.left_out = archive, left_out
        self._start()

    def _start(self) -> None:
        self.classes: dict[str, str | None] = {}
        self.told: dict[str, str | None] = {}
        self._waiting: deque[tuple[str, str, Stored | ImageError]] = deque()
        self._names: set[str] = set()

    def has(self, name: str) -> bool:
        """Whether the sample has a member of this name already; the name is added."""
        known = name in self._names
        self._names.add(name)
        return known

    def add(self, stem: str, name: str, value: Stored | ImageError) -> None:
        """Add an image; `stem` is its name without the ending."""
        self._waiting.append((stem, f"{self._archive}/{name}", value))

    def complete(self) -> Iterator[Source]:
        """The first images, as long as their class is final: it was read under their full name, or too many wait."""
        while self._waiting and (self._waiting[0][0] in self.classes or len(self._waiting) > _MAX_WAITING):
            stem, name, value = self._waiting.popleft()
            yield Source(name, value, self.classes.get(stem))

    def end(self) -> Iterator[Source]:
        """The remaining images; the sample is empty afterwards."""
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
    """The name without its ending, and the ending in lower case."""
    ending = PurePosixPath(name[-2 * _MAX_ENDING :]).suffix
    if len(ending) > _MAX_ENDING:
        return name, ""
    return name.removesuffix(ending), ending.lower()


class _Archive(tarfile.TarFile):
    """An archive that adds up the sizes of extended headers.

    Attributes:
        names: size of the headers in front of the current member.
        everywhere: size of the headers that hold for all later members.
    """

    names = everywhere = 0
    members: list[tarfile.TarInfo]  # typeshed lacks this one and those below


class _Header(tarfile.TarInfo):
    """A header that is checked: Python's own takes a broken header for the archive's end, and any size for true."""

    _sparse_structs: Any
    _block: Callable[[int], int]

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if any(buf):  # only zeros, or no bytes, are the archive's end
                raise tarfile.ReadError(f"a broken header ({error})") from error
            raise
        if header.size < 0:
            raise tarfile.ReadError(f"a header for {header.size:,} bytes")
        return header

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> _Header:
        header = super().fromtarfile(archive)
        if header.size < 0:  # from an extended header; tarfile would loop for ever
            raise tarfile.ReadError(f"a header for {header.size:,} bytes")
        return header

    # tarfile calls the three methods below by the kind of the header, before it reads the header's data into memory.

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
        """Skip the map of a sparse file: no image is one, and a map may be gigabytes long."""
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
    """The members of an archive in order; `broken` says afterwards why the archive ended too soon."""

    def __init__(self, archive: _Archive, position: Callable[[], int] | None) -> None:
        self._archive, self._position = archive, position
        self.broken = ""

    def __iter__(self) -> Iterator[tarfile.TarInfo]:
        try:
            while (member := self._next()) is not None:
                self._archive.members = []  # tarfile would keep every member
                yield member
                if self._position:
                    self._skip(self._position)
        except Exception as error:  # tarfile raises about any type for a broken header
            self.broken = str(error) or "it ends too soon"

    def _next(self) -> tarfile.TarInfo | None:
        self._archive.names = 0
        return self._archive.next()

    def _skip(self, position: Callable[[], int]) -> None:
        """Skip a member of a compressed archive; tarfile itself would read for years where the size is wrong."""
        stream: Any = self._archive.fileobj
        while (left := self._archive.offset - stream.tell()) > 0:
            if not stream.read(min(left, _STEP)):
                raise tarfile.ReadError("unexpected end of data")
            if stream.tell() > max(_MAX_BYTES, _MAX_RATIO * position()):
                raise tarfile.ReadError(f"it unpacks to more than {_MAX_RATIO} times its size")


_Locate: TypeAlias = Callable[[tarfile.TarInfo], Stored]


def _slice(file: File, stamp: str, size: int, member: tarfile.TarInfo) -> Stored:
    """A member of an archive of `size` bytes that is not compressed."""
    if member.offset_data + member.size > size:
        raise TruncatedImageError("the archive ends in the middle of it")
    return Slice(file, member.offset_data, member.size, stamp)


def _again(packed: Packed, archive: tarfile.TarFile, member: tarfile.TarInfo) -> Stored:
    """A member of a compressed archive."""
    content = archive.extractfile(member)
    read = content.read if content else (lambda size: b"")
    try:
        return packed.take(member.offset_data, member.size, read)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise TruncatedImageError(f"the archive ends in the middle of it: {error}") from error


def _value(locate: _Locate, member: tarfile.TarInfo) -> Stored | ImageError:
    """The bytes of a member, or the error that says why there are none."""
    name, path = _clean(member.name), PurePosixPath(member.name)
    if len(member.name) > MAX_PATH:
        return UnreadableImageError(f"{name}: a name of {len(member.name):,} characters; the limit is {MAX_PATH:,}")
    if path.is_absolute() or ".." in path.parts:
        return UnreadableImageError(f"{name}: a name that leads out of the archive")
    if not member.isreg() or member.issparse():
        return UnreadableImageError(f"{name}: a link, folder, device or file with holes in an archive, not a file")
    try:
        return locate(member)
    except ImageError as error:
        return type(error)(f"{name}: {error.message}", error.hint)


def _text(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str | None:
    """The text of a member, in UTF-8, or UTF-16 with its mark; None for an empty one."""
    try:
        content = archive.extractfile(member)
        data = content.read() if content else b""
        wide = data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        return data.decode("utf-16" if wide else "utf-8-sig", "replace").strip() or None
    except (tarfile.TarError, EOFError, OSError):
        return None  # the archive ends here; `read_tar` reports it


def _told(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str | None:
    """The class in a `.json` member; None where it is not an object with one."""
    try:
        found = json.loads(_text(archive, member) or "") if member.size <= _MAX_JSON_BYTES else None
    except (ValueError, RecursionError):
        return None
    told = [found[name] for name in TARGETS if name in found] if isinstance(found, dict) else []
    plain = told and isinstance(told[0], str | int) and not isinstance(told[0], bool)
    return (str(told[0]).strip() or None) if plain else None


def _key(name: str) -> str:
    """The name of a member's sample: up to the first dot behind the last slash."""
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.partition(".")[0]


def _clean(name: str) -> str:
    """A member's name with unprintable characters escaped."""
    text = shortened(name.encode("utf-8", "backslashreplace").decode("utf-8"))
    return "".join(sign if sign.isprintable() else f"\\x{ord(sign):02x}" for sign in text)
