"""The two kinds of transformer block.

serial:    x ──┬── norm1 ── attn ── + ──┬── norm2 ── mlp ── + ──
               └─────────────────── ┘   └────────────────── ┘

parallel:  x ──┬── in_norm ── in_proj ──┬── attention ── + ── + ──
               │                        └── GELU ─────── ┘    │
               └───────────────────────────────────────────── ┘
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from weevit.nn.layers import Attention, Difference, DropPath, LayerScale, Mlp, Rope, attend
from weevit.zoo.architectures import NORM_EPS, Architecture


@dataclass(frozen=True)
class Drops:
    """Dropout rates of one block: of attention maps, of what the projections put out, of whole branches."""

    attn: float = 0.0
    proj: float = 0.0
    path: float = 0.0


class SerialBlock(nn.Module):
    """Attention, then the MLP, each behind a norm and added to what came in."""

    def __init__(self, arch: Architecture, index: int, drops: Drops) -> None:
        super().__init__()
        D = arch.embed_dim
        self.norm1 = nn.LayerNorm(D, eps=NORM_EPS)
        self.attn = Attention(arch, index, drops.attn, drops.proj)
        self.drop_path1 = DropPath(drops.path)
        self.norm2 = nn.LayerNorm(D, eps=NORM_EPS)
        self.mlp = Mlp(arch, drops.proj)
        self.drop_path2 = DropPath(drops.path)
        # timm spells the two scales in two ways, and the keys have to be timm's.
        self.ls1: nn.Module = nn.Identity()
        self.ls2: nn.Module = nn.Identity()
        self.gamma_1 = self.gamma_2 = None
        if arch.layer_scale is not None and arch.position == "rope":
            self.gamma_1 = nn.Parameter(torch.full((D,), arch.layer_scale))
            self.gamma_2 = nn.Parameter(torch.full((D,), arch.layer_scale))
        elif arch.layer_scale is not None:
            self.ls1, self.ls2 = LayerScale(D, arch.layer_scale), LayerScale(D, arch.layer_scale)

    def forward(self, x: Tensor, rope: Rope | None = None) -> Tensor:
        """[B, N, D] -> [B, N, D]."""
        x = self.drop_path1(x, self.attend, rope)
        return self.drop_path2(x, self.transform)  # type: ignore[no-any-return]

    def attend(self, x: Tensor, rope: Rope | None) -> Tensor:
        """The first branch, [B, N, D]."""
        return _scaled(self.ls1(self.attn(self.norm1(x), rope)), self.gamma_1)

    def transform(self, x: Tensor, rope: Rope | None) -> Tensor:
        """The second branch, [B, N, D]."""
        del rope
        return _scaled(self.ls2(self.mlp(self.norm2(x))), self.gamma_2)


def _scaled(x: Tensor, gamma: Tensor | None) -> Tensor:
    return x if gamma is None else x * gamma


class ParallelBlock(Difference):
    """Attention and the MLP side by side, from one norm and one input projection (ViT-22B, arXiv:2302.05442)."""

    def __init__(self, arch: Architecture, index: int, drops: Drops) -> None:
        super().__init__()
        D, H = arch.embed_dim, arch.mlp_dim
        self.arch = arch
        self.attn_drop = drops.attn
        self.in_norm = nn.LayerNorm(D, eps=NORM_EPS)
        self.in_proj = nn.Linear(D, H + 3 * D)
        self.mlp_drop = nn.Dropout(drops.proj)
        if arch.attention == "diff":
            self.add_difference(arch, index)
            self.out_proj = nn.Linear(D + H, D)
        else:
            self.attn_out_proj = nn.Linear(D, D)
            self.mlp_out_proj = nn.Linear(H, D)
        self.ls = nn.Identity() if arch.layer_scale is None else LayerScale(D, arch.layer_scale)
        self.drop_path = DropPath(drops.path)

    def forward(self, x: Tensor, rope: Rope | None = None) -> Tensor:
        """[B, N, D] -> [B, N, D]."""
        return self.drop_path(x, self.branches, rope)  # type: ignore[no-any-return]

    def branches(self, x: Tensor, rope: Rope | None) -> Tensor:
        """The sum of both branches, [B, N, D]."""
        arch, D = self.arch, self.arch.embed_dim
        hidden, q, k, v = self.in_proj(self.in_norm(x)).split([arch.mlp_dim, D, D, D], dim=-1)
        hidden = self.mlp_drop(F.gelu(hidden))  # [B, N, M]
        drop = self.attn_drop if self.training else 0.0
        if arch.attention == "diff":
            y = self.attend_twice(q, k, v, arch.num_heads, drop)
            return self.ls(self.out_proj(torch.cat([y, hidden], dim=-1)))  # type: ignore[no-any-return]
        y = attend(q, k, v, arch.num_heads, rope, arch.num_prefix, drop)
        return self.ls(self.attn_out_proj(y) + self.mlp_out_proj(hidden))  # type: ignore[no-any-return]
