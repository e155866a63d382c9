"""What `pixels.py` does to one image, for a batch on a device: the same treatments, by PyTorch.

Images are planes: uint8, (B, 3, H, W). At each place of their lists, images that have the same treatment are treated
together, each with its own value: some hundred calls for a batch, whatever its size, where a call for each image would
take longer than the images. Each treatment is within one grey level of `pixels`: turns, shifts and the blur round a sum
in another order, all others are equal. A treatment that follows may make more of such a level, as contrast does.

No GPU has run this yet: it is tested on the CPU, against `pixels.treated`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, pad

from weevit.batches.pixels import Fill
from weevit.recipes.randaugment import Op


def treated_together(images: Tensor, ops: Sequence[Sequence[Op]], fill: Fill) -> Tensor:
    """Images after all of their treatments, in order.

    Args:
        images: uint8, (B, 3, H, W); changed.
        ops: what is done to each.
        fill: of what turns and shifts bring in.
    """
    colour = torch.tensor(fill, dtype=torch.uint8, device=images.device).view(1, 3, 1, 1)
    for place in range(max(map(len, ops), default=0)):
        groups: dict[tuple[str, str], list[int]] = {}
        for row, own in enumerate(ops):
            if place < len(own):
                groups.setdefault((own[place].name, own[place].interpolation), []).append(row)
        for (name, interpolation), rows in groups.items():
            values = torch.tensor([ops[row][place].value for row in rows], dtype=torch.float64, device=images.device)
            where = torch.tensor(rows, device=images.device)
            images[where] = TOGETHER[name](images[where], values, interpolation, colour)
    return images


# ---- pixel by pixel; b images, values (b,) float64


def _autocontrast(images: Tensor, values: Tensor, interpolation: str, colour: Tensor) -> Tensor:
    low, high = images.amin((2, 3)).double()[..., None], images.amax((2, 3)).double()[..., None]  # [b, 3, 1]
    wide = high > low
    scale = torch.where(wide, 255 / (high - low).clamp(min=1), 1.0)
    offset = torch.where(wide, -low * scale, 0.0)
    return _looked_up(images, (_levels(images).double() * scale + offset).trunc().clamp(0, 255))


def _equalize(images: Tensor, values: Tensor, interpolation: str, colour: Tensor) -> Tensor:
    planes = images.flatten(2)  # [b, 3, H W]
    count = planes.shape[0] * 3
    first = 256 * torch.arange(count, device=images.device).view(-1, 3, 1)
    counts = torch.bincount((planes.long() + first).flatten(), minlength=256 * count).view(-1, 3, 256)
    lightest = counts.gather(2, planes.amax(2, keepdim=True).long())  # pixels as light as any
    step = (counts.sum(2, keepdim=True) - lightest) // 255
    before = counts.cumsum(2) - counts
    table = ((step // 2 + before) // step.clamp(min=1)).clamp(max=255)
    return _looked_up(images, torch.where(step > 0, table, _levels(images).long()))


def _looked_up(images: Tensor, tables: Tensor) -> Tensor:
    """Each channel through its own table of 256, [b, 3 or 1, 256]."""
    own = tables.to(torch.uint8).expand(-1, 3, -1)
    return own.gather(2, images.flatten(2).long()).view(images.shape)


def _levels(images: Tensor) -> Tensor:
    return torch.arange(256, dtype=torch.float32, device=images.device)


def _each(values: Tensor) -> Tensor:
    """[b] -> [b, 1, 1, 1]."""
    return values.view(-1, 1, 1, 1)


def _invert(images: Tensor, values: Tensor, interpolation: str, colour: Tensor) -> Tensor:
    return ~images


def _posterize(images: Tensor, values: Tensor, interpolation: str, colour: Tensor) -> Tensor:
    bits = values.trunc().clamp(0, 8)
    return images & _each((256 - 2 ** (8 - bits)).to(torch.uint8))


def _solarize(images: Tensor, values: Tensor, interpolation: str, colour: Tensor) -> Tensor:
    return torch.where(images.short() >= _each(values.trunc().short()), ~images, images)


def _solarize_add(images: Tensor, values: Tensor, interpolation: str, colour: Tensor) -> Tensor:
    return images + (images < 128).to(torch.uint8) * _each(values.trunc().to(torch.uint8))


# ---- between the image and another


def _brightness(images: Tensor, values: Tensor, interpolation: str, colour: Tensor) -> Tensor:
    levels = _levels(images)
    return _looked_up(images, _blended(torch.zeros_like(levels), levels, values.view(-1, 1, 1)))


def _contrast(images: Tensor, values: Tensor, interpolation: str, colour: Tensor) -> Tensor:
    grey = _grey(images)
    mean = (grey.sum((1, 2, 3)).double() / grey[0].numel() + 0.5).trunc().view(-1, 1, 1)
    return _looked_up(images, _blended(mean.float(), _levels(images), values.view(-1, 1, 1)))


def _color(images: Tensor, values: Tensor, interpolation: str, colour: Tensor) -> Tensor:
    return _blended(_grey(images), images.float(), _each(values))


def _sharpness(images: Tensor, values: Tensor, interpolation: str, colour: Tensor) -> Tensor:
    return _blended(_smooth(images).float(), images.float(), _each(values))


def _grayscale(images: Tensor, values: Tensor, interpolation: str, colour: Tensor) -> Tensor:
    return _grey(images).to(torch.uint8).expand(-1, 3, -1, -1)


def _blended(start: Tensor, images: Tensor, factor: Tensor) -> Tensor:
    """`factor` of the way from one image to another, in float32 and cut off, not rounded."""
    mixed = images - start
    mixed = mixed * factor.float()
    return (mixed + start).clamp(0, 255).to(torch.uint8)


def _grey(images: Tensor) -> Tensor:
    """ITU-R 601-2 luma, [b, 1, H, W] float32 of whole numbers."""
    red, green, blue = images.float().unbind(1)
    luma = red * 19595 + green * 38470 + blue * 7471 + 0x8000
    return (luma * (1 / 65536)).trunc()[:, None]


def _smooth(images: Tensor) -> Tensor:
    wide = images.int()
    rows = wide[:, :, :-2] + wide[:, :, 1:-1] + wide[:, :, 2:]
    total = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * wide[:, :, 1:-1, 1:-1]
    result = images.clone()
    result[:, :, 1:-1, 1:-1] = ((2 * total + 13) // 26).to(torch.uint8)
    return result


_REACH = 11
"""Pixels that a blur reads to either side."""


def _blur(images: Tensor, values: Tensor, interpolation: str, colour: Tensor) -> Tensor:
    offsets = torch.arange(-_REACH, _REACH + 1, dtype=torch.float64, device=images.device)
    weights = torch.exp(-0.5 * (offsets / values[:, None]) ** 2).float()
    weights = weights / weights.sum(1, keepdim=True)  # [b, 23]
    once = _averaged(images.float(), weights)
    return _averaged(once.mT, weights).mT.round().clamp(0, 255).to(torch.uint8)


def _averaged(images: Tensor, weights: Tensor) -> Tensor:
    """Weighted means down the columns, mirrored at the edge."""
    rows = images.shape[2]
    padded = pad(images, (0, 0, _REACH, _REACH), mode="reflect")
    total = torch.zeros_like(images)
    for offset in range(2 * _REACH + 1):
        total += _each(weights[:, offset]) * padded[:, :, offset : offset + rows]
    return total


# ---- moved


def _rotate(images: Tensor, values: Tensor, interpolation: str, colour: Tensor) -> Tensor:
    rows, columns = images.shape[2:]
    angle = (values * (math.pi / 180)).view(-1, 1, 1)
    x = torch.arange(columns, dtype=torch.float64, device=images.device) + (0.5 - columns / 2)
    y = (torch.arange(rows, dtype=torch.float64, device=images.device) + (0.5 - rows / 2))[:, None]
    across = angle.cos() * x + columns / 2 - angle.sin() * y  # [b, H, W]: where each pixel is read
    down = angle.sin() * x + rows / 2 + angle.cos() * y
    inside = (across >= 0) & (across < columns) & (down >= 0) & (down < rows)
    if interpolation == "bilinear":
        grid = torch.stack([across * (2 / columns) - 1, down * (2 / rows) - 1], dim=-1).float()
        found = grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
    else:
        found = _cubic_at(images, across - 0.5, down - 0.5)
    return _filled(found + _NUDGE, inside[:, None], colour)


_NUDGE = 1 / 1024
"""Weights that add up to a little less than 1 would make 100 out of an even 100 a 99."""


def _cubic_at(images: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """Pillow's cubic through 4 x 4 pixels, along rows and then down the column, [b, 3, H, W]."""
    rows, columns = images.shape[2:]
    flat = images.flatten(2).float()
    left, top = across.floor(), down.floor()
    x_part, y_part = (across - left)[:, None].float(), (down - top)[:, None].float()
    lines = []
    for y in (top.long() + offset for offset in (-1, 0, 1, 2)):
        first = y.clamp(0, rows - 1) * columns
        indices = [(first + (left.long() + offset).clamp(0, columns - 1)).flatten(1) for offset in (-1, 0, 1, 2)]
        four = [flat.gather(2, index[:, None].expand(-1, 3, -1)).view(images.shape) for index in indices]
        lines.append(_cubic(four, x_part))
    return _cubic(lines, y_part).clamp(0, 255)


def _shear_x(images: Tensor, values: Tensor, interpolation: str, colour: Tensor) -> Tensor:
    rows = torch.arange(images.shape[2], dtype=torch.float64, device=images.device) + 0.5
    return _along_rows(images, values[:, None] * rows, interpolation, colour)


def _translate_x(images: Tensor, values: Tensor, interpolation: str, colour: Tensor) -> Tensor:
    shift = values.clamp(-2, 2) * images.shape[3]
    return _along_rows(images, shift[:, None].expand(-1, images.shape[2]), interpolation, colour)


def _shear_y(images: Tensor, values: Tensor, interpolation: str, colour: Tensor) -> Tensor:
    return _shear_x(images.mT, values, interpolation, colour).mT


def _translate_y(images: Tensor, values: Tensor, interpolation: str, colour: Tensor) -> Tensor:
    return _translate_x(images.mT, values, interpolation, colour).mT


def _along_rows(images: Tensor, shifts: Tensor, interpolation: str, colour: Tensor) -> Tensor:
    """Each row to the left by its own number of pixels, [b, H]; the outermost pixels are repeated to read between."""
    columns = images.shape[3]
    whole = shifts.floor()
    part = (shifts - whole).float()[:, None, :, None]
    x = torch.arange(columns, device=images.device)
    index = x + whole.long()[:, None, :, None]  # [b, 1, H, W]
    source = images.float()
    four = [source.gather(3, (index + k).clamp(0, columns - 1).expand_as(source)) for k in (-1, 0, 1, 2)]
    found = _BETWEEN[interpolation](four, part)
    middle = x + shifts[:, None, :, None] + 0.5
    return _filled(found, (middle >= 0) & (middle < columns), colour)


def _filled(found: Tensor, inside: Tensor, colour: Tensor) -> Tensor:
    return torch.where(inside, found.to(torch.uint8), colour)


def _linear(four: Sequence[Tensor], part: Tensor) -> Tensor:
    return (four[2] - four[1]) * part + four[1]


def _cubic(four: Sequence[Tensor], part: Tensor) -> Tensor:
    """A cubic through the two in the middle, in the steps of `pixels._cubic`, so that even surfaces stay even."""
    before, left, right, after = four
    bend = before - left
    slope = right - after + bend
    result = (bend + slope - slope * part) * part + (right - before)
    return result * part + left


def _clipped_cubic(four: Sequence[Tensor], part: Tensor) -> Tensor:
    return _cubic(four, part).clamp(0, 255)


_BETWEEN = {"bilinear": _linear, "bicubic": _clipped_cubic}

TOGETHER: dict[str, Callable[[Tensor, Tensor, str, Tensor], Tensor]] = {
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
"""Name of an `Op` -> what it does to several images, each with its own value."""
