"""Combinations of values that exclude each other, each with its message."""

from __future__ import annotations

from collections.abc import Iterator

from weevit.errors import RecipeError
from weevit.recipes.recipe_file import Raw
from weevit.recipes.schema import Recipe
from weevit.zoo.architectures import PATCH


def check(recipe: Recipe, raw: Raw) -> None:
    """Refuse values that exclude each other; a RecipeError names both, and the line from `raw`."""
    for rules in (_model, _data, _augment, _loss, _optim, _schedule, _ema, _loop):
        for key, problem in rules(recipe):
            raise RecipeError(f"{raw.at(key)}: {problem}")


Problems = Iterator[tuple[str, str]]
"""(key, problem)."""


def _model(recipe: Recipe) -> Problems:
    size = recipe.model.image_size
    if size % PATCH:
        yield "model.image_size", f"model.image_size is {size}; it is a multiple of the patch size, {PATCH}."


def _data(recipe: Recipe) -> Problems:
    if not recipe.data.multi_label:
        return
    if recipe.loss.kind != "bce":
        yield "loss.kind", f"loss.kind {recipe.loss.kind} has one answer per image; data.multi_label needs bce."
    if recipe.mix.cutmix:
        yield "mix.cutmix", "mix.cutmix cuts labels to shares of an area, which labels of data.multi_label do not have."
    if recipe.loss.target_threshold is not None and recipe.mix.mixup:
        yield (
            "loss.target_threshold",
            "loss.target_threshold turns the mixed targets of mix.mixup back into labels, and data.multi_label has "
            "labels already: without one of the two.",
        )


def _augment(recipe: Recipe) -> Problems:
    part = recipe.augment
    for key in ("scale", "ratio"):
        low, high = getattr(part, key)
        if low > high:
            yield f"augment.{key}", f"augment.{key} is from {low:g} to {high:g}: the smaller one comes first."
    if part.color_jitter is None and part.color_jitter_prob < 1 and "augment.color_jitter" not in recipe.not_seen:
        yield "augment.color_jitter_prob", "augment.color_jitter_prob is given, and augment.color_jitter is not."


def _loss(recipe: Recipe) -> Problems:
    loss = recipe.loss
    if loss.kind != "bce":
        if loss.sum:
            yield "loss.sum", "loss.sum belongs to loss.kind bce; cross-entropy has one sum only."
        if loss.target_threshold is not None:
            yield "loss.target_threshold", "loss.target_threshold belongs to loss.kind bce."
    elif loss.target_threshold is not None and loss.target_threshold >= 0.5 and recipe.mix.active:
        yield (
            "loss.target_threshold",
            f"loss.target_threshold {loss.target_threshold:g} takes both classes away from images that mix mixes in "
            "halves: below 0.5 with mix.mixup or mix.cutmix.",
        )


def _optim(recipe: Recipe) -> Problems:
    optim = recipe.optim
    if optim.lr is None and optim.base_lr is None:
        if "optim.base_lr" not in recipe.not_seen:  # reading accepts such a recipe; running it raises
            yield "optim", "there is no learning rate: optim.lr, or optim.base_lr to be scaled with the batch."
    elif recipe.schedule.min_lr > recipe.learning_rate:
        yield (
            "schedule.min_lr",
            f"schedule.min_lr {recipe.schedule.min_lr:g} is above the learning rate {recipe.learning_rate:g}.",
        )


def _schedule(recipe: Recipe) -> Problems:
    part = recipe.schedule
    if part.epochs.value <= 0:
        yield "schedule.epochs", f"schedule.epochs is {part.epochs}: nothing would be trained."
    for key in ("warmup", "cooldown"):
        length = getattr(part, key)
        if length.unit == "%" and length.value >= 100:
            yield f"schedule.{key}", f"schedule.{key} is {length} of the whole; it is less than 100 %."
    if part.warmup.unit == part.epochs.unit and part.warmup.value >= part.epochs.value and not part.warmup_prefix:
        yield "schedule.warmup", f"schedule.warmup takes all of schedule.epochs: {part.warmup} of {part.epochs}."


def _ema(recipe: Recipe) -> Problems:
    if recipe.ema.decay is None and recipe.ema.warmup:
        yield "ema.warmup", "ema.warmup without ema.decay: there is no average that could warm up; ema.warmup=false."


def _loop(recipe: Recipe) -> Problems:
    loop = recipe.loop
    if loop.accumulate is not None and loop.batch_size % loop.accumulate:
        yield (
            "loop.accumulate",
            f"loop.accumulate {loop.accumulate} does not divide loop.batch_size {loop.batch_size}.",
        )
    for key in ("eval_every", "checkpoint_every"):
        if getattr(loop, key).value <= 0:
            yield f"loop.{key}", f"loop.{key} is {getattr(loop, key)}; it is more than nothing."
    if loop.best == "map" and not recipe.data.multi_label:
        yield "loop.best", "loop.best map needs data.multi_label."
    if loop.best == "top1" and recipe.data.multi_label:
        yield "loop.best", "loop.best top1 has no meaning with data.multi_label; map has."
