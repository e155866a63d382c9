"""The header of an image file, read without decoding a pixel."""

from __future__ import annotations

from dataclasses import dataclass

from weevit.images.decode import orientation, recognise
from weevit.images.formats import FORMATS


@dataclass(frozen=True)
class Facts:
    """The header of a file.

    Attributes:
        format: Pillow's name of the format: `JPEG`, `PNG`, ...
        mode: Pillow's mode: `RGB`, `L` (grey), `CMYK`, `P` (palette), ...
        orientation: EXIF orientation, 1 to 8; 1 without one. A broken tag may give any number.
        endings: file name endings of this format.
    """

    format: str
    mode: str
    orientation: int
    endings: frozenset[str]


def facts_of(data: bytes) -> Facts:
    """Read the header of a file that `decode` accepts."""
    kind = recognise(data)
    with kind.open(data) as image:
        return Facts(kind.name, image.mode, orientation(image), _ENDINGS[kind.name])


_ENDINGS = {row.name: frozenset(row.endings.split()) for row in FORMATS}
