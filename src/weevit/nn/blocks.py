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
from torch import Tensor, nn

from weevit.nn.layers import Attention, Context, DropPath, LayerScale, Mlp, MultiHead, Rope
from weevit.zoo.architectures import NORM_EPS, Architecture


@dataclass(frozen=True)
class Drops:
    """Dropout rates of one block: of attention maps, of the projections' outputs, of whole branches."""

    attn: float = 0.0
    proj: float = 0.0
    path: float = 0.0


class SerialBlock(nn.Module):
    """Attention, then the MLP, each after a norm and added to its input."""

    def __init__(self, arch: Architecture, index: int, drops: Drops) -> None:
        super().__init__()
        D = arch.embed_dim
        self.norm1 = nn.LayerNorm(D, eps=NORM_EPS)
        self.attn = Attention(arch, index, drops.attn, drops.proj)
        self.drop_path1 = DropPath(drops.path)
        self.norm2 = nn.LayerNorm(D, eps=NORM_EPS)
        self.mlp = Mlp(arch, drops.proj)
        self.drop_path2 = DropPath(drops.path)
        # timm names the two scales differently, and the keys must be timm's.
        self.ls1: nn.Module = nn.Identity()
        self.ls2: nn.Module = nn.Identity()
        self.gamma_1 = self.gamma_2 = None
        if arch.layer_scale is not None and arch.position == "rope":
            self.gamma_1 = nn.Parameter(torch.full((D,), arch.layer_scale))
            self.gamma_2 = nn.Parameter(torch.full((D,), arch.layer_scale))
        elif arch.layer_scale is not None:
            self.ls1, self.ls2 = LayerScale(D, arch.layer_scale), LayerScale(D, arch.layer_scale)

    def forward(
        self,
        x: Tensor,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
        rope: Rope | None = None,
        first_only: bool = False,
    ) -> Tensor:
        """[B, N, D] -> [B, N, D]; the other arguments are those of `Context`."""
        context = Context(rope, attn_mask, is_causal, first_only)
        x = self.drop_path1(x, self.attend, context)
        return self.drop_path2(x, self.transform, context)

    def attend(self, x: Tensor, context: Context) -> Tensor:
        """The first branch, [B, N, D]."""
        y = self.attn(self.norm1(x), context.mask, context.is_causal, context.rope, context.first_only)
        return _scaled(self.ls1(y), self.gamma_1)

    def transform(self, x: Tensor, context: Context) -> Tensor:
        """The second branch, [B, N, D]."""
        del context
        return _scaled(self.ls2(self.mlp(self.norm2(x))), self.gamma_2)


def _scaled(x: Tensor, gamma: Tensor | None) -> Tensor:
    return x if gamma is None else x * gamma


class ParallelBlock(MultiHead):
    """Attention and the MLP side by side, from one norm and one input projection (ViT-22B, arXiv:2302.05442)."""

    def __init__(self, arch: Architecture, index: int, drops: Drops) -> None:
        super().__init__()
        D, H = arch.embed_dim, arch.mlp_dim
        self.in_split = [H, D, D, D]
        self.in_norm = nn.LayerNorm(D, eps=NORM_EPS)
        self.in_proj = nn.Linear(D, H + 3 * D)
        self.mlp_act = nn.GELU()
        self.mlp_drop = nn.Dropout(drops.proj)
        self.add_heads(arch, index, drops.attn)
        self.attn_out_proj = self.mlp_out_proj = self.out_proj = None
        if self.is_differential:
            self.out_proj = nn.Linear(D + H, D)
        else:
            self.attn_out_proj = nn.Linear(D, D)
            self.mlp_out_proj = nn.Linear(H, D)
        self.ls = nn.Identity() if arch.layer_scale is None else LayerScale(D, arch.layer_scale)
        self.drop_path = DropPath(drops.path)

    def forward(
        self,
        x: Tensor,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
        rope: Rope | None = None,
        first_only: bool = False,
    ) -> Tensor:
        """[B, N, D] -> [B, N, D]; the other arguments are those of `Context`."""
        return self.drop_path(x, self.branches, Context(rope, attn_mask, is_causal, first_only))

    def branches(self, x: Tensor, context: Context) -> Tensor:
        """The sum of both branches, [B, N, D]."""
        hidden, q, k, v = self.in_proj(self.in_norm(x)).split(self.in_split, dim=-1)
        hidden = hidden[:, :1] if context.first_only else hidden
        hidden = self.mlp_drop(self.mlp_act(hidden))  # [B, N, M]
        y = self.attend(q, k, v, context)
        return self.ls(self._merge(y, hidden))

    def _merge(self, y: Tensor, hidden: Tensor) -> Tensor:
        """The output of attention, [B, N, D], and the MLP's hidden layer, [B, N, M] -> [B, N, D]."""
        if self.out_proj is not None:
            return self.out_proj(torch.cat([y, hidden], dim=-1))
        assert self.attn_out_proj is not None
        assert self.mlp_out_proj is not None
        return self.attn_out_proj(y) + self.mlp_out_proj(hidden)
