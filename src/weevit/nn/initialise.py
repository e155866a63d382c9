"""Fresh weights, as timm initialises each part of the family."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from weevit.nn.blocks import SerialBlock

if TYPE_CHECKING:
    from weevit.nn.vit import VisionTransformer


def initialise(model: VisionTransformer) -> None:
    """Fill a module with fresh weights.

    Linear layers: normal with std 0.02, cut at two units; biases 0. Positions alike. Class token and registers: std
        1e-6
    with learned positions, 0.02 with rotary ones. With `fix_init`, which timm's RoPE models always have, the output
    projections of block i (from 0) are divided by sqrt(2 (i + 1)); these models' heads are 1000 times smaller.
    """
    rope = model.arch.position == "rope"
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for name in ("pos_embed", "cls_token", "reg_token"):
        token = getattr(model, name, None)
        if token is not None:
            nn.init.trunc_normal_(token, std=0.02 if rope or name == "pos_embed" else 1e-6, a=-2.0, b=2.0)
    if rope if model.options.fix_init is None else model.options.fix_init:
        scale_down(model)
    with torch.no_grad():
        if rope and isinstance(model.head, nn.Linear):
            model.head.weight.mul_(0.001)


def scale_down(model: VisionTransformer) -> None:
    """`fix_init`: divide the output projections of block i (from 0) by sqrt(2 (i + 1))."""
    with torch.no_grad():
        for index, block in enumerate(model.blocks):
            for layer in _output_projections(block):
                layer.weight.div_(math.sqrt(2.0 * (index + 1)))


def _output_projections(block: nn.Module) -> list[nn.Linear]:
    if isinstance(block, SerialBlock):
        return [block.attn.proj, block.mlp.fc2]
    layers = (getattr(block, name) for name in ("attn_out_proj", "mlp_out_proj", "out_proj"))
    return [layer for layer in layers if layer is not None]
