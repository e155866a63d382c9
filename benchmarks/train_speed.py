"""Training from JPEG files to updated weights, images a second: weevit's loop against a plain one made of timm's parts.

    python benchmarks/train_speed.py [--model vit_tiny_patch16_224] [--size 224] [--batch 32] [--steps 12] [--rounds 3]

Same model, size, batch and recipe (wee's: RandAugment, erasing, mixup and cutmix, NAdamW, clipping, average), float32.
timm's loop is what its train.py does: create_loader, Mixup, create_optimizer_v2, ModelEmaV3, a scheduler. Each side
first finds its best number of workers; then both run in turn, each in a process of its own. Needs timm and the shared
photos. The smaller the model, the more of the time is the pictures'.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import photos, ratios, run_process

CLASSES, UNTIMED = 10, 2
RECIPE = "sbb_in1k_wee"


def folder_of_photos(top: Path) -> Path:
    """Class folders for both sides; which photo is in which class does not matter."""
    for index, path in enumerate(photos()):
        place = top / ("validation" if index < 2 * CLASSES else "train") / f"class{index % CLASSES}"
        place.mkdir(parents=True, exist_ok=True)
        (place / path.name).symlink_to(path)
    return top


def overrides(args: argparse.Namespace) -> list[str]:
    return [
        f"model.name={args.model}",
        f"model.image_size={args.size}",
        f"loop.batch_size={args.batch}",
        f"loop.workers={args.workers}",
        f"schedule.epochs={args.steps} steps",
        *("schedule.warmup=1 steps", "schedule.cooldown=0 steps", "data.repeats=0", "optim.lr=1e-4"),
        *("loop.eval_every=100 %", "loop.checkpoint_every=100 %", "loop.checkpoint_minutes=1000"),
        *("loop.precision=fp32", "loop.compile=false"),
    ]


class Laps:
    """When each update was done."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def done(self) -> None:
        """One more."""
        self.times.append(time.perf_counter())

    def images_per_second(self, batch: int) -> float:
        """Without the first ones."""
        timed = self.times[UNTIMED:]
        return batch * (len(timed) - 1) / (timed[-1] - timed[0])


def run_ours(args: argparse.Namespace) -> float:
    import weevit
    from weevit.training.watch import Progress, Watcher

    laps = Laps()

    def moved(progress: Progress) -> None:
        if progress.doing == "training" and progress.step > len(laps.times):
            laps.done()

    with tempfile.TemporaryDirectory() as top:
        weevit.train(RECIPE, args.data, Path(top) / "run", overrides(args), watcher=Watcher(moved=moved))
    return laps.images_per_second(args.batch)


def run_theirs(args: argparse.Namespace) -> float:
    import timm
    import torch
    from timm.data import Mixup, create_dataset, create_loader
    from timm.loss import SoftTargetCrossEntropy
    from timm.optim import create_optimizer_v2
    from timm.scheduler import CosineLRScheduler
    from timm.utils import ModelEmaV3, dispatch_clip_grad

    from weevit.engine.threads import choose_threads
    from weevit.training.recipe import load_recipe

    warnings.simplefilter("ignore")
    torch.set_num_threads(choose_threads().count)
    recipe = load_recipe(RECIPE, overrides(args))
    part, mixing = recipe.augment, recipe.mix
    model = timm.create_model(
        args.model, num_classes=CLASSES, img_size=args.size, drop_path_rate=recipe.model.drop_path
    ).train()
    loader = create_loader(
        create_dataset("", root=str(args.data), split="train"),
        input_size=(3, args.size, args.size),
        batch_size=args.batch,
        is_training=True,
        re_prob=part.erase_prob,
        re_mode=part.erase_mode,
        auto_augment=part.randaugment,
        interpolation=part.interpolation,
        num_workers=args.workers,
        device=torch.device("cpu"),
    )
    mixup = Mixup(mixing.mixup, mixing.cutmix, switch_prob=mixing.switch, label_smoothing=0.1, num_classes=CLASSES)
    optimizer = create_optimizer_v2(model, "nadamw", lr=1e-4, weight_decay=recipe.optim.weight_decay)
    scheduler = CosineLRScheduler(optimizer, t_initial=args.steps, warmup_t=1, t_in_epochs=False)
    average = ModelEmaV3(model, decay=0.9998, use_warmup=True)
    criterion, laps, step = SoftTargetCrossEntropy(), Laps(), 0
    while step < args.steps:
        for images, targets in loader:
            images, targets = mixup(images, targets)
            loss = criterion(model(images), targets)
            loss.backward()
            dispatch_clip_grad(model.parameters(), 5.0)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            average.update(model, step=step)
            scheduler.step_update(step)
            loss.item()
            laps.done()
            if step == args.steps:
                break
    return laps.images_per_second(args.batch)


SIDES: dict[str, Callable[[argparse.Namespace], float]] = {"weevit": run_ours, "timm": run_theirs}


def measured(side: str, workers: int, args: argparse.Namespace) -> float:
    words: list[Any] = [sys.executable, __file__, "--side", side, "--workers", workers, "--data", args.data]
    words += ["--model", args.model, "--size", args.size, "--batch", args.batch, "--steps", args.steps]
    return float(run_process(words).out.split()[-1])


def compare(args: argparse.Namespace) -> None:
    best: dict[str, int] = {}
    for side in SIDES:
        speeds = {workers: measured(side, workers, args) for workers in args.try_workers}
        best[side] = max(speeds, key=lambda workers: speeds[workers])
        print(side, ", ".join(f"{workers} workers {speed:.1f} img/s" for workers, speed in speeds.items()), flush=True)
    taken: dict[str, list[float]] = {side: [] for side in SIDES}
    for _ in range(args.rounds):
        for side in SIDES:
            taken[side].append(1 / measured(side, best[side], args))
    for side, seconds in taken.items():
        print(f"{side:7} {1 / statistics.median(seconds):.1f} images/s with {best[side]} workers")
    print(
        f"weevit is {ratios(taken['weevit'], taken['timm'])} as fast; {args.model}, {args.size} px, batch {args.batch}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vit_tiny_patch16_224")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--try-workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        print(SIDES[args.side](args))
        return
    with tempfile.TemporaryDirectory() as top:
        args.data = folder_of_photos(Path(top))
        compare(args)


if __name__ == "__main__":
    main()
