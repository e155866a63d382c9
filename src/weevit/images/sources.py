"""What a user gives (paths, folders, bytes, pictures, arrays) as a stream of named inputs, each of which can be opened.

One input that was named is one source, or at least one: what cannot be answered becomes a source that raises its
error when it is opened, so that every result has its row and nothing is lost in silence.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from weevit.errors import ImageError, MissingImageError, UnreadableImageError, UsageError
from weevit.images.decode import DEFAULT_LIMITS, Limits, decode, from_array, read_file, to_rgb
from weevit.images.formats import EXTENSIONS

Value: TypeAlias = "Path | bytes | bytearray | memoryview | Image.Image | npt.NDArray[Any]"
OneInput: TypeAlias = "str | os.PathLike[str] | Value"
Inputs: TypeAlias = "OneInput | Iterable[OneInput]"


@dataclass(frozen=True)
class Source:
    """One input with a name.

    Attributes:
        name: for files the path as given, or the given folder joined with the way to the file; for values in memory
            their kind and position, as in `bytes[0]`, `image[1]`, `array[2]`. Always printable as UTF-8: bytes of a
            file name that are not UTF-8 appear as `\\udcff`.
        value: what to open. An ImageError is an answer that is known already.
    """

    name: str
    value: Value | ImageError


def open_image(source: Source, limits: Limits = DEFAULT_LIMITS) -> Image.Image:
    """The source's picture: mode RGB, upright. Files are read here and not before.

    Raises:
        ImageError: there is no answer, and why (see `read_file` and `decode`).
        UsageError: an array of another dtype or shape than `from_array` takes; Pillow set to accept truncated files.
    """
    value = source.value
    if isinstance(value, ImageError):
        raise value
    if isinstance(value, Path):
        return decode(read_file(value, limits), limits)
    if isinstance(value, bytes | bytearray | memoryview):
        return decode(value, limits)
    if isinstance(value, Image.Image):
        return to_rgb(value, limits)
    return from_array(value, limits)


class Expansion:
    """The sources in what a user gave, one after another; made by `expand`.

    Attributes:
        left_out: files in folders that are no pictures by their ending, counted by it (`{".txt": 3}`). Complete once
            the iteration is; starts afresh with each.
    """

    def __init__(self, inputs: Inputs) -> None:
        self._inputs: Iterable[OneInput] = [inputs] if is_one(inputs) else inputs  # type: ignore[list-item,assignment]
        self.left_out: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Source]:
        self.left_out.clear()
        for position, item in enumerate(self._inputs):
            if isinstance(item, str | os.PathLike):
                yield from self._from_path(Path(item))
            else:
                yield Source(f"{_kind(item)}[{position}]", item)

    def _from_path(self, path: Path) -> Iterator[Source]:
        if not _is_folder(path):
            yield _file(path)
            return
        found = False
        for source in self._walk(path):
            found = True
            yield source
        if not found:
            yield Source(_printable(path), MissingImageError(f"{path}: no picture in this folder or below it"))

    def _walk(self, top: Path) -> Iterator[Source]:
        """Depth first, in natural order, each real folder once: links may lead in circles."""
        seen: set[tuple[int, int]] = set()
        waiting = [top]
        while waiting:
            path = waiting.pop()
            if not _is_folder(path):
                yield from self._choose(path)
                continue
            try:
                status = path.stat()
                if (status.st_dev, status.st_ino) not in seen:
                    seen.add((status.st_dev, status.st_ino))
                    waiting.extend(reversed(_visible(path)))
            except OSError as error:
                yield Source(_printable(path), UnreadableImageError(f"{path}: {error.strerror or error}"))

    def _choose(self, path: Path) -> Iterator[Source]:
        ending = path.suffix.lower()
        if ending in EXTENSIONS:
            yield _file(path)
        else:
            self.left_out[ending] += 1


def expand(inputs: Inputs) -> Expansion:
    """Everything to look at in what was given. Reads folders, but no file; may be iterated lazily.

    Args:
        inputs: a path, a folder, the bytes of a file, a PIL image, a uint8 array, or an iterable of those.

    A file that is named is always a source, whatever its ending. A folder gives its files with the endings of the
    formats that are read (`formats.EXTENSIONS`, upper or lower case), and those of its subfolders, linked ones too:
    each real folder once, under the first name that leads to it. Names that begin with a dot are skipped. The order in
    a folder is natural: digits count as numbers, case does not count ("img2" before "IMG10").

    A folder without a picture, or one that cannot be listed, is one source that raises when it is opened.

    Raises:
        UsageError: something else than the above; raised when the iteration reaches it.
    """
    return Expansion(inputs)


def natural_key(name: str) -> tuple[list[tuple[str, int]], str]:
    """Sort key of a file name: runs of digits compare as numbers, the rest without case; ties go by the name itself."""
    parts = re.findall(r"([^0-9]*)([0-9]*)", name.casefold())
    return [(text, int(digits or -1)) for text, digits in parts], name


def _visible(folder: Path) -> list[Path]:
    names = (name for name in os.listdir(folder) if not name.startswith("."))  # noqa: PTH208 - sorted by name alone
    return [folder / name for name in sorted(names, key=natural_key)]


def _file(path: Path) -> Source:
    return Source(_printable(path), path)


def _printable(path: Path) -> str:
    return str(path).encode("utf-8", "backslashreplace").decode("utf-8")


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # no permission on the way, or a NUL in the name: reading it will say so
        return False


_KINDS: tuple[tuple[str, tuple[type, ...]], ...] = (
    ("bytes", (bytes, bytearray, memoryview)),
    ("image", (Image.Image,)),
    ("array", (np.ndarray,)),
)


def is_one(inputs: object) -> bool:
    """Whether this is a single input: strings, bytes and arrays can be iterated over, but are not meant so."""
    if isinstance(inputs, str | os.PathLike) or not isinstance(inputs, Iterable):
        return True
    return any(isinstance(inputs, types) for _, types in _KINDS)


def _kind(item: object) -> str:
    for name, types in _KINDS:
        if isinstance(item, types):
            return name
    raise UsageError(
        f"an input of type {type(item).__name__} is not a picture",
        "Give a path, a folder, the bytes of an image file, a PIL image, a uint8 array, or a list of those.",
    )
