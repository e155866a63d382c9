"""`weevit.finetune`: published weights fine-tuned to your classes, and whether that beat the linear head.

training images ──┬─ most of them ── embeddings ── a linear head (`fit`) ── a run that starts from it (`train`)
                  └─ a held-out split ── the best blend of the two? is it better than the head? ── model/
validation images ── choose nothing: both are judged by them at the end
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from weevit.arguments import within
from weevit.datasets.dataset import TRAIN
from weevit.errors import DivergedError
from weevit.finetuning.baseline import FINETUNE, PROBE, TUNED, FineTuned, choose, fit_probe, judge_probe
from weevit.finetuning.pages import write_finetune_page
from weevit.finetuning.planning import Plan, draft, make_plan, peak_memory, time_left
from weevit.finetuning.task import Started, Task
from weevit.fitting.floor import check_floor
from weevit.recipes.recipe import deviations
from weevit.runs.folder import RUN
from weevit.store.folder import held
from weevit.store.outputs import local
from weevit.training.loop import resume, train
from weevit.training.machine import choose_device
from weevit.training.results import Run
from weevit.training.watch import Watcher
from weevit.zoo.weights import DEFAULT_MODEL

_LONGEST = 1e6
"""Minutes, as of `loop.minutes`."""


def finetune(
    data: str | Path,
    output: str | Path,
    model: str | Path | None = None,
    overrides: Sequence[str] = (),
    *,
    recipe: str | Path = "finetune",
    minutes: float | None = None,
    device: str = "auto",
    threads: int | None = None,
    watcher: Watcher | None = None,
) -> FineTuned:
    """Fine-tune published weights on a folder of images.

    A linear head is fitted first, and training starts from it where it beats the most frequent class. Neither sees the
    held-out split of the training images: it chooses the best weights on the line between the two and the better of the
    two, and calibrates it. The validation split chooses nothing.

    Args:
        data: images with classes, as `weevit.train` takes them.
        output: a new or empty folder, or the folder of a stopped fine-tuning, which resumes.
        model: as for `weevit.load`; its default where None.
        overrides: `key=value` words on top of the recipe; the plan leaves these values alone.
        recipe: the recipe to begin with.
        minutes: time budget; training ends in time, with fewer updates if not all fit. Where no time is left for it, or
            it diverges, the head is the model.
        device: `auto` (a GPU where there is one), `cpu`, `cuda`, `cuda:1`.
        threads: threads of the CPU; chosen where None.
        watcher: told the progress, and may stop it.

    Raises:
        UsageError: the folder holds something else, a finished fine-tuning, or one with other weights or overrides.
        DatasetError, ModelError: the data or the model cannot be read or used; a class has too few images.
        TrainingError: the run cannot resume.
        KeyboardInterrupt: the watcher stopped it before training began; embeddings are kept.
    """
    began, folder = time.perf_counter(), local(output)
    _check(minutes)
    with held(folder, FINETUNE, (data, model)):
        task = replace(_task(folder, data, model, recipe, overrides), device=device, threads=threads)
        return _finetune(task, folder, began, minutes, watcher or Watcher())


def _check(minutes: float | None) -> None:
    if minutes is not None:
        within("minutes", minutes, 0, _LONGEST)


def _finetune(task: Task, folder: Path, began: float, minutes: float | None, watcher: Watcher) -> FineTuned:
    # ---- a linear head, and its accuracy on held-out images
    watcher.say(task.dataset.contents())
    watcher.say(f"a linear head on {task.checkpoint.name}, fitted to {len(task.held.split(TRAIN)):,} images")
    probe = fit_probe(task, task.held, folder / PROBE, watcher)
    watcher.say(f"{probe.chosen.name}: {probe.measure} {probe.chosen.score:.2%} in cross-validation")
    found = judge_probe(task, folder, probe, watcher)

    # ---- a run that starts from this head, or a resumed run
    plan = draft(task.starting_from(probe))
    left = None if minutes is None else time_left(task, probe, minutes, time.perf_counter() - began)
    try:
        run = _run(task, plan, folder / TUNED, left, watcher)
    except DivergedError as error:
        run, found = None, replace(found, diverged=f"{error.message} {error.hint}")
        watcher.say(found.diverged)
    if run is not None:
        watcher.say(f"memory    {peak_memory(choose_device(task.device)) / 1e9:.1f} GB at most")

    # ---- the choice, on images that neither has seen; then both on the validation split
    done = choose(task, found, run, watcher)
    done = replace(done, plan=plan, minutes=(time.perf_counter() - began) / 60, budget=minutes)
    if done.chosen:
        write_finetune_page(done, task)
    return done.written()


def _task(
    folder: Path, data: str | Path, model: str | Path | None, recipe: str | Path, overrides: Sequence[str]
) -> Task:
    """The task; in the folder of a stopped fine-tuning, the task that it began with."""
    bound = (folder / TUNED / RUN).is_file()  # recorded in every result from here on
    begun = Started.read(folder)
    if begun is not None:
        if bound:
            begun.refuse_other(folder, model, overrides)
        model = begun.model if bound or model is None else model
        recipe, overrides = begun.recipe if bound or not overrides else recipe, overrides or begun.overrides
    task = Task.of(data, DEFAULT_MODEL if model is None else model, recipe, overrides)
    check_floor(task.held)
    if not bound:
        Started(task.recipe.model.name, task.checkpoint.sha256, str(recipe), tuple(overrides)).write(folder)
    return task


def _run(task: Task, plan: Plan, folder: Path, left: float | None, watcher: Watcher) -> Run | None:
    """The run; None where it did not begin and no time is left for it."""
    if (folder / RUN).is_file():
        minutes = None if left is None else max(left / 60, 1e-3)
        return resume(folder, task.recipe.data.path, minutes=minutes, report=False, watcher=watcher)
    for line in deviations(task.recipe):
        if line.partition(":")[0] in task.given:
            watcher.say(f"unlike the recipe: {line}")
    recipe = plan.recipe
    if left is not None and "loop.minutes" not in task.given:
        if left <= 0:
            return None
        recipe = replace(recipe, loop=replace(recipe.loop, minutes=left / 60))
    for line in plan.choices():
        watcher.say(line)
    return train(
        recipe,
        output=folder,
        device=task.device,
        threads=task.threads,
        in_time=recipe.loop.minutes is not None,
        report=False,
        watcher=watcher,
    )


def plan_finetune(
    data: str | Path,
    model: str | Path = DEFAULT_MODEL,
    overrides: Sequence[str] = (),
    *,
    recipe: str | Path = "finetune",
    minutes: float | None = None,
    device: str = "auto",
    threads: int | None = None,
) -> Plan:
    """The plan of `finetune` with the same arguments, with its time and memory; nothing is written.

    A few updates are measured, which takes some seconds.
    """
    _check(minutes)
    task = replace(Task.of(data, model, recipe, overrides), device=device, threads=threads)
    check_floor(task.held)
    return make_plan(task, minutes, None)
