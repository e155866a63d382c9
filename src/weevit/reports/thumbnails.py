"""Small images embedded in a page."""

from __future__ import annotations

import base64
import io

from PIL import Image

from weevit.errors import ImageError
from weevit.images.decode import DEFAULT_LIMITS, Limits
from weevit.images.source import Source, open_image

_QUALITY = 82


def thumbnail(source: Source, size: int = 168, limits: Limits = DEFAULT_LIMITS) -> str | None:
    """An image as a `data:` address, upright, at most `size` pixels on each side (about 6 KB); None for an unreadable
    one.

    Args:
        source: the image.
        size: longer side; pages show it at two thirds of that, for high-resolution screens.
        limits: the largest file and image to decode.
    """
    try:
        image = open_image(source, limits)
    except ImageError:
        return None
    return in_page(image, size)


def in_page(image: Image.Image, size: int = 168) -> str:
    """An RGB image as a `data:` address, at most `size` pixels on each side."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg(image, size)).decode('ascii')}"


def jpeg(image: Image.Image, size: int) -> bytes:
    """An RGB image as the bytes of a JPEG, at most `size` pixels on each side."""
    image.thumbnail((size, size), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_QUALITY, optimize=True)
    return file.getvalue()
