"""The optimisers of the recipes, and their groups of parameters; step by step equal to timm's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from weevit.nn.vit import VisionTransformer
from weevit.optim.nadamuon import NAdaMuon
from weevit.optim.nadamw import NAdamW
from weevit.recipes.schema import OptimPart, Recipe

__all__ = ["AdamW", "NAdaMuon", "NAdamW", "clip_gradients", "create_optimizer", "param_groups", "set_rate"]

Registers = Literal["as_published", "fixed"]

UNDECAYED = frozenset({"pos_embed", "cls_token", "reg_token"})
"""Parameters without weight decay although they have more than one dimension."""


def create_optimizer(model: VisionTransformer, recipe: Recipe) -> Optimizer:
    """The optimiser of a recipe over all trainable parameters; call `set_rate` before each update."""
    part = recipe.optim
    groups = param_groups(model, part.weight_decay, part.layer_decay, part.registers)
    common: dict[str, Any] = {"lr": recipe.learning_rate, "betas": part.betas, "eps": part.eps}
    optimizer: Optimizer
    if part.name == "adamw":
        optimizer = AdamW(groups, **common, fused=groups[0]["params"][0].is_cuda)
    elif part.name == "nadamuon":
        optimizer = NAdaMuon(groups, **common, momentum=part.momentum, ns_steps=part.ns_steps)
    else:
        optimizer = NAdamW(groups, **common)
    set_rate(optimizer, recipe.learning_rate)
    return optimizer


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Set each group's rate: the schedule's times its `lr_scale`."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]


def param_groups(
    model: VisionTransformer,
    weight_decay: float,
    layer_decay: float | None = None,
    registers: Registers = "as_published",
) -> list[dict[str, Any]]:
    """Sort the trainable parameters into groups of one decay and one rate.

    Biases, norms, layer scales (all of one dimension), positions and the class token are not decayed.

    Args:
        model: parameters with `requires_grad` False are left out.
        weight_decay: applied to weights with two or more dimensions.
        layer_decay: the rate of each layer over that of the layer above; 1 for the head.
        registers: `as_published`: decayed, as in timm before 1.0.29, which trained the published weights; `fixed`: not.

    Returns:
        Groups with `params`, `names` (of the parameters), `weight_decay` and `lr_scale`, from the first layer up.
    """
    top = model.arch.depth + 1
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        decay = weight_decay if _is_decayed(name, parameter, registers) else 0.0
        scale = 1.0 if layer_decay is None else layer_decay ** (top - _layer(name, model.arch.depth))
        group = groups.setdefault((scale, decay), {"params": [], "names": [], "weight_decay": decay, "lr_scale": scale})
        group["params"].append(parameter)
        group["names"].append(name)
    return sorted(groups.values(), key=lambda group: (group["lr_scale"], group["weight_decay"]))


def _is_decayed(name: str, parameter: Tensor, registers: Registers) -> bool:
    if name == "reg_token":
        return registers == "as_published"
    return parameter.ndim > 1 and name not in UNDECAYED


def _layer(name: str, depth: int) -> int:
    """0 for the embedding of patches, positions and tokens, 1 to `depth` for the blocks, one more for the head.

    A norm before the pool belongs to the last block, one behind it to the head, as timm sorts them.
    """
    first, _, rest = name.partition(".")
    if first == "blocks":
        return int(rest.partition(".")[0]) + 1
    return {"norm": depth, "fc_norm": depth + 1, "head": depth + 1}.get(first, 0)


def clip_gradients(parameters: Iterable[Tensor], part: OptimPart) -> Tensor:
    """Clip gradients in place, as the recipe says; returns their norm before, NaN or infinite if one is."""
    there = [parameter for parameter in parameters if parameter.grad is not None]
    norm = nn.utils.get_total_norm([parameter.grad for parameter in there if parameter.grad is not None])
    if part.clip is None:
        return norm
    if part.clip_mode == "value":
        nn.utils.clip_grad_value_(there, part.clip)
    else:
        nn.utils.clip_grads_with_norm_(there, part.clip, norm)
    return norm
