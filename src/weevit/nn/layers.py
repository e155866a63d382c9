"""The small parts of a block: layer scale, drop path, patch dropout, the MLP, attention and its positions.

Shapes:
    B  images          N  tokens          D  embed_dim          H  attention heads          h  head_dim = D / H
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812 - what everybody calls it
from torch import Tensor, nn

from weevit.zoo.architectures import SUB_NORM_EPS, Architecture

Rope = tuple[Tensor, Tensor]
"""Cosine and sine, (N, h) each, or (B, 1, N, h) where each image keeps other patches."""


class LayerScale(nn.Module):
    """A learned factor for each channel of a residual branch (arXiv:2103.17239)."""

    def __init__(self, width: int, start: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), start))

    def forward(self, x: Tensor) -> Tensor:
        """`x * gamma`."""
        return x * self.gamma


Branch = Callable[[Tensor, Rope | None], Tensor]
"""A residual branch, (B, N, D) -> (B, N, D), with rotary tables where the architecture has them."""


class DropPath(nn.Module):
    """Leaves a residual branch out for some images, and scales it up for the others (arXiv:1603.09382).

    What would be multiplied by zero is not computed, forward or backward, where that saves time. On a GPU it does not:
    the processor would have to wait for the draw, and a compiled model wants one shape for all batches.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor, branch: Branch, rope: Rope | None = None) -> Tensor:
        """`x + branch(x)`; in training, each image's branch with probability `1 - rate`. The draws are timm's."""
        if not self.training or self.rate == 0.0:
            return x + branch(x, rope)
        keep = 1 - self.rate
        mask = x.new_empty(len(x), 1, 1).bernoulli_(keep)
        if x.device.type != "cpu" or torch.compiler.is_compiling() or not mask.any():
            return x + branch(x, rope) * (mask / keep)  # gradients of zero, too, are gradients: weights decay by them
        rows = mask.flatten().nonzero().flatten()  # of the images that keep it
        kept = branch(x.index_select(0, rows), _take(rope, rows))
        return x.index_add(0, rows, kept.to(x.dtype), alpha=1 / keep)


def _take(rope: Rope | None, rows: Tensor) -> Rope | None:
    """The tables of some images, where each has its own."""
    if rope is None or rope[0].ndim == 2:
        return rope
    return rope[0][rows], rope[1][rows]


class PatchDropout(nn.Module):
    """Trains on a random part of the patches of each image (arXiv:2212.00794); prefix tokens always stay."""

    def __init__(self, rate: float, num_prefix: int) -> None:
        super().__init__()
        self.rate = rate
        self.num_prefix = num_prefix

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Returns the kept tokens and, if any were dropped, the (B, kept) indices of the kept patches."""
        if not self.training or self.rate == 0.0:
            return x, None
        prefix, patches = x[:, : self.num_prefix], x[:, self.num_prefix :]
        count = max(1, int(patches.shape[1] * (1 - self.rate)))
        kept = torch.randn(patches.shape[:2], device=x.device).argsort(dim=-1)[:, :count]
        patches = patches.gather(1, kept[..., None].expand(-1, -1, x.shape[-1]))
        return torch.cat([prefix, patches], dim=1), kept


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between them."""

    def __init__(self, arch: Architecture, drop: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(arch.embed_dim, arch.mlp_dim)
        self.fc2 = nn.Linear(arch.mlp_dim, arch.embed_dim)
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, D] -> [B, N, D]."""
        return self.drop(self.fc2(self.drop(F.gelu(self.fc1(x)))))  # type: ignore[no-any-return]


def attend(q: Tensor, k: Tensor, v: Tensor, num_heads: int, rope: Rope | None, num_prefix: int, drop: float) -> Tensor:
    """Softmax attention; everything [B, N, D]."""
    q, k, v = (x.unflatten(-1, (num_heads, -1)).transpose(1, 2) for x in (q, k, v))  # [B, H, N, h]
    if rope is not None:
        q, k = turn(q, rope, num_prefix), turn(k, rope, num_prefix)
    y = F.scaled_dot_product_attention(q, k, v, dropout_p=drop)
    return y.transpose(1, 2).flatten(2)  # [B, N, D]


def turn(x: Tensor, rope: Rope, num_prefix: int) -> Tensor:
    """Rotary positions for the patches: neighbouring pairs of channels are turned; prefix tokens stay."""
    cosine, sine = rope
    prefix, patches = x[:, :, :num_prefix], x[:, :, num_prefix:]
    swapped = torch.stack([-patches[..., 1::2], patches[..., ::2]], dim=-1).flatten(-2)
    return torch.cat([prefix, (patches * cosine + swapped * sine).to(x.dtype)], dim=2)


class SubNorm(nn.RMSNorm):
    """RMS norm of each head's output; in float32 whatever comes in, since autocast leaves the weight in float32."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, H, N, h] -> the same."""
        return F.rms_norm(x.float(), self.normalized_shape, self.weight, self.eps).type_as(x)


class Difference(nn.Module):
    """What differential attention adds to a module (arXiv:2410.05258): four vectors, an inner norm, two maps.

    A mixin, so that the tensors have the names that timm gives them: in the attention of a serial block, in the block
    itself where it is parallel.
    """

    lambda_q1: nn.Parameter
    lambda_k1: nn.Parameter
    lambda_q2: nn.Parameter
    lambda_k2: nn.Parameter

    def add_difference(self, arch: Architecture, index: int) -> None:
        """Make the tensors of block `index` (from 0)."""
        self.lambda_start = 0.8 - 0.6 * math.exp(-0.3 * index)
        for name in ("q1", "k1", "q2", "k2"):
            # float32 whatever the rest is in: their product stands in an exponent
            vector = torch.empty(arch.head_dim // 2, dtype=torch.float32)
            setattr(self, f"lambda_{name}", nn.Parameter(nn.init.normal_(vector, std=0.1)))
        self.sub_norm = SubNorm(arch.head_dim, eps=SUB_NORM_EPS)

    def attend_twice(self, q: Tensor, k: Tensor, v: Tensor, num_heads: int, drop: float) -> Tensor:
        """First map minus lambda times second, over the same values; everything [B, N, D]."""
        q1, q2 = q.unflatten(-1, (num_heads, 2, -1)).transpose(1, 3).unbind(1)  # [B, H, N, h / 2]
        k1, k2 = k.unflatten(-1, (num_heads, 2, -1)).transpose(1, 3).unbind(1)
        v = v.unflatten(-1, (num_heads, -1)).transpose(1, 2)  # [B, H, N, h]
        first = F.scaled_dot_product_attention(q1, k1, v, dropout_p=drop)
        second = F.scaled_dot_product_attention(q2, k2, v, dropout_p=drop)
        weight = (self.lambda_q1 * self.lambda_k1).sum().exp() - (self.lambda_q2 * self.lambda_k2).sum().exp()
        y = self.sub_norm(first - (weight + self.lambda_start).type_as(q) * second) * (1 - self.lambda_start)
        return y.transpose(1, 2).flatten(2)  # type: ignore[no-any-return]


class Attention(Difference):
    """Multi-head attention of a serial block, softmax or differential, with or without rotary positions."""

    def __init__(self, arch: Architecture, index: int, attn_drop: float, proj_drop: float) -> None:
        super().__init__()
        D = arch.embed_dim
        self.arch = arch
        self.attn_drop = attn_drop
        self.q_bias = nn.Parameter(torch.zeros(D)) if arch.qkv_bias == "qv" else None
        self.v_bias = nn.Parameter(torch.zeros(D)) if arch.qkv_bias == "qv" else None
        self.qkv = nn.Linear(D, 3 * D, bias=arch.qkv_bias == "qkv")
        if arch.attention == "diff":
            self.add_difference(arch, index)
        self.proj = nn.Linear(D, D)
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(self, x: Tensor, rope: Rope | None) -> Tensor:
        """[B, N, D] -> [B, N, D]."""
        bias: Tensor | None = self.qkv.bias
        if self.q_bias is not None and self.v_bias is not None:
            # No bias on the keys: under rotary positions one would not cancel, and these weights have none.
            bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        q, k, v = F.linear(x, self.qkv.weight, bias).chunk(3, dim=-1)  # [B, N, D] each
        drop = self.attn_drop if self.training else 0.0
        if self.arch.attention == "diff":
            y = self.attend_twice(q, k, v, self.arch.num_heads, drop)
        else:
            y = attend(q, k, v, self.arch.num_heads, rope, self.arch.num_prefix, drop)
        return self.proj_drop(self.proj(y))  # type: ignore[no-any-return]
