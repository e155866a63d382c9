"""The image formats that weevit reads, one row each, and the formats that it only names.

A reader is listed if it finds the image's size before it decodes a pixel, recognises its files by their first bytes,
and runs no other program. Therefore absent: EPS and WMF (start a program), ICO (decodes while it opens), TGA (has no
signature, so any file may pass for one), PSD and camera raw (no agreed image).

A known kind of image that is not read is still an input: in a folder it gives a row with the reason. Drawings,
documents and icons (SVG, PDF, EPS, metafiles, ICO) are not inputs; in a folder they are left out and counted.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from PIL import ImageFile

from weevit.errors import UnsupportedImageError
from weevit.images import bounds, boxes, heif, jpeg2000, png
from weevit.images.exif import read_directory

Signature = tuple[int, bytes]
"""Offset in the file, and the bytes there."""


@dataclass(frozen=True)
class Format:
    """How files of one format are recognised, read and checked.

    Attributes:
        name: Pillow's name of the format.
        endings: file name endings, lower case.
        reader: Pillow's class or a subclass of ours, as `module.class`; imported for the first file of the format. It
            is called directly: `Image.open` would try other readers on a broken file, and would warn of large images,
            which cannot be silenced in one thread only.
        signatures: a file with one of these is of this format.
        bytes_per_pixel: peak memory of decoding to upright RGB, besides the file itself (measured at 64 megapixels). A
            subclass of ours may give more for a single file, by an attribute of this name.
        codec: Pillow's name for the optional library behind the reader; empty where it cannot be missing.
        extra: weevit's extra that installs the reader, and the module that it needs; empty where no extra is needed.
        check: called with the file before opening; returns the bytes to read. Raises an ImageError for a file that
            takes more time or memory than its size tells, or lacks a part that the reader would fill up.
        prepare: called between opening and decoding; corrects what Pillow reads wrong.
        ends_early: whether a file that could not be decoded is truncated by its own structure.
    """

    name: str
    endings: str
    reader: str
    signatures: tuple[Signature, ...]
    bytes_per_pixel: int
    codec: str = ""
    extra: tuple[str, str] = ("", "")
    check: Callable[[bytes], bytes] = lambda data: data
    prepare: Callable[[Any, bytes], None] = lambda image, data: None
    ends_early: Callable[[bytes], bool] = lambda data: False

    def open(self, data: bytes) -> ImageFile.ImageFile:
        """Read the header. Any exception of Pillow's may come out, and any ImageError."""
        module, _, name = self.reader.rpartition(".")
        reader: type[ImageFile.ImageFile] = getattr(import_module(module), name)
        return reader(io.BytesIO(self.check(data)))


_PPM = tuple((0, b"P%d%c" % (kind, space)) for kind in range(1, 7) for space in b" \t\r\n")

_HEIC = (*((8, b"he" + kind) for kind in (b"ic", b"ix", b"im", b"is", b"vc", b"vx", b"vm", b"vs")),
         (16, b"heic"), (20, b"heic"))  # fmt: skip
"""The last two stand behind the brand `mif1`, which AVIF files may have too."""

# fmt: off
FORMATS: tuple[Format, ...] = (
    Format("JPEG", ".jfif .jpe .jpeg .jpg .mpo", "weevit.images.jpeg.StrictJpeg", ((0, b"\xff\xd8\xff"),), 8,
           ends_early=lambda data: not data.endswith(b"\xff\xd9")),
    Format("PNG", ".apng .png", "weevit.images.png.WholePng", ((0, b"\x89PNG\r\n\x1a\n"),), 8,
           check=png.check, prepare=png.prepare, ends_early=png.ends_early),
    Format("WEBP", ".webp", "PIL.WebPImagePlugin.WebPImageFile", ((8, b"WEBPVP8"),), 16, "webp",
           ends_early=lambda data: len(data) < 8 + int.from_bytes(data[4:8], "little")),
    Format("GIF", ".gif", "PIL.GifImagePlugin.GifImageFile", ((0, b"GIF87a"), (0, b"GIF89a")), 8,
           check=bounds.check_gif, ends_early=lambda data: not data.endswith(b";")),
    Format("BMP", ".bmp", "PIL.BmpImagePlugin.BmpImageFile", ((0, b"BM"),), 8,
           check=bounds.check_bmp, ends_early=lambda data: len(data) < int.from_bytes(data[2:6], "little")),
    Format("TIFF", ".tif .tiff", "weevit.images.tiff.CheckedTiff",
           ((0, b"II*\0"), (0, b"MM\0*"), (0, b"II+\0"), (0, b"MM\0+")), 8,
           ends_early=lambda data: not read_directory(data).whole),
    Format("PPM", ".pbm .pfm .pgm .pnm .ppm", "PIL.PpmImagePlugin.PpmImageFile", _PPM, 10, check=bounds.check_ppm),
    Format("HEIC", ".heic .heics .heif .heifs .hif", "weevit.images.heif.Heif", _HEIC, 12,
           extra=("heic", "pillow_heif"), check=heif.check, ends_early=boxes.end_early),
    Format("AVIF", ".avif .avifs", "PIL.AvifImagePlugin.AvifImageFile",
           ((4, b"ftypavif"), (4, b"ftypavis"), (4, b"ftypmif1")), 14, "avif",
           ends_early=boxes.end_early),
    Format("JPEG2000", ".j2c .j2k .jp2 .jpc .jpf .jpx", "PIL.Jpeg2KImagePlugin.Jpeg2KImageFile",
           ((0, b"\xff\x4f\xff\x51"), (4, b"jP  \r\n\x87\n")), 24,
           "jpg_2000", check=jpeg2000.check, ends_early=jpeg2000.ends_early),
)

KNOWN_BY_NAME_ONLY: tuple[tuple[str, Signature], ...] = (
    ("Canon raw (CR3)", (4, b"ftypcrx ")), ("Canon raw (CR2)", (8, b"CR\x02\0")),
    ("Fujifilm raw", (0, b"FUJIFILMCCD-RAW")), ("QOI", (0, b"qoif")),
    ("JPEG XL", (0, b"\xff\x0a")), ("JPEG XL", (4, b"JXL \r\n\x87\n")),
    ("PDF", (0, b"%PDF-")), ("EPS", (0, b"%!PS")), ("EPS", (0, b"\xc5\xd0\xd3\xc6")), ("SVG", (0, b"<svg")),
    ("Photoshop", (0, b"8BPS")), ("GIMP", (0, b"gimp xcf")), ("Windows metafile", (0, b"\xd7\xcd\xc6\x9a")),
    ("Windows icon", (0, b"\0\0\1\0")), ("Apple icon", (0, b"icns")), ("DDS", (0, b"DDS ")), ("DjVu", (0, b"AT&TFORM")),
    ("SGI", (0, b"\x01\xda\0")), ("SGI", (0, b"\x01\xda\1")), ("FITS", (0, b"SIMPLE  =")), ("DICOM", (128, b"DICM")),
    ("OpenEXR", (0, b"v/1\x01")), ("Radiance HDR", (0, b"#?RADIANCE")), ("PFM", (0, b"PF\n")), ("PFM", (0, b"Pf\n")),
)
"""Formats that are recognised so that the message can name them, the first match first. Checked before `FORMATS`:
Canon's CR2 is also a TIFF."""

PACKED: tuple[tuple[str, Signature], ...] = (
    ("zip", (0, b"PK\3\4")), ("gzip", (0, b"\x1f\x8b")), ("bzip2", (0, b"BZh")), ("xz", (0, b"\xfd7zXZ\0")),
    ("7-Zip", (0, b"7z\xbc\xaf\x27\x1c")), ("RAR", (0, b"Rar!\x1a\7")), ("Zstandard", (0, b"\x28\xb5\x2f\xfd")),
    ("tar", (257, b"ustar")),
)
"""Archives where an image is meant; named only, so that the message can say what to do."""

KNOWN_ENDINGS: dict[str, str] = {ending: name for name, endings in {
    "Camera raw": ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .fff .iiq .kdc .mef .mos .mrw .nef .nrw .orf .pef .raf .rw2 "
                  ".rwl .sr2 .srf .srw .x3f",
    "JPEG XL": ".jxl", "JPEG XR": ".jxr .wdp", "Photoshop": ".psb .psd", "GIMP": ".xcf", "OpenEXR": ".exr",
    "Radiance HDR": ".hdr", "DICOM": ".dcm .dicom", "FITS": ".fits .fts", "Targa": ".tga", "QOI": ".qoi", "DDS": ".dds",
    "SGI": ".sgi", "PCX": ".pcx",
}.items() for ending in endings.split()}
"""Ending -> kind of image that is not read."""
# fmt: on

EXTENSIONS: frozenset[str] = frozenset(ending for row in FORMATS for ending in row.endings.split()) | set(KNOWN_ENDINGS)
"""Endings of files that are inputs in folders, archives and buckets, lower case with the dot: of formats that are read,
and of known kinds that are not. `.mpo` is a JPEG followed by more JPEGs."""

_RAW_HINT = "Convert it to JPEG, PNG or WebP first."


def check_name(name: str, kind: Format | None) -> None:
    """Refuse a file by its name where its bytes are ambiguous: an unknown format, or a camera's TIFF.

    Args:
        name: name of the file.
        kind: format by the first bytes.

    Raises:
        UnsupportedImageError: a known kind of image that is not read.
    """
    dot = name.rfind(".")
    known = KNOWN_ENDINGS.get(name[dot:].lower()) if dot >= 0 else None
    if known and (kind is None or (kind.name == "TIFF" and known == "Camera raw")):
        raise UnsupportedImageError(f"{known} files ({name[dot:]}) are not read", _RAW_HINT)
