"""Section 3: updates of the weights, weevit's own loop and a plain one of timm's parts in turn, in one process.

weevit's side is `weevit.train` itself, wee's recipe (NAdamW, clipping, average of the weights, mixup and cutmix), but
that its batches lie on the GPU already. Between two of its updates it is stopped from time to time for as many of
timm's. What of PyTorch weevit sets for the sake of equal bytes is taken back for timm.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from made import flop, folder, our_model, row
from record import Section
from timing import clear, compared, compiled_graphs, matmul_peak, peak_memory, rates, synchronize, wall

import weevit
from weevit.batches.loader import Batch
from weevit.batches.mixing import Share
from weevit.errors import TrainingError
from weevit.nn.vit import VisionTransformer
from weevit.recipes.recipe import load_recipe
from weevit.recipes.schema import Recipe
from weevit.training.watch import Progress, Watcher
from weevit.zoo.architectures import PATCH, Architecture
from weevit.zoo.counts import count

RECIPE, CLASSES = "sbb_in1k_wee", 1000
UNTIMED, PROFILED = 6, 3
"""Updates before the first that counts; updates whose kernels are listed at the end."""


@dataclass(frozen=True)
class Case:
    """A model and a batch.

    Attributes:
        alone: without timm's side.
        settled: with weevit's deterministic kernels, as `weevit.train` always has them.
    """

    alias: str
    batch: int
    size: int
    depth: int | None = None
    compile: bool = True
    alone: bool = False
    settled: bool = True
    classes: int = CLASSES

    @property
    def architecture(self) -> Architecture:
        """The row, or a miniature of it."""
        return row(self.alias, self.depth)

    @property
    def start(self) -> VisionTransformer | None:
        """A miniature's module; where None, the recipe makes it."""
        if self.depth is None:
            return None
        path = self.recipe.model.drop_path
        return our_model(self.architecture, self.classes, self.size, drop_path_rate=path)

    @property
    def recipe(self) -> Recipe:
        """Wee's, for this model and batch."""
        return load_recipe(RECIPE, self.words)

    @property
    def words(self) -> list[str]:
        """What is overridden in it."""
        return [
            f"model.name={self.architecture.name}",
            f"model.image_size={self.size}",
            f"loop.batch_size={self.batch}",
            f"loop.compile={str(self.compile).lower()}",
            "schedule.epochs=100000 steps",
            *("schedule.warmup=100 steps", "schedule.cooldown=0 steps", "loop.precision=bf16"),
            *("loop.eval_every=100 %", "loop.checkpoint_every=100 %", "loop.checkpoint_minutes=1000"),
        ]


def run(section: Section) -> None:
    short = section.short
    batch, classes = (4, 10) if short else (256, CLASSES)
    pwee = Case("pwee", batch, 32, depth=1, classes=classes) if short else Case("pwee", batch, 256)
    tiny = Case("tiny", batch, 224)
    with tempfile.TemporaryDirectory() as scratch:
        data, _ = folder(Path(scratch) / "data", classes, classes, 32, 32, validation=classes)
        bench = Bench(section, data, Path(scratch))
        if not section.warm:
            bench.peak = matmul_peak(torch.bfloat16, section.device, short)["tflops"]
        section.attempt(f"pwee {batch}", 60, lambda: bench.measure(f"pwee {batch}", pwee))
        if section.warm:
            if not short:
                bench.measure("", tiny)
            return
        for name, settled in (("eager", True), ("eager, not settled", False)):
            case = replace(pwee, compile=False, settled=settled)
            section.attempt(
                f"pwee {batch} {name}", 12, lambda name=name, case=case: bench.measure(f"pwee {batch} {name}", case)
            )
        if not short:
            section.attempt(f"tiny {batch}", 45, lambda: bench.measure(f"tiny {batch}", tiny))
        section.attempt("pwee largest", 45, lambda: bench.largest("pwee largest", pwee))
        if not short:
            section.attempt("tiny largest", 45, lambda: bench.largest("tiny largest", tiny))


@dataclass
class Bench:
    """What the cases share: images of a folder that only tells the classes, a place for runs, what was found so far."""

    section: Section
    data: Path
    scratch: Path
    peak: float = 0.0
    runs: int = 0
    per_image: dict[str, float] = field(default_factory=dict)

    def measure(self, name: str, case: Case) -> None:
        """Images per second of both sides; where weevit's compiled loop spends its time."""
        section, short = self.section, self.section.short
        rounds, steps = (0, 0) if section.warm else (2, 1) if short else (4, 12)
        turns = self.train(case, rounds, steps, profile=not section.warm and case.settled)
        if section.warm:
            return
        self.per_image[case.alias] = turns.above / case.batch
        found = compared(turns.taken, case.batch)
        graphs = {"graphs": compiled_graphs(), "compile_s": turns.compile_s} if case.compile else {}
        shares = self.shares(case, found)
        section.figure(name, **found, **shares, memory_gb=turns.memory_gb, **graphs, **turns.profile)

    def largest(self, name: str, case: Case) -> None:
        """weevit alone at the largest batch that fits, found from what an image took at the first one."""
        clear()
        free = torch.cuda.mem_get_info()[0] if self.section.device == "cuda" else 2.2 * case.batch
        guess = int(0.92 * free / max(self.per_image.get(case.alias, 1.0), 1.0))

        def attempt(batch: int) -> None:
            turns = self.train(replace(case, batch=batch, alone=True), 2, 2 if self.section.short else 6)
            found = {"weevit": rates(turns.taken["weevit"], batch)}
            self.section.figure(name, batch=batch, **found, **self.shares(case, found), memory_gb=turns.memory_gb)

        largest_that_fits(guess, attempt)

    def shares(self, case: Case, found: dict[str, Any]) -> dict[str, Any]:
        """MFU: the operations of a forward pass three times, over the matrix peak measured in this process."""
        operations = 3 * flop(case.architecture, case.classes, case.size) / 1e12
        sides = [side for side in ("weevit", "timm") if side in found]
        return {"mfu": {side: found[side]["images_per_s"] * operations / self.peak for side in sides}}

    def train(self, case: Case, rounds: int, steps: int, profile: bool = False) -> Turns:
        """Let weevit's loop run until all turns are taken."""
        clear()
        self.runs += 1
        turns = Turns(case, self.section.device, rounds, steps, profile)
        lifted = (
            nullcontext() if case.settled else mock.patch("weevit.training.loop.settled", return_value=nullcontext())
        )
        with mock.patch("weevit.training.setup.Loader", Lying), lifted:
            output = self.scratch / f"run-{self.runs}"
            weevit.train(
                *(RECIPE, self.data, output, case.words),
                start=case.start,
                device=self.section.device,
                threads=1 if self.section.short else None,
                report=False,
                watcher=turns.watcher(),
            )
        turns.their_step = None
        return turns


def largest_that_fits(guess: int, attempt: Callable[[int], None], tries: int = 4) -> None:
    """Try a batch, and smaller ones by a tenth where memory does not hold it."""
    for left in reversed(range(tries)):
        batch = max(2, guess // 64 * 64 if guess >= 64 else guess // 2 * 2)
        try:
            attempt(batch)
            return
        except (TrainingError, torch.OutOfMemoryError) as error:
            out_of_memory = isinstance(error.__cause__ or error, torch.OutOfMemoryError)
            if not out_of_memory or not left:
                raise
        clear()  # not while the error lives, which holds the tensors
        guess = int(0.9 * batch)


class Lying:
    """Batches that lie on the GPU already, in place of `weevit.batches.loader.Loader`."""

    def __init__(self, split: Any, recipe: Recipe, spec: Any, device: torch.device, peers: object = None) -> None:
        self.split, self.steps_per_epoch = split, 1_000_000
        self._batches = lying(recipe.loop.batch_size, recipe.model.image_size, int(split.targets.max()) + 1, device)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The same two batches for ever."""
        for images, targets in self._batches:
            yield Batch(images, targets, (), (), (), Share.of(len(images)))


def lying(batch: int, size: int, classes: int, device: torch.device) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Two batches by turns, normalised; each time a copy, for mixing changes them."""
    dice = torch.Generator(device).manual_seed(1)

    def one() -> tuple[torch.Tensor, torch.Tensor]:
        images = torch.randn(batch, 3, size, size, generator=dice, device=device)
        return images, torch.randint(classes, (batch,), generator=dice, device=device)

    kept = [one(), one()]
    while True:
        for images, targets in kept:
            yield images.clone(), targets


class Turns:
    """weevit's updates and timm's, by turns.

    Attributes:
        taken: side -> seconds per update, of each round.
        above: bytes that weevit's update takes beside what stays.
        memory_gb: of each side, with what stays: weights, two moments, average.
        compile_s: seconds from the beginning of weevit's run to the end of its first update.
        profile: how busy the GPU was in some of weevit's updates, and with what.
    """

    def __init__(self, case: Case, device: str, rounds: int, steps: int, profile: bool) -> None:
        self.case, self.device, self.rounds, self.steps, self._profiled = case, device, rounds, steps, profile
        self.taken: dict[str, list[float]] = {"weevit": [], "timm": []}
        self.above, self.compile_s = 0, 0.0
        self.memory_gb: dict[str, float] = {}
        self.profile: dict[str, Any] = {}
        self.their_step: Callable[[], None] | None = None
        self._script, self._done = self._turns(), False

    def watcher(self) -> Watcher:
        """Whoever takes part in weevit's run; it begins at once."""
        self._began = time.perf_counter()

        def moved(progress: Progress) -> None:
            if progress.doing == "training" and not self._done:
                self._done = next(self._script, True) is True

        return Watcher(moved=moved, should_stop=lambda: self._done)

    def _turns(self) -> Generator[None]:
        """What happens; every `yield` is an update of weevit's loop."""
        yield
        synchronize()
        self.compile_s = time.perf_counter() - self._began
        for _ in range(min(UNTIMED, self.steps)):
            yield
        if not self.case.alone:
            self._their_turn(min(UNTIMED, self.steps) + 1)
        for _ in range(self.rounds):
            yield  # the first update after timm's is not counted
            synchronize()
            start = time.perf_counter()
            with peak_memory(self.device) as memory:
                for _ in range(self.steps):
                    yield
            self.taken["weevit"].append((time.perf_counter() - start) / self.steps)
            self.above = memory["above"]
            self.memory_gb["weevit"] = self._with_what_stays(memory["above"])
            if not self.case.alone:
                with peak_memory(self.device) as memory:
                    self.taken["timm"].append(self._their_turn(self.steps))
                self.memory_gb["timm"] = self._with_what_stays(memory["above"])
        if self._profiled:
            yield from self._profiling()

    def _their_turn(self, steps: int) -> float:
        with unsettled():
            self.their_step = self.their_step or their_step(self.case, torch.device(self.device))
            return wall(self.their_step, steps)

    def _with_what_stays(self, above: int) -> float:
        grid = (self.case.size // PATCH, self.case.size // PATCH)
        return (above + 16 * count(self.case.architecture, self.case.classes, grid).params) / 1e9

    def _profiling(self) -> Generator[None]:
        """Which kernels the GPU ran in a few updates, and for which share of the time it ran any."""
        yield
        synchronize()
        try:
            yield from self._profiled_updates()
        except RuntimeError as error:  # of a profiler that may not look at this card; the figures are there already
            self.profile = {"profile_failed": str(error)[:500]}

    def _profiled_updates(self) -> Generator[None]:
        kinds = torch.profiler.ProfilerActivity
        start = time.perf_counter()
        with torch.profiler.profile(activities=[kinds.CUDA if self.device == "cuda" else kinds.CPU]) as found:
            for _ in range(PROFILED):
                yield
            synchronize()
            wall_ms = 1000 * (time.perf_counter() - start) / PROFILED
        name = "self_device_time_total" if self.device == "cuda" else "self_cpu_time_total"
        kernels = sorted(
            ((getattr(row, name) / 1000 / PROFILED, row.key) for row in found.key_averages()), reverse=True
        )
        busy = sum(took for took, _ in kernels)
        self.profile = {
            "busy_ms": busy,
            "profiled_ms": wall_ms,
            "kernels_ms": {key[:90]: took for took, key in kernels[:12]},
        }


@contextmanager
def unsettled() -> Iterator[None]:
    """PyTorch as timm's train.py sets it; as before when the block ends."""
    before, benchmark = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.backends.cudnn.benchmark = benchmark


def their_step(case: Case, device: torch.device) -> Callable[[], None]:
    """An update as timm's train.py makes it, of timm's parts."""
    import timm
    from timm.data import Mixup
    from timm.loss import SoftTargetCrossEntropy
    from timm.optim import create_optimizer_v2
    from timm.scheduler import CosineLRScheduler
    from timm.utils import ModelEmaV3, dispatch_clip_grad

    recipe = case.recipe
    model = timm.create_model(
        case.architecture.name,
        num_classes=case.classes,
        img_size=case.size,
        depth=case.architecture.depth,
        drop_path_rate=recipe.model.drop_path,
    )
    model = model.to(device, memory_format=torch.channels_last).train()
    optimizer = create_optimizer_v2(model, "nadamw", lr=recipe.learning_rate, weight_decay=recipe.optim.weight_decay)
    average = ModelEmaV3(model, decay=recipe.ema.decay, use_warmup=recipe.ema.warmup)
    forward = torch.compile(model) if case.compile else model
    mix = recipe.mix
    mixup = Mixup(
        mix.mixup, mix.cutmix, switch_prob=mix.switch, label_smoothing=recipe.loss.smoothing, num_classes=case.classes
    )
    criterion = SoftTargetCrossEntropy()
    scheduler = CosineLRScheduler(optimizer, t_initial=100_000, warmup_t=100, t_in_epochs=False)
    batches, clip = lying(case.batch, case.size, case.classes, device), recipe.optim.clip
    done = 0

    def step() -> None:
        nonlocal done
        images, targets = mixup(*next(batches))
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16):
            loss = criterion(forward(images), targets)
        loss.backward()
        dispatch_clip_grad(model.parameters(), clip)
        optimizer.step()
        optimizer.zero_grad()
        done += 1
        average.update(model, step=done)
        scheduler.step_update(done)

    return step
