"""The pixels of a training image: those of `images.decode`, faster where a file is a plain JPEG.

A plain JPEG needs no turn and no conversion, so that the pixels of `images.jpeg` are used as they are: a Pillow image
would cost two copies. A file that `images.jpeg` refuses goes to `images.decode`, which raises its error.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from weevit.errors import ImageError
from weevit.images.decode import DEFAULT_LIMITS, Limits, check_bytes, check_pixels
from weevit.images.jpeg import END, START, Layout, pixels, read_layout
from weevit.images.source import Source, Stored, open_image, read_bytes

Pixels = npt.NDArray[np.uint8]


def read_pixels(source: Source, limits: Limits = DEFAULT_LIMITS) -> Pixels:
    """A source's image, read-only uint8 (H, W, 3), RGB, upright, pixels as from `open_image`; ImageError if none."""
    value = source.value
    if isinstance(value, ImageError):
        raise value
    if isinstance(value, str | Path | Stored):
        value = read_bytes(value, limits)
    try:
        if isinstance(value, bytes) and (layout := plain_layout(value, limits)):
            return pixels(value, layout)
    except ImageError:  # the whole-file decoder raises its error
        pass
    return np.asarray(open_image(Source(source.name, value), limits))


_APP1 = 0xE1
"""The segment of EXIF and XMP, either of which may turn an image."""


def plain_layout(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Layout | None:
    """The layout of a JPEG with an end, one or three channels, and nothing that may turn it; None for other bytes.

    Raises:
        ImageError: over a limit, or a broken header.
    """
    if not data.startswith(START + b"\xff") or not data.endswith(END):
        return None
    check_bytes(len(data), limits)
    layout = read_layout(data)
    if any(marker == _APP1 for marker, _, _ in layout.segments) or len(layout.components) not in (1, 3):
        return None
    check_pixels(layout.size, limits, layout.bytes_per_pixel)
    return layout
