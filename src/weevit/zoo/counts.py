"""Parameters, multiply-accumulates and activations, by arithmetic on a row.

There are two conventions for the last two, which differ by a seventh for the small models: timm's published tables
count the two matrix products inside attention and five operations for each output of a LayerNorm (as fvcore does); the
model cards were made with a fused attention kernel that counted as nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from weevit.zoo.architectures import PATCH, Architecture
from weevit.zoo.layout import tensor_shapes


@dataclass(frozen=True)
class Counts:
    """The cost of a model for one image.

    Attributes:
        params: number of parameters.
        linear_macs: multiply-accumulates of the patch embedding, the linear layers and the head.
        attention_macs: of the two products inside attention (queries x keys, weights x values).
        norm_macs: five for each output of a LayerNorm.
        linear_activations: outputs of the linear layers.
        attention_activations: outputs of the two products.
    """

    params: int
    linear_macs: int
    attention_macs: int
    norm_macs: int
    linear_activations: int
    attention_activations: int

    @property
    def gmacs(self) -> float:
        """10^9 multiply-accumulates with attention and norms, as in timm's benchmark tables."""
        return (self.linear_macs + self.attention_macs + self.norm_macs) / 1e9

    @property
    def gmacs_linear(self) -> float:
        """10^9 multiply-accumulates of the linear layers alone, as on the model cards."""
        return self.linear_macs / 1e9

    @property
    def mactivations(self) -> float:
        """10^6 activations with attention, as in timm's benchmark tables."""
        return (self.linear_activations + self.attention_activations) / 1e6

    @property
    def mactivations_linear(self) -> float:
        """10^6 activations without the two products, as on the model cards."""
        return self.linear_activations / 1e6


def count(arch: Architecture, num_classes: int, grid: tuple[int, int] | None = None) -> Counts:
    """Count one forward pass.

    Args:
        arch: the row.
        num_classes: width of the head, 0 for none.
        grid: rows and columns of patches; native where None.
    """
    rows, columns = grid or (arch.img_size // PATCH, arch.img_size // PATCH)
    patches = rows * columns
    D, H, N = arch.embed_dim, arch.mlp_dim, patches + arch.num_prefix
    # The same four matrices in every kind of block: qkv, output, and the two of the MLP.
    block_macs = N * (3 * D * D + D * D + 2 * D * H)
    # The kinds differ only in the outputs of the last two: two tensors, or one fused sum.
    fused_output = arch.block == "parallel" and arch.attention == "diff"
    block_activations = N * (3 * D + H + (D if fused_output else 2 * D))
    norms = arch.depth * (1 if arch.block == "parallel" else 2) * N + (N if arch.norm == "before_pool" else 1)
    score_maps = arch.num_heads * (2 if arch.attention == "diff" else 1)
    return Counts(
        params=sum(math.prod(shape) for shape in tensor_shapes(arch, num_classes, grid).values()),
        linear_macs=patches * 3 * PATCH * PATCH * D + arch.depth * block_macs + D * num_classes,
        attention_macs=arch.depth * 2 * N * N * D,
        norm_macs=5 * norms * D,
        linear_activations=patches * D + arch.depth * block_activations + num_classes,
        attention_activations=arch.depth * (score_maps * N * N + N * D),
    )
