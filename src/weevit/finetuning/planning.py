"""The plan of a fine-tuning, from the data alone; and for `--plan` its time and memory on this machine.

The data determines batch size, rate and epochs; images keep the size of the model. Nothing is measured before a run:
with a time budget it looks while it trains how far it will come (`pace.py`), and ends its schedule there. For
`--plan`, a few updates are measured with the real model, images and augmentation.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import time
from collections.abc import Collection
from dataclasses import dataclass, field, replace

import torch

from weevit.batches.loader import Loader
from weevit.datasets.dataset import TRAIN, VALIDATION, Dataset
from weevit.errors import TrainingError
from weevit.finetuning.blending import SHARES
from weevit.finetuning.task import Task
from weevit.fitting.results import Fit
from weevit.nn.vit import VisionTransformer
from weevit.predict import Predictor
from weevit.recipes.duration import Duration
from weevit.recipes.recipe import flat, override
from weevit.recipes.schema import Recipe
from weevit.text import span
from weevit.training.determinism import draw_from, settled
from weevit.training.machine import Machine, placed
from weevit.training.micro_batches import choose_pieces
from weevit.training.module import build, preprocessing
from weevit.training.state import State
from weevit.training.step import Step
from weevit.training.validation import Validation
from weevit.zoo.checkpoint import Checkpoint

UPDATES = 20
"""Updates per epoch below which the batch is halved, down to `SMALLEST`."""

SMALLEST = 8

SEEN, FEWEST, MOST = 25_000, 4, 40
"""Images seen in all, which determine the epochs; the fewest and the most epochs."""

SPARE = 0.03
"""Share of a time budget kept for steps slower than measured."""

BEGINNING = 3.0
"""Seconds to read the data, build a module and write pages."""

SLOWER = 1.5
"""Factor of measured times for the steps after training: the shortest times were measured."""

MEASURED = 5.0
"""Seconds of measured updates, after a first one that does not count."""

ASKED = 32
"""Images of the measured evaluation."""

FITTING = 10.0
"""Seconds of the linear head on known embeddings, where not measured."""

TRIED = 8
"""Images whose answers are timed, three times: the shortest counts."""


@dataclass(frozen=True)
class Speed:
    """The measurements.

    Attributes:
        machine: the machine.
        update: seconds of an update, with decoding and augmentation.
        batch: images in an update.
        asked: seconds per image in evaluation, with decoding.
        again: seconds per image in evaluation, already prepared.
        memory: peak bytes so far, of the GPU, else of the process; 0 where the system does not say.
    """

    machine: Machine
    update: float
    batch: int
    asked: float
    again: float
    memory: int


@dataclass(frozen=True)
class Plan:
    """The plan and its cost.

    Attributes:
        recipe: the recipe to follow.
        classes: number of classes.
        images: part -> number of images; `held out` is the held-out split.
        notes: deviations from the recipe, and why.
        speed: measurements; None without.
        seconds: step -> its time; empty without measurements.
    """

    recipe: Recipe
    classes: int
    images: dict[str, int]
    notes: tuple[str, ...] = ()
    speed: Speed | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def total(self) -> float:
        """Seconds of all steps together."""
        return sum(self.seconds.values())

    def as_json(self) -> dict[str, object]:
        """The plan as plain data."""
        known = {
            "recipe": flat(self.recipe),
            "classes": self.classes,
            "images": self.images,
            "notes": list(self.notes),
        }
        if self.speed is None:
            return known
        speed, machine = self.speed, self.speed.machine
        return known | {
            "device": machine.device.type,
            "threads": machine.threads,
            "precision": machine.precision,
            "pieces": machine.pieces,
            "seconds_per_update": speed.update,
            "seconds_per_answer": speed.asked,
            "seconds_per_answer_again": speed.again,
            "memory_bytes": speed.memory,
            "seconds": self.seconds,
            "total_seconds": self.total,
        }

    def choices(self) -> list[str]:
        """The choices, for people."""
        recipe = self.recipe
        what = f"{recipe.schedule.epochs} · batches of {recipe.loop.batch_size} · rate {recipe.learning_rate:.1e}"
        return [f"training  {what}", *(f"          {note}" for note in self.notes)]

    def lines(self) -> list[str]:
        """The plan, for people."""
        recipe, speed = self.recipe, self.speed
        known = [
            "images    " + ", ".join(f"{count:,} {name}" for name, count in self.images.items())
            + f" · {self.classes:,} classes",
            f"model     {recipe.model.name} · {recipe.model.image_size} px",
            *self.choices(),
        ]  # fmt: skip
        if speed is None:
            return known
        return [
            *known,
            f"machine   {speed.machine.device.type}, {speed.machine.threads} threads, {speed.machine.precision} · "
            f"{speed.batch / speed.update:.1f} img/s in training, {1 / speed.asked:.1f} in evaluation",
            f"time      {span(self.total)}:",
            *(f"          {name} {span(seconds)}" for name, seconds in self.seconds.items()),
            f"memory    {speed.memory / 1e9:.1f} GB",
        ]


# ---- measurements


def measure(recipe: Recipe, checkpoint: Checkpoint, dataset: Dataset, device: str, threads: int | None) -> Speed:
    """Measure a few updates and evaluations as training would make them; nothing is kept.

    Args:
        recipe: the recipe so far.
        checkpoint: the checkpoint to start from.
        dataset: data with a training and a validation split.
        device, threads: as for `weevit.train`.

    Raises:
        TrainingError: the images cannot be read, or not one fits into memory.
    """
    machine = Machine.of(device, threads, recipe.loop.precision)
    where = machine.device
    with settled(machine.threads):
        draw_from(recipe.seed)
        model = placed(build(recipe, checkpoint, dataset.classes).model, machine, recipe).train()
        machine = replace(machine, pieces=choose_pieces(recipe, model, machine, len(dataset.classes)))
        step = Step(recipe, machine, State.of(model, recipe, machine), len(dataset.classes))
        update, batch = _time_updates(step, Loader(dataset.split("train"), recipe, preprocessing(model), where))
        asked, again = _time_answers(model, machine, dataset)
    return Speed(machine, update, batch, asked, again, peak_memory(where))


def _time_updates(step: Step, loader: Loader) -> tuple[float, int]:
    """Seconds of an update, and images in it."""
    times: list[float] = []
    last = time.perf_counter()
    images = 0
    for batch in itertools.chain.from_iterable(map(loader.epoch, itertools.count())):
        if not len(batch.images):
            raise TrainingError(f"None of the images {batch.bad[0].name} and so on can be read.", "weevit data check")
        step.gradients(*step.inputs(batch, mixed=True), batch.share)
        step.update(step.recipe.learning_rate, batch.share.size)
        if step.machine.device.type == "cuda":
            torch.cuda.synchronize(step.machine.device)
        times.append(time.perf_counter() - last)
        last, images = time.perf_counter(), max(images, len(batch.images))
        if len(times) > 1 and sum(times[1:]) > MEASURED:
            break
    return statistics.median(times[1:]), images


def _time_answers(model: VisionTransformer, machine: Machine, dataset: Dataset) -> tuple[float, float]:
    """Seconds per image in evaluation, the first time and later."""
    split = dataset.split("validation")
    few = split.take(range(min(ASKED, len(split))))
    asked = Validation(few, preprocessing(model), ASKED, machine.threads)
    times = [time.perf_counter()]
    for _ in range(2):
        asked.logits(model, machine.device, machine.autocast)
        times.append(time.perf_counter())
    return (times[1] - times[0]) / len(few), (times[2] - times[1]) / len(few)


def peak_memory(device: torch.device) -> int:
    """Peak bytes so far, of a GPU, else of the process; 0 where the system does not say."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if sys.platform == "win32":
        return 0
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(most) if sys.platform == "darwin" else int(most) * 1024


# ---- the plan


def draft(task: Task) -> Plan:
    """The choices that the recipe leaves open, from the data alone."""
    learn = len(task.held.split(TRAIN))
    recipe, notes = _with_batch(task, learn)
    if "schedule.epochs" not in task.given:
        recipe = _with_epochs(recipe, min(MOST, max(FEWEST, round(SEEN / learn))), task.given)
    return Plan(recipe, len(task.dataset.classes), _images(task), tuple(notes))


def _with_epochs(recipe: Recipe, epochs: int, given: Collection[str]) -> Recipe:
    """The recipe with other epochs, and its own shares of warmup, cooldown and mixing: 20 epochs of 450 are 4.4 %."""
    part, until = recipe.schedule, recipe.mix.until

    def share(key: str, span: Duration) -> Duration:
        kept = key in given or span.unit != part.epochs.unit or span.value >= part.epochs.value
        return span if kept else Duration(100 * span.value / part.epochs.value, "%")

    warmup, cooldown = share("schedule.warmup", part.warmup), share("schedule.cooldown", part.cooldown)
    mix = recipe.mix if until is None else replace(recipe.mix, until=share("mix.until", until))
    length = Duration(float(epochs), "epochs")
    return replace(recipe, schedule=replace(part, epochs=length, warmup=warmup, cooldown=cooldown), mix=mix)


def time_left(task: Task, probe: Fit, minutes: float, spent: float) -> float:
    """Seconds of a budget that are left for training; 0 or less for none.

    Args:
        task: the fine-tuning.
        probe: the head, which may have to be fitted again.
        minutes: the budget.
        spent: seconds so far.
    """
    held, validation = len(task.held.split(VALIDATION)), len(task.dataset.split(VALIDATION))
    answers = (len(SHARES) + 1) * held + validation
    again = sum(probe.seconds[name] for name in ("search", "fit", "write"))
    return 60 * minutes * (1 - SPARE) - spent - SLOWER * (again + answers * _answer_seconds(task)) - BEGINNING


def _answer_seconds(task: Task) -> float:
    """Seconds per image, once the model is loaded."""
    predictor = Predictor(task.checkpoint, threads=task.threads)
    split = task.held.split(VALIDATION)
    few = split.take(range(min(TRIED, len(split)))).sources
    times = []
    for _ in range(3):
        began = time.perf_counter()
        predictor.run(few, outputs=("embedding",))
        times.append(time.perf_counter() - began)
    return min(times) / len(few)


def make_plan(task: Task, minutes: float | None, spent: float | None) -> Plan:
    """The plan of `draft` with its cost on this machine; with a budget, with the epochs that fit.

    Args:
        task: the fine-tuning.
        minutes: the budget; None for none.
        spent: seconds so far, the probe included; None before the start.

    Raises:
        TrainingError: the images cannot be read, or not one fits into memory.
    """
    plan = draft(task)
    recipe, notes = plan.recipe, list(plan.notes)
    speed = measure(recipe, task.start, task.held, task.device, task.threads)
    updates = max(1, len(task.held.split(TRAIN)) // speed.batch)  # per epoch
    # Embeddings come from the engine, at least as fast as the module's forward pass.
    probe = len(task.dataset.split(TRAIN)) * speed.asked + FITTING
    others = {"probe": probe if spent is None else spent, "evaluation": _evaluation_seconds(task, recipe, speed)}
    if minutes is not None:
        left = max(0.0, 60 * minutes * (1 - SPARE) - sum(others.values()))
        recipe = _that_fits(task, recipe, left / (updates * speed.update), notes)
        if "loop.minutes" not in task.given:
            recipe = replace(recipe, loop=replace(recipe.loop, minutes=max(1.0, left) / 60))
    steps = recipe.schedule.epochs.steps(updates, speed.batch)
    seconds = others | {"training": steps * speed.update}
    return replace(plan, recipe=recipe, notes=tuple(notes), speed=speed, seconds=seconds)


def _with_batch(task: Task, images: int) -> tuple[Recipe, list[str]]:
    """A smaller batch for few images; the rate follows by the recipe's scaling."""
    # Unreadable images are known already: the head's fit read every image.
    recipe = override(task.recipe, ["loop.max_bad=1"])
    batch = recipe.loop.batch_size
    while batch > SMALLEST and images < batch * UPDATES:
        batch = max(SMALLEST, batch // 2)
    if batch == recipe.loop.batch_size or "loop.batch_size" in task.given:
        return recipe, []
    recipe = replace(recipe, loop=replace(recipe.loop, batch_size=batch))
    return recipe, [f"batch size {batch}, because there are few images"]


def _that_fits(task: Task, recipe: Recipe, fit: float, notes: list[str]) -> Recipe:
    """The recipe with the epochs that fit, down to a tenth; with none the head is the model."""
    if "schedule.epochs" in task.given or fit >= recipe.schedule.epochs.value:
        return recipe
    notes.append(f"{recipe.schedule.epochs} would be better, and do not fit into the time")
    epochs = Duration(int(fit * 10) / 10, "epochs")
    return replace(recipe, schedule=replace(recipe.schedule, epochs=epochs))


def _images(task: Task) -> dict[str, int]:
    found = {
        "to learn from": task.held.split(TRAIN),
        "held out": task.held.split(VALIDATION),
        "validation": task.dataset.split(VALIDATION),
    }
    return {name: len(split) for name, split in found.items()}


def _evaluation_seconds(task: Task, recipe: Recipe, speed: Speed) -> float:
    """Time of the evaluations: the held-out split during training and for blends, both splits at the end."""
    epochs, every = recipe.schedule.epochs, recipe.loop.eval_every
    total = epochs.steps(1000, 1)
    times = max(1, total // max(1, every.steps(1000, 1, total))) * (1 if recipe.ema.decay is None else 2)
    held, validation = len(task.held.split(VALIDATION)), len(task.dataset.split(VALIDATION))
    return (times + len(SHARES)) * held * speed.again + 2 * (held + validation) * speed.asked
