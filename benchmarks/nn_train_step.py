"""One training step (forward, backward, AdamW), pwee, batch 16, 256 px: weevit's module against timm's, in turn.

    python benchmarks/nn_train_step.py [--model pwee] [--batch 16] [--runs 8]

Eager, float32, the same tensors. To reach: as fast as timm. Needs timm.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import timm
import torch
from common import interleave, ratios, timed

import weevit
from weevit.engine.threads import choose_threads
from weevit.zoo.weights import ALIASES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pwee")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--runs", type=int, default=8)
    arguments = parser.parse_args()
    torch.set_num_threads(choose_threads().count)
    weight = ALIASES[arguments.model]
    ours, theirs = weevit.create_model(arguments.model), timm.create_model(weight.name)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(arguments.batch, 3, weight.img_size, weight.img_size)
    labels = torch.randint(0, weight.num_classes, (arguments.batch,))
    taken = interleave(arguments.runs, weevit=timed(step(ours, x, labels)), timm=timed(step(theirs, x, labels)))
    for name, seconds in taken.items():
        print(f"{name:<7} median {statistics.median(seconds):.3f} s, best {min(seconds):.3f} s a step")
    apart = max(
        float((a - b).detach().abs().max()) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True)
    )
    print(f"weevit is faster {ratios(taken['weevit'], taken['timm'])}; parameters {apart:.0e} apart after all steps")


def step(model: torch.nn.Module, x: torch.Tensor, labels: torch.Tensor) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def run() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), labels).backward()
        optimizer.step()

    return run


if __name__ == "__main__":
    main()
