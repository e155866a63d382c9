"""Positions for any grid: learned ones resampled, rotary ones computed, both as timm does."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from weevit.zoo.architectures import ROPE_REFERENCE_GRID, ROPE_TEMPERATURE, Architecture

Floats = npt.NDArray[np.floating[Any]]
Grid = tuple[int, int]

_CUBIC_A = -0.5
"""Keys' coefficient: torch's antialiased bicubic uses Pillow's -0.5, not the -0.75 of its plain bicubic."""


def resample_positions(table: Floats, prefix: int, old: Grid, new: Grid) -> Floats:
    """Learned positions for another grid: antialiased bicubic, as timm's `resample_abs_pos_embed`.

    Args:
        table: (prefix + old rows * old columns, D).
        prefix: entries of class token and registers at the front; they stay as they are.
        old, new: rows and columns of the two grids.

    Returns:
        (prefix + new rows * new columns, D) float64; the table itself where the grids are equal.
    """
    if old == new:
        return table
    grid = table[prefix:].astype(np.float64).reshape(*old, -1)
    rows, columns = cubic_matrix(old[0], new[0]), cubic_matrix(old[1], new[1])
    resampled = np.einsum("io,jp,opd->ijd", rows, columns, grid, optimize=True)
    return np.concatenate([table[:prefix], resampled.reshape(new[0] * new[1], -1)])


def cubic_matrix(old: int, new: int) -> Floats:
    """The (new, old) matrix of antialiased bicubic resampling along one axis, half-pixel centres, rows summing to 1."""
    scale = old / new
    stretch = max(scale, 1.0)  # when shrinking, the kernel widens to cover what it averages
    centres = scale * (np.arange(new) + 0.5)
    first = np.maximum((centres - 2 * stretch + 0.5).astype(int), 0)
    last = np.minimum((centres + 2 * stretch + 0.5).astype(int), old)
    index = np.arange(old)
    inside = (index >= first[:, None]) & (index < last[:, None])
    weights = np.where(inside, _cubic((index + 0.5 - centres[:, None]) / stretch), 0.0)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _cubic(x: Floats) -> Floats:
    """Keys' cubic kernel (1981), zero beyond 2."""
    x, a = np.abs(x), _CUBIC_A
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def rope_tables(arch: Architecture, grid: Grid) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Cosine and sine of axial rotary positions (arXiv:2104.09864), one angle for each pair of neighbouring channels.

    The first half of a head's pairs turns with the row, the second with the column. Coordinates are rescaled to the
    grid that the model was trained on, as timm does. Class token and registers are not turned: cosine 1, sine 0.

    Returns:
        Two arrays (prefix + rows * columns, head_dim / 2).
    """
    bands = ROPE_TEMPERATURE ** -(np.arange(arch.head_dim // 4) / (arch.head_dim // 4))
    axes = [np.arange(size) / size * ROPE_REFERENCE_GRID for size in grid]
    coordinates = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    angles = (coordinates[:, :, None] * bands).reshape(len(coordinates), -1)
    angles = np.concatenate([np.zeros((arch.num_prefix, angles.shape[1])), angles])
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
