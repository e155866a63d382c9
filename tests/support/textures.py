"""Made images that look enough like photos for resampling and histograms: soft shapes, edges, noise, even areas."""

from __future__ import annotations

import numpy as np
from PIL import Image


def texture(width: int, height: int, seed: int = 0) -> Image.Image:
    """A image of that size, RGB."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(width, height)
    waves = [np.sin(2 * np.pi * (rng.uniform(0.5, 6) * x + rng.uniform(0.5, 6) * y + rng.random())) for _ in range(3)]
    pixels = 128 + 90 * np.stack(waves, -1)
    pixels[: height // 3] += rng.normal(0, 25, (height // 3, width, 3))
    for _ in range(6):
        top, left = int(rng.integers(height)), int(rng.integers(width))
        rows, columns = rng.integers(1, height // 3 + 2), rng.integers(1, width // 3 + 2)
        pixels[top : top + rows, left : left + columns] = rng.integers(0, 256, 3)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def even(width: int, height: int, colour: tuple[int, int, int] = (10, 200, 31)) -> Image.Image:
    """One colour."""
    return Image.new("RGB", (width, height), colour)
