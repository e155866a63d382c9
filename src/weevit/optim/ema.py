"""A moving average of the weights: timm's `ModelEmaV3`."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn

from weevit.recipes.schema import EmaPart


class Ema:
    """The moving average of all weights.

    Attributes:
        module: of the same shape, in evaluation mode; its state dict is the whole state of the average.
    """

    def __init__(self, model: nn.Module, part: EmaPart) -> None:
        self.part = part
        self.module = deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Add the weights after update number `step`, counted from 1."""
        own, new = self.module.state_dict(), model.state_dict()
        floating = [name for name, tensor in own.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([own[name] for name in floating], [new[name] for name in floating], 1 - self.decay(step))
        for name in own.keys() - set(floating):
            own[name].copy_(new[name])

    def decay(self, step: int) -> float:
        """The share of the old average that update number `step`, counted from 1, keeps: 0 in the first."""
        part = self.part
        if step <= 1 or part.decay is None:
            return 0.0
        if not part.warmup:
            return part.decay
        rising: float = 1 - (1 + (step - 1) / part.warmup_gamma) ** -part.warmup_power
        return min(rising, part.decay)
