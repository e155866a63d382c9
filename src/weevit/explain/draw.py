"""Maps as images: heat laid over a photo, panels side by side with a line of text above each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from weevit.answers.results import Array
from weevit.explain.relevance import Explanation
from weevit.text import one_line

Panel = tuple[str, Image.Image]

_COLOURS = np.array([[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]], dtype=np.float32)
"""Dark to light, evenly spaced in lightness (after the inferno map): readable in grey and by the colour-blind."""

_GAP, _LINE, _FONT = 8, 22, 14


def heat(values: Array, size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """A map (rows, columns), stretched to its range and resized to (width, height) pixels, as colours.

    Returns:
        (height, width, 3) in [0, 255].
    """
    low, high = float(values.min()), float(values.max())
    scaled = (values - low) / (high - low) if high > low else np.zeros_like(values)
    smooth = Image.fromarray(scaled.astype(np.float32)).resize(size, Image.Resampling.BICUBIC)
    at = np.clip(np.asarray(smooth), 0, 1) * (len(_COLOURS) - 1)
    return np.stack([np.interp(at, np.arange(len(_COLOURS)), _COLOURS[:, c]) for c in range(3)], axis=-1)


_STRENGTH = 0.65
"""Share of the heat over the photo."""


def overlay(pixels: npt.NDArray[np.uint8], values: Array) -> Image.Image:
    """The photo in grey under the heat of a map."""
    size = pixels.shape[1], pixels.shape[0]
    grey = pixels.mean(axis=-1, keepdims=True)
    return Image.fromarray(((1 - _STRENGTH) * grey + _STRENGTH * heat(values, size)).astype(np.uint8))


def panels(rows: Sequence[Sequence[Panel]]) -> Image.Image:
    """Rows of images with titles, on white."""
    font = ImageFont.load_default(_FONT)
    widths = [sum(image.width + _GAP for _, image in row) + _GAP for row in rows]
    heights = [max(image.height for _, image in row) + _LINE + _GAP for row in rows]
    sheet = Image.new("RGB", (max(widths), sum(heights) + _GAP), "white")
    draw, top = ImageDraw.Draw(sheet), _GAP
    for row, height in zip(rows, heights, strict=True):
        left = _GAP
        for title, image in row:
            draw.text((left, top + 2), _fit(title, image.width, font), fill="black", font=font)
            sheet.paste(image, (left, top + _LINE))
            left += image.width + _GAP
        top += height
    return sheet


def _fit(text: str, width: int, font: Any) -> str:
    """The text, cut to a width."""
    text = one_line(text)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def draw_explanation(explanation: Explanation, with_heads: bool) -> Image.Image:
    """Input and relevance side by side; optionally below, the maps of each head and each prefix token."""
    pixels, best = explanation.pixels, explanation.result.top[0]
    rows = [
        [
            (f"{best.probability:.0%} {best.name}", Image.fromarray(pixels)),
            ("relevance", overlay(pixels, explanation.relevance)),
        ]
    ]
    if with_heads:
        block = f"block {explanation.layer}"
        rows.append([(f"{block}, head {i}", overlay(pixels, own)) for i, own in enumerate(explanation.heads)])
        if len(explanation.prefix):
            rows.append(
                [(f"{block}, prefix {i} looks at", overlay(pixels, p)) for i, p in enumerate(explanation.prefix)]
            )
    return panels(rows)


def principal_colours(features: Array) -> npt.NDArray[np.uint8]:
    """Patch features (D, rows, columns) as colours (rows, columns, 3): the first three principal components, each
    stretched.

    The sign of each component makes its largest coefficient positive: the same input gives the same colours.
    """
    flat = features.reshape(len(features), -1).T.astype(np.float64)
    centred = flat - flat.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    directions = np.concatenate([directions, np.zeros((3, directions.shape[1]))])[:3]  # fewer than three patches
    directions *= np.sign(directions[np.arange(3), np.abs(directions).argmax(axis=1)])[:, None]
    parts = centred @ directions.T
    low, high = parts.min(axis=0), parts.max(axis=0)
    scaled = (parts - low) / np.where(high > low, high - low, 1)
    colours = np.asarray((255 * scaled).round(), dtype=np.uint8)
    return colours.reshape(features.shape[1], features.shape[2], 3)


def draw_principal(pixels: npt.NDArray[np.uint8], features: dict[int, Array]) -> Image.Image:
    """The input beside the patch features of some blocks as colours."""
    size = pixels.shape[1], pixels.shape[0]
    row: list[Panel] = [("input", Image.fromarray(pixels))]
    for index, values in features.items():
        colours = Image.fromarray(principal_colours(values)).resize(size, Image.Resampling.NEAREST)
        row.append((f"block {index}", colours))
    return panels([row])
