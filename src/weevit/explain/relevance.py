"""The patches that an answer rests on, without gradients and without PyTorch.

Rollout (Abnar and Zuidema, arXiv:2005.00928) follows attention from the answer back through all blocks, half of each
step going along the residual. Attention weights alone say how much a token is looked at and not how much is taken over,
so each is multiplied with the length of what it carries: the value, through its head's output projection (Kobayashi et
al., arXiv:2004.10102). On real photos with ViT-Ti that map is more faithful (`benchmarks/explain_deletion.py`).

The start depends on the pool: the class token, or, for models that average, the patch tokens, each by its evidence for
the predicted class, which is exact: after the mean everything is linear up to one scale. Differential attention has
negative weights; their size counts, since removing moves an answer no less than adding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from weevit.answers.results import Array, Result, refuse_not_finite
from weevit.arguments import MAX_SEED, whole
from weevit.engine.session import block_indices
from weevit.errors import InputsFailedError, NotFiniteError, UnsupportedImageError
from weevit.graph.layers import Block
from weevit.graph.weights import block_weights
from weevit.images.source import Source
from weevit.predict import Predictor
from weevit.zoo.architectures import NORM_EPS, Architecture

MAX_STEPS = 1000

GREY = 128
"""Value of a removed patch: the middle of the range, which is zero after normalisation with mean 0.5."""


@dataclass(frozen=True)
class Explanation:
    """The explanation of one answer.

    Attributes:
        result: the answer, with its most probable classes.
        pixels: (height, width, 3) uint8: the model's input.
        relevance: (rows, columns), sums to 1: the share of each patch in the answer.
        heads: (heads, rows, columns): attention of each head of `layer`; from the class token, or from the average
            patch without one. Not normalised over patches: the rest to 1 goes to prefix tokens.
        layer: the block of `heads` and `prefix`.
        prefix: (prefix tokens, rows, columns): attention of class token and registers, mean over heads.
        prefix_share: (depth): the share of the patches' attention that goes to prefix tokens, block by block.
    """

    result: Result
    pixels: npt.NDArray[np.uint8]
    relevance: Array
    heads: Array
    layer: int
    prefix: Array
    prefix_share: Array


@dataclass(frozen=True)
class Deletion:
    """The mean probability of the predicted class while patches are removed, in three orders.

    A faithful map has a low `map`: the class is lost early. `random` is the yardstick, `reverse` the other extreme.
    """

    map: float
    random: float
    reverse: float


def explain_source(model: Predictor, source: Source, layer: int = -1) -> Explanation:
    """Explain one input.

    Args:
        model: a model with a classifier.
        source: one input, as `weevit.images.sources.expand` gives them.
        layer: the block of `Explanation.heads`, from 0, or negative from the end.

    Raises:
        ImageError: the input has no answer.
        UsageError: no classifier, or no such block.
    """
    arch = model.checkpoint.architecture
    (layer,) = block_indices([layer], arch.depth)
    if model.checkpoint.in_chans != 3:
        channels = model.checkpoint.in_chans
        raise UnsupportedImageError(f"this model takes {channels} channels; maps are drawn over images of three")
    pixels = model.crop(source)
    (result,) = model.stream([source], ("logits", "features", "attention"), range(arch.depth))
    if not result.ok:
        raise NotFiniteError((result.error or "").partition(": ")[2])  # `crop` has checked everything else
    attention = [result.attention[index] for index in range(arch.depth)]
    tokens = [  # the maps (D, rows, columns) as (patches, D)
        np.concatenate([result.prefix[i], result.features[i].reshape(arch.embed_dim, -1).T]) for i in range(arch.depth)
    ]
    with np.errstate(over="ignore", invalid="ignore"):
        steps = steps_of(arch, model.checkpoint.tensors(), attention, tokens)
        start = _start(arch, model.checkpoint.tensors(), tokens[-1], result.top[0].index)
        relevance = _share(rollout(steps, start)[arch.num_prefix :])
    refuse_not_finite({"relevance": relevance})
    grid = next(iter(result.features.values())).shape[1:]
    chosen = np.abs(attention[layer])
    n = arch.num_prefix
    asked = chosen[:, 0, n:] if arch.pool == "token" else chosen[:, n:, n:].mean(axis=1)
    return Explanation(
        result=result,
        pixels=pixels,
        relevance=relevance.reshape(grid),
        heads=asked.reshape(-1, *grid),
        layer=layer,
        prefix=chosen[:, :n, n:].mean(axis=0).reshape(n, *grid),
        prefix_share=np.array([_prefix_share(np.abs(own), n) for own in attention], dtype=np.float32),
    )


def rollout(steps: list[Array], start: Array) -> Array:
    """Follow relevance from the last block's tokens back to the first's.

    Args:
        steps: (N, N) for each block, rows summing to 1: the share of each token in each output.
        start: (N), the relevance of the last block's tokens.

    Returns:
        (N), of the same sum as `start`: half of every step stays with the token, along the residual.
    """
    for step in reversed(steps):
        start = np.asarray(0.5 * start + 0.5 * start @ step, dtype=np.float32)
    return start


def steps_of(
    arch: Architecture, tensors: Mapping[str, Array], attention: list[Array], tokens: list[Array]
) -> list[Array]:
    """The share of each token in each output, block by block: attention times the length of what it carries.

    The input tokens of the first block are not known; there attention alone counts.
    """
    steps = []
    for index, weights in enumerate(attention):
        size = np.abs(weights)
        if index:
            size = size * _carried(block_weights(tensors, arch, index), arch, tokens[index - 1])[:, None]
        steps.append(_share(size.sum(axis=0)))
    return steps


def _carried(block: Block, arch: Architecture, tokens: Array) -> Array:
    """(heads, N): length of each token's value, through its head's part of the output projection."""
    centred = tokens - tokens.mean(axis=1, keepdims=True)
    normed = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + NORM_EPS)
    y = normed * block.norm1.weight + block.norm1.bias
    value = y @ block.value.matrix + (0 if block.value.bias is None else block.value.bias)
    heads = value.reshape(len(tokens), arch.num_heads, arch.head_dim).swapaxes(0, 1)  # [H, N, h]
    projection = block.proj.matrix.reshape(arch.num_heads, arch.head_dim, -1)  # [H, h, D]
    return np.asarray(np.linalg.norm(heads @ projection, axis=-1))


def _start(arch: Architecture, tensors: Mapping[str, Array], tokens: Array, index: int) -> Array:
    """(N), sums to 1: the class token, or the patches by their evidence for the class."""
    start = np.zeros(len(tokens), dtype=np.float32)
    if arch.pool == "token":
        start[0] = 1
        return start
    norm = "norm" if arch.norm == "before_pool" else "fc_norm"
    direction = tensors["head.weight"][index] * tensors[f"{norm}.weight"]
    patches = tokens[arch.num_prefix :]
    evidence = (patches - patches.mean(axis=1, keepdims=True)) @ direction
    start[arch.num_prefix :] = np.maximum(evidence - evidence.min() * (evidence.max() <= 0), 0)
    return _share(start)


def _share(values: Array) -> Array:
    """Divided by the sum of the last axis; uniform where that is zero."""
    total = values.sum(axis=-1, keepdims=True)
    shares = np.where(total > 0, values / np.where(total > 0, total, 1), 1 / values.shape[-1])
    return np.asarray(shares, dtype=np.float32)


def _prefix_share(weights: Array, count: int) -> float:
    rows = _share(weights[:, count:])
    return float(rows[..., :count].sum(axis=-1).mean())


def deletion(model: Predictor, explanation: Explanation, steps: int = 14, seed: int = 0) -> Deletion:
    """Remove patches, the most relevant first, and measure the predicted class.

    Args:
        model: the explained model.
        explanation: explanation of one image.
        steps: equal parts in which the patches are removed.
        seed: seed of the random order.

    Raises:
        ImageError: with some patches removed there is no answer.
        UsageError: an invalid number.
    """
    whole("seed", seed, 0, MAX_SEED)
    whole("steps", steps, 1, MAX_STEPS)
    order = np.argsort(-explanation.relevance.ravel(), kind="stable")
    shuffled = np.random.default_rng(seed).permutation(len(order))
    index = explanation.result.top[0].index
    orders = (order, shuffled, order[::-1])
    return Deletion(*(_mean_probability(model, explanation, own, index, steps) for own in orders))


def _mean_probability(
    model: Predictor, explanation: Explanation, order: npt.NDArray[np.intp], index: int, steps: int
) -> float:
    rows, columns = explanation.relevance.shape
    height, width = explanation.pixels.shape[0] // rows, explanation.pixels.shape[1] // columns
    images = []
    for step in range(steps + 1):
        image = explanation.pixels.copy()
        for patch in order[: round(len(order) * step / steps)]:
            row, column = divmod(int(patch), columns)
            image[row * height : (row + 1) * height, column * width : (column + 1) * width] = GREY
        images.append(image)
    try:
        logits = model.forward(np.stack(images))["logits"].astype(np.float64)
    except InputsFailedError as error:
        raise NotFiniteError(f"with patches removed, {error.failures[0][1].partition(': ')[2]}") from error
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return float((exponents[:, index] / exponents.sum(axis=1)).mean())
