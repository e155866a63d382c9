"""Laying one image over another: whether they show the same pixels, and which part of the one the other is.

    thumbnails of 16 x 16 ── every window of the whole against the part ── the best window
    sketches of 128 x 128, grey ── the window refined (Gauss-Newton) ── correlation of what is fine: edges, grain

Two photos of one thing have the same colours and shapes, so that thumbnails and embeddings cannot tell them from
copies; their fine structure never falls on itself. Measured on 3,409 photos of clothes (docs/lab-notes.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image

from weevit.duplicates.looks import THUMB
from weevit.errors import ImageError
from weevit.images.decode import Limits
from weevit.images.source import Source, open_image

SIDE = 128
"""Side of a sketch in pixels, for any shape of the image: a window has a scale for each direction."""

FARTHEST, CERTAIN, EVERYWHERE = 0.01, 0.5, 0.4
"""Greatest distance of thumbnails, and least correlation of what is fine (over all; in each block with something fine
in it) of the same pixels."""

LEVELS = 48.0
"""Greatest difference, of 255, between 4 x 4 pixels of the same image. In 560 copies of 14 kinds it was 22 at most, 34
after a gamma of 0.7 or 1.5, and 54 in 64 colours; with a piece of another photo, an eighth of the width and height, it
is about 127."""

_SMALLEST = 12
"""Least side of a window, of THUMB: of what was cut to less, too little is left of the thumbnail to be sure."""

_GRID = 12
"""Side in pixels at which windows are compared."""

_BLOCKS, _BLOCK = 8, 16
"""Blocks in each direction at least, and their least side in pixels where there are more."""

CLOSEST = 512
"""Side at which large images are compared that are the same at `SIDE`: letters of one form differ in little."""

_FINE = 4.0
"""Root mean square, in levels of 255, from which a block has something fine in it that survives compression."""

_LEAST = 32
"""Least side in pixels at which what is fine is compared, of images that are smaller than a sketch."""

_BLURRED = 0.97
"""Size of a window below which its pixels are coarser than those of the part."""

_PROMISING = 0.03
"""Greatest distance, after the first step of refinement, of images that may still be the same."""

_STEPS = ((4, 12), (2, 8), (1, 5))
"""(reduction of the sketches, most steps of refinement)"""

_SMOOTH = np.array([1, 4, 6, 4, 1], np.float32) / 16

Rows = npt.NDArray[np.float32]
Sketch = npt.NDArray[np.uint8]
"""(SIDE, SIDE, 3), or larger, RGB."""

Grey = npt.NDArray[np.float32]

Window = tuple[float, float, float, float]
"""Top, left, height and width of a part, in sides of the whole."""

WHOLE: Window = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class Overlay:
    """One image laid over another.

    Attributes:
        window: the part of the whole that the other shows.
        distance: 1 - correlation of both at THUMB x THUMB pixels, in colour.
        fine: correlation of what is fine, over all.
        worst: that of the block where it is least, of those with something fine in them; 1 without one.
        apart: greatest difference of 4 x 4 pixels in a colour, in levels of 255, whatever the brightness and contrast.
    """

    window: Window
    distance: float
    fine: float
    worst: float
    apart: float

    @property
    def same(self) -> bool:
        """Whether both show the same pixels."""
        return self.placed and self.worst >= EVERYWHERE and self.apart <= LEVELS

    @property
    def placed(self) -> bool:
        """Whether the part lies where it belongs; what differs all the same differs in the images."""
        return self.distance <= FARTHEST and self.fine >= CERTAIN

    @property
    def inside(self) -> bool:
        """Whether the whole has all that the part shows."""
        top, left, height, width = self.window
        return min(top, left) > -_EDGE and max(top + height, left + width) < 1 + _EDGE

    @property
    def cut(self) -> bool:
        """Whether the part lacks something of the whole."""
        top, left, height, width = self.window
        return max(top, left) > _EDGE or min(top + height, left + width) < 1 - _EDGE

    @property
    def outside(self) -> bool:
        """Whether the part has all of the whole, and more."""
        top, left, height, width = self.window
        return max(top, left) < _EDGE and min(top + height, left + width) > 1 - _EDGE


_EDGE = 0.012
"""How far a part may stick out, in sides of the whole: the error of a window."""


def sketch(source: Source, limits: Limits, side: int = SIDE) -> Sketch | None:
    """The image as a sketch; None where there is none any more."""
    try:  # a JPEG is decoded at twice the size of the sketch, where that is less than its own
        image = open_image(source, limits, lambda full: (min(full[0], 2 * side), min(full[1], 2 * side)))
    except ImageError:
        return None
    return np.asarray(image.resize((side, side), Image.Resampling.LANCZOS), np.uint8)


def closest_side(smallest: int) -> int:
    """The side of sketches for a closer look: at most half of that of the smaller image, which survives copying."""
    side = CLOSEST
    while side > max(SIDE, smallest // 2):
        side //= 2
    return side


def look_closer(over: Overlay, whole: Sketch, part: Sketch) -> Overlay:
    """The overlay by larger sketches, with the lesser figures of both."""
    there = _sampled(_grey(whole), *_pixels(np.array(over.window), len(part)))
    fine, other = _fine(there), _fine(_grey(part))
    figures = min(over.fine, _correlation(fine, other)), min(over.worst, _worst(fine, other))
    return Overlay(over.window, over.distance, *figures, over.apart)


# ---- windows


def windows(thumb: npt.NDArray[np.uint8]) -> Rows:
    """(w, D) float32: every window of a thumbnail (THUMB, THUMB, 3), as rows of mean 0 and length 1."""
    axis, _ = _axis_windows()
    count, flat = len(axis), axis.reshape(-1, THUMB)
    rows = flat @ thumb.reshape(THUMB, -1).astype(np.float32)  # (k * p, j * c)
    both = rows.reshape(-1, THUMB, 3).transpose(0, 2, 1) @ flat.T  # (k * p, c, l * q)
    found = both.reshape(count, _GRID, 3, count, _GRID).transpose(0, 3, 1, 4, 2)
    return _unit(found.reshape(count * count, -1))


def parts(thumbs: npt.NDArray[np.uint8]) -> Rows:
    """(n, D) float32: whole thumbnails (n, THUMB, THUMB, 3), to be compared with `windows`."""
    whole = _axis_windows()[0][0]
    found = np.einsum("pi,nijc,qj->npqc", whole, thumbs.astype(np.float32), whole, optimize=True)
    return _unit(found.reshape(len(thumbs), -1))


def window(number: int) -> Window:
    """The window of a row of `windows`."""
    _, places = _axis_windows()
    (top, height), (left, width) = places[number // len(places)], places[number % len(places)]
    return top, left, height, width


@cache
def _axis_windows() -> tuple[Rows, tuple[tuple[float, float], ...]]:
    """(k, _GRID, THUMB) averages over every window of one direction, the whole first; and each one's begin and size."""
    places = [(start, size) for size in range(THUMB, _SMALLEST - 1, -1) for start in range(THUMB - size + 1)]
    edges = np.arange(THUMB)
    found = []
    for start, size in places:
        bounds = start + np.linspace(0, size, _GRID + 1)
        low, high = np.maximum(bounds[:-1, None], edges), np.minimum(bounds[1:, None], edges + 1)
        found.append(np.maximum(high - low, 0) * _GRID / size)
    return np.array(found, np.float32), tuple((start / THUMB, size / THUMB) for start, size in places)


def _unit(rows: Rows) -> Rows:
    rows = rows - rows.mean(axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6), dtype=np.float32)


# ---- sketches


def lay_over(whole: Sketch, part: Sketch, start: Window = WHOLE, smallest: int = SIDE) -> Overlay:
    """Find the part in the whole, near a first guess, and compare what is fine there.

    Args:
        whole, part: sketches.
        start: a guess, an eighth of the side off at most.
        smallest: the shorter side of the smaller image, in pixels: nothing finer is compared.
    """
    place, images = np.array(start, np.float64), (_grey(whole), _grey(part))
    for reduction, steps in _STEPS:
        if SIDE // reduction > max(_finest(place, smallest), _LEAST):
            break  # stripes that only one of both resolves would lead astray
        place = _refined(_reduced(images[0], reduction), _reduced(images[1], reduction), place, steps)
        if reduction == _STEPS[0][0] and (distance := _distance(_under(whole, place), _colours(part))) > _PROMISING:
            return Overlay(_window(place), distance, 0.0, 0.0, 255.0)  # most pairs end here
    return _compared((whole, part), images, place, smallest)


def _finest(place: npt.NDArray[np.float64], smallest: int) -> float:
    """Pixels of a side that both images really have."""
    return float(min(smallest, *(SIDE * place[2:] / _BLURRED)))


def _compared(
    sketches: tuple[Sketch, Sketch], images: tuple[Grey, Grey], place: npt.NDArray[np.float64], smallest: int
) -> Overlay:
    """The overlay at a place."""
    (grey, grey_part), times = images, 1
    while SIDE // times > max(_finest(place, smallest), _LEAST):
        times *= 2
    fine, other = (_fine(_reduced(image, times)) for image in (_sampled(grey, *_pixels(place, SIDE)), grey_part))
    there, colours = _under(sketches[0], place), _colours(sketches[1])
    apart = max(_apart(_reduced(one, times), _reduced(two, times)) for one, two in zip(there, colours, strict=True))
    return Overlay(_window(place), _distance(there, colours), _correlation(fine, other), _worst(fine, other), apart)


def _window(place: npt.NDArray[np.float64]) -> Window:
    top, left, height, width = place.tolist()
    return top, left, height, width


def _colours(image: Sketch) -> list[Grey]:
    return [image[..., c].astype(np.float32) for c in range(3)]


def _under(whole: Sketch, place: npt.NDArray[np.float64]) -> list[Grey]:
    """The colours of the whole that lie under a part."""
    at = _pixels(place, SIDE)
    return [_sampled(colour, *at) for colour in _colours(whole)]


def _distance(one: Sequence[Grey], other: Sequence[Grey]) -> float:
    """1 - correlation at THUMB x THUMB pixels, over all colours."""
    return max(0.0, 1 - _correlation(*(np.stack([_small(colour) for colour in colours]) for colours in (one, other))))


def _refined(whole: Grey, part: Grey, start: npt.NDArray[np.float64], steps: int) -> npt.NDArray[np.float64]:
    """Gauss-Newton on the window for the least squared difference, brightness and contrast apart.

    (Lucas, Kanade, An iterative image registration technique, 1981.) A step that makes it worse is halved: over
    stripes, a full one may lead to the next stripe.
    """
    side = len(part)
    middle = ((np.arange(side) + 0.5) / side).astype(np.float32)
    wanted = (part - part.mean()) / max(float(part.std()), 1e-6)
    down, across = (np.asarray(slope, np.float32) for slope in np.gradient(whole))
    best, least, step = start, np.inf, np.zeros(4)
    for _ in range(steps):
        place = np.clip(best + step, [-0.2, -0.2, 0.5, 0.5], [0.5, 0.5, 1.2, 1.2])
        at = _pixels(place, side)
        there = _sampled(whole, *at)
        error = wanted - (there - there.mean()) / max(float(there.std()), 1e-6)
        if (wrong := float(np.sum(np.square(error)))) >= least:
            step = step / 2
            continue
        best, least = place, wrong
        y, x = _sampled(down, *at) * side, _sampled(across, *at) * side
        slopes = np.stack([y, x, y * middle[:, None], x * middle]).reshape(4, -1)
        squares = np.einsum("ij,kj->ik", slopes, slopes, dtype=np.float64)  # too small for threads of its own
        towards = np.einsum("ij,j->i", slopes, error.ravel(), dtype=np.float64) * float(there.std())
        step = np.clip(np.linalg.solve(squares + 1e-3 * np.eye(4), towards), -0.05, 0.05)
        if np.abs(step).max() < 0.02 / side:
            break
    return best


def _pixels(place: npt.NDArray[np.float64], side: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Rows and columns of the whole under the pixels of a part."""
    middle = (np.arange(side) + 0.5) / side
    return (place[0] + place[2] * middle) * side - 0.5, (place[1] + place[3] * middle) * side - 0.5


def _sampled(image: Grey, rows: npt.NDArray[np.float64], columns: npt.NDArray[np.float64]) -> Grey:
    """The image at these rows and columns, linear between pixels, its edge repeated outside."""
    (top, below), (left, right) = _between(rows, len(image)), _between(columns, len(image))
    first = image[top[0]] * top[1][:, None] + image[below[0]] * below[1][:, None]
    return np.asarray(first[:, left[0]] * left[1] + first[:, right[0]] * right[1], dtype=np.float32)


Side = tuple[npt.NDArray[np.int64], Rows]


def _between(places: npt.NDArray[np.float64], side: int) -> tuple[Side, Side]:
    """The pixels on both sides of each place, and their weights."""
    inside = np.clip(places, 0, side - 1)
    low = np.minimum(inside.astype(np.int64), side - 2)
    share = (inside - low).astype(np.float32)
    return (low, 1 - share), (low + 1, share)


def _grey(image: Sketch) -> Grey:
    return image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)


def _small(channel: Grey) -> Grey:
    times = SIDE // THUMB
    return np.asarray(channel.reshape(THUMB, times, THUMB, times).mean(axis=(1, 3)), np.float32)


def _reduced(image: Grey, times: int) -> Grey:
    """A smaller image, without stripes that are too fine for it (which a mean would turn into others)."""
    side = len(image) // times
    if times == 1:
        return image
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.LANCZOS), np.float32)


def _fine(image: Grey) -> Grey:
    """The image without its smooth part."""
    padded = np.pad(image, 2, mode="edge")
    return image - _smoothed(_smoothed(padded).T).T


def _smoothed(rows: Grey) -> Grey:
    """Each column through a filter of 5 weights, without its ends."""
    return np.asarray(
        sum(weight * rows[at : at + len(rows) - 4] for at, weight in enumerate(_SMOOTH)), dtype=np.float32
    )


def _worst(one: Grey, other: Grey) -> float:
    """Correlation of the block where it is least, of those with something fine in one of both; 1 without any."""
    blocks = np.stack([_blocks(one), _blocks(other)])
    rich = (np.sqrt(np.mean(np.square(blocks), axis=-1)) > _FINE).any(axis=0)
    (first, second) = blocks[:, rich] - blocks[:, rich].mean(axis=-1, keepdims=True)
    lengths = np.sqrt(np.sum(first * first, axis=-1) * np.sum(second * second, axis=-1))
    return float(np.min(np.sum(first * second, axis=-1) / np.maximum(lengths, 1e-3), initial=1.0))


def _apart(one: Grey, other: Grey) -> float:
    """Greatest difference of 4 x 4 pixels, after both have the mean 0 and the greater contrast of the two."""
    contrast = max(float(one.std()), float(other.std()))
    first, second = ((image - image.mean()) * (contrast / max(float(image.std()), 1e-3)) for image in (one, other))
    side = len(one) // 4
    return float(np.abs((first - second).reshape(side, 4, side, 4).mean(axis=(1, 3))).max())


def _blocks(image: Grey) -> Rows:
    """(blocks, pixels of a block)."""
    count = max(_BLOCKS, len(image) // _BLOCK)
    side = len(image) // count
    return image.reshape(count, side, count, side).swapaxes(1, 2).reshape(count * count, -1)


def _correlation(one: Grey, other: Grey) -> float:
    """1 for two images without anything fine: nothing tells them apart."""
    one, other = one - one.mean(), other - other.mean()
    lengths = float(np.sqrt(np.sum(one * one) * np.sum(other * other)))
    return float(np.sum(one * other)) / lengths if lengths > 1e-3 else 1.0


def best_windows(whole: npt.NDArray[np.uint8], others: npt.NDArray[np.uint8]) -> Sequence[tuple[float, Window]]:
    """For each of the others (n, THUMB, THUMB, 3): correlation with the window that it resembles most, and that."""
    scores = windows(whole) @ parts(others).T
    return [(float(scores[best, at]), window(int(best))) for at, best in enumerate(scores.argmax(axis=0))]
