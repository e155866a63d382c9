"""PNG: check sums, missing rows, compressed text, and transparent values that Pillow leaves unscaled."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

from PIL import Image, ImageFile
from PIL.PngImagePlugin import PngImageFile

from weevit.errors import CorruptImageError, TooLargeImageError, TruncatedImageError

MAX_CHUNKS = 100_000
"""Writers cut the pixels into pieces of 8 to 64 KB."""

MAX_PACKED_TEXTS = 16
"""Each may unpack to a megabyte, which Pillow keeps; further ones are left out."""

_PACKED = (b"zTXt", b"iTXt")
_GREY_SCALE = {"L;2": 85, "L;4": 17}
_HEADER = 8
_DEPTH, _COLOURS, _INTERLACE = 24, 25, 28
"""Offsets of three bytes of the first chunk."""

_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Kind of colours -> samples per pixel."""

_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""First column and row of each pass of an interlaced image, and the steps to the next ones."""

_PIECE = 1 << 14
"""Packed bytes per step; they unpack to 16 MB at most."""


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
        CorruptImageError: a sum does not match, or the first chunk is no header that the format has.
        TooLargeImageError: more chunks than any real file has.
    """
    if len(data) > _INTERLACE and (data[12:16] != b"IHDR" or data[26] or data[27] or data[_INTERLACE] > 1):
        raise CorruptImageError("PNG: the first chunk is no header, or of a method that there is not")
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


class WholePng(PngImageFile):
    """Pillow's reader, which takes the end of the packed data for that of the pixels. Give it a BytesIO of a file."""

    def load_end(self) -> None:
        """Refuse missing rows: Pillow leaves them zero."""
        assert isinstance(self.fp, io.BytesIO)
        data = self.fp.getvalue()  # no copy
        super().load_end()
        last = self._new(self.im.crop((0, self.height - 1, self.width, self.height)))
        _check_rows(data, self.size, last)


def check_opened(image: Image.Image) -> None:
    """Refuse a PNG that Pillow has opened but not decoded if it is damaged; errors as of `check` and `WholePng`."""
    plain = isinstance(image, PngImageFile) and not isinstance(image, WholePng) and not image.is_animated
    if plain and isinstance(image, PngImageFile) and image.tile and image.fp:
        position = image.fp.tell()
        image.fp.seek(0)
        data = image.fp.read()
        image.fp.seek(position)
        check(data)
        image.load()
        _check_rows(data, image.size, image.crop((0, image.height - 1, image.width, image.height)))


def _check_rows(data: bytes, size: tuple[int, int], last: Image.Image) -> None:
    """Refuse missing rows; `last` is the last row as decoded."""
    if (data[_INTERLACE] or not any(last.tobytes())) and not _unpacks_to(data, _unpacked_bytes(data, size)):
        raise TruncatedImageError("PNG: the pixel data ends before the last row")


def _unpacked_bytes(data: bytes, size: tuple[int, int]) -> int:
    """Size of the pixel data: a byte for the filter and the samples of each row."""
    bits = data[_DEPTH] * _SAMPLES[data[_COLOURS]]
    total = 0
    for left, top, across, down in _PASSES if data[_INTERLACE] else ((0, 0, 1, 1),):
        width, height = -((left - size[0]) // across), -((top - size[1]) // down)
        total += height * (1 + (width * bits + 7) // 8) if width > 0 else 0
    return total


def _unpacks_to(data: bytes, size: int) -> bool:
    """Whether the pixel data has at least this size."""
    stream, view, found = zlib.decompressobj(), memoryview(data), 0
    for kind, start, end in _chunks(data):
        for at in range(start + 8, end, _PIECE) if kind == b"IDAT" else ():
            found += len(stream.decompress(view[at : min(at + _PIECE, end)]))
            if found >= size or stream.eof:
                return found >= size
    return False
