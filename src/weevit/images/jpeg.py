"""JPEG: the structure of a file, and its pixels only where none is missing.

libjpeg fills what it cannot decode with grey and gives a warning, which Pillow drops. simplejpeg is the same library
(libjpeg-turbo) with the same settings and the same pixels, and reports the warning. libjpeg reports only the first
one, and a damaged header gives one too, though every pixel may be there; a file with a warning is therefore decoded
once more without the segments that decoding does not need.

Damage without a warning is searched for here: components without a scan, missing scans of a progressive file, and a
long run of zeros in the data of a photo, as a lost sector leaves it.

Format: ITU-T T.81, annex B. Not detected: overwritten bytes that happen to decode to the same number of blocks.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, ImageFile
from PIL.JpegImagePlugin import JpegImageFile

from weevit.errors import CorruptImageError, TooLargeImageError, TruncatedImageError, UnsupportedImageError
from weevit.images.canvas import Room, pixels_of

if TYPE_CHECKING:
    from PIL._imaging import PixelAccess

START, END = b"\xff\xd8", b"\xff\xd9"

_MARKER = re.compile(rb"\xff[^\x00\xff]")
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""The next marker in a header, and behind the data of a scan, which contains restarts and stuffed bytes."""

_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL, _PROGRESSIVE = {0xC0, 0xC1, 0xC9}, {0xC2, 0xCA}
_TABLES, _SCAN, _APP1 = 0xC4, 0xDA, 0xE1
_IS_EXIF, _IS_XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
_BARE = {0x01, *range(0xD0, 0xD9)}
"""Markers without a length."""

_NEEDED = _FRAMES | {_TABLES, 0xCC, 0xDB, 0xDD, 0xE0, 0xEE}
"""Segments of a header that decoding needs: frames, tables, restart interval, and two that give the colour space."""

MAX_SEGMENTS = 10_000
MAX_JUNK = 1 << 20
MAX_EXIF = 16 << 20
"""Bytes of EXIF. Real files have some hundred segments (profiles and maps in pieces of 64 KB)."""

FEW_SCANS, MAX_SCANS = 20, 200
SCAN_PIXELS = 1_000_000_000
"""A scan takes time for each pixel, even with a few bytes. libjpeg writes 10, mozjpeg up to 20."""


@dataclass
class Layout:
    """The structure of a file.

    Attributes:
        kind: the frame's marker; 0 without one.
        bits: bits per sample.
        size: (width, height).
        components: component numbers, in the frame's order.
        sampling: of each component, the horizontal and the vertical factor, four bits each.
        segments: (marker, first byte, end) of the segments before the first scan.
        scans: (components, first and last coefficient, high and low bit) of each scan.
        data: first byte behind the first scan's header; 0 without a scan.
        end: first byte behind the end marker; 0 without one.
    """

    kind: int = 0
    bits: int = 8
    size: tuple[int, int] = (0, 0)
    components: tuple[int, ...] = ()
    sampling: bytes = b""
    segments: list[tuple[int, int, int]] = field(default_factory=list)
    scans: list[tuple[tuple[int, ...], int, int, int, int]] = field(default_factory=list)
    data: int = 0
    end: int = 0

    @property
    def bytes_per_pixel(self) -> int:
        """Peak memory of decoding: with more than one scan, all coefficients are held until the last."""
        if len(self.scans) < 2 and self.kind not in _PROGRESSIVE:
            return 8 if self._is_usual else 12
        return 10 if len(self.components) < 4 else 16

    @property
    def _is_usual(self) -> bool:
        """Whether colours have factors of 1, and black, where there is some, those of the first component."""
        return self.sampling[1:3].strip(b"\x11") == b"" and self.sampling[3:4] in (b"", self.sampling[:1])


def read_layout(data: bytes) -> Layout:
    """Read a file's markers; pixels are not decoded.

    Raises:
        TooLargeImageError: more segments, scans or EXIF than any real file has.
        CorruptImageError: too many bytes between the segments.
    """
    layout, junk, position, exif = Layout(), 0, 2, 0
    for _ in range(MAX_SEGMENTS):
        end = len(data) if layout.scans else min(len(data), position + MAX_JUNK - junk + 2)
        found = (_AFTER_SCAN if layout.scans else _MARKER).search(data, position, end)
        if not found and end < len(data):
            raise CorruptImageError("JPEG: the header has more between its parts than in them")
        if not found:
            return layout
        junk += 0 if layout.scans else found.start() - position
        marker, start = data[found.end() - 1], found.end()
        if marker == END[1]:
            layout.end = start
            return layout
        if marker in _BARE:
            position = start
            continue
        position = start + int.from_bytes(data[start : start + 2], "big")
        exif += position - start if marker == _APP1 else 0
        if exif > MAX_EXIF:
            raise TooLargeImageError(f"JPEG: more than {MAX_EXIF:,} bytes of EXIF")
        if _take(layout, marker, data, start, position) and _is_single(layout) and data.endswith(END):
            layout.end = len(data)  # the decoder itself refuses another scan; no need to look for one
            return layout
    raise TooLargeImageError(f"JPEG: more than {MAX_SEGMENTS:,} segments")


def _take(layout: Layout, marker: int, data: bytes, start: int, end: int) -> bool:
    """Record a segment; returns whether it was a scan's header."""
    if marker == _SCAN:
        _take_scan(layout, data[start + 2 : end])
        layout.data = layout.data or end
        return True
    if not layout.scans:
        layout.segments.append((marker, start - 2, end))
    body = data[start + 2 : end]
    if marker in _FRAMES and not layout.kind and len(body) >= 6:
        layout.kind = marker
        layout.bits, height, width, count = struct.unpack_from(">BHHB", body)
        layout.size = (width, height)
        layout.components = tuple(body[6 : 6 + 3 * count : 3])
        layout.sampling = body[7 : 6 + 3 * count : 3]
    return False


def _take_scan(layout: Layout, body: bytes) -> None:
    count = body[0] if body else 0
    first, last, bits = (*body[1 + 2 * count : 4 + 2 * count], 0, 63, 0)[:3]
    layout.scans.append((tuple(body[1 : 1 + 2 * count : 2]), first, last, bits >> 4, bits & 15))
    allowed = max(FEW_SCANS, min(MAX_SCANS, SCAN_PIXELS // max(1, layout.size[0] * layout.size[1])))
    if len(layout.scans) > allowed:
        raise TooLargeImageError(f"JPEG: more than {allowed} scans")


def _is_single(layout: Layout) -> bool:
    return layout.kind in _SEQUENTIAL and len(layout.scans[0][0]) == len(layout.components)


def check_whole(layout: Layout) -> None:
    """Refuse missing components or scans with TruncatedImageError; libjpeg does not check for them."""
    low = {component: [-1] * 64 for component in layout.components}
    for components, first, last, _, bit in layout.scans:
        for component in components:
            if component in low:
                low[component][first : last + 1] = [bit] * len(low[component][first : last + 1])
    for number, bits in enumerate(low.values()):
        progressive = layout.kind in _PROGRESSIVE
        if bits[0] != 0 or (progressive and (max(bits) > 0 or (number == 0 and min(bits) < 0))):
            raise TruncatedImageError("JPEG: the file ends before its last scan")


def pixels(
    data: bytes, layout: Layout, size: tuple[int, int] | None = None, room: Room | None = None
) -> npt.NDArray[np.uint8]:
    """Every pixel of a file, or an error.

    Args:
        data: a whole file.
        layout: its layout.
        size: (width, height) to decode at: a half, a quarter or an eighth, as `JpegImageFile.draft` gives it.
        room: memory for an RGB result, see `pixels_of`. Used unless the file needs a second try.

    Returns:
        uint8, (H, W, 3) RGB, for grey too, or (H, W, 4) CMYK as stored (Adobe's is inverted). In `room`: (H, W, 4) RGB
        and an unused byte.

    Raises:
        DecodeError: pixels are missing, or may be.
        UnsupportedImageError: not 8 bits per sample, or another kind of JPEG.
    """
    _check_kind(layout)
    if not layout.scans:
        raise TruncatedImageError("JPEG: the file ends before its first scan")
    if not _is_single(layout):
        check_whole(layout)
    try:
        found = _strict(data, layout, size, room)
    except ValueError as error:
        odd = "subsampling" in str(error)
        found = _as_pillow(data, layout, size) if odd else _second_try(data, layout, size, str(error))
    if layout.kind in _SEQUENTIAL and _has_lost_sector(data, layout):
        raise CorruptImageError("JPEG: a part of the data was overwritten with zeros")
    return found


def _check_kind(layout: Layout) -> None:
    if len(layout.components) not in (0, 1, 3, 4):
        raise UnsupportedImageError(f"JPEG: {len(layout.components)} components", "Convert it to RGB first.")
    if layout.kind and (layout.bits != 8 or layout.kind not in _SEQUENTIAL | _PROGRESSIVE):
        raise UnsupportedImageError(
            f"JPEG: {layout.bits} bits per sample, or a lossless or hierarchical file, is not read",
            "Convert it to an ordinary JPEG or to PNG first.",
        )


def _strict(
    data: bytes, layout: Layout, size: tuple[int, int] | None, room: Room | None = None
) -> npt.NDArray[np.uint8]:
    colours = "CMYK" if len(layout.components) == 4 else "RGB" if room is None else "RGBX"
    width, height = size or (0, 0)
    decoded: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(
        data, colours, min_width=width, min_height=height, buffer=room, strict=True
    )
    if decoded.shape[1::-1] != (size or layout.size):
        raise ValueError("the header tells two sizes")
    return decoded


def _second_try(data: bytes, layout: Layout, size: tuple[int, int] | None, reason: str) -> npt.NDArray[np.uint8]:
    """Decode once more without the parts that may have caused a needless warning."""
    try:
        return _strict(_without_blemishes(data, layout), layout, size)
    except ValueError:
        kind = TruncatedImageError if "remature end" in reason or not layout.end else CorruptImageError
        raise kind(" ".join(f"JPEG: pixels are missing or wrong: {reason}".split())[:200]) from None


_PADDING = 16
"""Bytes behind the data of a scan: libjpeg reads up to 8 ahead."""


def _as_pillow(data: bytes, layout: Layout, size: tuple[int, int] | None) -> npt.NDArray[np.uint8]:
    """The pixels of a file with sampling factors that simplejpeg does not take, as CMYK with black at half the size.

    Pillow drops libjpeg's warnings. But it stops where bytes run out in front of an end marker: so the marker is
    replaced by a few zeros, which suffice for what libjpeg reads ahead, and not for data that is missing.
    """
    if not _is_single(layout):
        raise UnsupportedImageError(
            "JPEG: sampling factors of this kind in several scans are not read",
            "Convert it to an ordinary JPEG or to PNG first.",
        )
    try:
        image = JpegImageFile(io.BytesIO(_without_blemishes(data, layout)[: -len(END)] + bytes(_PADDING)))
        if size is not None:
            scale = -(-layout.size[0] // size[0])
            image.draft(None, (max(1, layout.size[0] // scale), max(1, layout.size[1] // scale)))
        image.load()
    except OSError as error:
        raise TruncatedImageError(f"JPEG: pixels are missing or wrong: {error}") from None
    except (SyntaxError, ValueError, TypeError, LookupError, EOFError, struct.error) as error:  # a broken header
        raise CorruptImageError(f"JPEG: {error}") from None
    found = np.array(image)
    return np.invert(found, out=found) if image.mode == "CMYK" else found


def _without_blemishes(data: bytes, layout: Layout) -> bytes:
    """The file reduced to what decoding needs, without zero padding behind the last row, with an end marker."""
    header = b"".join(data[start:end] for marker, start, end in layout.segments if marker in _NEEDED)
    first = data.rfind(b"\xff\xda", 0, layout.data)
    body = data[first : layout.end - 2 if layout.end else len(data)]
    trimmed = body.rstrip(b"\0")
    if trimmed.endswith(b"\xff") and len(trimmed) < len(body):
        trimmed += b"\0"  # it belonged to a stuffed byte
    return START + header + trimmed + END


_STEP = 256
_LOST = bytes(128)


def _has_lost_sector(data: bytes, layout: Layout) -> bool:
    """Whether there is a run of zeros that no encoder writes; every 256th byte is tested, which takes no time."""
    sample = data[layout.data : layout.end or len(data) : _STEP]
    at = sample.find(0)
    while at >= 0:
        position = layout.data + at * _STEP
        if data.startswith(_LOST, position):
            return bool(data[position : layout.end - 2 if layout.end else None].strip(b"\0")) and not _zeros_are_flat(
                data, layout
            )
        at = sample.find(0, at + 1)
    return False


def _zeros_are_flat(data: bytes, layout: Layout) -> bool:
    """Whether zeros mean "no change, end of block" in every table: then they are an area of one colour."""
    symbols = [first for marker, start, end in layout.segments if marker == _TABLES
               for first in _first_symbols(data[start + 4 : end])]  # fmt: skip
    return bool(symbols) and not any(symbols)


def _first_symbols(body: bytes) -> Iterator[int]:
    while len(body) > 17:
        yield body[17]
        body = body[17 + sum(body[1:17]) :]


class StrictJpeg(JpegImageFile):
    """Pillow's image with the header from `read_layout` and the pixels from `pixels`. Give it a BytesIO of a file.

    `info` has only what may turn the image: EXIF and XMP.
    """

    def _open(self) -> None:
        assert isinstance(self.fp, io.BytesIO)
        self.data = self.fp.getvalue()  # no copy
        self.layout = read_layout(self.data)
        _check_kind(self.layout)
        self.info |= _notes(
            self.data[start + 4 : end] for marker, start, end in self.layout.segments if marker == _APP1
        )
        self._size = self.layout.size
        self._mode = "CMYK" if len(self.layout.components) == 4 else "RGB"
        self.tile = [ImageFile._Tile("jpeg", (0, 0, *self.size), 0, (self._mode, ""))]

    @property
    def bytes_per_pixel(self) -> int:
        """Peak memory of decoding."""
        return self.layout.bytes_per_pixel

    def load(self) -> PixelAccess | None:
        """Decode, once."""
        if self.tile:
            if not self.layout.end:
                JpegImageFile(io.BytesIO(self.data)).load()  # raises for most; some have every pixel
            room = pixels_of(self) if self.mode == "RGB" else None
            self.load_prepare()
            found = pixels(self.data, self.layout, self.size if self.decoderconfig else None, room)
            if self.mode == "CMYK" or found.shape[2] == 3:
                self.frombytes(found, "raw", "CMYK;I" if self.mode == "CMYK" else "RGB")
            self.tile = []
        return super().load()


def _notes(segments: Iterable[bytes]) -> dict[str | tuple[int, int], bytes]:
    """EXIF, joined from its segments, and the last XMP, by Pillow's names."""
    exif: list[bytes] = []
    found: dict[str | tuple[int, int], bytes] = {}
    for body in segments:
        if body.startswith(_IS_EXIF):
            exif.append(body[len(_IS_EXIF) :])
        elif body.startswith(_IS_XMP):
            found["xmp"] = body[len(_IS_XMP) :]
    return found | ({"exif": b"".join([_IS_EXIF, *exif])} if exif else {})


def check_opened(image: Image.Image) -> None:
    """Refuse a JPEG that Pillow has opened but not decoded if pixels are missing; errors as for `pixels`."""
    if isinstance(image, JpegImageFile) and not isinstance(image, StrictJpeg) and image.tile and image.fp:
        position = image.fp.tell()
        image.fp.seek(image.tile[0].offset)
        data = image.fp.read()
        image.fp.seek(position)
        pixels(data, read_layout(data))
