"""From float32 weights and what calibration saw to int8 weights, ranges, and the inputs that stay in float32.

The recipe, with figures for each choice, is in `docs/quantization.md`. In short:

- The input channels of a layer are scaled so that those with large numbers lend some of it to the weights (SmoothQuant,
  arXiv:2211.10438, with exponent 0.6); the norm or the layer in front takes the inverse, so that nothing is computed
  for it.
- Ranges are the smallest and the largest number seen. Behind GELU the upper end is the one with the least error of the
  product: there clipping a rare large number costs little. Clipping a norm's output made single images wrong.
- A few channels behind GELU are a hundred times larger than all others; the product with those stays in float32.
- Weights are symmetric per output, so that a column's scale takes whatever was multiplied onto it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from weevit.graph.folds import fold_block, fold_patch_embedding
from weevit.graph.layers import Array, Block, Layer, Linear, Norm
from weevit.quantization.observe import Observed
from weevit.zoo.architectures import Architecture
from weevit.zoo.quantized import LEAST as LEAST_RANGE
from weevit.zoo.quantized import PATCH_EMBEDDING
from weevit.zoo.weights import Preprocessing

Floats = npt.NDArray[np.float64]
Tensors = Mapping[str, npt.NDArray[np.generic]]
Named = Iterator[tuple[str, npt.NDArray[np.generic]]]

SMOOTHING = 0.6
CLIPS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
"""Shares of the largest number that are tried as the upper end behind GELU."""

OUTLIERS = (0, 1, 2, 4, 8)
"""Numbers of channels that are tried to stay in float32: the first that is about as good as the last."""

OUTLIER_RATIO, OUTLIER_SLACK = 1.25, 0.002
"""About as good: the relative error of the product is within this factor, and this much more."""

CHANNELS = 128
"""Whose errors are computed together: what that takes stays in a core's cache, twice as fast as all at once."""

LEAST = 1e-5
"""Share of the largest size below which a channel counts as never used, and is not scaled."""


@dataclass(frozen=True)
class Model:
    """What is to be quantised.

    Attributes:
        arch: the row.
        tensors: of the float32 checkpoint.
        spec: its mean and std are folded into the patch embedding.
    """

    arch: Architecture
    tensors: Mapping[str, Array]
    spec: Preprocessing


def quantized(model: Model, bits: int, observed: Observed | None) -> Tensors:
    """The tensors of the quantised checkpoint.

    Args:
        model: in float32.
        bits: of the weights, 7 or 8.
        observed: what calibration saw; None gives each row of activations a range of its own.

    Returns:
        As `weevit.zoo.quantized` lists them.
    """
    tensors = {
        name: array for name, array in model.tensors.items() if not name.startswith(("blocks.", f"{PATCH_EMBEDDING}."))
    }
    weight, bias = fold_patch_embedding(model.tensors, model.spec)
    found: dict[str, npt.NDArray[np.generic]] = {
        **tensors,
        **dict(_integer(Linear(weight, bias), PATCH_EMBEDDING, bits)),
    }
    for index in range(model.arch.depth):
        block = fold_block(model.tensors, model.arch, index)
        found.update(
            (f"blocks.{index}.{name}", array) for name, array in _block(block, model.arch, index, bits, observed)
        )
    return found


def _block(block: Block, arch: Architecture, index: int, bits: int, observed: Observed | None) -> Named:
    whole = _float_layers(arch, index)
    if observed is None:
        yield from _layers(block, bits, whole, ())
        return
    seen = _Seen(observed, index)
    block, smoothed = _smooth(block, seen)
    gelu = _Gelu(seen.tokens("fc2"), seen.bounds("fc2"), block.fc2.matrix)
    outliers = () if "fc2" in whole else gelu.outliers()
    # Keys may be beyond their range, and then overflow where 7 bits are for; and the class token alone is but a row.
    if bits == 8 and (arch.pool == "avg" or index < arch.depth - 1):
        block, scores = _balance(block, seen, arch)
        yield "scores", scores
    yield from _layers(block, bits, whole, outliers)
    for name, low_high in smoothed.items():
        if name not in whole:
            yield f"{name}.range", np.array(low_high, np.float32)
    if "fc2" not in whole:
        yield "fc2.range", np.array(gelu.clipped(outliers), np.float32)


def _float_layers(arch: Architecture, index: int) -> tuple[str, ...]:
    """Layers that stay in float32: in the last block those behind the mean over tokens, which see one row per image,
    and numbers of another size where a tap wants all tokens."""
    if index < arch.depth - 1 or arch.pool != "avg" or arch.norm != "after_pool":
        return ()
    return ("proj", "fc2") if arch.block == "parallel" else ("fc2",)


def _layers(block: Block, bits: int, whole: tuple[str, ...], outliers: tuple[int, ...]) -> Named:
    norms = {"norm1": block.norm1} | ({} if block.norm2 is None else {"norm2": block.norm2})
    for name, norm in norms.items():
        yield f"{name}.weight", norm.weight
        yield f"{name}.bias", norm.bias
    if block.diff_lambda is not None:
        yield "lambda", np.array([block.diff_lambda], np.float32)
    for name, layer in _named_layers(block).items():
        if name in whole:
            yield f"{name}.weight", layer.matrix
            yield from [] if layer.bias is None else [(f"{name}.bias", layer.bias)]
            continue
        yield from _integer(layer, name, bits, outliers if name == "fc2" else ())


def _named_layers(block: Block) -> dict[str, Linear]:
    pairs = {
        f"{name}{i}": layer
        for name, own in (("query", block.queries), ("key", block.keys))
        for i, layer in enumerate(own)
    }
    named = {**pairs, "value": block.value, "proj": block.proj, "fc1": block.fc1, "fc2": block.fc2}
    return {name: Linear(layer.matrix, layer.bias) for name, layer in named.items()}


def _integer(layer: Linear, name: str, bits: int, outliers: tuple[int, ...] = ()) -> Named:
    """A layer's weight as whole numbers with a scale for each output."""
    most = 2 ** (bits - 1) - 1
    weight = layer.weight.astype(np.float64)
    rows = np.array(outliers, np.int32)
    if len(rows):
        yield f"{name}.outliers", rows
        yield f"{name}.outlier_weight", layer.weight[rows]
        weight[rows] = 0
    size = np.abs(weight).max(axis=0)
    scale = np.where(size > 0, size, 1) / most  # a column of zeros has any scale
    yield f"{name}.weight", np.rint(weight / scale).astype(np.int8)
    yield f"{name}.scale", scale.astype(np.float32)
    if layer.bias is not None:
        yield f"{name}.bias", layer.bias


# ---- what calibration decides


class _Seen:
    """What calibration saw of one block."""

    def __init__(self, observed: Observed, index: int) -> None:
        self._observed, self._prefix = observed, f"blocks.{index}."

    def _name(self, name: str) -> str:
        attention = name in ("value", "proj") or name.startswith("out")
        return f"{self._prefix}attention.{name}" if attention else self._prefix + name

    def size(self, name: str) -> Floats:
        """(inputs) of a layer, or of a query or key."""
        return self._observed.size(self._name(name)).astype(np.float64)

    def bounds(self, name: str) -> tuple[Floats, Floats]:
        """(inputs) lowest and highest."""
        own = self._name(name)
        return self._observed.low[own].astype(np.float64), self._observed.high[own].astype(np.float64)

    def tokens(self, name: str) -> Array:
        """(tokens, inputs)."""
        return self._observed.tokens[self._name(name)]


def _smooth(block: Block, seen: _Seen) -> tuple[Block, dict[str, tuple[float, float]]]:
    """Scale the inputs of norm1's, norm2's and attention's users; returns the range of each afterwards."""
    asking = (*block.queries, *block.keys, block.value, *(() if block.norm2 else (block.fc1,)))
    first = _factor(seen.size("value"), [layer.matrix for layer in asking])
    ranges = {"norm1": _range(seen.bounds("value"), first)}
    second, norm2 = first, None
    if block.norm2 is not None:
        second = _factor(seen.size("fc1"), [block.fc1.matrix])
        ranges["norm2"], norm2 = _range(seen.bounds("fc1"), second), _divided(block.norm2, second)
    value, third = _rows(block.value, first), np.ones(len(block.proj.matrix))
    if block.diff_lambda is None:  # else a norm stands between value and projection
        third = _factor(seen.size("proj"), [block.proj.matrix])
        value = _columns(value, 1 / third)
    ranges["proj"] = _range(seen.bounds("proj"), third)
    smoothed = replace(
        block,
        norm1=_divided(block.norm1, first),
        queries=tuple(_rows(layer, first) for layer in block.queries),
        keys=tuple(_rows(layer, first) for layer in block.keys),
        value=value,
        proj=_rows(block.proj, third),
        norm2=norm2,
        fc1=_rows(block.fc1, second),
    )
    return smoothed, ranges


def _factor(size: Floats, weights: list[Array]) -> Floats:
    """(inputs) what each input is divided by, and its row of the weights multiplied with; of geometric mean 1."""
    rows = np.max([np.abs(weight).max(axis=1) for weight in weights], axis=0)
    used = (size > LEAST * size.max()) & (rows > LEAST * rows.max())
    factor = np.ones(len(size))
    if used.any():
        factor[used] = size[used] ** SMOOTHING / rows[used] ** (1 - SMOOTHING)
        factor[used] /= np.exp(np.log(factor[used]).mean())
    return factor


def _range(bounds: tuple[Floats, Floats], factor: Floats) -> tuple[float, float]:
    low, high = min(0.0, float((bounds[0] / factor).min())), max(0.0, float((bounds[1] / factor).max()))
    return low, high if high - low >= LEAST_RANGE else low + 1.0  # nothing but zeros: any range is right


def _divided(norm: Norm, factor: Floats) -> Norm:
    return Norm((norm.weight / factor).astype(np.float32), (norm.bias / factor).astype(np.float32))


def _rows(layer: Layer, factor: Floats) -> Linear:
    return Linear((layer.matrix * factor[:, None]).astype(np.float32), layer.bias)


def _columns(layer: Layer, factor: Floats) -> Linear:
    bias = None if layer.bias is None else (layer.bias * factor).astype(np.float32)
    return Linear((layer.matrix * factor).astype(np.float32), bias)


def _balance(block: Block, seen: _Seen, arch: Architecture) -> tuple[Block, Array]:
    """Give each channel of query and key the same reach; returns the largest size of each, (maps, 2)."""
    queries, keys, scores = [], [], []
    for i, (query, key) in enumerate(zip(block.queries, block.keys, strict=True)):
        asked, known = seen.size(f"out{i}.query"), seen.size(f"out{i}.key")
        if arch.position == "rope":  # turning mixes pairs of neighbours
            asked, known = (own.reshape(-1, 2).max(axis=1).repeat(2) for own in (asked, known))
        used = (asked > LEAST * asked.max()) & (known > LEAST * known.max())
        factor = np.sqrt(np.where(used, known, 1) / np.where(used, asked, 1))
        queries.append(_columns(query, factor))
        keys.append(_columns(key, 1 / factor))
        sizes = float((asked * factor).max()), float((known / factor).max())
        scores.append([size if size >= LEAST_RANGE else 1.0 for size in sizes])
    return replace(block, queries=tuple(queries), keys=tuple(keys)), np.array(scores, np.float32)


# ---- behind GELU


class _Gelu:
    """fc2's input: the channels that stay in float32, and the range of all that become integers.

    Args:
        tokens: (tokens, inputs) of calibration.
        bounds: (inputs) lowest and highest over all of it.
        weight: of fc2, (inputs, outputs).
    """

    def __init__(self, tokens: Array, bounds: tuple[Floats, Floats], weight: Array) -> None:
        self.low, self.high = bounds
        self.strength = (weight.astype(np.float64) ** 2).sum(axis=1)
        self.energy = max(float((tokens**2).sum(axis=0, dtype=np.float64) @ self.strength), 1e-30)
        starts = range(0, tokens.shape[1], CHANNELS)
        self.tokens = [np.ascontiguousarray(tokens[:, start : start + CHANNELS]) for start in starts]

    def outliers(self) -> tuple[int, ...]:
        """The fewest channels without which the rest is about as good as it gets, ascending."""
        enough = OUTLIER_RATIO * self._best[max(self._best)][0] + OUTLIER_SLACK
        count = next(count for count, (error, _) in self._best.items() if error <= enough)
        return tuple(sorted(self._largest[:count].tolist()))

    def clipped(self, outliers: tuple[int, ...]) -> tuple[float, float]:
        """The range with the least error of the product, without as many of the largest channels."""
        return self._best[len(outliers)][1]

    @cached_property
    def _largest(self) -> npt.NDArray[np.intp]:
        """Channels, those with the largest numbers first."""
        return np.argsort(-np.maximum(-self.low, self.high), kind="stable")

    @cached_property
    def _best(self) -> dict[int, tuple[float, tuple[float, float]]]:
        """Channels that are left out -> relative error of the product of the others, and the range that has it."""
        return {count: self._range(np.sort(self._largest[count:])) for count in OUTLIERS if count < len(self._largest)}

    def _range(self, kept: npt.NDArray[np.intp]) -> tuple[float, tuple[float, float]]:
        low, high = _range((self.low[kept], self.high[kept]), np.ones(1))
        errors = {clip: float(self._errors(low, high * clip)[kept] @ self.strength[kept]) for clip in CLIPS}
        best = min(errors, key=lambda clip: errors[clip])
        return float(np.sqrt(errors[best] / self.energy)), (low, high * best)

    def _errors(self, low: float, high: float) -> Floats:
        """(inputs) squared error of each channel, where it is rounded to this range."""
        zero = np.float32(np.rint(-low * 255 / (high - low)))
        found = []
        for tokens in self.tokens:
            steps = tokens * np.float32(255 / (high - low))
            wrong = np.rint(steps)
            np.clip(wrong, -zero, 255 - zero, out=wrong)
            wrong -= steps
            wrong *= wrong
            found.append(wrong.sum(axis=0, dtype=np.float64))
        return np.concatenate(found) * ((high - low) / 255) ** 2
