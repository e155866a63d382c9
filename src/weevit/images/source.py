"""One input: a name, and access to its image.

Most inputs are files. Others lie in an archive, a table or a bucket: those are `Stored`, and are read when they are
opened, so that a million of them cost no more than their names.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt
from PIL import Image

from weevit.errors import (
    ImageError,
    MissingImageError,
    UnsupportedImageError,
    UsageError,
)
from weevit.images.decode import (
    DEFAULT_LIMITS,
    Enough,
    Limits,
    check_pixels,
    decode,
    from_array,
    read_file,
    to_rgb,
)

TARGETS = ("label", "class", "target", "class_name")
"""Names of the class of an image in a table or an archive."""

_DIGITS = re.compile("[0-9]+")

ABSENT = "absent"
"""The fingerprint of an absent file: a file that appears later has another."""


@runtime_checkable
class Stored(Protocol):
    """Bytes inside another file."""

    def read(self, limits: Limits) -> bytes:
        """All bytes; ImageError if unreadable or over the limit."""
        ...

    def fingerprint(self) -> str:
        """A short text that changes with the bytes; it reads as little as possible."""
        ...


Value: TypeAlias = str | Path | Stored | bytes | bytearray | memoryview | Image.Image | npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Source:
    """One input with a name.

    Attributes:
        name: for files the path as given, or the given folder joined with the path below it; for values in memory their
            kind and index, as in `bytes[0]`, `image[1]`, `array[2]`; for members of an archive its path and theirs.
            Always printable as UTF-8: bytes of a file name that are not UTF-8 appear as `\\udcff`.
        value: the input; text is a path. An ImageError is raised when the source is opened.
        target: its class in a table or an archive; None without one.
    """

    name: str
    value: Value | ImageError
    target: str | None = None

    def fingerprint(self) -> str:
        """A short text that changes with the image: size and time of a file. UsageError for images in memory."""
        value = self.value
        if isinstance(value, str | Path):
            return stamp(value)
        if isinstance(value, ImageError):
            return value.status
        if isinstance(value, bytes | bytearray | memoryview):
            return hashlib.sha256(value).hexdigest()[:32]
        if isinstance(value, Stored):
            return value.fingerprint()
        raise UsageError(
            f"{self.name} is in memory only: an answer to it could not be found again.",
            "Jobs take files, folders, lists, tables and archives; predictor.stream(...) takes images.",
        )


PAUSE = Source("", MissingImageError("more inputs are still to come"))
"""In a stream of sources: no further input has come yet, so that all before it are answered now."""


def open_image(source: Source, limits: Limits = DEFAULT_LIMITS, enough: Enough | None = None) -> Image.Image:
    """The source's image: mode RGB, upright. Files are read here. `limits`, `enough`: as for `decode`.

    Raises:
        ImageError: there is no image (see `read_file` and `decode`).
        UsageError: an array of another dtype or shape than `from_array` takes; Pillow set to accept truncated files.
    """
    value = source.value
    if isinstance(value, ImageError):
        raise value
    if isinstance(value, bytes | bytearray | memoryview):
        return decode(value, limits, enough, source.name)
    if isinstance(value, Image.Image):
        return to_rgb(value, limits)
    if isinstance(value, np.ndarray):
        return from_array(value, limits)
    return decode(read_bytes(value, limits), limits, enough, source.name)


def channels_of(value: Value | ImageError, count: int, limits: Limits) -> npt.NDArray[np.uint8]:
    """An image of another number of channels than three, which only an array can be.

    Args:
        value: value of a source: a uint8 array, (H, W, count), or (H, W) for one channel.
        count: channels of the model.
        limits: as for `decode`.

    Raises:
        ImageError: there is no image; files are `unsupported`.
        UsageError: an array of another dtype or shape.
    """
    if isinstance(value, ImageError):
        raise value
    if not isinstance(value, np.ndarray):
        raise UnsupportedImageError(f"this model takes {count} channels, which only a uint8 array (H, W, {count}) has")
    array = value[..., None] if value.ndim == 2 and count == 1 else value
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != count or array.size == 0:
        raise UsageError(
            f"an array of {value.dtype} with shape {value.shape} is no image for a model of {count} channels",
            f"Give uint8 of shape (H, W, {count}).",
        )
    check_pixels((array.shape[1], array.shape[0]), limits)
    return array


def read_bytes(value: str | Path | Stored, limits: Limits) -> bytes:
    """The bytes of a file or of a `Stored`; ImageError if unreadable or over the limit."""
    return read_file(value, limits) if isinstance(value, str | Path) else value.read(limits)


MAX_PATH, MAX_NAME = 4095, 255
"""Maximum bytes of a path, and of a name in it, on common file systems."""


def why_no_path(text: str) -> ImageError | None:
    """The error of a text that cannot be a path on any disk; None for a possible path."""
    if len(text) <= MAX_NAME and text.isascii() and text.isprintable() and not text.isspace() and text[:5] != "data:":
        return None if text else MissingImageError("an empty path")
    if text.isspace():
        return MissingImageError("a path of spaces only")
    shown = printable(text) if len(text) <= MAX_NAME else f"{printable(text[:100])}... ({len(text):,} characters)"
    if text[:5] == "data:" and ("," in text[:200] or text.startswith("data:image/")):
        return UnsupportedImageError(
            f"{shown}: a data URI, not a path", "Decode it, and give the bytes or a file with them."
        )
    return _why_no_name(text, shown)


def _why_no_name(text: str, shown: str) -> ImageError | None:
    if "\0" in text:
        return MissingImageError(f"{shown!r}: a NUL in a path")
    limit = f"the limit is {MAX_NAME} in a name, {MAX_PATH:,} in a path"
    if len(text) > 4 * MAX_PATH:  # megabytes are not looked through
        return MissingImageError(f"{shown}: a name of more than {4 * MAX_PATH:,} bytes; {limit}")
    try:
        data = os.fsencode(text)
    except UnicodeEncodeError:
        return MissingImageError(f"{shown}: half a surrogate pair in a path, which no file has")
    longest = max(map(len, data.split(os.fsencode(os.sep))))
    if longest > MAX_NAME or len(data) > MAX_PATH:
        return MissingImageError(f"{shown}: a name of {max(longest, len(data)):,} bytes; {limit}")
    return None


def bytes_of(source: Source, limits: Limits) -> bytes:
    """The encoded bytes of an image; ImageError where they cannot be read, UsageError for pixels in memory."""
    value = source.value
    if isinstance(value, ImageError):
        raise value
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, str | Path | Stored):
        return read_bytes(value, limits)
    raise UsageError(f"{source.name} is in memory only, not a file that could be checked.", "Give a folder or a table.")


def printable(path: str | Path) -> str:
    """A path as text that any terminal, file or database takes."""
    text = str(path)
    if not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text if len(text) <= MAX_PATH else shortened(text)


def shortened(text: str, length: int = MAX_PATH) -> str:
    """A text of about `length` characters at most; a longer one keeps its beginning and gets a hash."""
    if len(text) <= length:
        return text
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    return f"{text[:100]}... ({len(text):,} characters, {digest})"


def natural_key(name: str) -> str:
    """Sort key of a file name: digits compare as numbers, the rest without case; ties are decided by the name itself.

    One text, which takes a third of the memory and time of a tuple of parts. A number stands behind the count of its
    digits; NUL, which no file name has, ends every run of text, so that shorter ones come first.
    """
    return f"{_DIGITS.sub(_counted, name.casefold())}\0\0{name}"


def _counted(found: re.Match[str]) -> str:
    digits = found[0].lstrip("0")
    return f"\0{chr(1 + len(digits))}{digits}"


def stamp(path: str | Path) -> str:
    """A short text that changes with a file on this machine: its size and time of modification."""
    try:
        status = os.stat(path)  # noqa: PTH116 - half the time of Path.stat, and it is done for every file
    except (OSError, ValueError):
        return ABSENT
    return f"{status.st_size:x}-{status.st_mtime_ns:x}"
