"""The schema of `run.json`: the start of a run, from which the module and the machine are built again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from weevit.errors import MalformedFileError
from weevit.zoo.architectures import ARCHITECTURES
from weevit.zoo.fields import MAX_CLASSES, NUMBERS, boolean, height_width, one_of, whole
from weevit.zoo.records import (
    MAX_COUNT,
    Check,
    Flag,
    Name,
    anything,
    either,
    having,
    items,
    nothing,
    number,
    read_record,
    table,
    words,
)

MAX_THREADS = 1024
MAX_CHANNELS = 1024

_plain = table(words(256), anything, 1024)
_share = number(0, 1)

Plain = Annotated[dict[str, Any], _plain]
Share = Annotated[float, _share]


_pool = either(one_of("token", "avg", "", shown="pooling"), nothing)


_SEEN: dict[str, Check] = {
    **{name: NUMBERS[name] for name in ("crop_pct", "mean", "std")},
    "crop_mode": one_of("center", "squash", "border", shown="crop"),
    "interpolation": one_of("nearest", "bilinear", "bicubic", "lanczos", shown="interpolation"),
}
"""The keys of `pretrained_cfg` that are used; the others go into the `config.json` of the model."""


@dataclass(frozen=True)
class Architecture:
    """The row, and the pool and last norm of the module."""

    name: Annotated[str, one_of(*ARCHITECTURES, shown="architecture")]
    pool: Annotated[str, one_of("token", "avg", shown="pooling")]
    norm: Annotated[str, one_of("before_pool", "after_pool", shown="place of the last norm")]


@dataclass(frozen=True)
class Options:
    """As `weevit.nn.vit.Options`."""

    num_classes: Annotated[int, whole(0, MAX_CLASSES)]
    in_chans: Annotated[int, whole(1, MAX_CHANNELS)]
    img_size: Annotated[tuple[int, int], height_width]
    global_pool: Annotated[str | None, _pool] = None
    dynamic_img_size: Flag = False
    drop_rate: Share = 0.0
    pos_drop_rate: Share = 0.0
    patch_drop_rate: Share = 0.0
    proj_drop_rate: Share = 0.0
    attn_drop_rate: Share = 0.0
    drop_path_rate: Share = 0.0
    fix_init: Annotated[bool | None, either(boolean, nothing)] = None


@dataclass(frozen=True)
class Model:
    """As `weevit.training.module.describe`."""

    architecture: Architecture
    options: Options
    pretrained_cfg: Annotated[dict[str, Any], having(_plain, "an object", _SEEN)]


@dataclass(frozen=True)
class Facts:
    """The contents of `run.json`.

    Attributes:
        recipe: dotted key -> value.
        data: its fingerprint, and split -> number of images.
        classes: classes of the head, in order.
        weights: `source` and `sha256` of the first weights.
        model: the module.
        device, threads, precision, pieces: as `weevit.training.machine.Machine`.
        ranks: the processes that train together.
        in_time: whether its schedule ends within `loop.minutes` on any machine.
        end: the end of the run, once it ended.
    """

    recipe: Plain
    data: Annotated[dict[str, Any], table(words(64), either(whole(0, MAX_COUNT), words(64)), 16)]
    classes: Annotated[tuple[str, ...], items(words(4096), MAX_CLASSES)]
    weights: Annotated[dict[str, str], table(words(64), words(4096), 8)]
    model: Model
    device: Annotated[str, one_of("cpu", "cuda", "mps", "xpu", shown="device")]
    threads: Annotated[int, whole(1, MAX_THREADS)]
    precision: Annotated[str, one_of("fp32", "bf16", "fp16", shown="precision")]
    pieces: Annotated[int, whole(1, 1 << 20)]
    ranks: Annotated[int, whole(1, 1 << 16)] = 1
    deviations: Annotated[tuple[str, ...], items(words(), 4096)] = ()
    begun: Name = ""
    versions: Annotated[dict[str, Any], table(words(256), either(words(256), nothing), 256)] = field(
        default_factory=dict
    )
    machine: Plain = field(default_factory=dict)
    command: Annotated[tuple[str, ...], items(words(1 << 20), 1 << 16)] = ()
    in_time: Flag = False
    end: Plain | None = None


def check_facts(raw: Mapping[str, Any], where: str) -> None:
    """Refuse a `run.json` that weevit would not have written; a MalformedFileError names the key."""
    facts = read_record(Facts, raw, where)
    options, row = facts.model.options, ARCHITECTURES[facts.model.architecture.name]
    if facts.model.architecture.pool == "token" and not row.class_token:
        raise MalformedFileError(f"{where}: model.architecture.pool is 'token'; {row.name} has no class token.")
    if options.num_classes != len(facts.classes):
        raise MalformedFileError(
            f"{where}: model.options.num_classes is {options.num_classes:,}; there are {len(facts.classes):,} classes."
        )
