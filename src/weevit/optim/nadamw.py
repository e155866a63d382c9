"""NAdamW: AdamW with Nesterov's momentum (arXiv:1910.05446, table 1), the optimiser of the family's recipes.

The numbers are timm's `NAdamW`. `torch.optim.NAdam(decoupled_weight_decay=True)` is another optimiser: its momentum
follows a schedule of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

CHUNK = 1 << 24
"""Numbers updated at once, of which two temporary copies exist."""


class NAdamW(Optimizer):
    """The gradient's mean one step ahead: the gradient is blended into it once more.

    m <- b1 m + (1 - b1) g      v <- b2 v + (1 - b2) g²
    w <- (1 - lr weight_decay) w - lr / (1 - b1^t) (b1 m + (1 - b1) g) / (sqrt(v / (1 - b2^t)) + eps)

    The state of a parameter is `step` (a float32 number on the CPU), `exp_avg` and `exp_avg_sq`; a run that resumes
    from it has the same bits.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient; `closure`, where given, is called for the loss before."""
        found = evaluated(closure)
        for group in self.param_groups:
            nadamw([p for p in group["params"] if p.grad is not None], self.state, group)
        return found


def evaluated(closure: Callable[[], Any] | None) -> Any:
    """The result of an optimiser's `step`: the closure's loss, or None."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


def nadamw(parameters: Sequence[Tensor], state: MutableMapping[Any, Any], group: MutableMapping[str, Any]) -> None:
    """One update of parameters with gradients; `state` holds their moments, `group` the settings."""
    (beta1, beta2), lr = group["betas"], group["lr"]
    for part in chunks(parameters):
        gradients = [p.grad for p in part if p.grad is not None]
        kept = [_moments(state[p], p) for p in part]
        steps = [_count(own) for own in kept]
        mean, square = ([own[name] for own in kept] for name in ("exp_avg", "exp_avg_sq"))

        torch._foreach_mul_(part, 1 - lr * group["weight_decay"])
        torch._foreach_lerp_(mean, gradients, 1 - beta1)
        torch._foreach_mul_(square, beta2)
        torch._foreach_addcmul_(square, gradients, gradients, 1 - beta2)

        ahead = torch._foreach_lerp(mean, gradients, 1 - beta1)
        spread = torch._foreach_sqrt(square)
        torch._foreach_div_(spread, [(1 - beta2**step) ** 0.5 for step in steps])
        torch._foreach_add_(spread, group["eps"])
        torch._foreach_addcdiv_(part, ahead, spread, [-lr / (1 - beta1**step) for step in steps])


def chunks(parameters: Sequence[Tensor], limit: int = CHUNK) -> Iterator[list[Tensor]]:
    """Lists of parameters with at most `limit` numbers each; a larger parameter has a list of its own."""
    found: list[Tensor] = []
    size = 0
    for parameter in parameters:
        if found and size + parameter.numel() > limit:
            yield found
            found, size = [], 0
        found.append(parameter)
        size += parameter.numel()
    if found:
        yield found


def _moments(state: dict[str, Any], parameter: Tensor) -> dict[str, Any]:
    if not state:
        state["step"] = torch.zeros(())
        state["exp_avg"] = torch.zeros_like(parameter)
        state["exp_avg_sq"] = torch.zeros_like(parameter)
    return state


def _count(state: dict[str, Any]) -> int:
    """Count an update; returns the number of updates."""
    state["step"] += 1
    return int(state["step"])
