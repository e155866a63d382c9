"""The whole family on one screen: every architecture is one row, and where two differ there is a column.

Checked against timm's own models, parameter by parameter (`tests/zoo/test_architectures.py`). The last row is
weevit's own, for the model that comes with it: timm's registry has no such name, but its class builds it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from weevit.errors import UnknownModelError, did_you_mean

PATCH = 16
"""Side of a patch in pixels; the same for the whole family."""

NORM_EPS = 1e-6
"""Epsilon of every LayerNorm."""

SUB_NORM_EPS = 1e-5
"""Epsilon of the RMS norm inside differential attention."""

ROPE_TEMPERATURE = 10_000.0
ROPE_REFERENCE_GRID = 16
"""Side of the patch grid (256 / 16) to which rotary positions are rescaled at other image sizes."""


@dataclass(frozen=True)
class Architecture:
    """One row of the family.

    Attributes:
        name: timm's name.
        img_size: native image side in pixels (square).
        embed_dim, depth, num_heads: as everywhere.
        mlp_dim: hidden width of the MLP (a width, not a ratio: ratios round).
        block: `serial` (attention, then MLP) or `parallel` (both from one norm, ViT-22B, arXiv:2302.05442).
        attention: `softmax`, or `diff`: differential attention (arXiv:2410.05258).
        position: `learned` table, or `rope`: axial rotary positions (arXiv:2104.09864), no table.
        qkv_bias: which of query, key and value have a bias: `qkv`, `qv` or `none`.
        layer_scale: initial value of the residual branches' scale (arXiv:2103.17239), None where there is none.
        registers: number of register tokens (arXiv:2309.16588), in front of the patches.
        class_token: whether a class token precedes the registers.
        embeds_prefix: whether the learned position table also covers class token and registers.
        pool: `token` (the class token) or `avg` (mean over patch tokens).
        norm: the last LayerNorm comes `before_pool` (keys `norm.*`) or `after_pool` (keys `fc_norm.*`).
    """

    name: str
    img_size: int
    embed_dim: int
    depth: int
    num_heads: int
    mlp_dim: int
    block: Literal["serial", "parallel"]
    attention: Literal["softmax", "diff"]
    position: Literal["learned", "rope"]
    qkv_bias: Literal["qkv", "qv", "none"]
    layer_scale: float | None
    registers: int
    class_token: bool
    embeds_prefix: bool
    pool: Literal["token", "avg"]
    norm: Literal["before_pool", "after_pool"]

    @property
    def head_dim(self) -> int:
        """Width of one attention head's values (queries and keys of differential attention have half of it)."""
        return self.embed_dim // self.num_heads

    @property
    def num_prefix(self) -> int:
        """Tokens in front of the patches: class token and registers."""
        return int(self.class_token) + self.registers


S: Final = "serial"
P: Final = "parallel"
SM: Final = "softmax"
DF: Final = "diff"
LN: Final = "learned"
RO: Final = "rope"
BEFORE: Final = "before_pool"
AFTER: Final = "after_pool"

# fmt: off
_ROWS = [
    #             name                                size  dim  depth heads mlp  block attn pos  qkv bias  scale  reg  cls   prefix  pool    norm
    Architecture("vit_tiny_patch16_224",               224, 192, 12,  3,  768, S, SM, LN, "qkv",  None, 0, True,  True,  "token", BEFORE),
    Architecture("vit_wee_patch16_reg1_gap_256",       256, 256, 14,  4, 1280, S, SM, LN, "qkv",  1e-5, 1, False, False, "avg",   AFTER),
    Architecture("vit_dwee_patch16_reg1_gap_256",      256, 256, 14,  4, 1280, S, DF, LN, "qkv",  1e-5, 1, False, False, "avg",   AFTER),
    Architecture("vit_pwee_patch16_reg1_gap_256",      256, 256, 16,  4, 1280, P, SM, LN, "qkv",  1e-5, 1, False, False, "avg",   AFTER),
    Architecture("vit_dpwee_patch16_reg1_gap_256",     256, 256, 16,  4, 1280, P, DF, LN, "qkv",  1e-5, 1, False, False, "avg",   AFTER),
    Architecture("vit_small_patch16_224",              224, 384, 12,  6, 1536, S, SM, LN, "qkv",  None, 0, True,  True,  "token", BEFORE),
    Architecture("vit_little_patch16_reg1_gap_256",    256, 320, 14,  5, 1792, S, SM, LN, "qkv",  1e-5, 1, False, False, "avg",   AFTER),
    Architecture("vit_little_patch16_reg4_gap_256",    256, 320, 14,  5, 1792, S, SM, LN, "qkv",  1e-5, 4, False, False, "avg",   AFTER),
    Architecture("vit_dlittle_patch16_reg1_gap_256",   256, 320, 14,  5, 1792, S, DF, LN, "qkv",  1e-5, 1, False, False, "avg",   AFTER),
    Architecture("vit_medium_patch16_reg1_gap_256",    256, 512, 12,  8, 2048, S, SM, LN, "qkv",  1e-5, 1, False, False, "avg",   AFTER),
    Architecture("vit_medium_patch16_reg4_gap_256",    256, 512, 12,  8, 2048, S, SM, LN, "qkv",  1e-5, 4, False, False, "avg",   AFTER),
    Architecture("vit_mediumd_patch16_reg4_gap_256",   256, 512, 20,  8, 2048, S, SM, LN, "qkv",  1e-5, 4, False, False, "avg",   AFTER),
    Architecture("vit_mediumd_patch16_reg4_gap_384",   384, 512, 20,  8, 2048, S, SM, LN, "qkv",  1e-5, 4, False, False, "avg",   AFTER),
    Architecture("vit_betwixt_patch16_reg1_gap_256",   256, 640, 12, 10, 2560, S, SM, LN, "qkv",  1e-5, 1, False, False, "avg",   AFTER),
    Architecture("vit_betwixt_patch16_reg4_gap_256",   256, 640, 12, 10, 2560, S, SM, LN, "qkv",  1e-5, 4, False, False, "avg",   AFTER),
    Architecture("vit_betwixt_patch16_reg4_gap_384",   384, 640, 12, 10, 2560, S, SM, LN, "qkv",  1e-5, 4, False, False, "avg",   AFTER),
    Architecture("vit_base_patch16_224",               224, 768, 12, 12, 3072, S, SM, LN, "qkv",  None, 0, True,  True,  "token", BEFORE),
    Architecture("vit_base_patch16_reg4_gap_256",      256, 768, 12, 12, 3072, S, SM, LN, "qkv",  None, 4, False, False, "avg",   AFTER),
    Architecture("vit_so150m_patch16_reg4_gap_256",    256, 896, 18, 14, 2304, S, SM, LN, "qkv",  None, 4, False, True,  "avg",   BEFORE),
    Architecture("vit_so150m_patch16_reg4_gap_384",    384, 896, 18, 14, 2304, S, SM, LN, "qkv",  None, 4, False, True,  "avg",   BEFORE),
    Architecture("vit_so150m2_patch16_reg1_gap_256",   256, 832, 21, 13, 2176, S, SM, LN, "none", 1e-5, 1, False, True,  "avg",   AFTER),
    Architecture("vit_so150m2_patch16_reg1_gap_384",   384, 832, 21, 13, 2176, S, SM, LN, "none", 1e-5, 1, False, True,  "avg",   AFTER),
    Architecture("vit_so150m2_patch16_reg1_gap_448",   448, 832, 21, 13, 2176, S, SM, LN, "none", 1e-5, 1, False, True,  "avg",   AFTER),
    Architecture("vit_medium_patch16_rope_reg1_gap_256",  256, 512, 12,  8, 2048, S, SM, RO, "qv",   1e-5, 1, False, False, "avg", AFTER),
    Architecture("vit_mediumd_patch16_rope_reg1_gap_256", 256, 512, 20,  8, 2048, S, SM, RO, "none", 1e-5, 1, False, False, "avg", AFTER),
    Architecture("vit_betwixt_patch16_rope_reg4_gap_256", 256, 640, 12, 10, 2560, S, SM, RO, "qv",   1e-5, 4, False, False, "avg", AFTER),
    Architecture("vit_base_patch16_rope_reg1_gap_256",    256, 768, 12, 12, 3072, S, SM, RO, "qv",   1e-5, 1, False, False, "avg", AFTER),
    Architecture("vit_micro_patch16_reg1_gap_64",       64,  64,  4,  4,  256, S, SM, LN, "qkv",  None, 1, False, False, "avg",   AFTER),
]
# fmt: on

ARCHITECTURES: dict[str, Architecture] = {row.name: row for row in _ROWS}


def get_architecture(name: str) -> Architecture:
    """The row of this name; an UnknownModelError names the nearest."""
    if name not in ARCHITECTURES:
        raise UnknownModelError(
            f"No architecture {name!r} in this family of {len(ARCHITECTURES)}.",
            did_you_mean(name, ARCHITECTURES) or "weevit models   lists them all",
        )
    return ARCHITECTURES[name]
