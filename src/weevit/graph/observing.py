"""A graph that also tells what goes through it: what calibration chooses ranges by.

For each layer that may be quantised, under its name: `NAME.low` and `NAME.high` (1 per batch, inputs), the smallest and
the largest number of each input; for attention NAME.query and NAME.key the same. `NAME.tokens` (B, tokens, M) has a few
tokens of each image behind GELU, whose range is chosen by their errors.
"""

from __future__ import annotations

import numpy as np

from weevit.graph.layers import Layer
from weevit.graph.ops import GraphBuilder

OBSERVED = (".value", ".proj", ".fc1", ".fc2")
"""Layers by whose input a range is chosen; queries and keys share that of the value."""

TOKENS = 12
"""Of each image, evenly spaced."""


class ObservingBuilder(GraphBuilder):
    """Adds outputs for what each layer sees.

    Args:
        count: tokens of an image.
    """

    def __init__(self, count: int) -> None:
        super().__init__("fused")
        self._chosen = np.linspace(0, count - 1, min(count, TOKENS)).astype(np.int64)

    def linear(self, x: str, layer: Layer, name: str) -> str:
        """As in any graph, and the range of the layer's input."""
        if name.endswith(OBSERVED):
            self._observe(x, name)
        if name.endswith(".fc2"):
            own = self.node("Gather", x, self.constant("chosen", self._chosen), name=f"{name}.chosen", axis=1)
            self.output(own, f"{name}.tokens", ["batch", len(self._chosen), "inputs"])
        return super().linear(x, layer, name)

    def fused_attention(self, query: str, key: str, value: str, num_heads: int, name: str) -> str:
        """As in any graph, and the ranges of query and key."""
        self._observe(query, f"{name}.query")
        self._observe(key, f"{name}.key")
        return super().fused_attention(query, key, value, num_heads, name)

    def _observe(self, x: str, name: str) -> None:
        for op, which in (("ReduceMin", "low"), ("ReduceMax", "high")):
            reduced = self.node(op, x, name=f"{name}.{which}.all", axes=[0, 1], keepdims=1)
            self.output(self.reshape(reduced, 1, -1, name=f"{name}.{which}.row"), f"{name}.{which}", [1, "inputs"])
