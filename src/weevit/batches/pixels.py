"""The treatments of a training image's pixels, one function each, with Pillow's results, as timm gets them.

Images are planes: uint8, (3, H, W). Treatments of single pixels, or of a pixel and sums over the image, give exactly
Pillow's pixels. Shears and shifts, which read along rows or columns only, are computed for whole rows at once, several
times faster, and are within one grey level of Pillow's; so are bilinear rotations. Bicubic ones are Pillow's own.

Mostly numpy and not torch, whose elementwise operations would start a team of threads in each of the loader's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.nn.functional import grid_sample

from weevit.recipes.randaugment import Op

Planes = npt.NDArray[np.uint8]
Fill = tuple[int, int, int]
"""The colour outside of the image."""


def treated(image: Planes, ops: Sequence[Op], fill: Fill) -> Planes:
    """The image (uint8, (3, H, W), not changed) after all treatments; `fill` colours what turns and shifts bring in."""
    for op in ops:
        image = OPS[op.name](image, op, fill)
    return image


# ---- pixel by pixel


def _autocontrast(image: Planes, op: Op, fill: Fill) -> Planes:
    """Each channel stretched to the range 0 to 255."""
    low, high = (bound(image, axis=(1, 2)).astype(np.int64)[:, None] for bound in (np.min, np.max))  # [3, 1]
    scale = np.where(high > low, 255 / np.maximum(high - low, 1), 1.0)
    offset = np.where(high > low, -low * scale, 0.0)
    return _looked_up(image, np.clip(np.trunc(np.arange(256) * scale + offset), 0, 255))


def _equalize(image: Planes, op: Op, fill: Fill) -> Planes:
    """Each channel with about equally frequent grey levels."""
    counts = np.array([Image.fromarray(plane).histogram() for plane in image])
    lightest = counts[range(3), image.max(axis=(1, 2))][:, None]  # equally light pixels
    step = (counts.sum(axis=1, keepdims=True) - lightest) // 255
    before = np.cumsum(counts, axis=1) - counts
    table = np.minimum((step // 2 + before) // np.maximum(step, 1), 255)
    return _looked_up(image, np.where(step > 0, table, np.arange(256)))


def _looked_up(image: Planes, tables: npt.NDArray[Any] | Sequence[Planes]) -> Planes:
    """Each channel through its own table; `bytes.translate` is the fastest way."""
    found = [
        plane.tobytes().translate(table.astype(np.uint8).tobytes()) for plane, table in zip(image, tables, strict=True)
    ]
    return np.frombuffer(b"".join(found), np.uint8).reshape(image.shape)


_LEVELS: Planes = np.arange(256, dtype=np.uint8)


def _invert(image: Planes, op: Op, fill: Fill) -> Planes:
    return ~image


def _posterize(image: Planes, op: Op, fill: Fill) -> Planes:
    """The highest `value` bits."""
    bits = min(8, max(0, int(op.value)))
    return image & np.uint8(256 - (1 << (8 - bits)))


def _solarize(image: Planes, op: Op, fill: Fill) -> Planes:
    """Pixels from `value` on inverted."""
    if op.value > 255:
        return image
    return image ^ -(image >= np.uint8(op.value)).view(np.uint8)


def _solarize_add(image: Planes, op: Op, fill: Fill) -> Planes:
    """Pixels below 128 lighter by `value`, which is 128 at most."""
    return image + (image < 128).view(np.uint8) * np.uint8(op.value)


# ---- between the image and another


def _brightness(image: Planes, op: Op, fill: Fill) -> Planes:
    """A blend of black and the image."""
    return _looked_up(image, [_blended(0, _LEVELS, op.value)] * 3)


def _contrast(image: Planes, op: Op, fill: Fill) -> Planes:
    """A blend of the mean grey and the image."""
    grey = _grey(image)
    mean = int(float(grey.sum(dtype=np.int64)) / grey.size + 0.5)
    return _looked_up(image, [_blended(mean, _LEVELS, op.value)] * 3)


def _color(image: Planes, op: Op, fill: Fill) -> Planes:
    """A blend of the grey image and the image."""
    return _blended(_grey(image), image, op.value)


def _sharpness(image: Planes, op: Op, fill: Fill) -> Planes:
    """A blend of the smoothed image and the image."""
    return _blended(_smooth(image), image, op.value)


def _grayscale(image: Planes, op: Op, fill: Fill) -> Planes:
    return np.stack([_grey(image)] * 3)


def _blended(origin: int | Planes, image: Planes, factor: float) -> Planes:
    """`factor` of the way from one image to another (or beyond), in float32 and truncated, as Pillow does."""
    start = np.asarray(origin, np.float32)
    mixed = image - start
    mixed *= np.float32(factor)
    mixed += start
    if not 0 <= factor <= 1:
        np.clip(mixed, 0, 255, out=mixed)
    result: Planes = mixed.astype(np.uint8)
    return result


def _grey(image: Planes) -> Planes:
    """ITU-R 601-2 luma, (H, W): Pillow's 16-bit fixed point, which float32 still holds exactly."""
    red, green, blue = image
    luma = red * np.float32(19595)
    luma += green * np.float32(38470)
    luma += blue * np.float32(7471)
    luma += np.float32(0x8000)
    luma *= np.float32(1 / 65536)
    grey: Planes = luma.astype(np.uint8)
    return grey


def _smooth(image: Planes) -> Planes:
    """Pillow's SMOOTH: 5 parts of the pixel and one of each neighbour, rounded; the border is unchanged."""
    wide = image.astype(np.uint16)
    rows = wide[:, :-2] + wide[:, 1:-1]
    rows += wide[:, 2:]
    total = rows[:, :, :-2] + rows[:, :, 1:-1]
    total += rows[:, :, 2:]
    total += wide[:, 1:-1, 1:-1] << 2
    total *= 2
    total += 13
    total //= 26
    result = image.copy()
    result[:, 1:-1, 1:-1] = total
    return result


def _blur(image: Planes, op: Op, fill: Fill) -> Planes:
    """Gaussian blur of 23 x 23 pixels with standard deviation `value`, mirrored at the edge, as torchvision's."""
    offsets = np.arange(-_BLUR_REACH, _BLUR_REACH + 1)
    weights = np.exp(-0.5 * (offsets / op.value) ** 2).astype(np.float32)
    weights /= weights.sum()
    result = np.empty_like(image)
    for target, plane in zip(result, image, strict=True):
        once = _averaged(plane.astype(np.float32), weights)
        target[:] = np.rint(_averaged(once.T, weights).T)
    return result


_BLUR_REACH = 11


def _averaged(values: npt.NDArray[np.float32], weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Weighted means down the columns."""
    rows = len(values)
    padded = np.pad(values, ((_BLUR_REACH, _BLUR_REACH), (0, 0)), mode="reflect")
    total = np.zeros_like(values)
    for offset, weight in enumerate(weights):
        if weight > 1e-9:
            total += weight * padded[offset : offset + rows]
    return total


# ---- moved


def _rotate(image: Planes, op: Op, fill: Fill) -> Planes:
    """Anticlockwise by `value` degrees around the middle."""
    if op.interpolation == "bilinear":
        return _turned(image, math.radians(op.value), fill)
    whole = Image.merge("RGB", [Image.fromarray(plane) for plane in image])
    return planes_of(np.asarray(whole.rotate(op.value, Image.Resampling.BICUBIC, fillcolor=fill)))


def _turned(image: Planes, angle: float, fill: Fill) -> Planes:
    """A bilinear rotation, which PyTorch computes in half the time; it starts no threads.

    (Not for bicubic: PyTorch's cubic differs from Pillow's.)
    """
    _, rows, columns = image.shape
    x, y = np.arange(columns) + (0.5 - columns / 2), (np.arange(rows) + (0.5 - rows / 2))[:, None]
    across = (math.cos(angle) * x + columns / 2) - math.sin(angle) * y
    down = (math.sin(angle) * x + rows / 2) + math.cos(angle) * y
    grid = np.empty((1, rows, columns, 2), np.float32)  # -1 and 1 are the image's edges
    np.multiply(across, 2 / columns, out=grid[0, :, :, 0], casting="same_kind")
    np.multiply(down, 2 / rows, out=grid[0, :, :, 1], casting="same_kind")
    grid -= 1
    source = torch.from_numpy(image.astype(np.float32))[None]
    found = grid_sample(source, torch.from_numpy(grid), padding_mode="border", align_corners=False)[0].numpy()
    found += _NUDGE
    result: Planes = found.astype(np.uint8)
    outside = (across < 0) | (across >= columns) | (down < 0) | (down >= rows)
    for plane, colour in zip(result, fill, strict=True):
        np.copyto(plane, np.uint8(colour), where=outside)
    return result


_NUDGE = np.float32(1 / 1024)
"""Added before truncation: weights that sum to slightly less than 1 would turn an even 100 into 99."""


def _shear_x(image: Planes, op: Op, fill: Fill) -> Planes:
    """Each row moved to the left by `value` times its distance from the top."""
    return _sheared(image, op.value * (np.arange(image.shape[1]) + 0.5), op.interpolation, fill)


def _shear_y(image: Planes, op: Op, fill: Fill) -> Planes:
    return _turned_over(_shear_x(_turned_over(image), op, fill))


def _translate_x(image: Planes, op: Op, fill: Fill) -> Planes:
    """Moved to the left by `value` times the width."""
    return _slid(image, 2, op.value, op.interpolation, fill)


def _translate_y(image: Planes, op: Op, fill: Fill) -> Planes:
    return _slid(image, 1, op.value, op.interpolation, fill)


def _turned_over(image: Planes) -> Planes:
    """Rows as columns."""
    return np.ascontiguousarray(image.transpose(0, 2, 1))


def planes_of(pixels: Planes) -> Planes:
    """(H, W, 3) to (3, H, W), C-contiguous."""
    result = np.empty((3, *pixels.shape[:2]), np.uint8)
    for channel in range(3):
        result[channel] = pixels[:, :, channel]
    return result


def _slid(image: Planes, axis: int, share: float, interpolation: str, fill: Fill) -> Planes:
    """Moved along one axis by a share of its length: position x of the result is read at x + shift."""
    length = image.shape[axis]
    shift = min(max(share, -2.0), 2.0) * length
    whole = math.floor(shift)
    part = shift - whole
    # The pixels from whole - 1 on, with the outermost ones repeated; then those between them.
    first, last = whole - 1, whole + length + 2
    start, stop = min(max(first, 0), length), min(max(last, 0), length)
    shape = list(image.shape)
    shape[axis] += 3
    wide = np.moveaxis(np.empty(shape, np.float32), axis, 0)
    source = np.moveaxis(image, axis, 0)
    wide[: start - first] = source[:1]
    wide[start - first : stop - first] = source[start:stop]
    wide[stop - first :] = source[-1:]
    result = np.empty_like(image)
    target = np.moveaxis(result, axis, 0)
    between = np.moveaxis(np.empty(image.shape, np.float32), axis, 0)
    _BETWEEN[interpolation](wide, np.float32(part), between)
    target[:] = between
    # A position is in the image if its middle is.
    inside = math.ceil(-shift - 0.5), math.ceil(length - shift - 0.5)
    colour = np.array(fill, np.uint8).reshape(3, 1)
    target[: max(0, inside[0])] = colour
    target[max(0, inside[1]) :] = colour
    return result


def _sheared(image: Planes, shifts: npt.NDArray[np.floating], interpolation: str, fill: Fill) -> Planes:
    """Each row moved to the left by its own number of pixels.

    The part of a shift below one pixel is interpolated along the row; whole pixels are an offset.
    """
    _, rows, columns = image.shape
    whole = np.floor(shifts)
    part = (shifts - whole).astype(np.float32)
    offsets = np.clip(whole, -columns - 1, columns + 1).astype(np.int64)
    reach = int(np.abs(offsets).max())

    wide = np.empty((3, rows, columns + 4), np.float32)
    wide[:, :, 2:-2], wide[:, :, :2], wide[:, :, -2:] = image, image[:, :, :1], image[:, :, -1:]
    between = np.empty_like(wide)  # indices -1 to columns - 1, and three unused ones
    parts = np.broadcast_to(part[:, None], wide.shape).reshape(-1)
    _BETWEEN[interpolation](wide.reshape(-1), parts[:-3], between.reshape(-1)[:-3])

    moving = np.empty((3, rows, columns + 1 + 2 * reach), np.uint8)
    moving[:] = np.array(fill, np.uint8)[:, None, None]
    moving[:, :, reach : reach + columns + 1] = between[:, :, :-3]
    # A position is in the image if its middle is: of the two outer ones, exactly one.
    moving[:, np.arange(rows), np.where(part < 0.5, reach, reach + columns)] = np.array(fill, np.uint8)[:, None]
    starts = np.arange(3 * rows) * moving.shape[2] + reach + 1 + np.tile(offsets, 3)
    moved: Planes = np.lib.stride_tricks.sliding_window_view(moving.reshape(-1), columns)[starts]
    return moved.reshape(image.shape)


Line = npt.NDArray[np.float32]
Part = npt.NDArray[np.float32] | np.float32


def _linear(line: Line, part: Part, result: Line) -> None:
    """Linear interpolation along the first axis: `result[i]` is at i + 1 + part. It has 3 fewer, as in `_cubic`."""
    left, right = line[1:-2], line[2:-1]
    np.subtract(right, left, out=result)
    result *= part
    result += left


def _cubic(line: Line, part: Part, result: Line) -> None:
    """Cubic interpolation through two pixels, with slopes from the difference of each one's neighbours.

    Evaluated by Horner's rule on differences of pixels, so that an even surface stays exactly even.
    """
    before, left, right, after = line[:-3], line[1:-2], line[2:-1], line[3:]
    bend = before - left
    np.subtract(right, after, out=result)
    result += bend
    bend += result
    result *= part
    np.subtract(bend, result, out=result)
    result *= part
    result += np.subtract(right, before, out=bend)
    result *= part
    result += left
    np.clip(result, 0, 255, out=result)


_BETWEEN: dict[str, Callable[[Line, Part, Line], None]] = {"bilinear": _linear, "bicubic": _cubic}

OPS: dict[str, Callable[[Planes, Op, Fill], Planes]] = {
    "autocontrast": _autocontrast,
    "equalize": _equalize,
    "invert": _invert,
    "rotate": _rotate,
    "posterize": _posterize,
    "solarize": _solarize,
    "solarize_add": _solarize_add,
    "color": _color,
    "contrast": _contrast,
    "brightness": _brightness,
    "sharpness": _sharpness,
    "shear_x": _shear_x,
    "shear_y": _shear_y,
    "translate_x": _translate_x,
    "translate_y": _translate_y,
    "grayscale": _grayscale,
    "blur": _blur,
}
"""Name of an `Op` -> its function."""
