"""Everything that a run needs before its first step, new or as recorded."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from weevit.batches.loader import Loader
from weevit.datasets.dataset import Dataset, check_classes
from weevit.datasets.read import check_there
from weevit.errors import RecipeError, TrainingError, UsageError
from weevit.nn.vit import VisionTransformer
from weevit.optim.loss import class_weights
from weevit.optim.schedule import Schedule
from weevit.recipes.duration import Duration
from weevit.recipes.recipe import deviations, flat, load_recipe, override, to_yaml
from weevit.recipes.recipe_file import words_of
from weevit.recipes.schema import Recipe
from weevit.runs import folder as run_folder
from weevit.store.folder import clear_leftovers
from weevit.store.home import expand_home
from weevit.text import typed
from weevit.training.determinism import draw_from, settled
from weevit.training.machine import Machine, choose_device, placed
from weevit.training.micro_batches import choose_pieces
from weevit.training.module import Start, build, class_order, describe, first_weights, given, preprocessing, rebuild
from weevit.training.pace import Pace
from weevit.training.ranks import Ranks
from weevit.training.run_data import CONTENTS, data_facts, in_order, refuse_other_data, splits_of
from weevit.training.state import State, load, newest, save
from weevit.training.step import Step
from weevit.training.validation import Validation

RESUMABLE = ("loop.keep", "loop.max_bad", "loop.workers")
"""Keys that may change when a run resumes, because they have no influence on the result."""


@dataclass(frozen=True)
class Plan:
    """The length of a run, in updates of the weights.

    Attributes:
        total: the whole run, cooldown included.
        steps_per_epoch: one pass over the training split.
        eval_every, checkpoint_every: updates between two of them.
        mix_until: end of mixing.
    """

    total: int
    steps_per_epoch: int
    eval_every: int
    checkpoint_every: int
    mix_until: int

    @classmethod
    def of(cls, recipe: Recipe, total: int, steps_per_epoch: int) -> Plan:
        """The plan of a recipe."""

        def steps(span: Duration) -> int:
            return max(1, span.steps(steps_per_epoch, recipe.loop.batch_size, total))

        until = recipe.mix.until
        return cls(
            total,
            steps_per_epoch,
            steps(recipe.loop.eval_every),
            steps(recipe.loop.checkpoint_every),
            total if until is None else until.steps(steps_per_epoch, recipe.loop.batch_size, total),
        )


@dataclass
class Work:
    """A run, ready to start.

    Attributes:
        folder: folder of the run.
        recipe: the resolved recipe.
        facts: `run.json`.
        dataset: with a validation split; its classes are those of the head, in their order.
        machine: the machine.
        schedule: schedule of the learning rate.
        plan: its length.
        model: the weights in training; `state.model` is the same module.
        state: the contents of a checkpoint.
        step: the update of its weights.
        loader: loader of the training split.
        validation: the validation split.
        checkpoint: the latest checkpoint of the state.
        notes: notes for the user before it begins.
    """

    folder: Path
    recipe: Recipe
    facts: dict[str, Any]
    dataset: Dataset
    machine: Machine
    schedule: Schedule
    plan: Plan
    model: VisionTransformer
    state: State
    step: Step
    loader: Loader
    validation: Validation
    checkpoint: Path = Path()
    notes: tuple[str, ...] = ()

    @property
    def ranks(self) -> Ranks:
        """The processes that train together."""
        return self.step.ranks

    @property
    def pace(self) -> Pace:
        """The position of the run on its schedule."""
        return Pace(self.plan.total, self.state.ends)

    @property
    def epoch(self) -> int:
        """The epoch that the last update belongs to, from 0."""
        return max(0, self.state.step - 1) // self.plan.steps_per_epoch


def resolved(recipe: str | Path | Recipe, data: str | Path | None, overrides: Sequence[str]) -> Recipe:
    """The recipe of a run with an absolute path of its data; RecipeError for an invalid value or no data."""
    found = override(recipe, overrides) if isinstance(recipe, Recipe) else load_recipe(recipe, overrides)
    path = data if data is not None else found.data.path
    if path is None:
        raise RecipeError(f"The recipe {found.name} names no data.", "--data FOLDER, or data.path=FOLDER")
    return replace(found, data=replace(found.data, path=_absolute(path)))


def _absolute(path: str | Path) -> str:
    return str(path) if "://" in str(path) else str(expand_home(path).absolute())


def begin(
    folder: Path,
    recipe: Recipe,
    start: VisionTransformer | None,
    device: str,
    threads: int | None,
    in_time: bool = False,
    ranks: Ranks | None = None,
) -> Work:
    """A new run; writes `recipe.yaml`, `run.json` and the checkpoint of step 0.

    Args:
        folder: folder of the run, held and empty.
        recipe: result of `resolved`.
        start: a module to start from, with a head for the data's classes in their order; None for the recipe's.
        device: `auto`, or one of PyTorch's.
        threads: threads to compute with; chosen where None.
        in_time: as for `weevit.train`.
        ranks: the processes that train together, of which the first writes; None for one process.

    Raises:
        DatasetError, ModelError: the data or the first weights cannot be read or used.
        UsageError: no such device, or `start` has another head.
    """
    ranks = ranks or Ranks()
    check_there(recipe.data.path)
    checkpoint = first_weights(recipe) if start is None else None
    dataset = splits_of(recipe)
    check_classes(dataset)
    dataset = in_order(dataset, class_order(checkpoint, dataset.classes))
    machine = Machine.of(device, threads, recipe.loop.precision, ranks)
    with settled(machine.threads):
        draw_from(recipe.seed)
        first = (
            given(start, recipe, dataset.classes) if start is not None else build(recipe, checkpoint, dataset.classes)
        )
        model = placed(first.model, machine, recipe)
        machine = replace(machine, pieces=choose_pieces(recipe, model, machine, len(dataset.classes), ranks))
    facts: dict[str, Any] = {
        "recipe": flat(recipe),
        "data": data_facts(dataset),
        "classes": list(dataset.classes),
        "weights": first.weights,
        "model": describe(model),
        "device": machine.device.type,
        "threads": machine.threads,
        "precision": machine.precision,
        "pieces": machine.pieces,
        **({"ranks": ranks.world} if ranks.world > 1 else {}),
        "deviations": deviations(recipe),
        "in_time": in_time,
        "begun": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        **run_folder.machine(),
    }
    facts = json.loads(json.dumps(facts))  # as it is read back: lists, not tuples
    work = _work(folder, recipe, facts, dataset, machine, model, ranks)
    _refuse_warmup_alone(recipe, work.schedule)
    work.notes = (*_first_notes(first, dataset, facts), *_a_batch_of_all(recipe, dataset))
    if not ranks.first:
        return work
    run_folder.TRAINING.write(folder, run_folder.RECIPE, to_yaml(recipe))
    work.checkpoint = save(work.state, folder / run_folder.STATE)
    run_folder.write_run(folder, facts)  # from here on there is a run
    return work


def reopen(
    folder: Path,
    data: str | Path | None,
    minutes: float | None,
    warn: Callable[[str], None],
    overrides: Sequence[str] = (),
    ranks: Ranks | None = None,
) -> Work:
    """A recorded run, at its newest complete checkpoint.

    Args:
        folder: folder of the run, held.
        data: new path of the data, if it was moved.
        minutes: another time budget.
        warn: told of damaged checkpoints.
        overrides: `key=value` words for this sitting, of `RESUMABLE` keys.
        ranks: as many as began it; None for one process.

    Raises:
        TrainingError: no checkpoint, or recipe, data or weights differ from the record.
    """
    facts, ranks = run_folder.read_run(folder), ranks or Ranks()
    recipe = load_recipe(folder / run_folder.RECIPE)
    run_folder.refuse_other_recipe(folder, facts, recipe)
    if data is not None:
        recipe = replace(recipe, data=replace(recipe.data, path=_absolute(data)))
    recipe = _for_this_sitting(recipe, overrides)
    moved = f"Where it is now: weevit resume {typed(folder)} --data FOLDER"
    check_there(recipe.data.path, moved if data is None else "")
    if minutes is not None:
        recipe = override(recipe, [f"loop.minutes={minutes}"])
    dataset = splits_of(recipe)
    if sorted(dataset.classes) != sorted(facts["classes"]):
        run_folder.refuse_other(folder, facts, {"classes": list(dataset.classes)})
    dataset = in_order(dataset, facts["classes"])
    notes = list(refuse_other_data(folder, facts, dataset, warn))
    _refuse_other_ranks(folder, facts, ranks)
    machine = Machine(choose_device(facts["device"]), facts["threads"], facts["precision"], facts["pieces"])
    states = folder / run_folder.STATE
    if ranks.first:
        clear_leftovers(states)
    path = newest(states, warn)
    work = _work(folder, recipe, facts, dataset, machine, placed(rebuild(facts["model"]), machine, recipe), ranks)
    load(work.state, path, work.plan.total, recipe.loop.batch_size)
    work.checkpoint = path
    work.notes = (_place(work), *notes, *_other_versions(facts))
    return work


def agree(work: Work) -> None:
    """Take the micro-batches of rank 0, whose memory may be another; a TrainingError on all ranks for other data."""
    own, ranks = work.facts["data"], work.ranks
    work.machine = work.step.machine = replace(work.machine, pieces=ranks.from_first(work.machine.pieces))
    wanted = ranks.from_first(own)
    known = CONTENTS if CONTENTS in own else "fingerprint"  # times may differ where the bytes are known
    with ranks.together():
        if own.get(known) != wanted.get(known):
            counts = [sum(count for count in data.values() if isinstance(count, int)) for data in (own, wanted)]
            raise TrainingError(
                f"This rank reads other data at {work.recipe.data.path} than rank 0: {counts[0]:,} images here, "
                f"{counts[1]:,} there, or other sizes or times.",
                "Every machine has to see the same files: one shared folder, or copies that keep the times of files.",
            )


def _refuse_warmup_alone(recipe: Recipe, schedule: Schedule) -> None:
    """In units that the recipe alone cannot compare. A share may be all of few updates, and one update is a trial."""
    warmup, epochs = recipe.schedule.warmup, recipe.schedule.epochs
    if warmup.unit != "%" and not schedule.warmup_prefix and 1 < schedule.length <= schedule.warmup:
        raise RecipeError(
            f"schedule.warmup takes all of schedule.epochs, so that the rate never reaches its peak: {warmup} "
            f"({schedule.warmup:,} updates here) of {epochs} ({schedule.length:,}).",
            "schedule.warmup='5 %'",
        )


def _a_batch_of_all(recipe: Recipe, dataset: Dataset) -> Iterator[str]:
    """A note where a batch would have more images than there are: the rate was meant for that many."""
    batch, images = recipe.loop.batch_size, len(dataset.split("train").targets)
    if batch > images:
        yield (
            f"loop.batch_size is {batch:,}: each update sees all {images:,} training images, at the learning rate for "
            f"{batch:,} ({recipe.learning_rate:.2g})"
        )


def _for_this_sitting(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    other = sorted({word.partition("=")[0].strip() for word in words_of(overrides)} - set(RESUMABLE))
    if other:
        raise UsageError(
            f"A run resumes with its first values; {', '.join(other)} cannot be changed, only {', '.join(RESUMABLE)}.",
            "Other values make a new run: weevit train --from RUN -o NEW KEY=VALUE",
        )
    return override(recipe, overrides) if overrides else recipe


def _refuse_other_ranks(folder: Path, facts: dict[str, Any], ranks: Ranks) -> None:
    began = facts.get("ranks", 1)
    if began != ranks.world:
        start = f"torchrun --nproc-per-node {began} -m weevit" if began > 1 else "weevit"
        raise TrainingError(
            f"{folder} was begun by {began} rank(s); {ranks.world} would resume it, and sums in another order "
            "are other numbers.",
            f"{start} resume {typed(folder)}   (or a new run from its weights: --from)",
        )


def _place(work: Work) -> str:
    step = work.state.step
    if step == work.pace.total:
        return f"step {step:,} of {step:,}: nothing is left to train"
    return f"epoch {step // work.plan.steps_per_epoch + 1}, step {step:,}: same order, same draws"


def _other_versions(facts: dict[str, Any]) -> Iterator[str]:
    """A note on versions that changed since the run began: the last bits may differ."""
    now = run_folder.machine()["versions"]
    changed = {name: then for name, then in facts["versions"].items() if now.get(name) != then}
    if changed:
        words = ", ".join(f"{name} {then} then, {now.get(name)} now" for name, then in changed.items())
        yield f"started with other versions, so the last bits may differ: {words}"


def _work(
    folder: Path,
    recipe: Recipe,
    facts: dict[str, Any],
    dataset: Dataset,
    machine: Machine,
    model: VisionTransformer,
    ranks: Ranks,
) -> Work:
    training, spec, batch = dataset.split("train"), preprocessing(model), recipe.loop.batch_size
    loader = Loader(training, recipe, spec, machine.device, ranks)
    schedule = Schedule.of(recipe, loader.steps_per_epoch)
    at_once = min(256, max(1, batch // machine.pieces))
    weights = None
    if recipe.loss.class_weights != "none":
        weights = class_weights(torch.from_numpy(training.targets), len(dataset.classes)).to(machine.device)
    state = State.of(model, recipe, machine, run_folder.fingerprint(facts))
    return Work(
        folder=folder,
        recipe=recipe,
        facts=facts,
        dataset=dataset,
        machine=machine,
        schedule=schedule,
        plan=Plan.of(recipe, schedule.total, loader.steps_per_epoch),
        model=model,
        state=state,
        step=Step(recipe, machine, state, len(dataset.classes), weights, ranks),
        loader=loader,
        validation=Validation(dataset.split("validation"), spec, at_once, machine.threads, ranks),
    )


def _first_notes(first: Start, dataset: Dataset, facts: dict[str, Any]) -> tuple[str, ...]:
    source = first.weights.get("source")
    parameters = sum(parameter.numel() for parameter in first.model.parameters())
    return (
        f"{first.model.arch.name} · {parameters / 1e6:.1f} M parameters · {first.model.img_size[0]} px · "
        + (f"from {source}" if source else "fresh weights")
        + (", fresh head" if source and first.fresh_head else ""),
        f"{dataset.contents()} · {facts['device']}, {facts['threads']} threads, {facts['precision']}"
        + (f", {facts['ranks']} ranks" if "ranks" in facts else "")
        + (f", batches in {facts['pieces']} micro-batches" if facts["pieces"] > 1 else ""),
        *dataset.notes,
    )
