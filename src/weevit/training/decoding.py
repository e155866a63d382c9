"""The pixels of a training image: those of `images.decode`, faster where a file is an ordinary JPEG.

`images.jpeg` has the pixels as they are wanted here before `images.decode` makes a Pillow image of them, which saves
two copies. It is asked directly only about files in which nothing has to be turned or converted, and whatever it
refuses is asked of `images.decode` again, which says what is wrong with it.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

from weevit.errors import ImageError
from weevit.images.decode import DEFAULT_LIMITS, Limits
from weevit.images.source import Source, Stored, open_image, read_bytes

Pixels = npt.NDArray[np.uint8]


def read_pixels(source: Source, limits: Limits = DEFAULT_LIMITS) -> Pixels:
    """A source's image, read-only uint8 (H, W, 3), RGB, upright, pixels as from `open_image`; ImageError if none."""
    value = source.value
    if isinstance(value, ImageError):
        raise value
    if isinstance(value, str | Path | Stored):
        value = read_bytes(value, limits)
    if isinstance(value, bytes) and is_plain_jpeg(value, limits):
        pixels = _decoded(value)
        if pixels is not None:
            return pixels
    return np.asarray(open_image(Source(source.name, value), limits))


def _decoded(data: bytes) -> Pixels | None:
    """The pixels of a plain JPEG; None where not all of them can be had."""
    from weevit.images import jpeg

    try:
        return jpeg.pixels(data, jpeg.read_layout(data))
    except ImageError:
        return None


def load_decoder() -> None:
    """Import it before threads decode, so that none of them has to."""
    import weevit.images.jpeg  # noqa: F401


_FRAMES = {0xC0, 0xC1, 0xC2}
"""Baseline, extended and progressive, with Huffman codes."""

_SCAN, _APP1 = 0xDA, 0xE1
_START, _END = b"\xff\xd8\xff", b"\xff\xd9"


def is_plain_jpeg(data: bytes, limits: Limits = DEFAULT_LIMITS) -> bool:
    """Whether the bytes are a JPEG with an end, of one or three channels, within the limits, not to be turned."""
    if not data.startswith(_START) or not data.endswith(_END) or len(data) > limits.max_bytes:
        return False
    place, frame = 2, False
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker, length = data[place + 1], struct.unpack_from(">H", data, place + 2)[0]
        if marker == _SCAN:
            return frame
        if marker == _APP1:  # Exif or XMP, which may say how it is to be turned
            return False
        if marker in _FRAMES:
            if frame or not _is_plain_frame(data[place + 4 : place + 2 + length], limits):
                return False
            frame = True
        place += 2 + length
    return False


def _is_plain_frame(header: bytes, limits: Limits) -> bool:
    if len(header) < 6:
        return False
    bits, height, width, components = struct.unpack_from(">BHHB", header)
    # A progressive file may have 4/5 of the pixels that another may have; a larger one is left to the other decoder.
    small = 0 < height * width <= limits.max_pixels * 4 // 5
    return bits == 8 and components in (1, 3) and small
