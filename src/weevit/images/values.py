"""Images in memory: open files, data URIs, and the values of the hub's datasets."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from weevit.errors import CorruptImageError, ImageError, TooLargeImageError, UnreadableImageError, UsageError
from weevit.images.decode import Limits
from weevit.images.files import listed
from weevit.images.source import Source, printable, shortened

_SHOWN = 60
"""Characters of a data URI in a name."""

_HUBS = {"bytes", "path"}


class OpenBinary(Protocol):
    """A file opened to read bytes: on the disk, in an archive, on the network, in memory."""

    def read(self, size: int, /) -> bytes:
        """At most this number of bytes."""
        ...


@dataclass(frozen=True)
class OpenFile:
    """A file that the caller has opened, read from its current position."""

    file: OpenBinary

    def read(self, limits: Limits) -> bytes:
        """The rest of the file.

        Raises:
            UsageError: it was opened as text.
            UnreadableImageError: it is closed, or reading it raises anything.
            TooLargeImageError: over the limit.
        """
        try:
            data = self.file.read(limits.max_bytes + 1)
        except Exception as error:  # the file object may raise anything: a broken zip, a lost connection
            raise UnreadableImageError(f"the open file cannot be read: {error}") from error
        if not isinstance(data, bytes):
            raise UsageError(f"an open file that gives {type(data).__name__} is not an image", 'open(path, "rb")')
        if len(data) > limits.max_bytes:
            raise TooLargeImageError(f"more than {limits.max_bytes:,} bytes")
        return data

    def fingerprint(self) -> str:
        """Raises a UsageError: an open file cannot be found again."""
        raise UsageError("An open file could not be found again by a job.", "Give its path.")


@dataclass(frozen=True)
class DataUri:
    """An image in its own address: `data:image/png;base64,...` (RFC 2397)."""

    text: str

    def read(self, limits: Limits) -> bytes:
        """The bytes.

        Raises:
            CorruptImageError: no valid base64.
            TooLargeImageError: over the limit.
        """
        head, _, payload = self.text.partition(",")
        coded = head.lower().endswith(";base64")
        if len(payload) * (3 if coded else 4) // 4 > limits.max_bytes:
            raise TooLargeImageError(f"more than {limits.max_bytes:,} bytes")
        try:
            data = _unquoted(payload)
            return decoded(data) if coded else data
        except (binascii.Error, UnicodeEncodeError) as error:
            raise CorruptImageError(f"a data URI that is not base64: {error}") from error

    def fingerprint(self) -> str:
        """Its text, shortened, with a hash of the whole."""
        return shortened(self.text, _SHOWN)


def decoded(text: bytes) -> bytes:
    """The bytes of base64 with or without line ends, as `base64` and Python's `encodebytes` write them.

    Raises:
        binascii.Error: anything else: where spaces stand for plus signs, for instance, other bytes would come out.
    """
    return base64.b64decode(text.translate(None, b"\r\n") if b"\n" in text else text, validate=True)


_HEX = np.full(256, 16, np.uint8)
_HEX[list(b"0123456789ABCDEF")] = _HEX[list(b"0123456789abcdef")] = range(16)
"""Value of a hexadecimal digit; 16 for other bytes."""


def _unquoted(text: str) -> bytes:
    """As `urllib.parse.unquote_to_bytes`, which takes 80 times the memory of the text where all of it is escaped."""
    data = np.frombuffer(text.encode(), np.uint8)
    if len(data) < 3 or "%" not in text:
        return data.tobytes()
    high, low = _HEX[data[1:-1]], _HEX[data[2:]]
    escaped = np.flatnonzero((data[:-2] == ord("%")) & (high < 16) & (low < 16)).astype(np.uint32)
    found, kept = data.copy(), np.ones(len(data), bool)
    found[escaped] = 16 * high[escaped] + low[escaped]
    kept[escaped + 1] = kept[escaped + 2] = False
    return found[kept].tobytes()


def is_data_uri(text: str) -> bool:
    """Whether a text is an image in itself: a scheme, a comma not far from it, and no file's name."""
    return text[:5].lower() == "data:" and "," in text[:200]


def data_uri(text: str) -> Source:
    """The image in a data URI."""
    return Source(shortened(printable(text), _SHOWN), DataUri(text))


def hubs_image(value: Mapping[str, object], position: int) -> Source:
    """An image as the hub's datasets hold it, `{"bytes": ..., "path": ...}`: its bytes, else its path.

    The path is a stranger's: one file, no pattern, and an address only where those in lists are fetched. Another
    mapping raises a UsageError.
    """
    data, path = value.get("bytes"), value.get("path")
    if not set(value) <= _HUBS or not isinstance(data, bytes | None) or not isinstance(path, str | None):
        keys = ", ".join(map(str, list(value)[:5]))
        raise UsageError(
            f"a mapping with the keys {keys or '(none)'} is not an image",
            'Give its image: row["image"], or {"bytes": ..., "path": ...}.',
        )
    if data is not None:
        return Source(printable(path) if path else f"bytes[{position}]", data)
    if path is None:
        raise UsageError("a mapping with neither bytes nor a path is not an image", "Leave rows without an image out.")
    try:
        return Source(printable(path), listed(path, Path()))
    except ImageError as error:
        return Source(printable(path), error)
