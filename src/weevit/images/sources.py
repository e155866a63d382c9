"""A user's inputs (paths, folders, lists, tables, archives, addresses, values in memory) as a stream of named sources.

Every named input is at least one source: an input without an answer becomes a source that raises its error when it is
opened, so that every input has a row and nothing is lost in silence.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from glob import glob
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeAlias, TypeGuard, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from weevit.errors import ImageError, MissingImageError, UnreadableImageError, UsageError
from weevit.images.files import File, LocalFile
from weevit.images.formats import EXTENSIONS
from weevit.images.source import Source, Value, natural_key, printable, why_no_path
from weevit.images.values import OpenBinary, OpenFile, data_uri, hubs_image, is_data_uri

if TYPE_CHECKING:
    from weevit.images.remote import RemoteFile

Named: TypeAlias = str | os.PathLike[str]
"""An image, or a folder, pattern, list, table or archive of many."""

OneImage: TypeAlias = (
    bytes | bytearray | memoryview | OpenBinary | Image.Image | npt.NDArray[np.uint8] | Mapping[str, object] | Source
)
"""One image by its type."""

Many: TypeAlias = Iterable[Named | OneImage]
Inputs: TypeAlias = Named | OneImage | Many

CONTAINERS = (".txt", ".csv", ".tsv", ".parquet", ".tar", ".tar.gz", ".tgz")
"""Endings of files that hold or name inputs, if named themselves; in folders they are left out."""

_NAME = re.compile("[^\0]+")
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")


class Expansion:
    """The sources of a user's inputs; made by `expand`.

    Attributes:
        left_out: files in folders that are no images by their ending, counted by it (`{".txt": 3}`). Complete after the
            iteration; each iteration starts it again.
    """

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = cast(Many, [inputs] if is_one(inputs) else inputs)
        self.left_out: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Source]:
        self.left_out.clear()
        for position, item in enumerate(self._inputs):
            if isinstance(item, Mapping):
                yield hubs_image(item, position)
            elif isinstance(item, Source):
                yield item
            elif isinstance(item, str | os.PathLike):
                named = os.fsdecode(item)
                for word in _without_braces(named) if _has_range(named) else (named,):
                    yield from self._from_word(word)
            else:
                kind, value = _kind(item), OpenFile(item) if _is_file(item) else cast(Value, item)
                yield Source(f"{kind}[{position}]", value)

    def _from_word(self, word: str) -> Iterator[Source]:
        if is_data_uri(word):
            yield data_uri(word)
        elif "://" not in word and (wrong := why_no_path(word)):
            yield Source(printable(word), wrong)
        elif names_containers(word):
            yield from self._from_containers(word)
        elif "://" in word:
            yield from self._from_address(word)
        elif _is_pattern(word):
            yield from self._from_pattern(word)
        else:
            yield from self._from_path(Path(word))

    def _from_containers(self, word: str) -> Iterator[Source]:
        try:
            for file in containers(word):
                yield from read_container(file, self.left_out)
        except ImageError as error:  # of the pattern; that of a file is a source of its own
            yield Source(printable(word), error)

    def _from_pattern(self, pattern: str) -> Iterator[Source]:
        try:
            yield from map(_file, _matches(pattern))
        except ImageError as error:
            yield Source(printable(Path(pattern)), error)

    def _from_path(self, path: Path) -> Iterator[Source]:
        if is_folder(path):
            yield from _or_missing(self._walk(path), printable(path), "no image in this folder or below it")
        else:
            yield _file(path)

    def _from_address(self, word: str) -> Iterator[Source]:
        from weevit.images.remote import remote_file

        file = remote_file(word)
        file.system.invalidate_cache()  # listings are kept for ever, and files may have changed
        if _is_image_at(word):
            yield Source(word, file)
        else:
            try:
                yield from _or_missing(self._listed_at(file), word, "no image here or below")
            except ImageError as error:
                yield Source(word, error)

    def _listed_at(self, file: RemoteFile) -> Iterator[Source]:
        """The files below an address, or those that fit its pattern."""
        from weevit.images.remote import listing

        for each in listing(file):
            ending = PurePosixPath(each.path).suffix.lower()
            if ending in EXTENSIONS or each.path == file.path:  # a file given by name may have any extension
                yield Source(each.name, each)
            else:
                self.left_out[ending] += 1

    def _walk(self, top: Path) -> Iterator[Source]:
        """Depth first, in natural order, each real folder once: links may form circles.

        For each folder on the path only the names are held, and paths are joined as text: a million pathlib objects
            would take
        seconds.
        """
        seen: set[tuple[int, int]] = set()
        open_folders: list[tuple[str, Iterator[str]]] = [("", iter([f"{top}/"]))]
        while open_folders:
            before, names = open_folders[-1]
            for name in names:
                path = before + name.removesuffix("/")
                if name.endswith("/"):
                    try:
                        listed = _listed_once(path, seen)
                    except OSError as error:
                        yield Source(printable(path), UnreadableImageError(f"{path}: {error.strerror or error}"))
                        continue
                    open_folders.append((str(Path(path, "x"))[:-1], (found[0] for found in _NAME.finditer(listed))))
                    break
                ending = name[dot:].lower() if (dot := name.rfind(".")) > 0 else ""  # a third of splitext's time
                if ending in EXTENSIONS:
                    yield Source(printable(path), path)
                else:
                    self.left_out[ending] += 1
            else:
                open_folders.pop()


def expand(inputs: Inputs) -> Expansion:
    """All sources in a user's inputs. Reads folders and lists, but no image; lazy.

    Args:
        inputs: a path, a folder, an address, a data URI, the bytes of a file, an open file, a PIL image, a uint8 array,
            the hub's `{"bytes", "path"}`, a `Source`, or an iterable of those; an `Expansion` is returned itself.

    A path may be a pattern (`photos/*.jpg`, `**` for any folders between) or have a range in braces
    (`shard-{000..099}.tar`). A named file is one source, whatever its ending, except lists (`.txt`, a path per line),
    tables (`.csv`, `.tsv`, `.parquet`) and archives (`.tar`, `.tar.gz`, `.tgz`): those give their contents, in their
    own order, and so does a pattern with such an ending (`shard-*.tar`). Addresses (`s3://`, `hf://`, `https://`) mean
    the same as paths; see `images/remote.py`.

    A folder gives its files with the endings of `formats.EXTENSIONS` (in any case), and those of its subfolders, linked
    ones too: each real folder once, under its first name. Names that begin with a dot are skipped. The order in a
        folder is
    natural: digits count as numbers, case does not count ("img2" before "IMG10").

    A folder without an image, or an unreadable one, is one source that raises when it is opened.

    Raises:
        UsageError: another type of input; raised when the iteration reaches it.
    """
    return inputs if isinstance(inputs, Expansion) else Expansion(inputs)


def names_containers(word: str) -> bool:
    """Whether a path, pattern, range or address names lists, tables or archives, by its ending."""
    if "://" not in word:
        return word.lower().endswith(CONTAINERS) and not is_folder(word)
    from weevit.images.remote import without_query

    return without_query(word).lower().endswith(CONTAINERS)


def containers(word: str) -> Iterator[File]:
    """The files that such a word names, in natural order; a file that is not there too, if named itself.

    Raises:
        ImageError: no file fits a pattern, or the folder cannot be listed.
        UsageError, MissingExtraError: as for `remote_file`.
    """
    for each in _without_braces(word) if _has_range(word) else (word,):
        if "://" in each:
            yield from _containers_at(each)
        elif _is_pattern(each):
            yield from map(LocalFile, _matches(each))
        else:
            yield LocalFile(Path(each))


def _containers_at(word: str) -> Iterator[File]:
    from weevit.images.remote import is_pattern, listing, remote_file, without_query

    file = remote_file(word)
    file.system.invalidate_cache()  # as above
    if not is_pattern(word):
        yield replace(file, name=without_query(word))  # the name ends as the file does, and holds no signature
        return
    found = False
    for each in listing(file):
        found = True
        yield each
    if not found:
        raise MissingImageError(f"{word}: no file has a name like this")


def _matches(pattern: str) -> list[Path]:
    """The files that fit a pattern, in natural order; MissingImageError where none does."""
    names = sorted(glob(pattern, recursive=True), key=natural_key)  # noqa: PTH207 - takes absolute patterns too
    found = [Path(name) for name in names if not is_folder(name)]
    if not found:
        raise MissingImageError(f"{pattern}: no file has a name like this")
    return found


def read_container(file: File, left_out: Counter[str]) -> Iterator[Source]:
    """The inputs in a list, table or archive, by its ending; an unreadable one is one source."""
    try:
        yield from _or_missing(_held_in(file, left_out), file.name, "no image in this file, and the name of none")
    except ImageError as error:
        yield Source(file.name, error)


def _near(archive: File) -> File:
    """An archive whose members are read in any order: a local copy of one at an address."""
    if isinstance(archive, LocalFile):
        return archive
    from weevit.images.remote import RemoteFile
    from weevit.images.shards import Shard

    return Shard.of(archive) if isinstance(archive, RemoteFile) else archive


def _or_missing(sources: Iterable[Source], name: str, why: str) -> Iterator[Source]:
    """The sources; where there is none, one that raises MissingImageError."""
    found = False
    for source in sources:
        found = True
        yield source
    if not found:
        yield Source(name, MissingImageError(f"{name}: {why}"))


def _held_in(file: File, left_out: Counter[str]) -> Iterator[Source]:
    if file.name.lower().endswith((".tar", ".tar.gz", ".tgz")):
        from weevit.images.archives import read_tar

        return read_tar(_near(file), left_out)
    from weevit.images.tables import sources_in

    return sources_in(file)


def _listed_once(folder: str, seen: set[tuple[int, int]]) -> str:
    """The names in a folder, folders with a slash behind them; empty for a folder seen before.

    One text with NUL between the names: it is held while the folder's images are answered, and a list of names would
        take
    ten times as much memory.
    """
    status = os.stat(folder)  # noqa: PTH116 - text, as the walk has it
    if (status.st_dev, status.st_ino) in seen:
        return ""
    seen.add((status.st_dev, status.st_ino))
    with os.scandir(folder) as entries:  # scandir knows folders without a call for each
        found = [
            f"{entry.name}/" if _leads_to_folder(entry) else entry.name
            for entry in entries
            if not entry.name.startswith(".")
        ]
    found.sort(key=lambda name: natural_key(name.removesuffix("/")))
    return "\0".join(found)


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a broken link: reading it raises
        return False


def _file(path: Path) -> Source:
    return Source(printable(path), path)


def _without_braces(word: str) -> Iterator[str]:
    """`shard-{000..099}.tar` expanded as a shell does, with leading zeros as written."""
    found = _BRACES.search(word)
    if not found:
        yield word
        return
    first, last = found.groups()
    step = 1 if int(first) <= int(last) else -1
    for number in range(int(first), int(last) + step, step):
        yield from _without_braces(f"{word[: found.start()]}{number:0{len(first)}}{word[found.end() :]}")


def is_folder(path: str | Path) -> bool:
    """Whether a path leads to a folder; False where that is unknown, and for an empty text."""
    return os.path.isdir(path)  # noqa: PTH112 - raises for no path


def _is_file(item: object) -> TypeGuard[OpenBinary]:
    return callable(getattr(item, "read", None)) and not isinstance(item, Image.Image)


def _is_pattern(word: str) -> bool:
    # A file may have any name: what is there is neither a pattern nor, below, a range.
    return any(sign in word for sign in "*?[") and not os.path.exists(word)  # noqa: PTH110 - raises for no path


def _has_range(word: str) -> bool:
    return _BRACES.search(word) is not None and not os.path.exists(word)  # noqa: PTH110 - as above


_KINDS: tuple[tuple[str, Callable[[object], bool]], ...] = (
    ("bytes", lambda item: isinstance(item, bytes | bytearray | memoryview)),
    ("image", lambda item: isinstance(item, Image.Image)),
    ("array", lambda item: isinstance(item, np.ndarray)),
    ("file", _is_file),
)


def is_one(inputs: object) -> bool:
    """Whether this is one input: text, bytes, files and mappings are iterable, but are one input."""
    if isinstance(inputs, str | os.PathLike | Source | Mapping) or not isinstance(inputs, Iterable):
        return True
    return any(is_kind(inputs) for _, is_kind in _KINDS)


def names_one_image(inputs: object) -> bool:
    """Whether this is one image, existing or not, and no folder, pattern, list, table or archive.

    Of an address without an image's ending only `was_one_image` knows.
    """
    if not isinstance(inputs, str | os.PathLike):
        return is_one(inputs)
    word = os.fsdecode(inputs)
    if is_data_uri(word):
        return True
    if "://" in word:
        return _is_image_at(word)
    if word.lower().endswith(CONTAINERS) or word.endswith("/") or _has_range(word):
        return False
    return not _is_pattern(word) and not is_folder(word)


def was_one_image(inputs: object, found: Sequence[str]) -> bool:
    """Whether an address without an image's ending led to one image, and not into a folder; `found`: names of images
    there."""
    if not isinstance(inputs, str) or "://" not in inputs or list(found) != [inputs]:
        return False
    from weevit.images.remote import is_pattern

    return not (names_containers(inputs) or inputs.endswith("/") or is_pattern(inputs) or _has_range(inputs))


def _is_image_at(address: str) -> bool:
    """Whether an address is one image by its ending; one without may be a folder."""
    from weevit.images.remote import is_pattern, without_query

    plain = without_query(address)
    ends = PurePosixPath(plain).suffix.lower() in EXTENSIONS and not plain.endswith("/")
    return ends and not is_pattern(address) and not _has_range(address)


def _kind(item: object) -> str:
    for name, is_kind in _KINDS:
        if is_kind(item):
            return name
    raise UsageError(
        f"an input of type {type(item).__name__} is not an image",
        "Give a path, a folder, the bytes of an image file, an open file, a PIL image, a uint8 array, or a list of "
        "those.",
    )
