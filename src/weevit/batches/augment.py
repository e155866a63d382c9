"""From an image to a training image, in two steps: the draws (`draw`), and their application (`apply`).

The draws are plain data that follows from the recipe, the size of the image and a key, so that it can be printed,
compared and repeated. The distributions are those of timm's training transform with its prefetching loader.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.nn.functional import interpolate

from weevit.batches.pixels import Fill, Planes, planes_of, treated
from weevit.batches.seeding import Key, keyed, noise
from weevit.images.preprocess import preprocess
from weevit.recipes.randaugment import Op, RandAugment, draw_interpolation
from weevit.recipes.schema import AugmentPart
from weevit.zoo.weights import Preprocessing

Size = tuple[int, int]
"""Height and width in pixels."""

_ATTEMPTS = 10
"""Attempts at a box; timm's number."""


@dataclass(frozen=True)
class Box:
    """A part of an image, in its pixels."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class Hole:
    """A part of the finished image to erase: with keyed noise per pixel, with one colour, or with 0."""

    box: Box
    mode: str
    key: Key


@dataclass(frozen=True)
class Params:
    """All draws of one image.

    Attributes:
        crop: the part to take; None for an image that is prepared as for validation.
        interpolation: `bilinear` or `bicubic`, of the resize.
        hflip, vflip: whether to mirror.
        ops: the operations of RandAugment, colour jitter and the other settings, in order.
        holes: parts to erase after normalisation.
    """

    crop: Box | None
    interpolation: str
    hflip: bool
    vflip: bool
    ops: tuple[Op, ...]
    holes: tuple[Hole, ...]


# ---- the draws


def draw(part: AugmentPart, given: Size, wanted: Size, *key: int | str) -> Params:
    """The draws of one image.

    Args:
        part: part of the recipe.
        given: (height, width) of the image.
        wanted: (height, width) of the training image.
        key: key of the draws, such as (seed, epoch, sample, repeat).
    """
    rng = keyed("picture", *key)
    return Params(
        crop=_draw_crop(part, given, rng) if part.crop == "random_resized" else None,
        interpolation=draw_interpolation(rng, part.interpolation),
        hflip=rng.random() < part.hflip,
        vflip=rng.random() < part.vflip,
        ops=(*_randaugment(part.randaugment).draw(rng, part.interpolation), *_draw_colours(part, rng)),
        holes=_draw_holes(part, wanted, rng, key),
    )


def _draw_crop(part: AugmentPart, given: Size, rng: Random) -> Box:
    """A part of random area and shape, anywhere; if none fits, the middle, in the nearest allowed shape."""
    height, width = given
    log_ratio = [math.log(value) for value in part.ratio]
    for _ in range(_ATTEMPTS):
        area = rng.uniform(*part.scale) * height * width
        ratio = math.exp(rng.uniform(*log_ratio))
        rows, columns = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        if rows <= height and columns <= width:
            return _placed(rows, columns, given, rng)
    ratio = min(max(width / height, min(part.ratio)), max(part.ratio))
    rows, columns = min(height, round(width / ratio)), min(width, round(height * ratio))
    return Box((height - rows) // 2, (width - columns) // 2, rows, columns)


def _placed(rows: int, columns: int, within: Size, rng: Random) -> Box:
    """A box of this size at a random position."""
    top = int(rng.random() * (within[0] - rows + 1))
    return Box(top, int(rng.random() * (within[1] - columns + 1)), rows, columns)


@lru_cache
def _randaugment(text: str | None) -> RandAugment:
    return RandAugment(layers=0) if text is None else RandAugment.parse(text)


_BLUR = (0.1, 2.0)
"""Standard deviations of the blur, in pixels; timm's."""


def _draw_colours(part: AugmentPart, rng: Random) -> tuple[Op, ...]:
    """Colour jitter in random order, then grey, then blur."""
    ops: list[Op] = []
    if part.color_jitter is not None and rng.random() < part.color_jitter_prob:
        low, high = max(0.0, 1 - part.color_jitter), 1 + part.color_jitter
        names = ["brightness", "contrast", "color"]
        while names:
            ops.append(Op(names.pop(int(rng.random() * len(names))), rng.uniform(low, high)))
    if rng.random() < part.grayscale_prob:
        ops.append(Op("grayscale"))
    if rng.random() < part.blur_prob:
        ops.append(Op("blur", rng.uniform(*_BLUR)))
    return tuple(ops)


_ERASED = (0.02, 1 / 3)
"""Share of the area that is erased, over all holes; timm's."""

_SHAPES = (math.log(0.3), math.log(1 / 0.3))


def _draw_holes(part: AugmentPart, wanted: Size, rng: Random, key: Key) -> tuple[Hole, ...]:
    if rng.random() >= part.erase_prob:
        return ()
    count = 1 + int(rng.random() * part.erase_count)
    boxes = [box for _ in range(count) if (box := _draw_hole(wanted, count, rng))]
    return tuple(Hole(box, part.erase_mode, ("erase", *key, index)) for index, box in enumerate(boxes))


def _draw_hole(wanted: Size, count: int, rng: Random) -> Box | None:
    """A box; None where no attempt gave one smaller than the image in both directions."""
    for _ in range(_ATTEMPTS):
        area = rng.uniform(*_ERASED) * wanted[0] * wanted[1] / count
        ratio = math.exp(rng.uniform(*_SHAPES))
        rows, columns = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if rows < wanted[0] and columns < wanted[1]:
            return _placed(rows, columns, wanted, rng)
    return None


# ---- the operations


def apply(image: npt.NDArray[np.uint8], params: Params, spec: Preprocessing) -> Planes:
    """A training image without its normalisation and its holes (`finish` does both).

    Args:
        image: uint8, (H, W, 3), RGB.
        params: its draws.
        spec: its size, and the mean colour, which fills what turns and shifts bring in.

    Returns:
        uint8, (3, spec.height, spec.width), C-contiguous.
    """
    return treated(cropped(image, params, spec), params.ops, fill_of(spec))


def fill_of(spec: Preprocessing) -> Fill:
    """The mean colour, which fills what turns and shifts bring in."""
    red, green, blue = (min(255, round(255 * mean)) for mean in spec.mean)
    return red, green, blue


def cropped(image: npt.NDArray[np.uint8], params: Params, spec: Preprocessing) -> Planes:
    """`apply` without the treatments: the part of the image at its size, flipped."""
    if params.crop is None:
        pixels = preprocess(Image.fromarray(image), spec)
    else:
        pixels = resized_part(image, params.crop, (spec.height, spec.width), params.interpolation)
    return planes_of(pixels[:: -1 if params.vflip else 1, :: -1 if params.hflip else 1])


def resized_part(image: npt.NDArray[np.uint8], part: Box, wanted: Size, interpolation: str) -> npt.NDArray[np.uint8]:
    """A part of an image at another size, within a grey level of Pillow's (rarely two, at the steepest edges).

    PyTorch's uint8 kernels have the same filters with coefficients of 16 bits, and resize rows first. Pillow does the
    same, but from version 13 on not where the height shrinks by more than twice as many pixels as the width; the order
    matters because the result between the passes is rounded and clipped. The order here is Pillow 13's.

    Args:
        image: uint8, (H, W, 3).
        part: the part to take.
        wanted: height and width of the result.
        interpolation: `bilinear` or `bicubic`.

    Returns:
        uint8, (height, width, 3), C-contiguous.
    """
    cut = image[part.top : part.top + part.height, part.left : part.left + part.width]
    cut = np.require(cut, requirements=["C", "W"])  # PyTorch warns about read-only arrays
    rows, columns, _ = cut.shape
    # The strides of a whole channels-last batch: with others the kernel takes a slower path.
    x = torch.from_numpy(cut).as_strided((1, 3, rows, columns), (3 * rows * columns, 1, 3 * columns, 3))
    if rows - wanted[0] > 2 * max(0, columns - wanted[1]):
        x = interpolate(x, (wanted[0], columns), mode=interpolation, antialias=True)
    x = interpolate(x, wanted, mode=interpolation, antialias=True)
    return x[0].permute(1, 2, 0).numpy()


def finish(planes: Planes, holes: Sequence[Hole], spec: Preprocessing, out: npt.NDArray[np.float32]) -> None:
    """Normalise an image and erase its holes; outside of them it equals `images.preprocess.normalize`.

    Args:
        planes: uint8, (3, H, W), from `apply`.
        holes: holes of its `Params`.
        spec: its `mean` and `std`.
        out: float32, (3, H, W), filled.
    """
    for source, target, mean, std in zip(planes, out, spec.mean, spec.std, strict=True):
        levels = source / np.float32(255)
        levels -= np.float32(mean)
        np.divide(levels, np.float32(std), out=target)
    for hole in holes:
        box = hole.box
        out[:, box.top : box.top + box.height, box.left : box.left + box.width] = filling(hole)


def filling(hole: Hole) -> npt.NDArray[np.float32] | float:
    """The filling of a hole: standard normal noise, (3, height, width) or (3, 1, 1), or 0, which is the mean."""
    if hole.mode == "const":
        return 0.0
    shape = (3, hole.box.height, hole.box.width) if hole.mode == "pixel" else (3, 1, 1)
    return noise(shape, *hole.key)
