"""`create_model`, `list_models`: modules by timm's names, with and without weights."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import fields, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, overload

import torch
from torch import Tensor, nn

from weevit.arguments import whole, within
from weevit.errors import UsageError, did_you_mean
from weevit.nn.devices import named_device
from weevit.nn.features import FeatureExtractor
from weevit.nn.patches import Size, check_size, resample
from weevit.nn.vit import Options, Pool, VisionTransformer, to_tensor
from weevit.zoo.architectures import ARCHITECTURES, PATCH, Architecture, get_architecture
from weevit.zoo.checkpoint import Checkpoint, read_checkpoint
from weevit.zoo.fields import MAX_CHANNELS, MAX_CLASSES
from weevit.zoo.layout import to_timm_name
from weevit.zoo.resolve import check_name, resolve
from weevit.zoo.weights import BY_NAME, Preprocessing, find_weight

_OPTIONS = tuple(field.name for field in fields(Options))


class ModuleOptions(TypedDict, total=False):
    """The fields of `Options`, for type checkers; an `img_size` may be one side."""

    num_classes: int
    in_chans: int
    img_size: int | Size | None
    global_pool: Pool | None
    dynamic_img_size: bool
    drop_rate: float
    pos_drop_rate: float
    patch_drop_rate: float
    proj_drop_rate: float
    attn_drop_rate: float
    drop_path_rate: float
    fix_init: bool | None


class MoreOptions(ModuleOptions, total=False):
    """Further arguments of `create_model`."""

    out_indices: int | Sequence[int]
    cache_dir: str | Path | None
    device: str | torch.device | None
    dtype: torch.dtype | None


@overload
def create_model(
    model_name: str,
    pretrained: bool = ...,
    checkpoint_path: str | Path = ...,
    features_only: Literal[False] = ...,
    **more: Unpack[MoreOptions],
) -> VisionTransformer: ...
@overload
def create_model(
    model_name: str,
    pretrained: bool = ...,
    checkpoint_path: str | Path = ...,
    *,
    features_only: Literal[True],
    **more: Unpack[MoreOptions],
) -> FeatureExtractor: ...
@overload
def create_model(
    model_name: str,
    pretrained: bool = ...,
    checkpoint_path: str | Path = ...,
    features_only: bool = ...,
    **more: Unpack[MoreOptions],
) -> VisionTransformer | FeatureExtractor: ...
def create_model(
    model_name: str,
    pretrained: bool = False,
    checkpoint_path: str | Path = "",
    features_only: bool = False,
    out_indices: int | Sequence[int] = 3,
    cache_dir: str | Path | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    **options: Unpack[ModuleOptions],
) -> VisionTransformer | FeatureExtractor:
    """A module of the family, by timm's name and with timm's arguments.

    Args:
        model_name: an alias, full tag or architecture, `hf-hub:org/name`, `local-dir:folder`, or a folder.
        pretrained: load the weights that the name means. Without it the weights are fresh, as timm makes them.
        checkpoint_path: load these weights instead: a folder in the hub's format, or a `.safetensors` file. They are
            of the architecture that `model_name` means, at any image size; an empty name means whichever they have.
        features_only: a module that gives the maps of some blocks, each [B, D, rows, columns].
        out_indices: which blocks, for `features_only`: the last n for a number, else these.
        cache_dir: where models of the hub are kept; by default where huggingface_hub keeps them.
        device, dtype: of the parameters; PyTorch's own where None.
        options: the fields of `weevit.nn.vit.Options`: num_classes, in_chans, img_size, global_pool, drop_path_rate
            and so on. A head of another width than the checkpoint's starts fresh; image channels are adapted and
            positions resampled as timm does.

    Returns:
        A `VisionTransformer`, in training mode as torch modules are; a `FeatureExtractor` for `features_only`.

    Raises:
        UsageError: an unknown argument, name or value; the nearest ones are named.
        ModelError: the weights cannot be had or trusted.
    """
    unknown = [name for name in options if name not in _OPTIONS]
    if unknown:
        near = did_you_mean(unknown[0], _OPTIONS)
        raise UsageError(f"create_model takes no {unknown[0]!r}. {near}".rstrip(), f"It takes {', '.join(_OPTIONS)}.")
    chosen, place = _checked(options), _place(device, dtype)
    check_name(model_name)
    if checkpoint_path:
        checkpoint = read_checkpoint(checkpoint_path)
        size = _size_for(checkpoint, model_name, cache_dir) if model_name else {}
        model = from_checkpoint(checkpoint, {**size, **chosen})
    elif pretrained or (find_weight(model_name) is None and model_name not in ARCHITECTURES):
        checkpoint = resolve(model_name, cache_dir=cache_dir)
        model = from_checkpoint(checkpoint, chosen) if pretrained else _fresh_like(checkpoint, chosen)
    else:
        with place or nullcontext():
            model = _fresh(model_name, chosen)
    model = model.to(device=place, dtype=dtype)
    return FeatureExtractor(model, out_indices) if features_only else model


def _size_for(checkpoint: Checkpoint, name: str, cache_dir: str | Path | None) -> dict[str, Size]:
    """The image size of a model's name, for the weights of a checkpoint; UsageError where they are another model's."""
    named = ARCHITECTURES.get(name) or (find_weight(name) or resolve(name, cache_dir=cache_dir)).architecture
    own = checkpoint.architecture
    if own.name == named.name:
        return {}
    if _parts(own) != _parts(named):
        raise UsageError(
            f"{checkpoint.source} holds the weights of {own.name}, and model_name {name!r} means {named.name}.",
            f"weevit.create_model({own.name!r}, checkpoint_path=...)",
        )
    return {"img_size": (named.img_size, named.img_size)}


def _parts(arch: Architecture) -> Architecture:
    """What the tensors depend on, without the positions' number."""
    return replace(arch, name="", img_size=0, pool="avg", norm="after_pool")


def _checked(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that say something, as in timm, where None is the default of each; UsageError for a wrong value."""
    found = {name: value for name, value in options.items() if value is not None}
    for name, value in found.items():
        if name.endswith("_rate"):
            within(name, value, 0, 1)
        elif name in ("dynamic_img_size", "fix_init") and not isinstance(value, bool):
            raise UsageError(f"{name} is True or False: {value!r} was given.")
    for name, low, high in (("num_classes", 0, MAX_CLASSES), ("in_chans", 1, MAX_CHANNELS)):
        if name in found:
            found[name] = whole(name, found[name], low, high)
    if "img_size" in found:
        found["img_size"] = check_size(found["img_size"])
    return found


def _place(device: str | torch.device | None, dtype: torch.dtype | None) -> torch.device | None:
    """The device that the parameters are made on; UsageError for one that is not there, and for another dtype."""
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise UsageError(f"dtype is a floating-point type of PyTorch: {dtype!r} was given.", "dtype=torch.bfloat16")
    return None if device is None else named_device(device, f"device={device!r}")


def list_models(filter: str | Sequence[str] = "", pretrained: bool = False) -> list[str]:
    """Names of architectures, or with `pretrained` of published weights, that match a pattern (`*` and `?`)."""
    names = sorted(BY_NAME if pretrained else ARCHITECTURES)
    patterns = [filter] if isinstance(filter, str) else list(filter)
    return [name for name in names if any(fnmatchcase(name, own or "*") for own in patterns or [""])]


def from_checkpoint(checkpoint: Checkpoint, options: Mapping[str, Any]) -> VisionTransformer:
    """A checkpoint as a module with some other `Options`; only tensors that the checkpoint lacks are initialised."""
    chosen = _options(checkpoint, options)
    with ThreadPoolExecutor(1, "weevit-read") as reader:  # files are read and hashed while the module is put together
        reading = reader.submit(checkpoint.floats)
        with torch.device("meta"):  # shapes without memory and without initialisation
            model = VisionTransformer(checkpoint.architecture, chosen)
        tensors = {name: to_tensor(array) for name, array in reading.result().items()}
    _fit(tensors, checkpoint, model)
    state = {to_timm_name(name, checkpoint.architecture): tensor for name, tensor in tensors.items()}
    model.load_state_dict(state, strict=True, assign=True)
    model.pretrained_cfg = _pretrained_cfg(checkpoint, model)
    return model


def _fit(tensors: dict[str, Tensor], checkpoint: Checkpoint, model: VisionTransformer) -> None:
    """Adapt a checkpoint's tensors to a module with other options, in place."""
    options, width = model.options, checkpoint.architecture.embed_dim
    if options.num_classes != checkpoint.num_classes:
        tensors.pop("head.weight", None)
        tensors.pop("head.bias", None)
        if options.num_classes:
            weight = torch.empty(options.num_classes, width)
            tensors["head.weight"] = nn.init.trunc_normal_(weight, std=0.02)
            tensors["head.bias"] = torch.zeros(options.num_classes)
    if options.in_chans != checkpoint.in_chans:
        name = "patch_embed.proj.weight"
        tensors[name] = adapt_channels(tensors[name], options.in_chans)
    if "pos_embed" in tensors and model.grid != checkpoint.grid:
        covered = checkpoint.architecture.num_prefix if checkpoint.architecture.embeds_prefix else 0
        tensors["pos_embed"] = resample(tensors["pos_embed"], covered, checkpoint.grid, model.grid)
    if model.arch.norm != checkpoint.architecture.norm:
        _move_norm(tensors, model, keep=options.num_classes == checkpoint.num_classes)


def _move_norm(tensors: dict[str, Tensor], model: VisionTransformer, keep: bool) -> None:
    """Rename the last norm for another pool; with the checkpoint's head it keeps its weights, with another it starts
    fresh.

    timm loads no such model with the checkpoint's head, and with another head it leaves the norm fresh.
    """
    old, new = ("norm", "fc_norm") if model.arch.norm == "after_pool" else ("fc_norm", "norm")
    moved = {part: tensors.pop(f"{old}.{part}") for part in ("weight", "bias")}
    if not keep:
        warnings.warn(
            f"With global_pool={model.global_pool!r} the last norm is another layer; as in timm it starts fresh,  "
            f"and the checkpoint's {old}.weight and {old}.bias are not used.",
            stacklevel=2,
        )
        moved = {"weight": torch.ones_like(moved["weight"]), "bias": torch.zeros_like(moved["bias"])}
    tensors.update({f"{new}.{part}": tensor for part, tensor in moved.items()})


def adapt_channels(weight: Tensor, in_chans: int) -> Tensor:
    """The patch embedding of RGB images for another number of channels, as timm: summed for one, else repeated.

    (D, 3, 16, 16) becomes (D, in_chans, 16, 16), such that a grey image gives the same tokens.
    """
    if in_chans == 1:
        return weight.sum(dim=1, keepdim=True)
    if weight.shape[1] != 3:
        raise UsageError(f"Weights for {weight.shape[1]} channels cannot be adapted to {in_chans}; those for 3 can.")
    return weight.repeat(1, -(-in_chans // 3), 1, 1)[:, :in_chans] * (3 / in_chans)


def _fresh(name: str, options: Mapping[str, Any]) -> VisionTransformer:
    weight = find_weight(name)
    arch = weight.architecture if weight else get_architecture(name)
    own = Options(num_classes=weight.num_classes if weight else 1000)
    model = VisionTransformer(arch, replace(own, **options))
    if weight:
        described = weight.name.partition(".")[2], weight.license, weight.preprocessing
        model.pretrained_cfg = _cfg(arch, model, *described)
    return model


def _fresh_like(checkpoint: Checkpoint, options: Mapping[str, Any]) -> VisionTransformer:
    model = VisionTransformer(checkpoint.architecture, _options(checkpoint, options))
    model.pretrained_cfg = _pretrained_cfg(checkpoint, model)
    return model


def _options(checkpoint: Checkpoint, changes: Mapping[str, Any]) -> Options:
    rows, columns = checkpoint.grid
    return replace(Options(checkpoint.num_classes, checkpoint.in_chans, (rows * PATCH, columns * PATCH)), **changes)


def _pretrained_cfg(checkpoint: Checkpoint, model: VisionTransformer) -> dict[str, Any]:
    tag = checkpoint.name.partition(".")[2] if checkpoint.name in BY_NAME else None
    cfg = _cfg(checkpoint.architecture, model, tag, checkpoint.license, checkpoint.preprocessing)
    if checkpoint.labels and model.num_classes == checkpoint.num_classes:
        cfg["label_names"] = [label.id for label in checkpoint.labels]
        cfg["label_descriptions"] = {label.id: label.name for label in checkpoint.labels}
    return cfg


def _cfg(
    arch: Architecture, model: VisionTransformer, tag: str | None, license_name: str | None, spec: Preprocessing
) -> dict[str, Any]:
    """timm's `pretrained_cfg` of this module."""
    return {
        "architecture": arch.name,
        "tag": tag,
        "input_size": (model.in_chans, *model.img_size),
        "fixed_input_size": not model.dynamic_img_size,
        "pool_size": None,
        "interpolation": spec.interpolation,
        "crop_pct": spec.crop_pct,
        "crop_mode": spec.crop_mode,
        "mean": spec.mean,
        "std": spec.std,
        "num_classes": model.num_classes,
        "first_conv": "patch_embed.proj",
        "classifier": "head",
        "license": license_name,
    }
