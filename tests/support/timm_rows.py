"""weevit's own architecture in timm's registry: timm's class with the arguments of the row, so that timm is its oracle.

Importing this module needs timm and registers it. The arguments are written out here as timm writes them, and not taken
from weevit's row.
"""

from __future__ import annotations

from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.vision_transformer import VisionTransformer

default_cfgs = generate_default_cfgs(
    {
        "vit_micro_patch16_reg1_gap_64.digits": {
            "input_size": (3, 64, 64),
            "num_classes": 10,
            "pool_size": None,
            "crop_pct": 1.0,
            "interpolation": "bicubic",
            "fixed_input_size": True,
            "mean": (0.5, 0.5, 0.5),
            "std": (0.5, 0.5, 0.5),
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        }
    }
)


@register_model
def vit_micro_patch16_reg1_gap_64(pretrained: bool = False, **kwargs: Any) -> Any:
    row: dict[str, Any] = {"img_size": 64, "patch_size": 16, "embed_dim": 64, "depth": 4, "num_heads": 4}
    row |= {"mlp_ratio": 4, "class_token": False, "no_embed_class": True, "reg_tokens": 1, "global_pool": "avg"}
    return build_model_with_cfg(
        VisionTransformer,
        "vit_micro_patch16_reg1_gap_64",
        pretrained,
        feature_cfg={"out_indices": 3, "feature_cls": "getter"},
        **{**row, **kwargs},
    )
