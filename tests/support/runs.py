"""Small training runs for tests: images that can be told apart, a recipe of a second, and processes to be killed."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

RECIPE = """\
seed: 3
model: {name: vit_micro_patch16_reg1_gap_64, image_size: 32, drop_path: 0.2}
augment: {scale: [0.5, 1.0], erase_prob: 0.2}
mix: {mixup: 0.2, cutmix: 0.5, prob: 0.5}
optim: {lr: 1e-3}
schedule: {epochs: 3, warmup: 2 steps}
ema: {decay: 0.9, warmup: true}
loop: {batch_size: 8, log_every: 2, precision: fp32, checkpoint_every: 2 steps, workers: 0, keep: 2}
"""
"""On `images`: 5 updates an epoch, 15 in all; a checkpoint every 2, an evaluation every 5."""

STEPS, PER_EPOCH = 15, 5


def images(top: Path, train: int = 40, validation: int = 9, classes: int = 3) -> Path:
    """Noise, of which each class has a colour of its own; all images differ."""
    for split, count in (("train", train), ("validation", validation)):
        for index in range(count):
            place = top / split / f"class {index % classes}"
            place.mkdir(parents=True, exist_ok=True)
            dice = np.random.default_rng([index, len(split)])
            pixels = dice.integers(0, 150, (36, 40, 3))
            pixels[..., index % classes] += 90
            Image.fromarray(pixels.astype(np.uint8)).save(place / f"{index:03d}.png")
    return top


def recipe(path: Path, text: str = RECIPE) -> Path:
    """The recipe as a file."""
    path.write_text(text)
    return path


def wait_for(condition: Callable[[], bool], limit: float = 120) -> None:
    """Until it holds; files that it looks into need not be there yet."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        with suppress(OSError):
            if condition():
                return
        time.sleep(0.01)
    raise TimeoutError(f"it did not come so far within {limit:g} s")


def outcome(folder: Path) -> dict[str, str]:
    """sha256 of everything in which an interrupted run has to equal one that was not."""
    from weevit.training.state import checkpoints, digest

    newest = next(iter(checkpoints(folder / "state").values()))
    names = ["metrics.jsonl", "metrics.csv", "recipe.yaml", "model/config.json", "model/model.safetensors"]
    files = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    return {"state": digest(newest), "step": newest.name, **files}


# ---- processes that are killed


@cache
def _context() -> Any:
    """Children of a process that has PyTorch loaded already: they start in a tenth of a second."""
    context = multiprocessing.get_context("forkserver")
    slow = "torchvision.io", "matplotlib.backends.backend_agg", "matplotlib.figure"
    context.set_forkserver_preload(["weevit.training.loop", "weevit.cli.train", "weevit.cli.resume", *slow])
    return context


def start(function: Callable[..., object], *arguments: object) -> Any:
    """Begin a function of a module in a process of its own."""
    process = _context().Process(target=function, args=arguments, daemon=True)
    process.start()
    return process


def run(function: Callable[..., object], *arguments: object, limit: float = 120) -> int:
    """The same to its end; returns the exit code, negative for a signal."""
    process = start(function, *arguments)
    process.join(limit)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(f"{function.__name__} has not ended after {limit} s")
    return int(process.exitcode)


def to_the_end(
    folder: Path, made: tuple[Path, Path], words: Sequence[str] = (), die: tuple[str, int] | None = None
) -> None:
    """Train, or resume where there is a run; in a child process that `die` ends by SIGKILL.

    Args:
        folder: of the run.
        made: recipe and images.
        words: changes of the recipe.
        die: (`step`, n): when update n is done; (a point of a save, n): there, in the save of step n.
    """
    from weevit.training import loop, state
    from weevit.training.watch import Watcher

    place, when = die or ("", 0)
    at = [0]

    def moved(progress: Any) -> None:
        at[0] = progress.step
        if place == "step" and progress.step >= when:
            os.kill(os.getpid(), signal.SIGKILL)

    def reached(point: str) -> None:
        if point == place and at[0] >= when:
            os.kill(os.getpid(), signal.SIGKILL)

    state._reached = reached
    plain = {"report": False, "watcher": Watcher(moved)}
    if (folder / "run.json").exists():
        loop.resume(folder, **plain)
    else:
        loop.train(made[0], made[1], folder, words, threads=1, **plain)


def command(*words: object) -> None:
    """The `weevit` command, in a child process."""
    from weevit.cli.app import main

    main([str(word) for word in words])
