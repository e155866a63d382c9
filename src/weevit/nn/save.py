"""`save`: a module as a folder in the hub's format, with any wrapper and any linear head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from weevit.errors import UsageError
from weevit.nn.vit import VisionTransformer
from weevit.store.files import writing
from weevit.zoo.checkpoint import Checkpoint
from weevit.zoo.decision import Decision
from weevit.zoo.labels import Label
from weevit.zoo.layout import tensor_shapes, to_timm_name
from weevit.zoo.weights import RGB, Preprocessing
from weevit.zoo.writing import write_checkpoint

_WRAPPERS = ("_orig_mod", "module", "_checkpoint_wrapped_module")
"""Attribute of the module in torch.compile, DistributedDataParallel or a moving average, and activation
checkpointing."""


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
    model = _unwrapped(model)
    cfg = model.pretrained_cfg
    if not cfg:
        raise UsageError(
            "This model's preprocessing is unknown: its pretrained_cfg is empty.",
            "Make it with weevit.create_model, or set model.pretrained_cfg (input_size, mean, std, crop_pct, ...).",
        )
    state = {  # without the prefixes of wrappers around single blocks
        ".".join(word for word in name.split(".") if word not in _WRAPPERS): tensor
        for name, tensor in model.state_dict().items()
    }
    num_classes = _with_plain_head(state, model.head)
    labels = _labels(cfg, class_names, num_classes)
    shapes = tensor_shapes(model.arch, num_classes, model.grid, model.in_chans)
    names = {to_timm_name(name, model.arch): name for name in shapes}
    _check(state, names)
    tensors = {own: state[name].detach().to("cpu", torch.float32).numpy() for name, own in names.items()}
    extra = {"license": cfg["license"]} if cfg.get("license") else {}
    arch = replace(model.arch, pool=model.global_pool or model.arch.pool)
    with writing(Path(folder)):
        return write_checkpoint(folder, arch, tensors, _preprocessing(model, cfg), labels, extra, decision)


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
    inner = [module for name, module in head.named_modules() if not list(module.children())]
    linear = [module for module in inner if isinstance(module, nn.Linear)]
    others = [module for module in inner if not isinstance(module, nn.Linear | nn.Identity | nn.Dropout)]
    if others or len(linear) > 1:
        raise UsageError(
            f"The format has room for one linear layer as head: this one has "
            f"{', '.join(type(module).__name__ for module in inner)}.",
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


def _preprocessing(model: VisionTransformer, cfg: Mapping[str, Any]) -> Preprocessing:
    (height, width), mean, std = model.img_size, _rgb(cfg["mean"]), _rgb(cfg["std"])
    return Preprocessing(height, width, cfg["crop_pct"], cfg["crop_mode"], cfg["interpolation"], mean, std)


def _rgb(values: Sequence[float]) -> RGB:
    red, green, blue = values if len(values) == 3 else [*values] * 3
    return red, green, blue


def _labels(cfg: Mapping[str, Any], class_names: Sequence[str] | None, num_classes: int) -> list[Label] | None:
    if class_names is None:
        names = cfg.get("label_names")
        descriptions = cfg.get("label_descriptions") or {}
        known = names is not None and len(names) == num_classes
        return [Label(name, descriptions.get(name, name)) for name in names or ()] if known else None
    if len(class_names) != num_classes:
        raise UsageError(f"{len(class_names)} class names for {num_classes} classes.")
    return [Label(name, name) for name in class_names]
