"""`save`: a module as a folder in the hub's format, with any wrapper and any linear head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from weevit.errors import UsageError
from weevit.nn.layers import Dropout, DropPath, PatchDropout
from weevit.nn.vit import VisionTransformer
from weevit.store.files import writing
from weevit.store.outputs import local
from weevit.zoo.checkpoint import Checkpoint
from weevit.zoo.decision import Decision
from weevit.zoo.labels import Label
from weevit.zoo.layout import tensor_shapes, to_timm_name
from weevit.zoo.weights import RGB, Preprocessing
from weevit.zoo.writing import write_checkpoint

_WRAPPERS = ("_orig_mod", "module", "_checkpoint_wrapped_module")
"""Attribute of the module in torch.compile, DistributedDataParallel or a moving average, and activation
checkpointing."""

_PLAIN = (nn.Linear, nn.Identity, nn.Dropout, Dropout, nn.Sequential)
"""Parts of a head that the format has a place for."""


def save(
    model: nn.Module,
    folder: str | Path,
    class_names: Sequence[str] | None = None,
    decision: Decision | None = None,
) -> Checkpoint:
    """Write a module as a folder in the hub's format: weevit, timm (`local-dir:`) and transformers load it.

    Args:
        model: made by `create_model`; it may be compiled, or wrapped for distributed training or averaging. Its head
            may
            be your own: a linear layer, optionally with dropout in front of it.
        folder: made if needed.
        class_names: a name for each class; None for those of the loaded model.
        decision: the rule from logits to an answer; None for plain softmax.

    Returns:
        The checkpoint, read back.

    Raises:
        UsageError: a model without preprocessing, with another number of classes than of names, or with parts that the
            format cannot hold. Nothing is written then.
        CheckpointError: a weight is NaN or infinite.
        OutputError: the disk is full or the folder cannot be written.
    """
    folder = local(folder, "folder")
    model = _unwrapped(model)
    cfg = model.pretrained_cfg
    if not cfg:
        raise UsageError(
            "This model's preprocessing is unknown: its pretrained_cfg is empty.",
            "Make it with weevit.create_model, or set model.pretrained_cfg (input_size, mean, std, crop_pct, ...).",
        )
    found = plain_tensors(model)
    labels = _labels(cfg, class_names, len(found.get("head.weight", ())))
    spec = _preprocessing(model, cfg)
    tensors = {name: tensor.detach().to("cpu", torch.float32).numpy() for name, tensor in found.items()}
    extra = {"license": cfg["license"]} if cfg.get("license") else {}
    arch = replace(model.arch, pool=model.global_pool or model.arch.pool)
    with writing(folder):
        return write_checkpoint(folder, arch, tensors, spec, labels, extra, decision)


def plain_tensors(model: VisionTransformer) -> dict[str, Tensor]:
    """A module's tensors by weevit's names; UsageError for parts that its architecture does not have."""
    state = {_plain_name(name): tensor for name, tensor in model.state_dict().items()}
    shapes = tensor_shapes(model.arch, _with_plain_head(state, model.head), model.grid, model.in_chans)
    names = {to_timm_name(name, model.arch): name for name in shapes}
    _check(state, names)
    _check_parts(model)
    return {own: state[name] for name, own in names.items()}


def _unwrapped(model: nn.Module) -> VisionTransformer:
    given = type(model).__name__
    while not isinstance(model, VisionTransformer):
        inner = next((own for name in _WRAPPERS if isinstance(own := getattr(model, name, None), nn.Module)), None)
        if inner is None:
            raise UsageError(
                f"weevit.save takes a model that weevit.create_model made, or one wrapped by torch.compile or "
                f"DistributedDataParallel: {given} is neither.",
                "Of a peft model, save model.merge_and_unload(); of a module of your own, the model inside it.",
            )
        model = inner
    return model


def _with_plain_head(state: dict[str, Tensor], head: nn.Module) -> int:
    """Rename the head's tensors as in the format, in place; returns its width."""
    inner = [module for module in head.modules() if not any(hasattr(module, name) for name in _WRAPPERS)]
    linear = [module for module in inner if type(module) is nn.Linear]  # a subclass may compute something else
    if len(linear) > 1 or any(type(module) not in _PLAIN for module in inner):
        raise UsageError(
            f"The format has room for one linear layer as head: this one has "
            f"{', '.join(type(module).__name__ for module in inner if type(module) is not nn.Sequential)}.",
            "model.head = torch.nn.Linear(model.num_features, number_of_classes), and train that.",
        )
    for name in [name for name in state if name.startswith("head.")]:
        del state[name]
    if not linear:
        return 0
    state["head.weight"] = linear[0].weight
    bias: Tensor | None = linear[0].bias
    state["head.bias"] = torch.zeros(len(linear[0].weight)) if bias is None else bias
    return len(linear[0].weight)


def _check(state: Mapping[str, Tensor], expected: Mapping[str, str]) -> None:
    different = [f"- {name}" for name in expected if name not in state]
    different += [f"+ {name}" for name in state if name not in expected]
    if different:
        raise UsageError(
            f"This module has other parts than its architecture (- missing, + more): {', '.join(different[:6])}"
            f"{' ...' if len(different) > 6 else ''}.",
            "Merge adapters, remove parametrisations, and save a model that still has all its blocks.",
        )


def _check_parts(model: VisionTransformer) -> None:
    """Refuse parts that compute something else than those of the architecture: no tensor would tell the reader."""
    with torch.device("meta"):
        made = VisionTransformer(model.arch, replace(model.options, num_classes=0, global_pool=None))
    own = {_plain_name(name): part for name, part in model.named_modules()}  # of a wrapper, what is inside
    for name, part in made.named_modules():
        if not list(part.children()) and name != "head" and _says(own[name]) != _says(part):
            raise UsageError(
                f"{name} is {_says(own[name]) or 'an identity'} in this module, and {_says(part) or 'an identity'} in "
                f"its architecture: the format has no place for other parts.",
                "Where both compute the same, load the state_dict into a fresh create_model, and save that.",
            )


def _says(part: nn.Module) -> str:
    """What a part computes when it answers, in words; empty where its output is its input."""
    passes = isinstance(part, nn.Identity | nn.Dropout | PatchDropout | DropPath)
    return "" if passes else f"{type(part).__name__}({part.extra_repr()})"


def _plain_name(name: str) -> str:
    """A name without the prefixes of wrappers around single blocks."""
    return ".".join(word for word in name.split(".") if word not in _WRAPPERS)


def _preprocessing(model: VisionTransformer, cfg: Mapping[str, Any]) -> Preprocessing:
    missing = [key for key in ("crop_pct", "crop_mode", "interpolation", "mean", "std") if cfg.get(key) is None]
    if missing:
        raise UsageError(
            f"This model's preprocessing is unknown: its pretrained_cfg lacks {', '.join(missing)}.",
            f"model.pretrained_cfg.update({missing[0]}=...), as in training",
        )
    (height, width), mean, std = model.img_size, _rgb("mean", cfg["mean"]), _rgb("std", cfg["std"])
    return Preprocessing(height, width, cfg["crop_pct"], cfg["crop_mode"], cfg["interpolation"], mean, std)


def _rgb(key: str, values: Sequence[float]) -> RGB:
    try:
        numbers = [float(value) for value in values]  # of an array or a tensor, too
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) not in (1, 3):
        raise UsageError(
            f"pretrained_cfg[{key!r}] has 3 numbers, or one for all channels: {values!r} was given.",
            "A model of other channels takes those of red, green and blue in turn.",
        )
    red, green, blue = numbers if len(numbers) == 3 else numbers * 3
    return red, green, blue


def _labels(cfg: Mapping[str, Any], class_names: Sequence[str] | None, num_classes: int) -> list[Label] | None:
    if class_names is None:
        names = cfg.get("label_names")
        descriptions = cfg.get("label_descriptions") or {}
        known = names is not None and len(names) == num_classes
        return [Label(name, descriptions.get(name, name)) for name in names or ()] if known else None
    if isinstance(class_names, str):
        raise UsageError(f"class_names is a list of names: the text {class_names!r} was given.")
    class_names = list(class_names)
    if len(class_names) != num_classes:
        raise UsageError(f"{len(class_names)} class names for {num_classes} classes.")
    return [Label(name, name) for name in class_names]
