"""From an image to the model's input, pixel for pixel equal to timm's evaluation transform.

Two steps: a resize that fixes the scale, and a centre crop. Sizes in this file are (height, width), as in timm's
configurations; Pillow's own are (width, height).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from PIL import Image

from weevit.errors import TooLargeImageError, UsageError
from weevit.images.decode import full_size
from weevit.zoo.weights import Preprocessing

Size = tuple[int, int]
"""Height and width in pixels."""

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

_MAX_RESIZED = 2**24
"""Pixels of a resized image above which only the cropped part is computed."""

_MAX_BETWEEN = 2**26
"""Pixels between the two passes of a resize above which it is refused; 256 MB."""

_REACH = 4
"""Source pixels, at a scale of 1, that the widest filter (Lanczos, 3) reads on either side, plus one."""

_TO_SPARE = 2
"""Pixels along a side of an image decoded at a reduced scale, over those after the resize: the filter still averages.
With 1, only the decoder's reduction would prevent aliasing."""


def preprocess(image: Image.Image, spec: Preprocessing) -> npt.NDArray[np.uint8]:
    """Resize and crop an image as timm's evaluation transform does, without the normalisation.

    Equal to timm on the same Pillow in every pixel, with two exceptions for images more than 70 times as long as wide
    (at the family's sizes): where the resize would make over 16 megapixels, only the cropped part is computed, nearly
    equal (see `_resize_part`); and where `border` would make a side of no pixels, on which timm fails, it makes one.
    From version 13 on, Pillow resizes images more than twice as high as wide in another order than before, with
    differences of
    up to 10 grey levels at sharp edges: here as in timm.

    Args:
        image: mode RGB, upright (`decode`, `to_rgb` and `from_array` return this).
        spec: the model's preprocessing; `mean` is used as the border's colour only.

    Returns:
        uint8, (spec.height, spec.width, 3), C-contiguous.

    Raises:
        UsageError: another mode than RGB.
        TooLargeImageError: so thin and long that resizing it needs more than 256 MB.
    """
    if image.mode != "RGB":
        raise UsageError(
            f"an image of mode {image.mode!r} is not RGB", "weevit.images.decode.to_rgb(image) makes it so."
        )
    return _cut(image, spec)


def _cut(image: Image.Image, spec: Preprocessing) -> npt.NDArray[np.uint8]:
    """Resize and crop an image of mode RGB or L (one channel)."""
    given = (image.height, image.width)
    resized = _resized_size(full_size(image), spec)
    resample = _FILTERS[spec.interpolation]
    height, width = min(resized[0], spec.height), min(resized[1], spec.width)
    top, left = _middle(resized[0], height), _middle(resized[1], width)
    if resized[0] * resized[1] > _MAX_RESIZED:
        image = _resize_part(image, resized, (top, left), (height, width), resample)
    elif given[0] * resized[1] > _MAX_BETWEEN:
        raise TooLargeImageError(f"{given[1]} x {given[0]} pixels: too thin to be resized to {resized[1]} wide")
    else:
        image = image.resize((resized[1], resized[0]), resample).crop((left, top, left + width, top + height))
    return np.asarray(image if (height, width) == (spec.height, spec.width) else _padded(image, spec))


def enough_pixels(full: Size, spec: Preprocessing) -> Size:
    """The size that a JPEG may be reduced to before it is resized; for `decode`."""
    height, width = _resized_size(full, spec)
    return _TO_SPARE * height, _TO_SPARE * width


def normalize(pixels: npt.NDArray[np.uint8], spec: Preprocessing) -> npt.NDArray[np.float32]:
    """The input of a model that does not normalise by itself (weevit's own graphs do): equal to timm's.

    Args:
        pixels: uint8, (H, W, 3), from `preprocess`.
        spec: its `mean` and `std`.

    Returns:
        float32, (3, H, W), C-contiguous.
    """
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1)).astype(np.float32)
    planes /= np.float32(255)
    planes -= np.array(spec.mean, np.float32)[:, None, None]
    planes /= np.array(spec.std, np.float32)[:, None, None]
    return planes


def _scale_size(spec: Preprocessing) -> Size:
    """The size of the resize, of which the crop keeps `crop_pct`."""
    return math.floor(spec.height / spec.crop_pct), math.floor(spec.width / spec.crop_pct)


def _center(given: Size, spec: Preprocessing) -> Size:
    """Cover the scale size, keeping the shape. timm rounds down for square models, to nearest for others."""
    height, width = _scale_size(spec)
    if height != width:
        ratio = min(given[0] / height, given[1] / width)
        return round(given[0] / ratio), round(given[1] / ratio)
    longer = int(height * max(given) / min(given))
    return (height, longer) if given[0] <= given[1] else (longer, height)


def _border(given: Size, spec: Preprocessing) -> Size:
    """Fit into the scale size, keeping the shape; at least one pixel."""
    height, width = _scale_size(spec)
    ratio = max(given[0] / height, given[1] / width)
    return max(1, round(given[0] / ratio)), max(1, round(given[1] / ratio))


_RESIZED_SIZE: dict[str, Callable[[Size, Preprocessing], Size]] = {
    "center": _center,
    "squash": lambda given, spec: _scale_size(spec),
    "border": _border,
}


def _resized_size(given: Size, spec: Preprocessing) -> Size:
    return _RESIZED_SIZE[spec.crop_mode](given, spec)


def _middle(length: int, kept: int) -> int:
    """Start of the middle along one side; Python rounds halves to even, as timm's crop does."""
    return round((length - kept) / 2)


def preprocess_channels(array: npt.NDArray[np.uint8], spec: Preprocessing) -> npt.NDArray[np.uint8]:
    """`preprocess` for uint8 (H, W, channels) of any number of channels, each resized and cropped alone."""
    (mean, _), channels = spec.of_channels(array.shape[2]), []
    for index, own in enumerate(mean):
        image = Image.fromarray(np.ascontiguousarray(array[..., index]))
        channels.append(_cut(image, replace(spec, mean=(own, own, own))))
    return np.stack(channels, axis=2)


def _padded(image: Image.Image, spec: Preprocessing) -> Image.Image:
    """Centre an image that is too small; of an odd rest, the larger half goes to the right and below."""
    red, green, blue = (round(255 * mean) for mean in spec.mean) if spec.crop_mode == "border" else (0, 0, 0)
    canvas = Image.new(image.mode, (spec.width, spec.height), (red, green, blue) if image.mode == "RGB" else red)
    canvas.paste(image, ((spec.width - image.width) // 2, (spec.height - image.height) // 2))
    return canvas


def _resize_part(image: Image.Image, resized: Size, start: Size, kept: Size, resample: Image.Resampling) -> Image.Image:
    """Resize, but compute only `kept` pixels from `start` on.

    Not exact, for two reasons. Pillow rounds the edges of a `box` to 24 bits: cropping the source first keeps the
    numbers small, and the error far below a grey level (`nearest`: the choice between two equally near pixels). And
    Pillow 13 may take another order of the two passes for the window than for the whole.
    """
    top, bottom, first_row, last_row = _source_range(image.height, resized[0], start[0], kept[0])
    left, right, first_column, last_column = _source_range(image.width, resized[1], start[1], kept[1])
    window = image.crop((first_column, first_row, last_column, last_row))
    box = (left - first_column, top - first_row, right - first_column, bottom - first_row)
    return window.resize((kept[1], kept[0]), resample, box=box)


def _source_range(given: int, resized: int, start: int, kept: int) -> tuple[float, float, int, int]:
    """Along one side: the ends of the kept part in the source, and the range of pixels that the filter reads."""
    scale = given / resized
    near, far = start * scale, min(given, (start + kept) * scale)
    reach = math.ceil(_REACH * max(1.0, scale))
    return near, far, max(0, math.floor(near) - reach), min(given, math.ceil(far) + reach)
