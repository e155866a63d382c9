"""NAdaMuon: AdaMuon (arXiv:2507.11005) with Nesterov's momentum, as timm's `Muon(algo="adamuon", nesterov=True)`.

Matrices move along the orthogonalised mean of their gradients, each number divided by its own spread; biases, norms,
positions and tokens are left to NAdamW.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from weevit.optim.nadamw import evaluated, nadamw

NEWTON_SCHULZ = (
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
)
"""Coefficients a, b, c of each iteration, from Keller Jordan's modded-nanogpt; the last ones are repeated."""

MATCHED_RMS = 0.2
"""Root mean square of a matrix's update for a rate of 1: about AdamW's, so that rates carry over."""

MIN_SIDE, MAX_ASPECT = 4, 128
"""Limits of a matrix; thinner or longer ones are left to NAdamW."""


class NAdaMuon(Optimizer):
    """O is the orthogonal matrix nearest to the Nesterov mean of the gradients, in five Newton-Schulz iterations.

    m <- mu m + (1 - mu) g      O = orthogonal(mu m + (1 - mu) g)      v <- b2 v + (1 - b2) O²
    w <- (1 - lr weight_decay) w - lr 0.2 U / rms(U)    with U = O / (sqrt(v) + eps)

    The state of a matrix is `step`, `momentum_buffer` and `exp_avg_sq`; that of other parameters is NAdamW's.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.02,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-7,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        ns_steps: int = 5,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults | {"momentum": momentum, "ns_steps": ns_steps})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient; `closure`, where given, is called for the loss before."""
        found = evaluated(closure)
        for group in self.param_groups:
            there = [p for p in group["params"] if p.grad is not None]
            for parameter in filter(is_matrix, there):
                _update(parameter, self.state[parameter], group)
            nadamw([p for p in there if not is_matrix(p)], self.state, group)
        return found


def is_matrix(parameter: Tensor) -> bool:
    """Whether a parameter moves as a matrix: two or more dimensions, none of the first two 1, neither tiny nor thin.

    A convolution's kernel is a matrix of (out, in * height * width).
    """
    if parameter.ndim < 2 or 1 in parameter.shape[:2]:
        return False
    rows = parameter.shape[0]
    columns = parameter.numel() // rows
    return min(rows, columns) >= MIN_SIDE and max(rows, columns) <= MAX_ASPECT * min(rows, columns)


def _update(parameter: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    gradient = parameter.grad
    assert gradient is not None  # `step` passes only these
    if not state:
        state["step"] = torch.zeros(())
        state["momentum_buffer"] = torch.zeros_like(parameter)
        state["exp_avg_sq"] = torch.zeros_like(parameter)
    state["step"] += 1
    mean, square = state["momentum_buffer"], state["exp_avg_sq"]
    momentum, beta2 = group["momentum"], group["betas"][1]

    parameter.mul_(1 - group["lr"] * group["weight_decay"])
    mean.lerp_(gradient, 1 - momentum)
    ahead = gradient.lerp(mean, momentum)
    direction = orthogonal(ahead.flatten(1), group["ns_steps"], group["eps"]).view_as(parameter)
    square.mul_(beta2).addcmul_(direction, direction, value=1 - beta2)
    # No bias correction: it is a common factor, which the norm removes.
    adapted = direction / square.sqrt().add_(group["eps"])
    adapted = adapted / adapted.norm().add_(group["eps"])
    parameter.add_(adapted, alpha=-group["lr"] * MATCHED_RMS * parameter.numel() ** 0.5)


def orthogonal(matrix: Tensor, steps: int, eps: float) -> Tensor:
    """About the orthogonal matrix nearest to (m, n) `matrix`: singular values pulled to 1, in bfloat16."""
    x = matrix.to(torch.bfloat16, copy=True)
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.mT
    x = x / x.norm().clamp_(min=eps)
    x = x.contiguous()
    for index in range(steps):
        a, b, c = NEWTON_SCHULZ[min(index, len(NEWTON_SCHULZ) - 1)]
        gram = x @ x.mT
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
