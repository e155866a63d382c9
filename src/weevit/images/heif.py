"""HEIC and HEIF, by pillow-heif (libheif, libde265), which the extra `heic` installs.

Nothing is registered with Pillow. libheif turns and mirrors an image as the file says (irot, imir); EXIF's orientation
must not be applied as well (ISO/IEC 23008-12, annex A), and is not. Of several images the primary one is read, of a
sequence without a still the first frame.

Not detected: overwritten bytes; HEVC has no check sum, and libde265 decodes on.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from PIL import ImageFile

from weevit.errors import CorruptImageError, TooLargeImageError, TruncatedImageError
from weevit.images.boxes import end_early

if TYPE_CHECKING:
    from PIL._imaging import PixelAccess

MAX_TILES = 1024
"""Tiles of one image; telephones write 48 to 192. Each takes a decoder."""


def check(data: bytes) -> bytes:
    """Refuse a file that ends before its last box, with TruncatedImageError."""
    if end_early(data):
        raise TruncatedImageError("HEIC: the file ends before its last box")
    return data


class Heif(ImageFile.ImageFile):
    """The primary image of a file; opening decodes no pixel."""

    format, format_description = "HEIC", "High Efficiency Image File Format"

    def _open(self) -> None:
        assert self.fp is not None
        reader: Any = import_module("pillow_heif")
        try:
            file = reader.HeifFile(self.fp.read(), convert_hdr_to_8bit=True, hdr_to_16bit=True)
            self._image: Any = file[file.primary_index]
        except (OSError, ValueError, SyntaxError, RuntimeError, EOFError, IndexError) as error:
            raise CorruptImageError(" ".join(f"HEIC: {error}".split())[:200]) from error
        self._size, self._mode = self._image.size, self._image.mode
        self.bytes_per_pixel = 12 if self._image.info.get("bit_depth", 8) <= 8 else 16
        tiling = self._image.info.get("tiling") or {}
        tiles = tiling.get("num_columns", 1) * tiling.get("num_rows", 1)
        if tiles > MAX_TILES:
            raise TooLargeImageError(f"HEIC: {tiles:,} tiles; the limit is {MAX_TILES:,}")

    def load(self) -> PixelAccess | None:
        """Decode, once."""
        if self._image is not None:
            image, self._image = self._image, None
            data = image.data
            if image.size != self.size:
                raise CorruptImageError(f"HEIC: {image.size} pixels, where the file says {self.size}")
            self.load_prepare()
            self.frombytes(data, "raw", (self.mode, image.stride))
        return super().load()
