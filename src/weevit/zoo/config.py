"""Read `config.json` in the hub's format for timm models: what the model is, what it was made to see, what it can say.

Three spellings are understood: timm's today, timm's first (everything in one object), and that of transformers'
TimmWrapper. The file is a stranger's, so each value is checked against a table of what it may be. No pydantic here:
its import alone would cost a tenth of the time in which weevit answers a photo.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

from weevit.errors import CheckpointError, UnknownModelError, did_you_mean
from weevit.zoo.architectures import ARCHITECTURES, PATCH, Architecture
from weevit.zoo.fields import (
    NUMBERS,
    Fields,
    boolean,
    index_to_name,
    name_to_text,
    one_of,
    text,
)
from weevit.zoo.labels import Label, imagenet_labels
from weevit.zoo.quantized import MARK, Quantization, parse_quantization
from weevit.zoo.safetensors_file import open_regular
from weevit.zoo.strict_json import parse_json_object, shorten
from weevit.zoo.weights import BY_NAME, Preprocessing, Weight

MAX_CONFIG_BYTES = 16 << 20
"""12,000 classes with long descriptions have 1 MB."""

HARMLESS_ARGS = frozenset(
    [
        *("drop_rate", "pos_drop_rate", "patch_drop_rate", "proj_drop_rate", "attn_drop_rate", "drop_path_rate"),
        *("dynamic_img_size", "dynamic_img_pad", "strict_img_size", "weight_init", "fix_init", "init_values"),
        *("img_size", "in_chans", "num_classes", "global_pool", "fc_norm"),
    ]
)
"""Arguments of timm's models that do not change what the weights compute, and those that are read below."""

_ROW_ARGS: dict[str, Callable[[Architecture], object]] = {
    "patch_size": lambda arch: PATCH,
    "embed_dim": lambda arch: arch.embed_dim,
    "depth": lambda arch: arch.depth,
    "num_heads": lambda arch: arch.num_heads,
    "reg_tokens": lambda arch: arch.registers,
    "num_reg_tokens": lambda arch: arch.registers,
    "class_token": lambda arch: arch.class_token,
    "pool_include_prefix": lambda arch: False,
}
"""Arguments that are fine as long as they say what the architecture's row says."""


@dataclass(frozen=True)
class ModelConfig:
    """What a `config.json` says, checked.

    Attributes:
        architecture: the row, with `pool` as in the config.
        norm: where the config puts the last norm; None where it does not say.
        weight: the published weight that the config's tag names, None where it names none.
        is_published: whether it describes that weight itself, as far as a config can show.
        num_classes: None where the config does not say.
        in_chans: image channels.
        img_size: (height, width) that the positions were learned at, None where the config does not say.
        preprocessing: complete; nothing in it was guessed.
        labels: None where no names are known for sure.
        license: as published.
        notes: what the user should hear.
        raw: the file, as parsed.
        quantization: how the weights were quantised; None where they are floating point.
    """

    architecture: Architecture
    norm: Literal["before_pool", "after_pool"] | None
    weight: Weight | None
    is_published: bool
    num_classes: int | None
    in_chans: int
    img_size: tuple[int, int] | None
    preprocessing: Preprocessing
    labels: tuple[Label, ...] | None
    license: str | None
    notes: tuple[str, ...]
    raw: Mapping[str, Any]
    quantization: Quantization | None = None


def read_config(path: Path) -> dict[str, Any]:
    """Read the file as it is; `parse_config` gives it a meaning.

    Raises:
        MalformedFileError: not one JSON object with one reading.
        CheckpointError: missing, not a regular file, or over the size limit.
    """
    with open_regular(path, MAX_CONFIG_BYTES) as file:
        return parse_json_object(file.read(MAX_CONFIG_BYTES + 1), str(path))


def parse_config(raw: Mapping[str, Any], where: str) -> ModelConfig:
    """Check a config and give its values types.

    Args:
        raw: a parsed `config.json`.
        where: its path, for errors.

    Raises:
        UnknownModelError: the architecture is not of this family.
        CheckpointError: a value is missing or invalid; the message names the key.
    """
    fields = Fields(raw, where)
    quantization = parse_quantization(raw, where)
    base, tag = _architecture(fields, quantization is not None)
    _check_model_args(fields, base)
    weight = BY_NAME.get(f"{base.name}.{tag}")
    pool = fields.get("global_pool", one_of("token", "avg", shown="pooling")) or base.pool
    if pool == "token" and not base.class_token:
        raise fields.wrong("global_pool", "token", f"{base.name} has no class token, so it can only be 'avg'")
    fc_norm = fields.get("fc_norm", boolean)
    num_classes = fields.get("num_classes", NUMBERS["num_classes"])
    in_chans, img_size, preprocessing, notes = _input(fields, weight)
    labels, label_notes = _labels(fields, num_classes)
    is_published = quantization is None and _is_published(weight, num_classes, labels)
    if is_published and weight is not None:
        num_classes, labels = weight.num_classes, imagenet_labels(weight.num_classes) or labels
        notes += _differences(preprocessing, weight)
    return ModelConfig(
        architecture=replace(base, pool=cast(Any, pool)),
        norm=None if fc_norm is None else "after_pool" if fc_norm else "before_pool",
        weight=weight,
        is_published=is_published,
        num_classes=num_classes,
        in_chans=in_chans,
        img_size=img_size,
        preprocessing=preprocessing,
        labels=labels,
        license=fields.get("license", text) or (weight.license if weight else None),
        notes=notes + label_notes,
        raw=raw,
        quantization=quantization,
    )


def _architecture(fields: Fields, quantized: bool) -> tuple[Architecture, str | None]:
    """The row and the tag; a full tag may stand where the architecture is expected."""
    given = fields.get("architecture", text)
    if given is None:
        raise CheckpointError(
            f"{fields.where} names no architecture.", 'It is the key "architecture", as timm writes it.'
        )
    name, _, tag = given.removeprefix(MARK if quantized else "").partition(".")
    if name not in ARCHITECTURES:
        raise UnknownModelError(
            f"{fields.where}: the architecture {shorten(given)} is not one of the {len(ARCHITECTURES)} that weevit "
            "is for: timm's small vision transformers of the SBB family.",
            did_you_mean(name, ARCHITECTURES) or "weevit models   lists them all",
        )
    return ARCHITECTURES[name], tag or fields.get("tag", text)


def _check_model_args(fields: Fields, arch: Architecture) -> None:
    """Refuse arguments that would make the same weights compute something else."""
    for key, value in fields.model_args.items():
        same = key in HARMLESS_ARGS or (key in _ROW_ARGS and value == _ROW_ARGS[key](arch))
        if not same and value is not None:
            raise fields.wrong(f"model_args.{key}", value, f"not a variant of {arch.name} that weevit knows")


_PREPROCESSING: dict[str, Callable[[Any], Any]] = {
    **{key: NUMBERS[key] for key in ("input_size", "mean", "std", "crop_pct")},
    "interpolation": one_of("nearest", "bilinear", "bicubic", "lanczos", shown="filter"),
    "crop_mode": one_of("center", "squash", "border", shown="crop"),
}


def _input(fields: Fields, weight: Weight | None) -> tuple[int, tuple[int, int] | None, Preprocessing, tuple[str, ...]]:
    """Channels, size of the learned positions, preprocessing, notes."""
    found: dict[str, Any] = {key: fields.get(key, check) for key, check in _PREPROCESSING.items()}
    notes = _fill(found, weight, fields.where)
    in_chans, height, width = found["input_size"]
    img_size = fields.get("img_size", NUMBERS["img_size"])
    if img_size and fields.get("fixed_input_size", boolean):
        height, width = img_size  # the model takes no other size; older exports kept the size of their source here
    preprocessing = Preprocessing(
        height,
        width,
        found["crop_pct"],
        found["crop_mode"],
        found["interpolation"],
        found["mean"],
        found["std"],
    )
    return fields.get("in_chans", NUMBERS["in_chans"]) or in_chans, img_size, preprocessing, notes


def _fill(found: dict[str, Any], weight: Weight | None, where: str) -> tuple[str, ...]:
    """Fill in what the config leaves out, where it is known for sure; returns the notes on it."""
    missing = [key for key, value in found.items() if value is None]
    if not missing:
        return ()
    if weight is not None:
        published = weight.preprocessing
        known = {**vars(published), "input_size": (3, published.height, published.width)}
        found.update({key: known[key] for key in missing})
        return (f"{', '.join(missing)} missing in config.json: taken from the published weight {weight.name}",)
    if missing == ["crop_mode"]:
        found["crop_mode"] = "center"  # the only value there was before the format had the key
        return ("crop_mode missing in config.json: 'center', as the format defines",)
    raise CheckpointError(
        f"{where} does not say how images are prepared. Missing: {', '.join(missing)}. "
        "Nothing is guessed here: the wrong mean and std cost ViT-Ti 33 points of accuracy.",
        "Add them under pretrained_cfg, as in the config.json of the weights that this model was trained from.",
    )


def _differences(preprocessing: Preprocessing, weight: Weight) -> tuple[str, ...]:
    """A note where a config that carries a published tag asks for other preprocessing than was published."""
    ours, published = vars(preprocessing), vars(weight.preprocessing)
    different = [key for key in ours if not _close(ours[key], published[key])]
    if not different:
        return ()
    return (
        f"config.json differs from the published weight {weight.name} in {', '.join(different)}; config.json is used",
    )


def _close(a: object, b: object) -> bool:
    if isinstance(a, tuple) and isinstance(b, tuple):
        return all(_close(x, y) for x, y in zip(a, b, strict=True))
    return math.isclose(a, b, rel_tol=1e-6) if isinstance(a, float) and isinstance(b, float) else a == b


def _is_published(weight: Weight | None, num_classes: int | None, labels: tuple[Label, ...] | None) -> bool:
    """Whether the config can be that of the published weight: timm keeps the tag when it saves a fine-tuned model."""
    if weight is None or num_classes not in (None, weight.num_classes):
        return False
    published = imagenet_labels(weight.num_classes)
    if labels is None or published is None:
        return True
    # transformers writes the descriptions where timm writes the synsets
    return [label.id for label in labels] in ([label.id for label in published], [label.name for label in published])


# transformers invents these names where a model has none.
_PLACEHOLDER = re.compile(r"LABEL_\d+")


def _labels(fields: Fields, num_classes: int | None) -> tuple[tuple[Label, ...] | None, tuple[str, ...]]:
    """Class names as the config has them, None where it has none; and notes."""
    spellings = ("label_names", "labels", "id2label")  # timm today, timm at first, transformers
    names = next((found for key in spellings if (found := fields.get(key, index_to_name))), {})
    if all(_PLACEHOLDER.fullmatch(name) for name in names.values()):
        return None, ()
    if num_classes is None:
        raise CheckpointError(f"{fields.where} has {len(names)} label_names, but does not say num_classes.")
    # Names at 0, 1, 2, ... that end too early are a list for another model; an object with gaps is meant so.
    has_gaps = len(names) <= max(names)
    if max(names) >= num_classes or (len(names) < num_classes and not has_gaps):
        raise CheckpointError(f"{fields.where} has {len(names)} label_names for {num_classes} classes.")
    descriptions = fields.get("label_descriptions", name_to_text) or {}
    # A class without a name is called by its index; nothing is invented.
    ids = [names.get(index, str(index)) for index in range(num_classes)]
    published = imagenet_labels(num_classes)
    if published is not None and ids == [label.name for label in published]:
        return published, ()  # ImageNet's classes in words, in their order: so transformers and weevit write them
    return tuple(Label(name, descriptions.get(name, name)) for name in ids), _label_notes(len(names), ids)


def _label_notes(named: int, ids: list[str]) -> tuple[str, ...]:
    notes = []
    if named < len(ids):
        notes.append(f"{len(ids) - named} of {len(ids)} classes have no name and are called by their index")
    shared = [name for name, times in Counter(ids).items() if times > 1]
    if shared:
        notes.append(f"{len(shared)} names stand for more than one class, for instance {shorten(shared[0])}")
    return tuple(notes)
