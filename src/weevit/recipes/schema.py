# ruff: noqa: RUF009  (`setting` makes a dataclass field, as `dataclasses.field` does)
"""The schema of a recipe: one dataclass for each part of the file, one field for each key, with default, kind, range.

Where the recipes of the family agree on a value, that value is the default.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from weevit.errors import RecipeError
from weevit.recipes.duration import Duration
from weevit.recipes.randaugment import RandAugment
from weevit.recipes.values import Kind, duration, flag, number, one_of, optional, setting, several, text, whole
from weevit.zoo.weights import CROP, MEAN, STD

Pair = tuple[float, float]
RGB = tuple[float, float, float]

_LONGEST_SENTENCE = 200
"""Characters of RandAugment's notation: its seven words have fewer than a hundred."""


def _sentence(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST_SENTENCE:
        raise ValueError
    RandAugment.parse(value)
    return value


@dataclass(frozen=True)
class ModelPart:
    """What is trained.

    Attributes:
        name: architecture, alias, full tag or path, as everywhere.
        pretrained: start from the weights of that name; from fresh ones otherwise.
        image_size: side of the training and validation images in pixels.
        drop_path: of whole branches, rising from 0 in the first block to this in the last.
        drop: dropout before the head.
        patch_drop: share of patches left out in training.
        fix_init: scale the output projections down with depth at the start; the architecture's habit where None.
        head_init_scale: the fresh head is multiplied by this; as it was initialised where None.
    """

    name: str = setting("vit_pwee_patch16_reg1_gap_256", text())
    pretrained: bool = setting(False, flag())
    image_size: int = setting(256, whole(16, 4096))
    drop_path: float = setting(0.2, number(0, 0.9))
    drop: float = setting(0.0, number(0, 0.9))
    patch_drop: float = setting(0.0, number(0, 0.9))
    fix_init: bool | None = setting(None, optional(flag()))
    head_init_scale: float | None = setting(None, optional(number(0, 10)))


@dataclass(frozen=True)
class DataPart:
    """Where the images come from, and how validation sees them.

    Attributes:
        path: what `weevit.datasets` reads; `--data` on the command line where None.
        multi_label: images may have several classes or none; must be what the data says.
        validation_share: of the training split, where the data has no validation split.
        hold_out: share of the training split that becomes the held-out split, evaluated on in place of the validation
            split, which the run then never looks at; None for none.
        repeats: how often an epoch shows an image, each time with other draws, over a share of the images that is
            smaller by as much (repeated augmentation, arXiv:1901.09335); 1 or 0 for none.
        crop_pct, crop_mode, interpolation: of validation, as `Preprocessing`.
        mean, std: of both; those of the model's weights where None.
    """

    path: str | None = setting(None, optional(text()))
    multi_label: bool = setting(False, flag())
    validation_share: float = setting(0.2, number(0, 0.9, above=True))
    hold_out: float | None = setting(None, optional(number(0, 0.9, above=True)))
    repeats: int = setting(0, whole(0, 16))
    crop_pct: float = setting(0.95, number(*CROP))
    crop_mode: Literal["center", "squash", "border"] = setting("center", one_of("center", "squash", "border"))
    interpolation: Literal["bilinear", "bicubic"] = setting("bicubic", one_of("bilinear", "bicubic"))
    mean: RGB | None = setting(None, optional(several(number(*MEAN), 3, 3)))
    std: RGB | None = setting(None, optional(several(number(*STD), 3, 3)))


@dataclass(frozen=True)
class AugmentPart:
    """What is done to one training image, in this order.

    Attributes:
        crop: `random_resized` (a random part of random shape), or `as_validation`.
        scale: share of the image's area that the part has, smallest and largest.
        ratio: its width over its height, smallest and largest.
        interpolation: `bilinear`, `bicubic`, or one of them at `random` for each image.
        hflip, vflip: probability of a flip.
        randaugment: timm's small language, as in `rand-m6-inc1-mstd1.0-n3`; None for none.
        color_jitter: strength for brightness, contrast and saturation; None for none.
        color_jitter_prob, grayscale_prob, blur_prob: probability that an image is treated so.
        erase_prob: of random erasing (arXiv:1708.04896).
        erase_mode: filled with a `pixel` of noise each, one `rand` colour, or the mean colour (`const`).
        erase_count: rectangles, at most.
        treated_by: what RandAugment, colour jitter and the rest are computed by: the `workers`, image by image, or the
            `device`, batch by batch and within a grey level for each treatment. The draws are the same.
    """

    crop: Literal["random_resized", "as_validation"] = setting(
        "random_resized", one_of("random_resized", "as_validation")
    )
    scale: Pair = setting((0.08, 1.0), several(number(0, 1, above=True), 2, 2))
    ratio: Pair = setting((3 / 4, 4 / 3), several(number(0.1, 10), 2, 2))
    interpolation: Literal["random", "bilinear", "bicubic"] = setting("random", one_of("random", "bilinear", "bicubic"))
    hflip: float = setting(0.5, number(0, 1))
    vflip: float = setting(0.0, number(0, 1))
    randaugment: str | None = setting(None, optional(Kind("a sentence such as rand-m6-inc1-mstd1.0-n3", _sentence)))
    color_jitter: float | None = setting(None, optional(number(0, 2)))
    color_jitter_prob: float = setting(1.0, number(0, 1))
    grayscale_prob: float = setting(0.0, number(0, 1))
    blur_prob: float = setting(0.0, number(0, 1))
    erase_prob: float = setting(0.2, number(0, 1))
    erase_mode: Literal["pixel", "rand", "const"] = setting("pixel", one_of("pixel", "rand", "const"))
    erase_count: int = setting(1, whole(1, 16))
    treated_by: Literal["workers", "device"] = setting("workers", one_of("workers", "device"))


@dataclass(frozen=True)
class MixPart:
    """What is done to a batch of training images and their targets.

    Attributes:
        mixup: alpha of mixup (arXiv:1710.09412); 0 for none.
        cutmix: alpha of cutmix (arXiv:1905.04899); 0 for none.
        prob: probability that a batch (a pair, an image) is mixed at all.
        switch: probability of cutmix rather than mixup, where both are on.
        mode: one draw for a `batch`, for each `pair`, or for each image (`elem`).
        until: mixing ends here; None for never.
    """

    mixup: float = setting(0.0, number(0, 10))
    cutmix: float = setting(0.0, number(0, 10))
    prob: float = setting(1.0, number(0, 1))
    switch: float = setting(0.5, number(0, 1))
    mode: Literal["batch", "pair", "elem"] = setting("batch", one_of("batch", "pair", "elem"))
    until: Duration | None = setting(None, optional(duration()))

    @property
    def active(self) -> bool:
        """Whether anything is mixed."""
        return self.prob > 0 and (self.mixup > 0 or self.cutmix > 0)


@dataclass(frozen=True)
class LossPart:
    """What is minimised.

    Attributes:
        kind: `cross_entropy`, or `bce`: binary cross-entropy of each class.
        smoothing: label smoothing (arXiv:1512.00567).
        sum: bce alone: sum over classes, not mean.
        target_threshold: bce alone: soft targets above it become 1, the others 0; None leaves them soft.
        class_weights: `balanced` gives rare classes the weight n / (classes * n_of_class).
    """

    kind: Literal["cross_entropy", "bce"] = setting("cross_entropy", one_of("cross_entropy", "bce"))
    smoothing: float = setting(0.1, number(0, 0.9))
    sum: bool = setting(False, flag())
    target_threshold: float | None = setting(None, optional(number(0, 0.99)))
    class_weights: Literal["none", "balanced"] = setting("none", one_of("none", "balanced"))


@dataclass(frozen=True)
class OptimPart:
    """How weights are updated.

    Attributes:
        name: `nadamw`, `adamw` or `nadamuon`, each as timm defines it.
        lr: learning rate; where None, `base_lr` scaled with the batch (`Recipe.learning_rate`).
        base_lr, base_batch, scaling: base_lr at base_batch; `sqrt` or `linear` in batch / base_batch, or `none`.
        betas, eps: of Adam's averages.
        momentum, ns_steps: nadamuon alone: of its matrices, and Newton-Schulz iterations.
        weight_decay: decoupled; not on biases, norms, positions and class token.
        registers: registers are decayed `as_published` (timm before 1.0.29), or not (`fixed`).
        layer_decay: each block's rate is this times that of the block above; None for one rate.
        clip, clip_mode: of gradients: by their `norm` over all weights, or each `value`; None for no clipping.
    """

    name: Literal["nadamw", "adamw", "nadamuon"] = setting("nadamw", one_of("nadamw", "adamw", "nadamuon"))
    lr: float | None = setting(None, optional(number(0, 10, above=True)))
    base_lr: float | None = setting(None, optional(number(0, 10, above=True)))
    base_batch: int = setting(512, whole(1, 1 << 20))
    scaling: Literal["sqrt", "linear", "none"] = setting("sqrt", one_of("sqrt", "linear", "none"))
    betas: Pair = setting((0.9, 0.999), several(number(0, 0.999999), 2, 2))
    eps: float = setting(1e-8, number(0, 1, above=True))
    momentum: float = setting(0.95, number(0, 0.9999))
    ns_steps: int = setting(5, whole(1, 99))
    weight_decay: float = setting(0.05, number(0, 10))
    registers: Literal["as_published", "fixed"] = setting("as_published", one_of("as_published", "fixed"))
    layer_decay: float | None = setting(None, optional(number(0, 1, above=True)))
    clip: float | None = setting(5.0, optional(number(0, 1e6, above=True)))
    clip_mode: Literal["norm", "value"] = setting("norm", one_of("norm", "value"))


@dataclass(frozen=True)
class SchedulePart:
    """How the learning rate moves; it changes with every update.

    Attributes:
        kind: `cosine` (arXiv:1608.03983) or `linear` down to `min_lr`, or `constant` after the warmup.
        epochs: length without the cooldown; a number alone means epochs.
        warmup: linear from `warmup_lr`; part of `epochs`, but for `warmup_prefix`. A share is of `epochs`.
        cooldown: at `min_lr`, after `epochs`.
        warmup_prefix: `epochs` begin at the end of the warmup; otherwise, as in the published recipes, at step 0.
    """

    kind: Literal["cosine", "linear", "constant"] = setting("cosine", one_of("cosine", "linear", "constant"))
    epochs: Duration = setting(Duration(100, "epochs"), duration("epochs", ("epochs", "steps", "samples")))
    warmup: Duration = setting(Duration(5, "%"), duration())
    cooldown: Duration = setting(Duration(0, "epochs"), duration())
    warmup_lr: float = setting(5e-7, number(0, 10))
    min_lr: float = setting(5e-7, number(0, 10))
    warmup_prefix: bool = setting(False, flag())


@dataclass(frozen=True)
class EmaPart:
    """A moving average of the weights, as timm's ModelEmaV3.

    Attributes:
        decay: None for no average.
        warmup: the decay rises as 1 - (1 + step / warmup_gamma) ** -warmup_power up to `decay`.
    """

    decay: float | None = setting(None, optional(number(0, 0.9999999, above=True)))
    warmup: bool = setting(False, flag())
    warmup_gamma: float = setting(1.0, number(0, 1e9, above=True))
    warmup_power: float = setting(2 / 3, number(0, 10, above=True))


@dataclass(frozen=True)
class LoopPart:
    """How the run is carried out.

    Attributes:
        batch_size: images in one update of the weights, over all devices and micro-batches together.
        accumulate: the micro-batches that such a batch is computed in; None ("auto"): as few as fit into memory.
        precision: of autocast: `fp32`, `bf16`, `fp16`; `auto` is the best that the device computes fast.
        compile: with torch.compile.
        grad_checkpointing: compute activations twice to store them never.
        workers: processes or threads that decode; None ("auto") lets the machine decide. Changes no result.
        eval_every: between two evaluations.
        best: the figure by which `best` is chosen; `auto` is top-1, or mAP where images have several labels. Of the
            average's weights where there is one.
        early_stop: evaluations without a better figure after which the run ends; None for never.
        checkpoint_every: between two checkpoints; checkpoint_minutes: and at least so often.
        keep: checkpoints that are kept, apart from the best.
        minutes: the time that the run may take; None for as long as it needs.
        max_bad: the share of unreadable images above which the run stops.
        log_every: updates between two lines of metrics.
    """

    batch_size: int = setting(256, whole(1, 1 << 20))
    accumulate: int | None = setting(1, optional(whole(1, 65536), "auto"))
    precision: Literal["auto", "fp32", "bf16", "fp16"] = setting("auto", one_of("auto", "fp32", "bf16", "fp16"))
    compile: bool = setting(False, flag())
    grad_checkpointing: bool = setting(False, flag())
    workers: int | None = setting(None, optional(whole(0, 1024), "auto"))
    eval_every: Duration = setting(Duration(1, "epochs"), duration())
    best: Literal["auto", "top1", "loss", "map"] = setting("auto", one_of("auto", "top1", "loss", "map"))
    early_stop: int | None = setting(None, optional(whole(1, 100_000)))
    checkpoint_every: Duration = setting(Duration(1, "epochs"), duration())
    checkpoint_minutes: float = setting(10.0, number(0, 100_000, above=True))
    keep: int = setting(2, whole(1, 1000))
    minutes: float | None = setting(None, optional(number(0, 1e6, above=True)))
    max_bad: float = setting(0.01, number(0, 1))
    log_every: int = setting(10, whole(1, 1_000_000))


@dataclass(frozen=True)
class Recipe:
    """One training, whole.

    Attributes:
        name: of the recipe; the file's where it says none.
        based_on: the shipped recipe that gives the omitted values; itself for a shipped one, empty for none.
        not_seen: keys whose published value nobody here has seen, so that the value is weevit's own default.
        seed: of every draw.
    """

    name: str = setting("", text())
    based_on: str = setting("", text())
    not_seen: tuple[str, ...] = setting((), several(text(), 0, 100))
    seed: int = setting(0, whole(0, (1 << 63) - 1))
    model: ModelPart = ModelPart()
    data: DataPart = DataPart()
    augment: AugmentPart = AugmentPart()
    mix: MixPart = MixPart()
    loss: LossPart = LossPart()
    optim: OptimPart = OptimPart()
    schedule: SchedulePart = SchedulePart()
    ema: EmaPart = EmaPart()
    loop: LoopPart = LoopPart()

    @property
    def learning_rate(self) -> float:
        """The peak rate: `optim.lr`, or `optim.base_lr` scaled with the batch; RecipeError where neither is given."""
        optim = self.optim
        if optim.lr is not None:
            return optim.lr
        if optim.base_lr is None:
            raise RecipeError(
                f"{self.name} has no learning rate: the published value was not seen.",
                f"weevit recipe show {self.name}   says more; then optim.lr=... or optim.base_lr=...",
            )
        ratio = self.loop.batch_size / optim.base_batch
        return optim.base_lr * {"sqrt": math.sqrt(ratio), "linear": ratio, "none": 1.0}[optim.scaling]


PARTS: dict[str, type[Any]] = {
    "model": ModelPart,
    "data": DataPart,
    "augment": AugmentPart,
    "mix": MixPart,
    "loss": LossPart,
    "optim": OptimPart,
    "schedule": SchedulePart,
    "ema": EmaPart,
    "loop": LoopPart,
}
