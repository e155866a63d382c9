"""The module of a recipe for the classes of the data, and the same module again for a resumed run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from weevit.errors import UsageError
from weevit.nn.create import create_model, from_checkpoint
from weevit.nn.save import plain_tensors
from weevit.nn.vit import Options, VisionTransformer
from weevit.recipes.schema import Recipe
from weevit.zoo.architectures import get_architecture
from weevit.zoo.checkpoint import Checkpoint
from weevit.zoo.resolve import resolve
from weevit.zoo.weights import HALF, Preprocessing, as_rgb

_NAMED = "label_"
"""Prefix of class names in a `pretrained_cfg`."""


@dataclass(frozen=True)
class Start:
    """The start of a training.

    Attributes:
        model: the module, on the CPU.
        classes: classes of its head, in order.
        weights: `source` and `sha256` of its checkpoint; empty for fresh weights.
        fresh_head: whether the head is untrained.
    """

    model: VisionTransformer
    classes: tuple[str, ...]
    weights: dict[str, str]
    fresh_head: bool


def first_weights(recipe: Recipe) -> Checkpoint | None:
    """The checkpoint that a recipe starts from; None for fresh weights."""
    if not recipe.model.pretrained:
        return None
    checkpoint = resolve(recipe.model.name)
    checkpoint.check_floats()
    return checkpoint


def class_order(checkpoint: Checkpoint | None, classes: Sequence[str]) -> tuple[str, ...]:
    """The order of the head's classes: the checkpoint's where it has the same names, else the data's."""
    labels = checkpoint.labels if checkpoint else None
    known = tuple(label.id for label in labels) if labels else ()
    return known if sorted(known) == sorted(classes) else tuple(classes)


def build(recipe: Recipe, checkpoint: Checkpoint | None, classes: tuple[str, ...]) -> Start:
    """The module with its first weights; draws from PyTorch's generator, which the caller has seeded."""
    part = recipe.model
    options: dict[str, Any] = {
        "num_classes": len(classes),
        "img_size": (part.image_size, part.image_size),
        "drop_path_rate": part.drop_path,
        "drop_rate": part.drop,
        "patch_drop_rate": part.patch_drop,
        "fix_init": part.fix_init,
    }
    if checkpoint is None:
        model: VisionTransformer = create_model(part.name, **options)
    else:
        model = from_checkpoint(checkpoint, options)
    labels = checkpoint.labels if checkpoint else None
    fresh = not labels or tuple(label.id for label in labels) != classes
    if fresh and checkpoint and checkpoint.num_classes == len(classes) and isinstance(model.head, nn.Linear):
        nn.init.trunc_normal_(model.head.weight, std=0.02)  # the loaded head has this width, but other classes
        nn.init.zeros_(model.head.bias)
    if fresh and part.head_init_scale is not None:
        with torch.no_grad():
            torch._foreach_mul_(list(model.head.parameters()), part.head_init_scale)
    model.pretrained_cfg = _described(model, recipe)
    weights = {"source": checkpoint.source, "sha256": checkpoint.sha256} if checkpoint else {}
    return Start(model, classes, weights, fresh)


def given(model: VisionTransformer, recipe: Recipe, classes: tuple[str, ...]) -> Start:
    """A module of the caller as the start of a run; UsageError for one that does not fit or that no file holds."""
    _refuse_other_parts(model)
    size = recipe.model.image_size
    if model.num_classes != len(classes) or model.img_size != (size, size):
        raise UsageError(
            f"The module to start from has {model.num_classes} classes and takes {model.img_size[0]} x "
            f"{model.img_size[1]} px; the data has {len(classes)}, and the recipe says model.image_size={size}.",
            "weevit.create_model(..., num_classes=..., img_size=...)",
        )
    content = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        content.update(name.encode() + tensor.detach().cpu().numpy().tobytes())
    model.pretrained_cfg = _described(model, recipe)
    return Start(model, classes, {"source": "a module", "sha256": content.hexdigest()}, fresh_head=False)


def _refuse_other_parts(model: object) -> None:
    """Refuse a module that the checkpoints of a run could not make again."""
    if not isinstance(model, VisionTransformer):
        raise UsageError(
            f"start is a module that weevit.create_model made: {type(model).__name__} was given.",
            "Compiled or wrapped, it has that one inside; loop.compile=true compiles it.",
        )
    kinds = {str(tensor.dtype).removeprefix("torch.") for tensor in model.parameters()} - {"float32"}
    if kinds:
        raise UsageError(
            f"The module to start from has weights of {', '.join(sorted(kinds))}; training keeps them in float32.",
            "model.float(), and loop.precision=bf16 to compute in bfloat16",
        )
    if model.in_chans != 3 or not model.global_pool:
        raise UsageError(
            f"The module to start from has {model.in_chans} channels and global_pool={model.global_pool!r}; training "
            "shows it images of 3 channels, and needs a pool."
        )
    plain_tensors(model)
    if model.num_classes and (type(model.head) is not nn.Linear or model.head.bias is None):
        raise UsageError(
            "The head of the module to start from is no linear layer with a bias.",
            "model.reset_classifier(number_of_classes); model.drop in a recipe is the dropout before it",
        )


def _described(model: VisionTransformer, recipe: Recipe) -> dict[str, Any]:
    """`pretrained_cfg`: the preprocessing of the weights. Their origin is left out: it no longer holds."""
    data = recipe.data
    old: dict[str, Any] = model.pretrained_cfg
    kept = {key: value for key, value in old.items() if not key.startswith(_NAMED)}
    return kept | {
        "architecture": model.arch.name,
        "tag": None,
        "input_size": (model.options.in_chans, *model.img_size),
        "crop_pct": data.crop_pct,
        "crop_mode": data.crop_mode,
        "interpolation": data.interpolation,
        "mean": data.mean or tuple(old.get("mean", HALF[0])),
        "std": data.std or tuple(old.get("std", HALF[1])),
        "num_classes": model.num_classes,
    }


def preprocessing(model: VisionTransformer) -> Preprocessing:
    """The preprocessing of validation and of every later use."""
    cfg: dict[str, Any] = model.pretrained_cfg
    mean, std = (as_rgb(f"pretrained_cfg[{name!r}]", cfg[name]) for name in ("mean", "std"))
    return Preprocessing(*model.img_size, cfg["crop_pct"], cfg["crop_mode"], cfg["interpolation"], mean, std)


def describe(model: VisionTransformer) -> dict[str, Any]:
    """Everything that `rebuild` needs, as JSON has it."""
    options = {**vars(model.options), "num_classes": model.num_classes, "img_size": list(model.img_size)}
    cfg = {key: list(value) if isinstance(value, tuple) else value for key, value in model.pretrained_cfg.items()}
    arch = {"name": model.arch.name, "pool": model.arch.pool, "norm": model.arch.norm}
    return {"architecture": arch, "options": options, "pretrained_cfg": cfg}


def rebuild(content: Mapping[str, Any]) -> VisionTransformer:
    """The described module, with arbitrary weights: a checkpoint fills them."""
    arch, options = content["architecture"], content["options"]
    row = replace(get_architecture(arch["name"]), pool=arch["pool"], norm=arch["norm"])
    with torch.device("meta"):
        model = VisionTransformer(row, Options(**{**options, "img_size": tuple(options["img_size"])}))
    model = model.to_empty(device="cpu")
    cfg = content["pretrained_cfg"]
    model.pretrained_cfg = {key: tuple(value) if isinstance(value, list) else value for key, value in cfg.items()}
    return model
