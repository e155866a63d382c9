"""Section 4: from JPEG files to the GPU: how fast images are decoded and augmented, and how long the GPU waits.

The files are made: 500 x 375, about 100 KB, surfaces with the spectrum of photos, edges and grain. The recipe is wee's:
random crops, RandAugment, erasing, every image three times in an epoch.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, count
from pathlib import Path

import torch
from made import folder
from record import Section
from timing import synchronize

import weevit
from training import RECIPE, Case
from weevit.batches.loader import Batch, Loader, choose_workers
from weevit.datasets.read import read_dataset
from weevit.recipes.recipe import load_recipe
from weevit.training.watch import Progress, Watcher
from weevit.zoo.weights import ALIASES, Preprocessing

SIDES = (500, 375)


def run(section: Section) -> None:
    short = section.short
    case = Case("pwee", 4, 32, depth=1, compile=False, classes=4) if short else Case("pwee", 256, 256)
    classes, number = case.classes, (16 if short else 2000)
    with tempfile.TemporaryDirectory() as scratch:
        began = time.perf_counter()
        width, height = SIDES
        data, kilobytes = folder(Path(scratch) / "data", number, classes, height, width, validation=classes)
        section.figure("made images", number=number, kilobytes=kilobytes, seconds=time.perf_counter() - began)
        every = choose_workers()
        seconds = 0.2 if short else 5.0
        section.attempt("all cores", 9, lambda: alone(section, case, data, every, "all cores", seconds))
        section.attempt("end to end", 30, lambda: end_to_end(section, case, data, Path(scratch) / "run"))
        if not short:
            for workers in (1, every // 2):
                name = f"{workers} workers"
                section.attempt(name, 9, lambda w=workers, n=name: alone(section, case, data, w, n, seconds))


def alone(section: Section, case: Case, data: Path, workers: int, name: str, seconds: float) -> None:
    """Batches on the device, with no model that wants them."""
    recipe = load_recipe(RECIPE, [*case.words, f"loop.workers={workers}"])
    split = read_dataset(str(data)).split("train")
    spec = preprocessing_of(case)
    batches = epochs(Loader(split, recipe, spec, torch.device(section.device)))
    next(batches)
    synchronize()
    images, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        images += len(next(batches).images)
    synchronize()
    section.figure(name, images_per_s=images / (time.perf_counter() - began), workers=workers, images=images)


def preprocessing_of(case: Case) -> Preprocessing:
    """The module's size, mean and standard deviation, as the recipe has them."""
    return replace(ALIASES[case.alias].preprocessing, height=case.size, width=case.size)


def epochs(loader: Loader) -> Iterator[Batch]:
    return chain.from_iterable(map(loader.epoch, count()))


def end_to_end(section: Section, case: Case, data: Path, output: Path) -> None:
    """`weevit.train` as anybody runs it, against the same loop whose images lie on the GPU already (section 3)."""
    window, windows = (1, 3) if section.short else (12, 5)
    found = Windows(case.batch, window, windows)
    weevit.train(
        *(RECIPE, data, output, [*case.words, f"loop.log_every={window}"]),
        start=case.start,
        device=section.device,
        threads=1 if section.short else None,
        report=False,
        watcher=Watcher(moved=found.moved, should_stop=lambda: found.done or section.left() < 3),
    )
    figure = {
        "images_per_s": found.images_per_s,
        "data_wait": statistics.mean(found.waits),
        "windows": len(found.waits),
    }
    step = section.figures_of("training").get(f"pwee {case.batch}", {}).get("weevit")
    waits = {} if step is None else {"of_step_alone": found.images_per_s / step["images_per_s"]}
    section.figure("end to end", **figure, **waits)


class Windows:
    """Updates from one row of metrics to the next; the first window, which compiles, does not count.

    Attributes:
        waits: of each window, the share of the time in which the loop waited for images, the GPU having nothing to do.
        images_per_s: over all of them.
    """

    def __init__(self, batch: int, window: int, windows: int) -> None:
        self.batch, self.window, self.windows = batch, window, windows
        self.waits: list[float] = []
        self.images_per_s = self._began = 0.0

    @property
    def done(self) -> bool:
        """Whether there are enough."""
        return len(self.waits) >= self.windows

    def moved(self, progress: Progress) -> None:
        """For a `Watcher`."""
        if progress.doing != "training" or progress.step % self.window:
            return
        synchronize()
        if not self._began:
            self._began = time.perf_counter()
            return
        self.waits.append(progress.data_wait)
        self.images_per_s = len(self.waits) * self.window * self.batch / (time.perf_counter() - self._began)
