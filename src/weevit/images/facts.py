"""What an image's file says of itself, before anything is made of it."""

from __future__ import annotations

from dataclasses import dataclass

from weevit.images.decode import orientation, recognise
from weevit.images.formats import FORMATS


@dataclass(frozen=True)
class Facts:
    """The header of a file.

    Attributes:
        format: as Pillow calls it: `JPEG`, `PNG`, ...
        mode: Pillow's name of what a pixel is: `RGB`, `L` (grey), `CMYK`, `P` (palette), ...
        orientation: EXIF's, 1 to 8; 1 where there is none, and whatever a broken one says.
        endings: of names of files of this format.
    """

    format: str
    mode: str
    orientation: int
    endings: frozenset[str]


def facts_of(data: bytes) -> Facts:
    """Read the header of a file that `decode` takes; the pixels are not looked at."""
    kind = recognise(data)
    with kind.open(data) as image:
        return Facts(kind.name, image.mode, orientation(image), _ENDINGS[kind.name])


_ENDINGS = {row.name: frozenset(row.endings.split()) for row in FORMATS}
