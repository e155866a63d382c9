"""The header of an image file, read without decoding a pixel."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from PIL import Image

from weevit.images.decode import exif_of, orientation, recognise
from weevit.images.formats import FORMATS
from weevit.images.taken import Taken, taken_in


@dataclass(frozen=True)
class Facts:
    """The header of a file.

    Attributes:
        format: Pillow's name of the format: `JPEG`, `PNG`, ...
        mode: Pillow's mode: `RGB`, `L` (grey), `CMYK`, `P` (palette), ...
        orientation: EXIF orientation, 1 to 8; 1 without one. A broken tag may give any number.
        endings: file name endings of this format.
        taken: when the camera took it, by EXIF; None without a valid time.
        several: whether it has more frames or pages than the first.
        alpha: whether its pixels can be transparent.
    """

    format: str
    mode: str
    orientation: int
    endings: frozenset[str]
    taken: Taken | None = None
    several: bool = False
    alpha: bool = False


def facts_of(data: bytes) -> Facts:
    """Read the header of a file that `decode` accepts."""
    kind = recognise(data)
    with kind.open(data) as image:
        turned = orientation(image)  # first: it finds the EXIF data that stands behind the pixels of a PNG
        taken = taken_in(data if kind.name == "TIFF" else exif_of(image))
        mode, alpha = image.mode, image.has_transparency_data
        return Facts(kind.name, mode, turned, _ENDINGS[kind.name], taken, _several(image), alpha)


def _several(image: Image.Image) -> bool:
    with suppress(Exception):  # of a damaged second frame: the first one is whole
        return bool(getattr(image, "is_animated", False))
    return True


def is_transparent(data: bytes) -> bool:
    """Whether any pixel of a file that `decode` accepts is transparent; decodes it."""
    kind = recognise(data)
    with kind.open(data) as image:
        kind.prepare(image, data)
        image.load()
        if image.mode.startswith("I") or not image.has_transparency_data:
            return image.has_transparency_data
        whole = image.convert("LA" if image.mode == "La" else "RGBA")
        return bool((np.asarray(whole.getchannel("A")) < 255).any())


_ENDINGS = {row.name: frozenset(row.endings.split()) for row in FORMATS}
