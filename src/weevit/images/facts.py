"""The header of an image file, read without decoding a pixel."""

from __future__ import annotations

from dataclasses import dataclass

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
    """

    format: str
    mode: str
    orientation: int
    endings: frozenset[str]
    taken: Taken | None = None


def facts_of(data: bytes) -> Facts:
    """Read the header of a file that `decode` accepts."""
    kind = recognise(data)
    with kind.open(data) as image:
        turned = orientation(image)  # first: it finds the EXIF data that stands behind the pixels of a PNG
        taken = taken_in(data if kind.name == "TIFF" else exif_of(image))
        return Facts(kind.name, image.mode, turned, _ENDINGS[kind.name], taken)


_ENDINGS = {row.name: frozenset(row.endings.split()) for row in FORMATS}
