"""One look at every file: whether it is whole, its header, and a thumbnail that identifies copies."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

import numpy as np
import numpy.typing as npt
from PIL import Image

from weevit.engine.ahead import map_ahead
from weevit.errors import ImageError
from weevit.images.decode import Limits, decode
from weevit.images.facts import Facts, facts_of
from weevit.images.formats import EXTENSIONS
from weevit.images.source import Source, bytes_of

THUMB = 16
"""Side of the thumbnail in pixels, for any shape of the image: squeezed copies are recognised too."""

_AHEAD = 64

TINY = 32
"""Shorter side in pixels below which a model sees little but the result of enlarging."""


@dataclass
class Progress:
    """The progress of work on many images, in stages.

    Attributes:
        stage: the current step, in words.
        total: images in this stage.
        done: finished images.
        broken: kind -> unreadable images so far.
    """

    stage: str
    total: int
    done: int = 0
    broken: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Look:
    """The result of reading one file.

    Attributes:
        error: why there is no image; None for a whole image.
        digest: sha256 of its bytes; None where they could not be read.
        bytes: size of the file.
        width, height: upright, in pixels; 0 without an image.
        facts: the header.
        thumb: (THUMB, THUMB, 3) uint8, the whole image in RGB.
    """

    error: ImageError | None = None
    digest: str | None = None
    bytes: int = 0
    width: int = 0
    height: int = 0
    facts: Facts | None = None
    thumb: npt.NDArray[np.uint8] | None = None

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.width * self.height

    def unusual(self, name: str) -> list[tuple[str, str]]:
        """(kind, detail) of each reason to look at the image."""
        found = []
        if self.facts is not None and min(self.width, self.height) < TINY:
            found.append(("tiny", f"{self.width} x {self.height} pixels"))
        if self.thumb is not None and self.thumb.std(axis=(0, 1)).max() < _FLAT:
            found.append(("one colour", "every pixel has the same colour"))
        ending = PurePath(name).suffix.lower()
        if self.facts is not None and ending in EXTENSIONS and ending not in self.facts.endings:
            found.append(("ending", f"its name ends in {ending}, but it is {self.facts.format}"))
        return found


_FLAT = 1.0
"""Least standard deviation of a thumbnail, of 255, that is not one colour."""


def look_at(
    sources: Sequence[Source], threads: int, limits: Limits, watch: Callable[[Look], None] = lambda look: None
) -> list[Look]:
    """Read and decode every image once, in threads; the result has their order.

    Args:
        sources: the images.
        threads: threads that decode.
        limits: the largest file and image to decode.
        watch: called with each result.
    """
    looks = []
    for look in map_ahead(lambda source: _look(source, limits), iter(sources), threads, _AHEAD):
        looks.append(look)
        watch(look)
    return looks


def _look(source: Source, limits: Limits) -> Look:
    try:
        data = bytes_of(source, limits)
    except ImageError as error:
        return Look(error)
    digest, size = hashlib.sha256(data).hexdigest(), len(data)
    try:
        image, facts = decode(data, limits, name=source.name), facts_of(data)
    except ImageError as error:
        return Look(error, digest, size)
    thumb = np.asarray(image.resize((THUMB, THUMB), Image.Resampling.LANCZOS), np.uint8)
    return Look(None, digest, size, image.width, image.height, facts, thumb)
