"""The layers of one plain forward pass, as data: in float32, or in int8 with what its integers stand for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int8]


@dataclass(frozen=True)
class Linear:
    """`x @ weight + bias`; weight (inputs, outputs), bias (outputs) or None."""

    weight: Array
    bias: Array | None

    @property
    def matrix(self) -> Array:
        """(inputs, outputs) float32, as for `IntLinear`."""
        return self.weight


@dataclass(frozen=True)
class Norm:
    """Gain and shift of a LayerNorm, both (embed_dim)."""

    weight: Array
    bias: Array


@dataclass(frozen=True)
class Range:
    """What a uint8 stands for: `low` (0 or less) is 0, `high` (0 or more) is 255, and 0.0 is a whole number."""

    low: float
    high: float

    @property
    def scale(self) -> np.float32:
        """Width of a step."""
        return np.float32((self.high - self.low) / 255)

    @property
    def zero(self) -> np.uint8:
        """The whole number that stands for 0.0."""
        return np.uint8(np.rint(-self.low / np.float64(self.scale)))


Input = Range | Literal["pixels", "rows", "gelu"]
"""How the input of an integer product becomes uint8: by a range that calibration chose; not at all, since `pixels` are
uint8; or each row by its own largest value: `rows` by the largest size, `gelu` by the largest number above zero."""


@dataclass(frozen=True)
class IntLinear:
    """`x @ (weight * scale) + bias`, the product in integers (int32).

    Attributes:
        weight: (inputs, outputs) int8.
        scale: (outputs) float32.
        bias: (outputs) float32, or None.
        input: how the input becomes uint8.
        outliers: (r) int32, inputs whose product is computed in float32; their rows in `weight` are zero.
        outlier_weight: (r, outputs) float32, their rows.
    """

    weight: Integers
    scale: Array
    bias: Array | None
    input: Input
    outliers: npt.NDArray[np.int32] | None = None
    outlier_weight: Array | None = None

    @property
    def matrix(self) -> Array:
        """(inputs, outputs) float32: what the integers stand for."""
        matrix = self.weight * self.scale
        if self.outliers is not None:
            matrix[self.outliers] = self.outlier_weight
        return matrix


Layer = Linear | IntLinear


@dataclass(frozen=True)
class Scores:
    """An attention map's `query @ key` in integers: the largest size of each, which stands for 127."""

    query: float
    key: float


@dataclass(frozen=True)
class Block:
    """The weights of one transformer block, whatever its kind.

    Attributes:
        norm1: before attention; in a parallel block before both branches.
        queries, keys: for softmax attention one layer each, (D, D); for differential attention two, (D, D / 2): the
            first halves of all heads, then the second halves.
        value: (D, D).
        diff_lambda: weight of the second attention map; None for softmax attention.
        proj: output projection of attention, layer scale and inner norm's gain folded in.
        norm2: before the MLP; None in a parallel block.
        fc1, fc2: the MLP, layer scale folded into fc2.
        scores: one for each attention map that is computed in int8; empty where they are in float32.
    """

    norm1: Norm
    queries: tuple[Layer, ...]
    keys: tuple[Layer, ...]
    value: Layer
    diff_lambda: float | None
    proj: Layer
    norm2: Norm | None
    fc1: Layer
    fc2: Layer
    scores: tuple[Scores, ...] = ()
