"""The weights of the forward pass, whether a checkpoint has them in float32 or quantised.

A quantised checkpoint holds the layers as they are after folding: what `folds.py` makes of the others stands in its
file (`weevit.zoo.quantized` has the names).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from weevit.graph.folds import Tensors, fold_block, fold_norm, fold_patch_embedding
from weevit.graph.layers import Array, Block, Input, IntLinear, Layer, Linear, Norm, Range, Scores
from weevit.zoo.architectures import Architecture
from weevit.zoo.quantized import PATCH_EMBEDDING, holds_quantized
from weevit.zoo.weights import Preprocessing


def patch_embedding(tensors: Tensors, spec: Preprocessing) -> tuple[Layer, Array]:
    """The patch embedding for raw uint8 pixels, (16 * 16 * C, D), and its bias (D), which the token table takes."""
    if holds_quantized(tensors):
        return _layer(tensors, PATCH_EMBEDDING, "pixels", with_bias=False), tensors[f"{PATCH_EMBEDDING}.bias"]
    weight, bias = fold_patch_embedding(tensors, spec)
    return Linear(weight, None), bias


def block_weights(tensors: Tensors, arch: Architecture, index: int) -> Block:
    """The weights of block `index` (from 0)."""
    if not holds_quantized(tensors):
        return fold_block(tensors, arch, index)
    prefix = f"blocks.{index}."
    own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    maps = range(2 if arch.attention == "diff" else 1)
    first = _input(own, "norm1")
    norm2 = fold_norm(own, "norm2") if "norm2.weight" in own else None
    return Block(
        norm1=Norm(own["norm1.weight"], own["norm1.bias"]),
        queries=tuple(_layer(own, f"query{i}", first) for i in maps),
        keys=tuple(_layer(own, f"key{i}", first) for i in maps),
        value=_layer(own, "value", first),
        diff_lambda=float(own["lambda"][0]) if "lambda" in own else None,
        proj=_layer(own, "proj", _input(own, "proj")),
        norm2=norm2,
        fc1=_layer(own, "fc1", first if norm2 is None else _input(own, "norm2")),
        fc2=_layer(own, "fc2", _input(own, "fc2", by_row="gelu")),
        scores=tuple(Scores(*map(float, row)) for row in own.get("scores", ())),
    )


def _input(own: Mapping[str, Array], name: str, by_row: Input = "rows") -> Input:
    """How the input of that name becomes uint8: by its range, or row by row where the file has none."""
    found = own.get(f"{name}.range")
    return by_row if found is None else Range(*map(float, found))


def _layer(own: Tensors, name: str, input: Input, with_bias: bool = True) -> Layer:
    bias = own.get(f"{name}.bias") if with_bias else None
    if f"{name}.scale" not in own:  # a layer that stays in float32
        return Linear(own[f"{name}.weight"], bias)
    weight: Any = own[f"{name}.weight"]  # int8
    outliers: Any = own.get(f"{name}.outliers")  # int32
    return IntLinear(weight, own[f"{name}.scale"], bias, input, outliers, own.get(f"{name}.outlier_weight"))
