"""Training from JPEG files to updated weights, images per second: weevit's loop against one of timm's parts.

    python benchmarks/train_speed.py [--model vit_tiny_patch16_224] [--size 224] [--batch 32] [--turns 12] [--updates 4]
    python benchmarks/train_speed.py --still [--before OLD/src]     the step alone: one batch, prepared once, again and
                                                                    again; also against an earlier weevit

Same model, size, batch and recipe (wee's: RandAugment, erasing, mixup and cutmix, NAdamW, clipping, average), float32.
timm's loop is that of its train.py (1.0.31, November 2026): create_loader, Mixup, create_optimizer_v2, ModelEmaV3, a
scheduler. Each side runs with every number of workers, each of these in a process of its own. All of them take turns of
a few updates while the others are stopped: a machine that is slower for a while is so for all. The figures are of each
side's best.
Needs timm, the shared photos and POSIX signals. The smaller the model, the more of the time is the images'.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Any

from common import instruction_set, photos, ratios

CLASSES, UNTIMED = 10, 3
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
        "schedule.epochs=100000 steps",
        *("schedule.warmup=1 steps", "schedule.cooldown=0 steps", "data.repeats=0", "optim.lr=1e-4"),
        *("loop.eval_every=100 %", "loop.checkpoint_every=100 %", "loop.checkpoint_minutes=1000"),
        *("loop.precision=fp32", "loop.compile=false"),
    ]


def updated() -> None:
    """One more update is done: a line for who measures."""
    print("updated", flush=True)


def run_ours(args: argparse.Namespace) -> None:
    import weevit
    from weevit.training.watch import Progress, Watcher

    done = 0

    def moved(progress: Progress) -> None:
        nonlocal done
        if progress.doing == "training" and progress.step > done:
            done = progress.step
            updated()

    if args.still:
        from weevit.training import setup

        class Still(setup.Loader):  # type: ignore[name-defined, misc]  # it is imported there
            """One batch, again and again."""

            def epoch(self, epoch: int, start: int = 0) -> Iterator[Any]:
                batch = next(super().epoch(0))
                while True:
                    yield replace(batch, images=batch.images.clone())

        setup.Loader = Still  # type: ignore[attr-defined]  # it is imported there
    run = args.data.parent / f"run-{args.side}-{args.workers}"
    weevit.train(RECIPE, args.data, run, overrides(args), watcher=Watcher(moved=moved))


def run_theirs(args: argparse.Namespace) -> None:
    import timm
    import torch
    from timm.data import Mixup, create_dataset, create_loader
    from timm.loss import SoftTargetCrossEntropy
    from timm.optim import create_optimizer_v2
    from timm.scheduler import CosineLRScheduler
    from timm.utils import ModelEmaV3, dispatch_clip_grad

    from weevit.engine.threads import choose_threads
    from weevit.recipes.recipe import load_recipe

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
    scheduler = CosineLRScheduler(optimizer, t_initial=100_000, warmup_t=1, t_in_epochs=False)
    average = ModelEmaV3(model, decay=0.9998, use_warmup=True)
    criterion, step = SoftTargetCrossEntropy(), 0
    still = next(iter(loader)) if args.still else None
    while True:
        for images, targets in loader if still is None else repeat((still[0].clone(), still[1]), 1):
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
            updated()


SIDES: dict[str, Callable[[argparse.Namespace], None]] = {"weevit": run_ours, "timm": run_theirs, "before": run_ours}


class Contestant:
    """One side with one number of workers: a process and its children, which run only when it is their turn."""

    def __init__(self, process: subprocess.Popen[str], workers: int) -> None:
        self.process, self.workers = process, workers
        self.seconds: list[float] = []
        self._wait(UNTIMED)
        self._signal(signal.SIGSTOP)

    def turn(self, updates: int) -> None:
        """So many more updates, and how long one took."""
        start = time.perf_counter()
        self._signal(signal.SIGCONT)
        self._wait(updates)
        self._signal(signal.SIGSTOP)
        self.seconds.append((time.perf_counter() - start) / updates)

    def _wait(self, updates: int) -> None:
        assert self.process.stdout is not None
        while updates:
            line = self.process.stdout.readline()
            if not line:
                sys.exit(f"{self.process.args!r} ended by itself")
            updates -= line.startswith("updated")

    def _signal(self, number: int) -> None:
        os.killpg(self.process.pid, number)


@contextmanager
def contestant(side: str, workers: int, args: argparse.Namespace) -> Iterator[Contestant]:
    words = [sys.executable, "-W", "ignore", __file__, "--side", side, "--workers", str(workers)]
    words += ["--data", str(args.data), "--model", args.model, "--size", str(args.size), "--batch", str(args.batch)]
    words += ["--still"] if args.still else []
    environment = os.environ | ({"PYTHONPATH": str(args.before)} if side == "before" else {})
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True, env=environment)
    try:
        yield Contestant(process, workers)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def compare(args: argparse.Namespace) -> None:
    with ExitStack() as stack:
        all_of = {
            side: [stack.enter_context(contestant(side, workers, args)) for workers in args.try_workers]
            for side in SIDES
            if side != "before" or args.before
        }
        for _ in range(args.turns):
            for pair in zip(*all_of.values(), strict=True):
                for own in pair:
                    own.turn(args.updates)
    best = {side: min(those, key=lambda own: statistics.median(own.seconds)) for side, those in all_of.items()}
    for side, those in all_of.items():
        speeds = (f"{args.batch / statistics.median(own.seconds):.1f} with {own.workers}" for own in those)
        print(f"{side:7} images/s by workers: {', '.join(speeds)}")
    ours = best.pop("weevit")
    for side, theirs in best.items():
        print(
            f"weevit with {ours.workers} workers is {ratios(ours.seconds, theirs.seconds)} as fast as {side} with "
            f"{theirs.workers}; {args.model}, {args.size} px, batches of {args.batch}"
            f"{', the step alone' if args.still else ''}; {instruction_set()}, {time.strftime('%Y-%m-%d')}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vit_tiny_patch16_224")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--turns", type=int, default=12)
    parser.add_argument("--updates", type=int, default=4, help="of a turn")
    parser.add_argument("--try-workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--still", action="store_true", help="one batch, prepared once: the step alone")
    parser.add_argument("--before", type=Path, help="src of an earlier weevit to compare with")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.try_workers = [0] if args.still else args.try_workers
    if args.side:
        SIDES[args.side](args)
        return
    with tempfile.TemporaryDirectory() as top:
        args.data = folder_of_photos(Path(top) / "photos")
        compare(args)


if __name__ == "__main__":
    main()
