"""The parts of a block: layer scale, drop path, patch dropout, the MLP, attention and its positions.

Every module with a parameter is called, and its weight is read nowhere else: wrappers and replacements of a child
(LoRA, hooks, quantisation, pruning) take effect as in timm.

Shapes:
    B  images          N  tokens          D  embed_dim          H  attention heads          h  head_dim = D / H
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.fx
import torch.nn.functional as F  # noqa: N812 - the common name
from torch import Tensor, nn

from weevit.zoo.architectures import SUB_NORM_EPS, Architecture

Rope = tuple[Tensor, Tensor]
"""Cosine and sine, (N, h) each, or (B, 1, N, h) where each image keeps other patches."""


class Context(NamedTuple):
    """The input of attention beside the tokens.

    Attributes:
        rope: rotary tables, where the architecture has them.
        mask: broadcast to (B, H, N, N): boolean (False is not attended to), or added to the scores; None for all.
        is_causal: each token attends to itself and those before it.
        first_only: only the first token is asked for, as after the last block of a model with a class token.
    """

    rope: Rope | None = None
    mask: Tensor | None = None
    is_causal: bool = False
    first_only: bool = False


class _Part:
    """The images of a forward pass among those of a batch; without `rows` they are the batch."""

    rows: Tensor | None = None
    total: int = 0


_PART = _Part()


@contextmanager
def part_of_batch(rows: Tensor | None, total: int) -> Iterator[None]:
    """Forward and backward passes of a part of a batch, with the random numbers of the whole: none depends on the cut.

    Not for threads: PyTorch's own run the backward pass, so that this holds for the process.

    Args:
        rows: (b,) int64 on the model's device: the images of the part; None for the whole batch.
        total: images in the batch.
    """
    before, (_PART.rows, _PART.total) = (_PART.rows, _PART.total), (rows, total)
    try:
        yield
    finally:
        _PART.rows, _PART.total = before


def drawn(shape: tuple[int, ...], draw: Callable[[tuple[int, ...]], Tensor]) -> Tensor:
    """Random numbers for images, a row each: those of the whole batch, of which a part takes its own."""
    return draw(shape) if _PART.rows is None else draw((_PART.total, *shape[1:]))[_PART.rows]


def is_traced(x: object) -> bool:
    """Whether torch.compile, torch.export or torch.fx traces the module, so that `x` is no real tensor."""
    return torch.compiler.is_compiling() or isinstance(x, torch.fx.Proxy)


def has_numbers(x: Tensor) -> bool:
    """Whether the course of the program may depend on the numbers in `x`: nothing traces, and no torch.func or
    FakeTensorMode has put a stand-in for them.
    """
    return type(x) is Tensor and not is_traced(x) and not torch._C._functorch.is_functorch_wrapped_tensor(x)


class LayerScale(nn.Module):
    """A learned factor for each channel of a residual branch (arXiv:2103.17239)."""

    def __init__(self, width: int, start: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), start))

    def forward(self, x: Tensor) -> Tensor:
        """`x * gamma`."""
        return x * self.gamma


Branch = Callable[[Tensor, Context], Tensor]
"""A residual branch, (B, N, D) -> (B, N, D)."""


class DropPath(nn.Module):
    """Drops a residual branch for some images, and scales it up for the others (arXiv:1603.09382).

    A branch multiplied by zero is not computed, forward or backward, where that saves time. On a GPU it does not: the
    processor would have to wait for the draw, and a compiled or traced model needs one shape for all batches.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    @property
    def drop_prob(self) -> float:
        """timm's name of `rate`."""
        return self.rate

    def forward(self, x: Tensor, branch: Branch | None = None, context: Context | None = None) -> Tensor:
        """`x + branch(x)`; in training, each image's branch with probability `1 - rate`. The draws are timm's.

        Without a branch, as timm's module: `x`, the output of a branch, scaled up for some images and 0 for others.
        """
        context = context or Context()
        stream = x[:, :1] if context.first_only else x  # [B, N, D], or of the first token only
        if not self.training or self.rate == 0.0:
            return x if branch is None else stream + branch(x, context)
        keep = 1 - self.rate
        mask = drawn((x.shape[0], *[1] * (x.ndim - 1)), lambda shape: x.new_empty(shape).bernoulli_(keep))
        if branch is None:
            return x * (mask / keep)
        if not has_numbers(x) or x.device.type != "cpu" or not mask.any():
            return stream + branch(x, context) * (mask / keep)  # with gradients of zero, weights still decay
        rows = mask.flatten().nonzero().flatten()  # of the images that keep the branch
        kept = branch(x.index_select(0, rows), _take(context, rows, len(x)))
        return stream.index_add(0, rows, kept.to(x.dtype), alpha=1 / keep)


def _take(context: Context, rows: Tensor, batch: int) -> Context:
    """The context of some images of a batch, with their own tables and masks where these are per image."""
    rope, mask = context.rope, context.mask
    if rope is not None and rope[0].ndim > 2:
        rope = rope[0][rows], rope[1][rows]
    if mask is not None and mask.ndim == 4 and len(mask) == batch > 1:
        mask = mask[rows]
    return context._replace(rope=rope, mask=mask)


class Dropout(nn.Dropout):
    """Dropout whose draws for a part of a batch are those of the whole."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) -> (B, ...)."""
        if not self.training or self.p == 0 or _PART.rows is None:
            return super().forward(x)
        keep = 1 - self.p
        return x * (drawn(tuple(x.shape), lambda shape: x.new_empty(shape).bernoulli_(keep)) / keep)


class PatchDropout(nn.Module):
    """Trains on a random part of each image's patches (arXiv:2212.00794); prefix tokens always stay.

    Args:
        prob: share of the patches to drop.
        num_prefix_tokens: tokens in front of the patches.
        return_indices: give (tokens, indices), as timm's.
    """

    def __init__(self, prob: float, num_prefix_tokens: int, return_indices: bool = False) -> None:
        super().__init__()
        self.prob = prob
        self.num_prefix_tokens = num_prefix_tokens
        self.return_indices = return_indices

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor | None]:
        """The kept tokens; with `return_indices` also the (B, kept) indices of the kept patches, or None for all."""
        kept = None
        if self.training and self.prob > 0.0:
            prefix, patches = x[:, : self.num_prefix_tokens], x[:, self.num_prefix_tokens :]
            count = max(1, int(patches.shape[1] * (1 - self.prob)))
            order = drawn((len(x), patches.shape[1]), lambda shape: torch.randn(shape, device=x.device))
            kept = order.argsort(dim=-1)[:, :count]
            patches = patches.gather(1, kept[..., None].expand(-1, -1, x.shape[-1]))
            x = torch.cat([prefix, patches], dim=1)
        return (x, kept) if self.return_indices else x


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between them. `norm` is an identity, to be replaced."""

    def __init__(self, arch: Architecture, drop: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(arch.embed_dim, arch.mlp_dim)
        self.act = nn.GELU()
        self.drop1 = nn.Dropout(drop)
        self.norm = nn.Identity()
        self.fc2 = nn.Linear(arch.mlp_dim, arch.embed_dim)
        self.drop2 = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, D] -> [B, N, D]."""
        x = self.norm(self.drop1(self.act(self.fc1(x))))  # [B, N, M]
        return self.drop2(self.fc2(x))


def turn(x: Tensor, rope: Rope, num_prefix: int) -> Tensor:
    """Rotary positions: neighbouring pairs of the patches' channels are rotated; prefix tokens are unchanged."""
    cosine, sine = rope
    prefix, patches = x[:, :, :num_prefix], x[:, :, num_prefix:]
    swapped = torch.stack([-patches[..., 1::2], patches[..., ::2]], dim=-1).flatten(-2)
    return torch.cat([prefix, (patches * cosine + swapped * sine).to(x.dtype)], dim=2)


class SubNorm(nn.RMSNorm):
    """RMS norm of each head's output, always in float32, since autocast leaves the weight in float32."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, H, N, h] -> [B, H, N, h]."""
        return F.rms_norm(x.float(), self.normalized_shape, self.weight.float(), self.eps).type_as(x)


class MultiHead(nn.Module):
    """Attention between the input and the output projection: softmax, or differential (arXiv:2410.05258).

    A mixin, so that the tensors have timm's names: in the attention of a serial block, or in a parallel block itself.
    The attributes are timm's, too.

    Attributes:
        num_heads: H.
        head_dim: width of a head's queries and keys; also of its values, except in differential attention, which has
            two queries and keys of this width for each value.
        scale: factor of the scores.
        fused_attn: one fused kernel; if False, the maps are computed and go through `attn_drop`, where a hook sees
            them.
        q_norm, k_norm: identities, to be replaced.
    """

    lambda_q1: nn.Parameter
    lambda_k1: nn.Parameter
    lambda_q2: nn.Parameter
    lambda_k2: nn.Parameter

    def add_heads(self, arch: Architecture, index: int, drop: float) -> None:
        """Make the parts of block `index` (from 0)."""
        self.is_differential = arch.attention == "diff"
        self.num_heads = arch.num_heads
        self.head_dim = arch.head_dim // (2 if self.is_differential else 1)
        self.scale = self.head_dim**-0.5
        self.num_prefix_tokens = arch.num_prefix
        self.fused_attn = True
        self.q_norm, self.k_norm = nn.Identity(), nn.Identity()
        self.attn_drop = nn.Dropout(drop)
        if not self.is_differential:
            return
        self.lambda_init = 0.8 - 0.6 * math.exp(-0.3 * index)
        for name in ("q1", "k1", "q2", "k2"):
            # always float32: their product is an exponent
            vector = torch.empty(self.head_dim, dtype=torch.float32)
            setattr(self, f"lambda_{name}", nn.Parameter(nn.init.normal_(vector, std=0.1)))
        self.sub_norm = SubNorm(arch.head_dim, eps=SUB_NORM_EPS)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, context: Context) -> Tensor:
        """Queries, keys and values [B, N, D] -> [B, N, D], or [B, 1, D] if only the first token is asked for."""
        q, k = (x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2) for x in (q, k))  # [B, H (or 2 H), N, h]
        v = v.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # [B, H, N, h (or 2 h)]
        q, k = self.q_norm(q), self.k_norm(k)
        if context.rope is not None:
            q, k = turn(q, context.rope, self.num_prefix_tokens), turn(k, context.rope, self.num_prefix_tokens)
        if context.first_only:
            q = q[:, :, :1]
        y = self._difference(q, k, v, context) if self.is_differential else self._softmax(q, k, v, context)
        return y.transpose(1, 2).flatten(2)

    def _softmax(self, q: Tensor, k: Tensor, v: Tensor, context: Context) -> Tensor:
        if self.fused_attn:
            drop = self.attn_drop.p if self.training else 0.0
            return F.scaled_dot_product_attention(q, k, v, context.mask, drop, context.is_causal)
        return self._maps(q, k, context) @ v

    def _maps(self, q: Tensor, k: Tensor, context: Context) -> Tensor:
        """Attention maps, [B, H, N, N]."""
        scores = (q * self.scale) @ k.transpose(-2, -1)
        mask = context.mask
        if context.is_causal:
            mask = torch.ones_like(scores[0, 0], dtype=torch.bool).tril()
        if mask is not None:
            scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
        return self.attn_drop(scores.softmax(dim=-1))

    def _difference(self, q: Tensor, k: Tensor, v: Tensor, context: Context) -> Tensor:
        """First map minus lambda times second, over the same values; [B, H, N, 2 h]."""
        # the exponent is taken in float32, as timm does, also where the vectors were made bfloat16
        one = (self.lambda_q1 * self.lambda_k1).sum().float().exp()
        two = (self.lambda_q2 * self.lambda_k2).sum().float().exp()
        weight = (one - two + self.lambda_init).type_as(q)
        if self.fused_attn:
            (q1, q2), (k1, k2) = self._halves(q), self._halves(k)
            y = self._softmax(q1, k1, v, context) - weight * self._softmax(q2, k2, v, context)
        else:
            first, second = self._halves(self._maps(q, k, context))
            y = (first - weight * second) @ v
        return self.sub_norm(y) * (1 - self.lambda_init)

    def _halves(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B, 2 H, N, any] -> each head's first and second, [B, H, N, any]."""
        first, second = x.unflatten(1, (self.num_heads, 2)).unbind(2)
        return first, second


class QkvLinear(nn.Linear):
    """A linear layer with an optional external bias, since timm keeps those of queries and values apart."""

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """[B, N, D] -> [B, N, 3 D]."""
        return F.linear(x, self.weight, self.bias if bias is None else bias)


class Attention(MultiHead):
    """Multi-head attention of a serial block, softmax or differential, with or without rotary positions.

    `norm` is an identity, to be replaced.
    """

    def __init__(self, arch: Architecture, index: int, attn_drop: float, proj_drop: float) -> None:
        super().__init__()
        D = arch.embed_dim
        self.attn_dim = D
        self.q_bias = nn.Parameter(torch.zeros(D)) if arch.qkv_bias == "qv" else None
        self.v_bias = nn.Parameter(torch.zeros(D)) if arch.qkv_bias == "qv" else None
        linear = QkvLinear if arch.qkv_bias == "qv" else nn.Linear
        self.qkv = linear(D, 3 * D, bias=arch.qkv_bias == "qkv")
        self.add_heads(arch, index, attn_drop)
        self.norm = nn.Identity()
        self.proj = nn.Linear(D, D)
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(
        self,
        x: Tensor,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
        rope: Rope | None = None,
        first_only: bool = False,
    ) -> Tensor:
        """[B, N, D] -> [B, N, D]; the other arguments are those of `Context`."""
        q, k, v = self.project(x).chunk(3, dim=-1)  # [B, N, D] each
        y = self.attend(q, k, v, Context(rope, attn_mask, is_causal, first_only))
        return self.proj_drop(self.proj(self.norm(y)))

    def project(self, x: Tensor) -> Tensor:
        """Queries, keys and values side by side, [B, N, 3 D]."""
        if self.q_bias is None or self.v_bias is None:
            return self.qkv(x)
        # No bias on the keys: under rotary positions one would not cancel, and these weights have none.
        # Passed to the layer, not added to its output: one pass over memory less, and timm's rounding.
        return self.qkv(x, torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias]))
