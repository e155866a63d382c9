"""TIFF: refuse files that cost more than their size tells and layouts that Pillow reads wrong.

The layouts that Pillow 13 reads right were found by comparing each with pixels computed separately (bits, planes,
compression, tiles, order of bytes and bits, meaning of samples); `_is_misread` knows those that it reads wrong in
silence.

Not detected: overwritten bytes; only Deflate has a check sum.
"""

from __future__ import annotations

import io
import zlib
from typing import TYPE_CHECKING

from PIL.TiffImagePlugin import TiffImageFile

from weevit.errors import CorruptImageError, TooLargeImageError, TruncatedImageError, UnsupportedImageError
from weevit.images.exif import Directory, read_directory

if TYPE_CHECKING:
    from PIL._imaging import PixelAccess

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _MEANING = 256, 257, 258, 259, 262
_SAMPLES, _ROWS, _PLANES, _EXTRA, _FORMAT, _SUBSAMPLING = 277, 278, 284, 338, 339, 530
_TILE_WIDTH, _TILE_HEIGHT = 322, 323
_NEW_SUBFILE_TYPE = 254
_STRIPS_AND_TILES = ((273, 279), (324, 325))
_FILL, _JPEG_TABLES = 266, 347
_PALETTE, _YCBCR = 3, 6
_RAW = 1
_MEANINGS = {0: "grey, 0 is white", 1: "grey", 2: "RGB", 3: "palette", 5: "CMYK", 6: "YCbCr", 8: "Lab"}

_HINT = "Convert it to 8 bits RGB, samples of a pixel together, or to PNG."

MAX_PARTS = 300_000
"""Strips or tiles: 64 megapixels in tiles of 16 x 16."""

TILE_PIXELS = 1 << 22
"""A tile may be larger than its image, which is then padded; up to this size, or 4 times the image's."""


def check(data: bytes, directory: Directory) -> None:
    """Refuse, by the directory alone, tiles and part counts out of proportion to the image, with TooLargeImageError."""
    width, height = (_integer(directory, data, number, 0) for number in (_WIDTH, _HEIGHT))
    tile = [_integer(directory, data, number, 0) for number in (_TILE_WIDTH, _TILE_HEIGHT)]
    if tile[0] * tile[1] > max(TILE_PIXELS, 4 * width * height):
        raise TooLargeImageError(f"TIFF: tiles of {tile[0]} x {tile[1]} pixels for an image of {width} x {height}")
    for number, _ in _STRIPS_AND_TILES:
        if number in directory.tags and directory.tags[number].count > MAX_PARTS:
            raise TooLargeImageError(f"TIFF: {directory.tags[number].count:,} parts; the limit is {MAX_PARTS:,}")


def _integer(directory: Directory, data: bytes, number: int, default: int) -> int:
    found = directory.integers(data, number)
    return found[0] if found else default


class CheckedTiff(TiffImageFile):
    """Pillow's reader with checks of the directory before and after. Give it a BytesIO of a whole file."""

    bytes_per_pixel = 8

    def _open(self) -> None:
        assert isinstance(self.fp, io.BytesIO)
        data = self.fp.getvalue()  # no copy
        self.directory = read_directory(data)
        check(data, self.directory)
        self.bytes_per_pixel = 8 + _extra_bytes(data, self.directory)
        try:
            super()._open()
        except (SyntaxError, IndexError) as error:  # the second: more planes than the mode has letters
            planes = isinstance(error, IndexError) and self.directory.whole
            if planes or any(word in str(error) for word in ("unknown", "samples per pixel")):
                raise UnsupportedImageError(f"TIFF: {_described(data, self.directory)} are not read", _HINT) from error
            raise
        if _is_misread(data, self.directory, self.mode):
            raise UnsupportedImageError(f"TIFF: {_described(data, self.directory)} are not read", _HINT)

    def load(self) -> PixelAccess | None:
        """Decode, once; thumbnails and incomplete files are refused."""
        if self.tile:
            assert isinstance(self.fp, io.BytesIO)
            self._check_whole(self.fp.getvalue())
        return super().load()

    def _check_whole(self, data: bytes) -> None:
        tags, packed = self.tag_v2, self.info.get("compression")
        if tags.get(_NEW_SUBFILE_TYPE, 0) & 1:
            raise UnsupportedImageError(
                "TIFF: the first image is only a thumbnail of another (a camera's raw file)",
                "Export it as JPEG or PNG first.",
            )
        if packed == "raw":
            return  # Pillow itself notices missing bytes here, and some old writers give wrong counts
        for offsets, counts in _STRIPS_AND_TILES:
            parts = list(zip(tags.get(offsets, ()), tags.get(counts, ()), strict=False))
            if any(offset + count > len(data) for offset, count in parts):
                raise TruncatedImageError("TIFF: parts of the image lie behind the end of the file")
            for offset, count in parts:
                if packed == "jpeg":
                    _check_jpeg(bytes(tags.get(_JPEG_TABLES, b"")), data[offset : offset + count])
                elif packed in _DEFLATE:
                    part = data[offset : offset + count]
                    part = part.translate(_REVERSED) if tags.get(_FILL, 1) == 2 else part
                    _check_sum(part, self._part_bytes(data))

    def _part_bytes(self, data: bytes) -> int:
        """The unpacked size of one part, at most."""
        width, rows = self.tag_v2.get(_TILE_WIDTH, self.width), self.tag_v2.get(_TILE_HEIGHT)
        rows = rows or min(self.height, self.tag_v2.get(_ROWS, self.height))
        return int((width * sum(self.directory.integers(data, _BITS, 16) or (1,)) + 7) // 8 * rows)


def _extra_bytes(data: bytes, directory: Directory) -> int:
    """Bytes per pixel of the buffer for one part: a strip may be the whole image, and has all bits of all samples."""
    width, height = (max(1, _integer(directory, data, number, 1)) for number in (_WIDTH, _HEIGHT))
    if _integer(directory, data, _COMPRESSION, _RAW) == _RAW:
        return 0
    bits = sum(directory.integers(data, _BITS, 8)) or 1
    rows = min(height, _integer(directory, data, _ROWS, height))
    area = _integer(directory, data, _TILE_WIDTH, width) * _integer(directory, data, _TILE_HEIGHT, rows)
    return max(0, (area * bits + 7) // 8 // (width * height) - 4)


def _is_misread(data: bytes, directory: Directory, mode: str) -> bool:
    """Whether Pillow would give other pixels, or fail, though the file is sound."""
    bits = directory.integers(data, _BITS, 16) or (1,)
    meaning, raw = _integer(directory, data, _MEANING, 1), _integer(directory, data, _COMPRESSION, _RAW) == _RAW
    extra = directory.integers(data, _EXTRA, 8)
    subsampled = meaning == _YCBCR and (directory.integers(data, _SUBSAMPLING, 2) or (2, 2)) != (1, 1)
    if 2 in directory.integers(data, _FORMAT, 8) and max(bits) == 8:
        return True  # signed samples, read as if they were not
    if raw and _integer(directory, data, _FILL, 1) == 2 and (max(bits) == 8 if meaning == 0 else meaning == _PALETTE):
        return True  # bits the other way round: Pillow stumbles
    if _integer(directory, data, _PLANES, 1) != 2 or len(bits) < 2:
        return subsampled and raw
    return (
        mode in ("LA", "La", "PA", "L", "P", "LAB")  # two samples, or Lab
        or subsampled
        or (
            raw and (set(bits) != {8} or len(bits) != len(mode) or meaning == _YCBCR or extra not in ((), (2,), (999,)))
        )
    )


def _described(data: bytes, directory: Directory) -> str:
    bits = directory.integers(data, _BITS, 16) or (1,)
    kinds = {2: "signed", 3: "floating-point"}
    kind = next((kinds[form] for form in directory.integers(data, _FORMAT, 8) if form in kinds), "")
    samples = _integer(directory, data, _SAMPLES, len(bits))
    planes = ", one plane behind another" if _integer(directory, data, _PLANES, 1) == 2 else ""
    meaning = _MEANINGS.get(number := _integer(directory, data, _MEANING, 1), f"of kind {number}")
    words = f"{samples} {kind} samples".replace("  ", " ")
    return f"{words} of {max(bits)} bits per pixel ({meaning}{planes})"


def _check_jpeg(tables: bytes, part: bytes) -> None:
    """Refuse a part that is no whole JPEG: libtiff, too, drops libjpeg's warnings."""
    from weevit.images import jpeg

    whole = jpeg.START + tables[2:].removesuffix(jpeg.END) + part[2:] if tables else part
    layout = jpeg.read_layout(whole)
    if len(layout.components) == 2:
        return  # simplejpeg reads 1, 3 and 4
    try:
        jpeg.pixels(whole, layout)
    except (TruncatedImageError, CorruptImageError) as error:
        raise type(error)(f"TIFF, a part of it: {error.message}") from None


def _check_sum(part: bytes, size: int) -> None:
    """Refuse a Deflate part with a wrong check sum: libtiff stops at the last pixel, before it."""
    stream = zlib.decompressobj()
    piece = part
    try:
        for _ in range(size // _PIECE + 2):
            stream.decompress(piece, _PIECE)
            piece = stream.unconsumed_tail
            if stream.eof:
                return
            if not piece:
                break
    except zlib.error as error:
        raise CorruptImageError(f"TIFF: a part of the image: {error}") from error
    raise CorruptImageError("TIFF: a part of the image has no end where its pixels have")


_PIECE = 1 << 20
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_DEFLATE = ("tiff_adobe_deflate", "tiff_deflate")
