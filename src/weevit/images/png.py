"""PNG: check sums, compressed text, and transparent values that Pillow leaves unscaled."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from PIL import ImageFile

from weevit.errors import CorruptImageError, TooLargeImageError

MAX_CHUNKS = 100_000
"""Writers cut the pixels into pieces of 8 to 64 KB."""

MAX_PACKED_TEXTS = 16
"""Each may unpack to a megabyte, which Pillow keeps; further ones are left out."""

_PACKED = (b"zTXt", b"iTXt")
_GREY_SCALE = {"L;2": 85, "L;4": 17}
_HEADER = 8


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(kind, first byte, end) of every whole chunk; the 4 bytes of its check sum follow."""
    start = _HEADER
    for _ in range(MAX_CHUNKS):
        if start + 12 > len(data):
            return
        end = start + 8 + struct.unpack_from(">I", data, start)[0]
        if end + 4 > len(data):
            return  # cut off inside this chunk: the decoder raises if pixels are missing
        yield data[start + 4 : start + 8], start, end
        start = end + 4
    raise TooLargeImageError(f"PNG: more than {MAX_CHUNKS:,} chunks")


def check(data: bytes) -> bytes:
    """Check the sums of the pixel data, which Pillow skips, and return the file without excess compressed text.

    Raises:
        CorruptImageError: a sum does not match.
        TooLargeImageError: more chunks than any real file has.
    """
    view, texts = memoryview(data), []
    for kind, start, end in _chunks(data):
        if kind == b"IDAT" and zlib.crc32(view[start + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise CorruptImageError("PNG: a check sum of the pixel data does not match")
        if kind in _PACKED:
            texts.append((start, end + 4))
    if len(texts) <= MAX_PACKED_TEXTS:
        return data
    kept, last = [], 0
    for start, end in texts[MAX_PACKED_TEXTS:]:
        kept.append(view[last:start])
        last = end
    return b"".join([*kept, view[last:]])


def prepare(image: ImageFile.ImageFile, data: bytes) -> None:
    """Scale the transparent value as Pillow scales samples of 2, 4 and 16 bits to 8."""
    value = image.info.get("transparency")
    rawmode = str(image.tile[0].args) if image.tile else ""
    if isinstance(value, int) and rawmode in _GREY_SCALE:
        image.info["transparency"] = value * _GREY_SCALE[rawmode]
    elif isinstance(value, tuple) and rawmode == "RGB;16B":
        image.info["transparency"] = tuple(sample >> 8 for sample in value)


def ends_early(data: bytes) -> bool:
    """Whether the end chunk is missing."""
    return b"IEND" not in data
