"""The picture formats that weevit reads, one row each, and those that it can only name.

A reader is on the list when it finds the picture's size before it decodes a pixel, recognises its own files by their
first bytes, and runs no other program. Left out for these reasons: EPS and WMF (start a program), ICO (decodes while
it is being opened), TGA (has no signature, so that any file may pass for one), PSD and camera raw (no agreed picture).
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Literal

from PIL import ImageFile

from weevit.errors import CorruptImageError, TruncatedImageError, UnsupportedImageError

Signature = tuple[int, bytes]
"""Where in the file, and which bytes."""


@dataclass(frozen=True)
class Format:
    """How files of one format are known, read and judged.

    Attributes:
        name: Pillow's name of the format.
        endings: of its files, lower case.
        reader: Pillow's class for it, as `module.class`; imported for the first file of the format. It is called
            directly: `Image.open` would try other readers on a broken file, and would warn of large pictures, which
            cannot be silenced in one thread only.
        signatures: a file is of this format if one of these is found in it.
        bytes_per_pixel: peak memory of decoding to upright RGB, besides the file itself (measured at 64 megapixels).
        codec: Pillow's name for the optional library behind the reader; empty where it cannot be missing.
        prepare: called between opening and decoding; raises an ImageError for what Pillow would let pass, and puts
            right what Pillow reads wrong.
        ends_early: whether a file that could not be decoded stops before its own structure says that it ends.
    """

    name: str
    endings: str
    reader: str
    signatures: tuple[Signature, ...]
    bytes_per_pixel: int
    codec: str = ""
    prepare: Callable[[ImageFile.ImageFile, bytes], None] = lambda image, data: None
    ends_early: Callable[[bytes], bool] = lambda data: False

    def open(self, data: bytes) -> ImageFile.ImageFile:
        """Read the header. Any exception of Pillow's may come out."""
        module, _, name = self.reader.partition(".")
        reader: type[ImageFile.ImageFile] = getattr(import_module(f"PIL.{module}"), name)
        return reader(io.BytesIO(data))


def _prepare_png(image: ImageFile.ImageFile, data: bytes) -> None:
    _check_png_sums(data)
    value = image.info.get("transparency")
    rawmode = str(image.tile[0].args) if image.tile else ""
    # Pillow scales samples of 2, 4 and 16 bits to 8, but leaves the transparent value as it stands in the file.
    if isinstance(value, int) and rawmode in _GREY_SCALE:
        image.info["transparency"] = value * _GREY_SCALE[rawmode]
    elif isinstance(value, tuple) and rawmode == "RGB;16B":
        image.info["transparency"] = tuple(sample >> 8 for sample in value)


_GREY_SCALE = {"L;2": 85, "L;4": 17}


def _check_png_sums(data: bytes) -> None:
    """Pillow skips the check sums of the pixel data, so that a flipped bit could pass; libpng refuses it."""
    view, start = memoryview(data), 8
    while start + 12 <= len(data):
        end = start + 8 + struct.unpack_from(">I", data, start)[0]
        if end + 4 > len(data):
            return  # cut off inside this chunk: the decoder will say so if pixels are missing
        if data.startswith(b"IDAT", start + 4) and zlib.crc32(view[start + 4 : end]) != _big32(data, end):
            raise CorruptImageError("PNG: a check sum of the pixel data does not match")
        start = end + 4


def _prepare_tiff(image: ImageFile.ImageFile, data: bytes) -> None:
    tags = image.tag_v2  # type: ignore[attr-defined]  # only TIFF rows come here
    if tags.get(_NEW_SUBFILE_TYPE, 0) & 1:
        raise UnsupportedImageError(
            "TIFF: the first picture is only a thumbnail of another (a camera's raw file)",
            "Export it as JPEG or PNG first.",
        )
    if image.info.get("compression") == "raw":
        return  # Pillow itself notices missing bytes here, and some old writers give wrong counts
    for offsets, counts in _STRIPS_AND_TILES:
        parts = zip(tags.get(offsets, ()), tags.get(counts, ()), strict=False)
        if any(offset + count > len(data) for offset, count in parts):
            raise TruncatedImageError("TIFF: parts of the picture lie behind the end of the file")


_NEW_SUBFILE_TYPE = 254
_STRIPS_AND_TILES = ((273, 279), (324, 325))


def _big32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "big")


def _little32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")


def _tiff_ends_early(data: bytes) -> bool:
    """Whether the first directory lies, in part, behind the end of the file."""
    order: Literal["little", "big"] = "little" if data.startswith(b"II") else "big"
    directory = int.from_bytes(data[4:8], order)
    entries = int.from_bytes(data[directory : directory + 2], order)
    return directory + 2 + 12 * entries > len(data)


def _boxes_end_early(data: bytes) -> bool:
    """Whether the last box of an ISO media file (AVIF, JPEG 2000) is longer than what is left of the file."""
    start = 0
    while 0 <= start < len(data):
        size = _big32(data, start)
        if size == 1:
            size = int.from_bytes(data[start + 8 : start + 16], "big")
        if size < 8:  # 0: the box goes on to the end of the file; anything else is not a box
            return False
        start += size
    return start > len(data)


def _jpeg2000_ends_early(data: bytes) -> bool:
    return _boxes_end_early(data) or not data.endswith(_END_OF_CODESTREAM)


_END_OF_CODESTREAM = b"\xff\xd9"  # the same two bytes end a JPEG
_PPM = tuple((0, b"P%d%c" % (kind, space)) for kind in range(1, 7) for space in b" \t\r\n")

# fmt: off
FORMATS: tuple[Format, ...] = (
    Format("JPEG", ".jfif .jpe .jpeg .jpg .mpo", "JpegImagePlugin.JpegImageFile", ((0, b"\xff\xd8\xff"),), 8,
           ends_early=lambda data: not data.endswith(_END_OF_CODESTREAM)),
    Format("PNG", ".apng .png", "PngImagePlugin.PngImageFile", ((0, b"\x89PNG\r\n\x1a\n"),), 8,
           prepare=_prepare_png, ends_early=lambda data: b"IEND" not in data),
    Format("WEBP", ".webp", "WebPImagePlugin.WebPImageFile", ((8, b"WEBPVP8"),), 16, "webp",
           ends_early=lambda data: len(data) < 8 + _little32(data, 4)),
    Format("GIF", ".gif", "GifImagePlugin.GifImageFile", ((0, b"GIF87a"), (0, b"GIF89a")), 8,
           ends_early=lambda data: not data.endswith(b";")),
    Format("BMP", ".bmp", "BmpImagePlugin.BmpImageFile", ((0, b"BM"),), 8,
           ends_early=lambda data: len(data) < _little32(data, 2)),
    Format("TIFF", ".tif .tiff", "TiffImagePlugin.TiffImageFile",
           ((0, b"II*\0"), (0, b"MM\0*"), (0, b"II+\0"), (0, b"MM\0+")), 8,
           prepare=_prepare_tiff, ends_early=_tiff_ends_early),
    Format("PPM", ".pbm .pfm .pgm .pnm .ppm", "PpmImagePlugin.PpmImageFile", _PPM, 10),
    Format("AVIF", ".avif .avifs", "AvifImagePlugin.AvifImageFile",
           ((4, b"ftypavif"), (4, b"ftypavis"), (4, b"ftypmif1")), 14, "avif",
           ends_early=_boxes_end_early),
    Format("JPEG2000", ".j2c .j2k .jp2 .jpc .jpf .jpx", "Jpeg2KImagePlugin.Jpeg2KImageFile",
           ((0, b"\xff\x4f\xff\x51"), (4, b"jP  \r\n\x87\n")), 24,
           "jpg_2000", ends_early=_jpeg2000_ends_early),
)

KNOWN_BY_NAME_ONLY: tuple[tuple[str, Signature], ...] = (
    ("HEIC", (8, b"heic")), ("HEIC", (8, b"heix")), ("HEIC", (8, b"hevc")), ("HEIC", (16, b"heic")),
    ("HEIC", (20, b"heic")), ("Canon raw (CR3)", (4, b"ftypcrx ")), ("Canon raw (CR2)", (8, b"CR\x02\0")),
    ("Fujifilm raw", (0, b"FUJIFILMCCD-RAW")), ("QOI", (0, b"qoif")),
    ("JPEG XL", (0, b"\xff\x0a")), ("JPEG XL", (4, b"JXL \r\n\x87\n")),
    ("PDF", (0, b"%PDF-")), ("EPS", (0, b"%!PS")), ("EPS", (0, b"\xc5\xd0\xd3\xc6")), ("SVG", (0, b"<svg")),
    ("Photoshop", (0, b"8BPS")), ("GIMP", (0, b"gimp xcf")), ("Windows metafile", (0, b"\xd7\xcd\xc6\x9a")),
    ("Windows icon", (0, b"\0\0\1\0")), ("Apple icon", (0, b"icns")), ("DDS", (0, b"DDS ")), ("DjVu", (0, b"AT&TFORM")),
    ("SGI", (0, b"\x01\xda\0")), ("SGI", (0, b"\x01\xda\1")), ("FITS", (0, b"SIMPLE  =")), ("DICOM", (128, b"DICM")),
    ("OpenEXR", (0, b"v/1\x01")), ("Radiance HDR", (0, b"#?RADIANCE")), ("PFM", (0, b"PF\n")), ("PFM", (0, b"Pf\n")),
)
"""Formats that are recognised so that the message can name them. The first match counts, and before `FORMATS`:
Canon's CR2 is also a TIFF, and some HEIC files begin like AVIF."""
# fmt: on

EXTENSIONS: frozenset[str] = frozenset(ending for row in FORMATS for ending in row.endings.split())
"""File endings of the formats that are read, lower case with the dot. `.mpo` is a JPEG followed by more of them."""
