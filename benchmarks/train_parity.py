"""Thirty steps of training beside a plain timm loop: losses and weights, one architecture of each kind, whole depth.

    python benchmarks/train_parity.py [NAME ...] [--steps 30] [--size 128] [--batch 8]

Same first weights, batches and draws; timm's model, NAdamW, groups, layer decay, loss, mixup and cutmix, schedule,
clipping and average against ours. To reach: losses within 1e-5, weights within 1e-5 of the greatest. Needs timm.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))
import timm_loop

from weevit.recipes.duration import Duration
from weevit.recipes.schema import EmaPart, LoopPart, MixPart, OptimPart, Recipe, SchedulePart
from weevit.zoo.architectures import get_architecture

NAMES = [
    "vit_tiny_patch16_224",
    "vit_wee_patch16_reg1_gap_256",
    "vit_dwee_patch16_reg1_gap_256",
    "vit_pwee_patch16_reg1_gap_256",
    "vit_dpwee_patch16_reg1_gap_256",
    "vit_medium_patch16_rope_reg1_gap_256",
]
LIMIT = 1e-5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="architectures; one of each kind by default")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=8)
    args = parser.parse_args()
    worst = 0.0
    for name in args.names or NAMES:
        losses, weights, average, last = compare(name, args.steps, args.size, args.batch)
        print(f"{name:<38} losses {losses:.1e}  weights {weights:.1e}  average {average:.1e}  last loss {last:.4f}")
        sys.stdout.flush()
        worst = max(worst, losses, weights, average)
    print(f"greatest difference: {worst:.1e} (to reach: {LIMIT:.0e})")
    sys.exit(worst > LIMIT)


def compare(name: str, steps: int, size: int, batch: int) -> tuple[float, float, float, float]:
    recipe = Recipe(
        mix=MixPart(mixup=0.8, cutmix=1.0),
        optim=OptimPart(lr=1e-3, weight_decay=0.06, layer_decay=0.75),
        schedule=SchedulePart(epochs=Duration(steps, "steps"), warmup=Duration(20, "%")),
        ema=EmaPart(decay=0.9998, warmup=True),
        loop=LoopPart(batch_size=batch),
    )
    mine, other = timm_loop.pair(get_architecture(name), size)
    ours = timm_loop.train_ours(mine, recipe, size, steps)
    theirs = timm_loop.train_theirs(other, recipe, size, steps)
    losses = max(abs(a - b) for a, b in zip(ours.losses, theirs.losses, strict=True))
    weights, average = (timm_loop.apart(getattr(ours, key), getattr(theirs, key)) for key in ("weights", "average"))
    return losses, weights, average, theirs.losses[-1]


if __name__ == "__main__":
    main()
