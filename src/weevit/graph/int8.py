"""Integer products in a graph: the other spelling of `linear` and of attention's scores.

Activations are uint8 and weights int8: for that pair every runtime has its fast kernel. (int8 x int8 takes four times
as long as float32 in onnxruntime 1.32, for the same integers.) `fused` emits onnxruntime's MatMulIntegerToFloat, with
dequantisation and bias inside; `standard` emits QuantizeLinear and DequantizeLinear around MatMul, in which OpenVINO
finds the integer product. The scales are the same.

No number here depends on another row: ranges are constants, or each row's own. So an answer depends neither on its
neighbours in a batch nor on the number of threads.

Scores are integers in `fused` alone: OpenVINO computes attention of floats as one kernel, 7 to 15 % faster than around
an integer product (`docs/lab-notes.md`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from onnx import TensorProto

from weevit.graph.layers import Input, IntLinear, Range, Scores

if TYPE_CHECKING:
    from weevit.graph.ops import GraphBuilder

MICROSOFT = "com.microsoft"

MIDDLE = np.uint8(128)
"""Stands for 0.0 in numbers of either sign."""

GELU_ZERO, GELU_STEPS, GELU_FLOOR = np.uint8(20), 235, 2.0
"""What stands for 0.0 in GELU's output, the steps above it, and the least that those may span: GELU goes down to -0.17,
which has to be at most 20 steps (0.17 * 235 / 20 = 2.0)."""

TINY = 1e-12
"""The least size of a row: one of zeros is divided by it, not by zero."""


class _Quantized(NamedTuple):
    """An input as uint8: the value, constants for scale and zero, and what each row's product is multiplied by."""

    value: str
    scale: str
    zero: str
    row: str | None = None


def linear(g: GraphBuilder, x: str, layer: IntLinear, name: str) -> str:
    """`x @ (weight * scale) + bias`."""
    weight, scale = g.constant(f"{name}.weight", layer.weight), g.constant(f"{name}.scale", layer.scale)
    bias = "" if layer.bias is None else g.constant(f"{name}.bias", layer.bias)
    own = _quantized(g, x, layer.input)
    inside = g.fused and not own.row
    y = _product(g, own, (weight, scale), bias if inside else "", f"{name}.product")
    if own.row:
        y = g.mul(y, own.row, f"{name}.scaled")
    if bias and not inside:
        y = g.add(y, bias, f"{name}.biased")
    return y if layer.outliers is None else g.add(y, _outliers(g, x, layer, name), name)


def _product(g: GraphBuilder, own: _Quantized, weight: tuple[str, str], bias: str, name: str) -> str:
    if g.fused:
        inputs = (own.value, weight[0], own.scale, weight[1], own.zero, "", bias)
        return g.node("MatMulIntegerToFloat", *inputs, name=name, domain=MICROSOFT)
    floats = g.node("DequantizeLinear", own.value, own.scale, own.zero, name=f"{own.value}.float")
    return g.matmul(floats, g.node("DequantizeLinear", *weight, name=f"{name}.weight", axis=1), name)


def _outliers(g: GraphBuilder, x: str, layer: IntLinear, name: str) -> str:
    """The product of the few inputs that no range holds, in float32."""
    assert layer.outliers is not None
    assert layer.outlier_weight is not None
    indices = g.constant(f"{name}.outliers", layer.outliers.astype(np.int64))
    own = g.node("Gather", x, indices, name=f"{name}.outlying", axis=-1)
    return g.matmul(own, g.constant(f"{name}.outlier_weight", layer.outlier_weight), f"{name}.outlier_product")


def _quantized(g: GraphBuilder, x: str, how: Input) -> _Quantized:
    """A layer's input; layers that share it share the node."""
    if isinstance(how, Range):
        return _by(g, x, how.scale, how.zero)
    one = g.number(1.0)
    if how == "pixels":
        return _Quantized(x, one, g.constant("zero_0", np.uint8(0)))
    largest, zero, steps = (x, GELU_ZERO, GELU_STEPS) if how == "gelu" else (_size(g, x), MIDDLE, 127)
    largest = g.node("ReduceMax", largest, name=f"{x}.largest", axes=[-1], keepdims=1)
    largest = g.node("Max", largest, g.number(GELU_FLOOR if how == "gelu" else TINY), name=f"{x}.floored")
    row = g.mul(largest, g.number(1 / steps), f"{x}.step")
    own = _by(g, g.node("Div", x, row, name=f"{x}.steps"), np.float32(1), zero)
    return own._replace(row=row)


def _size(g: GraphBuilder, x: str) -> str:
    return g.node("Abs", x, name=f"{x}.size")


def _by(g: GraphBuilder, x: str, scale: np.float32, zero: np.uint8 | np.int8) -> _Quantized:
    own = g.constant(f"{x}.scale", scale), g.constant(f"{x}.zero", zero)
    return _Quantized(g.node("QuantizeLinear", x, *own, name=f"{x}.whole"), *own)


class IntegerScores(NamedTuple):
    """Query and key as integers, before their heads are put apart: bytes are cheaper to move."""

    query: str
    key: str
    scales: tuple[str, str]
    zeros: tuple[str, str]


def quantize_pair(g: GraphBuilder, query: str, key: str, scores: Scores) -> IntegerScores:
    """A query as uint8, with 128 for 0.0, and a key as int8."""
    asked = _by(g, query, np.float32(scores.query / 127), MIDDLE)
    known = _by(g, key, np.float32(scores.key / 127), np.int8(0))
    return IntegerScores(asked.value, known.value, (asked.scale, known.scale), (asked.zero, known.zero))


def attention_map(g: GraphBuilder, own: IntegerScores, scores: Scores, head_dim: int, name: str) -> str:
    """`softmax(query @ key^T / sqrt(head_dim))`; where it has to be `exact`, the product of integers is one of float32,
    which holds each of them and their sums (up to 2^24).

    Args:
        g: the graph.
        own: query and key, (B, heads, N, head_dim).
        scores: their ranges.
        head_dim: width of the query.
        name: of the map.
    """
    key = g.transpose(own.key, 0, 1, 3, 2, name=f"{name}.key")
    if g.exact:
        query = g.node("Cast", own.query, name=f"{name}.query.float", to=TensorProto.FLOAT)
        query = g.node("Sub", query, g.number(float(MIDDLE)), name=f"{name}.query.signed")
        key = g.node("Cast", key, name=f"{name}.key.float", to=TensorProto.FLOAT)
        scale = scores.query / 127 * scores.key / 127 * head_dim**-0.5
        y = g.mul(g.matmul(query, key, f"{name}.scores"), g.number(scale), f"{name}.scaled")
    else:  # the root goes into the query's scale
        scale = g.constant(f"{name}.scale", np.float32(scores.query / 127 * head_dim**-0.5))
        inputs = (own.query, key, scale, own.scales[1], *own.zeros)
        y = g.node("MatMulIntegerToFloat", *inputs, name=f"{name}.scores", domain=MICROSOFT)
    return g.node("Softmax", y, name=name, axis=-1)
