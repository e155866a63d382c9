"""The learning rate as a function of the updates done, as timm's `CosineLRScheduler` once per update."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from weevit.recipes.schema import Recipe


@dataclass(frozen=True)
class Schedule:
    """A recipe's schedule, in updates.

    Attributes:
        kind: the course from the peak to `min_lr`: `cosine`, `linear`, or `constant` (none).
        peak, warmup_lr, min_lr: rates.
        length: updates of the course down to `min_lr`.
        warmup: updates in which the rate rises from `warmup_lr` to the peak.
        cooldown: updates at `min_lr` (at the peak where constant) at the end.
        warmup_prefix: the course begins after the warmup; otherwise at the first update, and the warmup replaces its
            beginning.
    """

    kind: Literal["cosine", "linear", "constant"]
    peak: float
    warmup_lr: float
    min_lr: float
    length: int
    warmup: int
    cooldown: int = 0
    warmup_prefix: bool = False

    @classmethod
    def of(cls, recipe: Recipe, steps_per_epoch: int) -> Schedule:
        """The schedule of a recipe, where one pass over the training split takes `steps_per_epoch` updates."""
        part, batch = recipe.schedule, recipe.loop.batch_size
        length = max(1, part.epochs.steps(steps_per_epoch, batch))
        warmup, cooldown = (span.steps(steps_per_epoch, batch, length) for span in (part.warmup, part.cooldown))
        rates = recipe.learning_rate, part.warmup_lr, part.min_lr
        return cls(part.kind, *rates, length, warmup, cooldown, part.warmup_prefix)

    @property
    def total(self) -> int:
        """All updates, cooldown included."""
        return self._first + self.length + self.cooldown

    @property
    def _first(self) -> int:
        """The first update of the course down."""
        return self.warmup if self.warmup_prefix else 0

    def rate(self, step: float) -> float:
        """The rate of the update after `step` updates; a group's own is this times its `lr_scale`."""
        if step < self.warmup:
            return self.warmup_lr + step * (self.peak - self.warmup_lr) / self.warmup
        if self.kind == "constant":
            return self.peak
        done = (step - self._first) / self.length
        if done >= 1:
            return self.min_lr
        left = 1 - done if self.kind == "linear" else 0.5 * (1 + math.cos(math.pi * done))
        return self.min_lr + (self.peak - self.min_lr) * left
