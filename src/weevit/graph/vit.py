"""The forward pass of the whole family as an ONNX graph, from top to bottom.

Shapes:
    B  images in the batch (free)          N  tokens: prefix (class token, registers) + patches
    P  patches, G = rows x columns         D  embed_dim
    H  attention heads                     h  head_dim = D / H
    M  width of the MLP                    C  classes

There is one pass. Embedding, block outputs and attention maps are taps of it; a tap that is not asked for is not there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto

from weevit.errors import UsageError
from weevit.graph import int8
from weevit.graph.folds import Tensors, fold_head, fold_norm, fold_token_table
from weevit.graph.layers import Block, Linear, Norm, Scores
from weevit.graph.observing import ObservingBuilder
from weevit.graph.ops import GraphBuilder, Spelling
from weevit.graph.positions import rope_tables
from weevit.graph.weights import block_weights, patch_embedding
from weevit.zoo.architectures import PATCH, Architecture
from weevit.zoo.weights import Preprocessing


@dataclass(frozen=True)
class GraphOptions:
    """What to build.

    Attributes:
        height, width: of the input in pixels, multiples of 16.
        features: indices of the blocks whose output is wanted (from 0).
        attention: indices of the blocks whose attention map is wanted.
        spelling: `fused` for onnxruntime, `standard` for everything else.
        exact: whether integer products of two activations avoid kernels that overflow, as AVX2's do; onnxruntime knows
            others only for those with weights.
        observed: whether the graph also tells what goes through it, as in `observing.py`; it is `fused` then.
    """

    height: int
    width: int
    features: tuple[int, ...] = ()
    attention: tuple[int, ...] = ()
    spelling: Spelling = "fused"
    exact: bool = False
    observed: bool = False

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.height // PATCH, self.width // PATCH


def build_graph(
    arch: Architecture,
    tensors: Tensors,
    spec: Preprocessing,
    old_grid: tuple[int, int],
    options: GraphOptions,
) -> onnx.ModelProto:
    """Build the graph.

    Args:
        arch: the row.
        tensors: of the checkpoint, weevit's names, float32.
        spec: its mean and std are folded in.
        old_grid: grid that the checkpoint's learned positions cover.
        options: image size and taps.

    Returns:
        A model with the input `pixels` (B, height, width, channels) uint8 and the float32 outputs
        `logits` (B, C), unless the checkpoint has no head; `embedding` (B, D), which is what the head sees;
        `block_i` (B, N, D) for each wanted block; `attention_i` (B, H, N, N), rows summing to 1
        (to 1 - lambda for differential attention: the difference of the two maps).

    Raises:
        UsageError: a size that is no multiple of 16, or a block that the architecture does not have.
    """
    _check(arch, options)
    return _Forward(arch, options).build(tensors, spec, old_grid)


class _Forward:
    """One walk through the model; `self.g` collects what it meets."""

    def __init__(self, arch: Architecture, options: GraphOptions) -> None:
        self.arch = arch
        self.options = options
        rows, columns = options.grid
        count = arch.num_prefix + rows * columns
        self.g = ObservingBuilder(count) if options.observed else GraphBuilder(options.spelling, options.exact)
        self.rope = rope_tables(arch, options.grid) if arch.position == "rope" else None

    def build(self, tensors: Tensors, spec: Preprocessing, old_grid: tuple[int, int]) -> onnx.ModelProto:
        g, arch, options = self.g, self.arch, self.options
        rows, columns = options.grid
        patch, patch_bias = patch_embedding(tensors, spec)

        # ---- pixels to tokens
        channels = len(patch.weight) // PATCH**2
        x = g.input("pixels", TensorProto.UINT8, ["batch", options.height, options.width, channels])
        x = g.reshape(x, -1, rows, PATCH, columns, PATCH * channels, name="patches.split")
        x = g.transpose(x, 0, 1, 3, 2, 4, name="patches.order")  # uint8: a quarter of the bytes to move
        x = g.reshape(x, -1, rows * columns, PATCH * PATCH * channels, name="patches")  # [B, P, 768]
        if isinstance(patch, Linear):
            x = g.node("Cast", x, name="patches.float", to=TensorProto.FLOAT)
        x = g.linear(x, patch, "patch_embed")  # [B, P, D]
        if arch.num_prefix:
            x = g.node("Pad", x, g.ints(0, arch.num_prefix, 0, 0, 0, 0), name="prefix")  # [B, N, D], zeros in front
        table = fold_token_table(tensors, arch, patch_bias, old_grid, options.grid)
        x = g.add(x, g.constant("tokens.table", table), "tokens")

        # ---- blocks
        for index in range(arch.depth):
            x = self.block(x, block_weights(tensors, arch, index), index)
            if index in options.features:
                g.output(x, f"block_{index}", ["batch", "tokens", arch.embed_dim])

        # ---- tokens to answer
        x = self.pool(x, fold_norm(tensors, "norm" if arch.norm == "before_pool" else "fc_norm"))  # [B, D]
        g.output(x, "embedding", ["batch", arch.embed_dim])
        head = fold_head(tensors)
        if head is not None:
            g.output(g.linear(x, head, "head"), "logits", ["batch", head.weight.shape[1]])
        return g.finish(arch.name)

    def block(self, x: str, block: Block, index: int) -> str:
        """One transformer block.

        serial:    x ──┬── norm1 ── attention ── + ──┬── norm2 ── MLP ── + ──
                       └──────────────────────── ┘   └────────────────── ┘

        parallel:  x ──┬── norm1 ──┬── attention ── + ── + ──
                       │           └── MLP ──────── ┘    │
                       └──────────────────────────────── ┘

        In the last block (see `pools_early`) what pooling would drop afterwards is not computed at all.
        """
        g, name, early = self.g, f"blocks.{index}", self.pools_early(index)
        y = g.layer_norm(x, block.norm1, f"{name}.norm1")
        asking = self.first(y) if early and self.arch.pool == "token" else y
        x = self.first(x) if early and self.arch.pool == "token" else x
        average = early and self.arch.pool == "avg"
        if block.norm2 is None:
            branches = self.attention(asking, y, block, index, average), self.mlp(y, block, name, average)
            return g.add(self.mean(x, average), g.add(*branches, f"{name}.branches"), name)
        x = g.add(x, self.attention(asking, y, block, index), f"{name}.middle")
        y = g.layer_norm(x, block.norm2, f"{name}.norm2")
        return g.add(self.mean(x, average), self.mlp(y, block, name, average), name)

    def pools_early(self, index: int) -> bool:
        """Whether pooling may move in front of the last linear layers of this block.

        Taking the first token commutes with everything that treats tokens alone; the mean over tokens commutes with
        what is linear. For the last block that is all that stands between it and the pool, unless a tap wants all
        tokens, a norm comes before the pool, or a rotary table wants all positions.
        """
        arch, options = self.arch, self.options
        tapped = options.observed or index in options.features or index in options.attention
        movable = (arch.pool == "token" and arch.position == "learned") or arch.norm == "after_pool"
        return index == arch.depth - 1 and not tapped and movable

    def first(self, x: str) -> str:
        """[B, N, D] -> [B, 1, D]: the class token."""
        return self.g.slice(x, 0, 1, axis=1, name=f"{x}.first")

    def mean(self, x: str, wanted: bool = True) -> str:
        """[B, N, D] -> [B, 1, D]: the mean over patches; prefix tokens are never pooled.

        A product with a row of 1 / P: onnxruntime's ReduceMean adds the tokens of a single image in another order than
        those of several, and an answer must not depend on whether an image is alone.
        """
        if not wanted:
            return x
        rows, columns = self.options.grid
        start, count = self.arch.num_prefix, rows * columns
        patches = self.g.slice(x, start, start + count, axis=1, name=f"{x}.patches")
        share = self.g.constant("pool.share", np.full((1, count), 1 / count, dtype=np.float32))
        return self.g.matmul(share, patches, f"{x}.mean")

    def mlp(self, x: str, block: Block, name: str, average: bool = False) -> str:
        x = self.g.gelu(self.g.linear(x, block.fc1, f"{name}.fc1"), f"{name}.gelu")  # [B, N, M]
        return self.g.linear(self.mean(x, average), block.fc2, f"{name}.fc2")  # [B, N, D]

    def attention(self, asking: str, x: str, block: Block, index: int, average: bool = False) -> str:
        """Softmax attention of `asking` over `x`, or the difference of two; with or without rotary positions.

        Differential attention (arXiv:2410.05258) has two maps over the same values, each from its own halves of
        queries and keys; what comes out is first - lambda * second, normalised within each head.
        """
        g, arch, own = self.g, self.arch, f"blocks.{index}.attention"
        tap = index in self.options.attention
        if g.fused and not tap and not block.scores:
            y = self.attend_fused(asking, x, block, own)  # [B, N, D]
        else:
            attention = self.attention_map(asking, x, block, own)  # [B, H, N, N]
            if tap:
                g.output(attention, f"attention_{index}", ["batch", arch.num_heads, "tokens", "tokens"])
            value = self.heads(g.linear(x, block.value, f"{own}.value"), arch.head_dim)  # [B, H, N, h]
            y = g.transpose(g.matmul(attention, value, f"{own}.out.heads"), 0, 2, 1, 3, name=f"{own}.out.order")
            y = g.reshape(y, 0, 0, arch.embed_dim, name=f"{own}.out")  # [B, N, D]
        if block.diff_lambda is not None:
            y = g.rms_norm(g.reshape(y, 0, 0, arch.num_heads, arch.head_dim, name=f"{own}.apart"), f"{own}.norm")
            y = g.reshape(y, 0, 0, arch.embed_dim, name=f"{own}.normed")
        return g.linear(self.mean(y, average), block.proj, f"{own}.proj")

    def attend_fused(self, asking: str, x: str, block: Block, own: str) -> str:
        """Attention in onnxruntime's own nodes: no map is ever written to memory."""
        g, heads, outs = self.g, self.arch.num_heads, []
        value = g.linear(x, block.value, f"{own}.value")  # [B, N, D]
        for i, pair in enumerate(self.queries_and_keys(asking, x, block, own)):  # [B, N, D or D/2]
            query, key = map(self.fused_rotary, pair)
            outs.append(g.fused_attention(query, key, value, heads, f"{own}.out{i}"))
        return self.difference(outs, block.diff_lambda, f"{own}.out")

    def attention_map(self, asking: str, x: str, block: Block, own: str) -> str:
        """The map as a value of its own, (B, H, N, N)."""
        width, maps = self.arch.head_dim // len(block.queries), []
        for i, pair in enumerate(self.queries_and_keys(asking, x, block, own)):
            if block.scores and self.g.fused:  # `standard` is for OpenVINO, which is faster with floats here
                maps.append(self.integer_map(pair, block.scores[i], width, f"{own}.map{i}"))
                continue
            query, key = (self.rotary(self.heads(y, width)) for y in pair)  # [B, H, N, h or h/2]
            maps.append(self.g.attention_map(query, key, width, f"{own}.map{i}"))
        return self.difference(maps, block.diff_lambda, f"{own}.map")

    def integer_map(self, pair: tuple[str, str], scores: Scores, width: int, name: str) -> str:
        """One map whose scores are computed in integers; query and key are turned before they are rounded."""
        g = self.g
        query, key = map(self.fused_rotary, pair)
        own = int8.quantize_pair(g, query, key, scores)
        own = own._replace(query=self.heads(own.query, width), key=self.heads(own.key, width))
        return int8.attention_map(g, own, scores, width, name)

    def queries_and_keys(self, asking: str, x: str, block: Block, own: str) -> Iterator[tuple[str, str]]:
        """One pair for each attention map."""
        for i, (query, key) in enumerate(zip(block.queries, block.keys, strict=True)):
            yield self.g.linear(asking, query, f"{own}.query{i}"), self.g.linear(x, key, f"{own}.key{i}")

    def difference(self, values: list[str], weight: float | None, name: str) -> str:
        """The only value, or first - weight * second."""
        if weight is None:
            return values[0]
        return self.g.node("Sub", values[0], self.g.mul(values[1], self.g.number(weight), f"{name}.second"), name=name)

    def heads(self, x: str, width: int) -> str:
        """[B, N, H * width] -> [B, H, N, width]."""
        split = self.g.reshape(x, 0, 0, self.arch.num_heads, width, name=f"{x}.split")
        return self.g.transpose(split, 0, 2, 1, 3, name=f"{x}.heads")

    def rotary(self, x: str) -> str:
        """Turn neighbouring pairs of channels: `x * cos + swap(x) * sin`, where swap gives (-b, a) for (a, b).

        The swap is a product with a constant matrix of zeros and ones: one node, and every runtime has it.
        """
        if self.rope is None:
            return x
        g, even = self.g, np.arange(0, self.arch.head_dim, 2)
        swap = np.zeros((self.arch.head_dim, self.arch.head_dim), dtype=np.float32)
        swap[even + 1, even], swap[even, even + 1] = -1, 1
        swapped = g.matmul(x, g.constant("rope.swap", swap), f"{x}.swapped")
        cosine, sine = (g.constant(f"rope.{i}.pairs", table.repeat(2, axis=1)) for i, table in enumerate(self.rope))
        return g.add(g.mul(x, cosine, f"{x}.cos"), g.mul(swapped, sine, f"{x}.sin"), f"{x}.turned")

    def fused_rotary(self, x: str) -> str:
        """The same in onnxruntime's one node, for (B, N, D); without rotary positions nothing."""
        if self.rope is None:
            return x
        cosine, sine = (self.g.constant(f"rope.{i}", table) for i, table in enumerate(self.rope))
        return self.g.fused_rotary(x, cosine, sine, self.arch.num_heads, f"{x}.turned")

    def pool(self, x: str, norm: Norm) -> str:
        """[B, N, D], or [B, 1, D] where the last block has pooled already -> [B, D]."""
        g, arch = self.g, self.arch
        if arch.norm == "before_pool" and arch.pool == "avg":
            x = g.layer_norm(x, norm, "norm")
        if not self.pools_early(arch.depth - 1):
            x = self.first(x) if arch.pool == "token" else self.mean(x)
        x = g.reshape(x, -1, arch.embed_dim, name="pool")
        # The norm of a single token comes after taking it out: the same numbers.
        return x if arch.norm == "before_pool" and arch.pool == "avg" else g.layer_norm(x, norm, "norm")


def _check(arch: Architecture, options: GraphOptions) -> None:
    for side in (options.height, options.width):
        if side < PATCH or side % PATCH:
            raise UsageError(
                f"An image size is a multiple of {PATCH} pixels: {options.height} x {options.width} is not.",
                f"The nearest that fits: {_fit(options.height)} x {_fit(options.width)}.",
            )
    wrong = sorted({i for i in options.features + options.attention if not 0 <= i < arch.depth})
    if wrong:
        raise UsageError(
            f"{arch.name} has blocks 0 to {arch.depth - 1}; there is no block {', '.join(map(str, wrong))}.",
            f"The last one is {arch.depth - 1}.",
        )


def _fit(side: int) -> int:
    return max(PATCH, round(side / PATCH) * PATCH)
