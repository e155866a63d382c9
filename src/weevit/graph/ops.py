"""A small builder for ONNX graphs, and the few operations that a ViT is made of.

Each operation exists in two spellings: `fused`, with onnxruntime's own operators where they are faster, and `standard`,
with operators of the ONNX standard only, for OpenVINO, `onnx.checker` and everybody else.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from weevit.graph import int8
from weevit.graph.layers import IntLinear, Layer, Norm
from weevit.zoo.architectures import NORM_EPS, SUB_NORM_EPS

Spelling = Literal["fused", "standard"]

OPSET = 17
"""The first with LayerNormalization; everything that reads ONNX today reads it."""
_IR_VERSION = 8


class GraphBuilder:
    """Collects nodes and constants; every method that adds a node returns the name of its output."""

    def __init__(self, spelling: Spelling, exact: bool = False) -> None:
        self.fused = spelling == "fused"
        self.exact = exact
        self._nodes: dict[str, onnx.NodeProto] = {}
        self._constants: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    # ---- graph

    def input(self, name: str, dtype: int, shape: list[str | int]) -> str:
        """Declare a graph input; a word in the shape is a free dimension."""
        self._inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def output(self, value: str, name: str, shape: list[str | int]) -> None:
        """Make a float32 value an output of the graph, under that name."""
        self.node("Identity", value, name=name)
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    def finish(self, name: str) -> onnx.ModelProto:
        """The model."""
        nodes, constants = list(self._nodes.values()), list(self._constants.values())
        graph = helper.make_graph(nodes, name, self._inputs, self._outputs, constants)
        opsets = [helper.make_opsetid("", OPSET)]
        if self.fused:
            opsets.append(helper.make_opsetid(int8.MICROSOFT, 1))
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="weevit")

    def constant(self, name: str, array: npt.NDArray[Any] | np.generic) -> str:
        """A weight or a shape; the same name twice is the same constant."""
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(np.asarray(array, order="C"), name)
        return name

    def node(self, op: str, *inputs: str, name: str, domain: str = "", **attributes: Any) -> str:
        """Add one node with one output, which has the node's name; the same name twice is the same node."""
        made = helper.make_node(op, list(inputs), [name], name=name, domain=domain, **attributes)
        assert self._nodes.setdefault(name, made) == made, f"two nodes {name}"
        return name

    def ints(self, *values: int) -> str:
        """A constant int64 vector, for shapes and axes."""
        return self.constant("ints_" + "_".join(map(str, values)), np.array(values, dtype=np.int64))

    def number(self, value: float) -> str:
        """A constant float32 scalar."""
        return self.constant(f"number_{value!r}", np.array(value, dtype=np.float32))

    # ---- shapes

    def reshape(self, x: str, *shape: int, name: str) -> str:
        """0 keeps a dimension, -1 is what is left."""
        return self.node("Reshape", x, self.ints(*shape), name=name)

    def transpose(self, x: str, *order: int, name: str) -> str:
        """Permute dimensions."""
        return self.node("Transpose", x, name=name, perm=order)

    def slice(self, x: str, start: int, stop: int, axis: int, name: str) -> str:
        """`x[..., start:stop, ...]` along one axis."""
        return self.node("Slice", x, self.ints(start), self.ints(stop), self.ints(axis), name=name)

    # ---- arithmetic

    def add(self, x: str, y: str, name: str) -> str:
        """`x + y`."""
        return self.node("Add", x, y, name=name)

    def mul(self, x: str, y: str, name: str) -> str:
        """`x * y`."""
        return self.node("Mul", x, y, name=name)

    def matmul(self, x: str, y: str, name: str) -> str:
        """`x @ y`."""
        return self.node("MatMul", x, y, name=name)

    def linear(self, x: str, layer: Layer, name: str) -> str:
        """`x @ weight + bias`."""
        if isinstance(layer, IntLinear):
            return int8.linear(self, x, layer, name)
        product = f"{name}.product" if layer.bias is not None else name
        y = self.matmul(x, self.constant(f"{name}.weight", layer.weight), product)
        return y if layer.bias is None else self.add(y, self.constant(f"{name}.bias", layer.bias), name)

    # ---- layers

    def layer_norm(self, x: str, norm: Norm, name: str) -> str:
        """LayerNorm over the last axis."""
        gain, shift = self.constant(f"{name}.weight", norm.weight), self.constant(f"{name}.bias", norm.bias)
        return self.node("LayerNormalization", x, gain, shift, name=name, axis=-1, epsilon=NORM_EPS)

    def rms_norm(self, x: str, name: str) -> str:
        """`x / sqrt(mean(x * x) + eps)` over the last axis; its gain is folded into the next layer."""
        square = self.node("ReduceMean", self.mul(x, x, f"{name}.square"), name=f"{name}.mean", axes=[-1])
        root = self.node("Sqrt", self.add(square, self.number(SUB_NORM_EPS), f"{name}.eps"), name=f"{name}.root")
        return self.node("Div", x, root, name=name)

    def gelu(self, x: str, name: str) -> str:
        """Exact GELU (arXiv:1606.08415), by the error function."""
        if self.fused:
            return self.node("Gelu", x, name=name, domain=int8.MICROSOFT)
        erf = self.node("Erf", self.mul(x, self.number(math.sqrt(0.5)), f"{name}.scaled"), name=f"{name}.erf")
        gate = self.mul(self.add(erf, self.number(1.0), f"{name}.shifted"), self.number(0.5), f"{name}.gate")
        return self.mul(x, gate, name)

    def attention_map(self, query: str, key: str, head_dim: int, name: str) -> str:
        """`softmax(query @ key^T / sqrt(head_dim))`; query and key (B, heads, N, head_dim)."""
        scores = self.matmul(query, self.transpose(key, 0, 1, 3, 2, name=f"{name}.key"), f"{name}.scores")
        return self.node("Softmax", self.mul(scores, self.number(head_dim**-0.5), f"{name}.scaled"), name=name, axis=-1)

    def fused_attention(self, query: str, key: str, value: str, num_heads: int, name: str) -> str:
        """All of softmax attention in onnxruntime's one node; everything (B, N, width), heads side by side."""
        return self.node("MultiHeadAttention", query, key, value, name=name, domain=int8.MICROSOFT, num_heads=num_heads)

    def fused_rotary(self, x: str, cosine: str, sine: str, num_heads: int, name: str) -> str:
        """Rotary positions in onnxruntime's one node; x (B, N, D), tables (N, head_dim / 2), pairs are neighbours."""
        start = self.constant("rope.start", np.zeros(1, dtype=np.int64))
        return self.node(
            "RotaryEmbedding", x, start, cosine, sine,
            name=name, domain=int8.MICROSOFT, interleaved=1, num_heads=num_heads,
        )  # fmt: skip
