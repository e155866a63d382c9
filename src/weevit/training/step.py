"""One update of the weights: of a run, of the planner that measures it, and of every rank.

batch ── smoothed, mixed ─┬─ micro-batch ── forward ── loss ── backward ─┐
                          └─ micro-batch ── forward ── loss ── backward ─┴─ over ranks ── clipped ── update ── average

B  images of this rank     K  classes
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from weevit.batches.loader import Batch
from weevit.batches.mixing import Share, mix
from weevit.nn.layers import part_of_batch
from weevit.optim.loss import loss, smoothed
from weevit.optim.optimizer import clip_gradients, set_rate
from weevit.recipes.schema import Recipe
from weevit.training.determinism import draw_from
from weevit.training.machine import Machine
from weevit.training.ranks import Ranks, others
from weevit.training.state import State


def cut(images: int, pieces: int) -> Iterator[slice]:
    """The micro-batches of some images: `pieces` of equal size, the last one smaller; fewer where there are fewer."""
    size = -(-images // pieces)
    for start in range(0, images, size):
        yield slice(start, min(start + size, images))


class Step:
    """The update of a recipe.

    Attributes:
        state: what an update changes.
        num_classes: K.
        class_weights: (K,) of the loss; None for none.
        ranks: those that compute the other shares of a batch.
    """

    def __init__(
        self,
        recipe: Recipe,
        machine: Machine,
        state: State,
        num_classes: int,
        class_weights: Tensor | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.recipe, self.machine, self.state, self.num_classes = recipe, machine, state, num_classes
        self.class_weights, self.ranks = class_weights, ranks or Ranks()

    @cached_property
    def _forward(self) -> nn.Module:
        """Made by the first update, when all ranks are there."""
        model: Any = torch.compile(self.state.model) if self.recipe.loop.compile else self.state.model
        return self.ranks.averaging(model, self.machine.device)

    def inputs(self, batch: Batch, mixed: bool) -> tuple[Tensor, Tensor]:
        """The images and targets of the update: smoothed, and mixed by the draws of this step.

        Returns:
            [B, 3, height, width], and [B, K] shares of classes.
        """
        recipe, images = self.recipe, batch.images
        targets = smoothed(batch.targets, self.num_classes, recipe.loss, recipe.data.multi_label)
        if mixed:
            key = recipe.seed, self.state.step
            images, targets = mix(images, targets, recipe.mix, self.num_classes, key, batch.share)
        if self.machine.device.type == "cuda":
            images = images.contiguous(memory_format=torch.channels_last)
        return images, targets

    def gradients(self, images: Tensor, targets: Tensor, share: Share) -> tuple[float, float]:
        """Forward and backward passes, one micro-batch after another, and the gradients clipped.

        Args:
            images, targets: from `inputs`.
            share: of the batch.

        Returns:
            The mean loss of the whole batch, and the norm of its gradients before clipping.
        """
        recipe, machine, state = self.recipe, self.machine, self.state
        alone, pieces = self.ranks.world == 1, list(cut(len(images), machine.pieces))
        whole = alone and len(pieces) == 1
        rows = None if whole else torch.tensor(share.rows, device=machine.device)
        mean = torch.zeros((), device=machine.device)
        for piece in pieces:
            draw_from(recipe.seed, state.step, 0)
            part = (piece.stop - piece.start) / (share.size * share.ranks)
            own = part_of_batch(None if rows is None else rows[piece], share.size)
            with own, nullcontext() if piece is pieces[-1] else self.ranks.apart(self._forward):
                with machine.autocast():
                    logits = self._forward(images[piece])  # [b, K]
                value = loss(logits, targets[piece], recipe.loss, self.class_weights) * part
                # Gradients are averaged over ranks: their sum is wanted.
                with nullcontext() if alone else others():
                    state.scaler.scale(value if alone else value * self.ranks.world).backward()
            mean += value.detach()
        state.scaler.unscale_(state.optimizer)
        norm = clip_gradients(state.model.parameters(), recipe.optim)
        values = torch.stack([self.ranks.sum(mean), norm.to(mean)])
        found: list[float] = values.tolist()  # the only wait for the device
        return found[0], found[1]

    def update(self, rate: float, images: int) -> None:
        """Update weights, averages and counts; the caller holds the lock of the state.

        Args:
            rate: of learning, for groups without a scale.
            images: in the batch, on all ranks.
        """
        state = self.state
        set_rate(state.optimizer, rate)
        state.scaler.step(state.optimizer)
        state.scaler.update()
        state.optimizer.zero_grad(set_to_none=True)
        state.step, state.seen = state.step + 1, state.seen + images
        if state.ema is not None:
            state.ema.update(state.model, state.step)
