"""The training loop: one function, read from top to bottom. `train` begins a run, `resume` resumes one.

The result depends on the recipe, the data and the first weights, and not on interruptions: every draw is keyed by
(seed, epoch, sample) or (seed, step), and everything that the rest of a run depends on is in its `State`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import torch

from weevit.batches.loader import Batch
from weevit.errors import TrainingError, WeevitError
from weevit.nn.vit import VisionTransformer
from weevit.recipes.schema import Recipe
from weevit.runs import folder as run_folder
from weevit.runs.folder import hold
from weevit.store.outputs import local
from weevit.text import typed
from weevit.training.board import Board
from weevit.training.determinism import settled
from weevit.training.judging import evaluated, is_due, is_stale
from weevit.training.pages import write_report
from weevit.training.ranks import Ranks, joined
from weevit.training.results import Run, outcome, publish_again, show_metrics, show_samples
from weevit.training.setup import Work, agree, begin, reopen, resolved
from weevit.training.sitting import Sitting, refuse_not_finite
from weevit.training.watch import Watcher

DONE, BUDGET, EARLY, INTERRUPTED = "done", "time budget", "early stop", "interrupted"


def train(
    recipe: str | Path | Recipe,
    data: str | Path | None = None,
    output: str | Path = "run",
    overrides: Sequence[str] = (),
    *,
    start: VisionTransformer | None = None,
    device: str = "auto",
    threads: int | None = None,
    in_time: bool = False,
    tensorboard: bool = False,
    report: bool = True,
    watcher: Watcher | None = None,
) -> Run:
    """Begin a run.

    Args:
        recipe: a shipped recipe's name, a YAML file, a run folder with a recipe, or a `Recipe`.
        data: images with classes, as `weevit.datasets` reads them; the recipe's `data.path` where None.
        output: the run's folder; new or empty.
        overrides: `key=value` words on top of the recipe.
        start: a module to start from, with a head for the data's classes in their order; None for the recipe's. All its
            weights are trained.
        device: `auto` (a GPU where there is one), `cpu`, `cuda`, `cuda:1`.
        threads: threads of the CPU; chosen where None.
        in_time: end the schedule within `loop.minutes`, with as many updates as fit. Otherwise a run without time left
            ends in the middle of its schedule.
        tensorboard: write event files to `tensorboard/`.
        report: evaluate the best weights at the end, as `weevit eval` does, and write `report.html`.
        watcher: told the progress, and may stop it.

    Raises:
        RecipeError: the recipe has an invalid value.
        DatasetError: the data cannot be trained on.
        DivergedError: a loss, gradient or answer is NaN or infinite.
        TrainingError: there are too many unreadable images.
        UsageError: the folder holds a run or something else.
        OutputError: the folder cannot be written, or another process works in it.
    """
    wanted, folder = resolved(recipe, data, overrides), local(output)
    read = [recipe] if isinstance(recipe, str | Path) and Path(recipe).is_file() else []  # else it is a name
    with joined() as ranks:
        manner = _Manner(tensorboard, report, _heard(watcher, ranks))
        if ranks.restarted and ranks.from_first((folder / run_folder.RUN).is_file()):  # a rank had ended
            return _sit(ranks, folder, manner, lambda: reopen(folder, data, None, manner.watcher.say, (), ranks))

        def prepare() -> Work:
            work = begin(folder, wanted, start, device, threads, in_time, ranks)
            if not isinstance(recipe, Recipe):  # the caller made it in Python
                work.notes += tuple(f"unlike the recipe it is based on: {line}" for line in work.facts["deviations"])
            return work

        return _sit(ranks, folder, manner, prepare, [*read, wanted.data.path])


def resume(
    output: str | Path,
    data: str | Path | None = None,
    *,
    minutes: float | None = None,
    overrides: Sequence[str] = (),
    tensorboard: bool = False,
    report: bool = True,
    watcher: Watcher | None = None,
) -> Run:
    """Resume a run at its newest complete checkpoint: same order, same draws, and in the end the same bytes.

    Args:
        output: the run's folder.
        data: the new path of the same data, if it was moved.
        minutes: another time budget, for all sittings together.
        overrides: `key=value` words for this sitting: loop.max_bad, loop.workers, loop.keep.
        tensorboard: write event files to `tensorboard/`, from the first step on; always if the folder has some.
        report: as for `train`.
        watcher: told the progress, and may stop it.

    Raises:
        UsageError: the folder holds no run.
        TrainingError: no complete checkpoint, or another recipe, other data or other weights now.
        OutputError: the folder cannot be written, or another process works in it.
    """
    folder = local(output)
    with joined() as ranks:
        board = os.path.isdir(folder / run_folder.BOARD)  # noqa: PTH112 - a name may be too long
        manner = _Manner(tensorboard or board, report, _heard(watcher, ranks))
        say = manner.watcher.say
        return _sit(ranks, folder, manner, lambda: reopen(folder, data, minutes, say, overrides, ranks))


class _Manner(NamedTuple):
    """How a run is told: by event files, a report at its end, a watcher."""

    tensorboard: bool
    report: bool
    watcher: Watcher


def _heard(watcher: Watcher | None, ranks: Ranks) -> Watcher:
    """The watcher of rank 0; others may be asked to stop, too."""
    watcher = watcher or Watcher()
    return watcher if ranks.first else Watcher(should_stop=watcher.should_stop)


def _sit(
    ranks: Ranks, folder: Path, manner: _Manner, prepare: Callable[[], Work], inputs: Sequence[object] | None = None
) -> Run:
    """Hold the folder, prepare the run, and train; `inputs` of a new run, None for a recorded one."""
    with ExitStack() as stack:
        with ranks.together():
            if ranks.first:
                stack.enter_context(hold(folder, inputs is not None, inputs or ()))
            board = stack.enter_context(closing(Board(folder, manner.tensorboard and ranks.first)))
            stack.enter_context(run_folder.logging(folder))
            work = prepare()
        agree(work)
        if inputs is None and ranks.first:
            publish_again(work)
        with _memory(work), _compiler(work):
            return _run(work, board, manner.watcher, manner.report)


def _run(work: Work, board: Board, watcher: Watcher, report: bool) -> Run:
    """Train from the state to the end, or to the first reason to stop."""
    state, plan, pace, step = work.state, work.plan, work.pace, work.step
    sitting, first, stopped = Sitting(work, board, watcher), state.step, ""
    with settled(work.machine.threads):
        batches = _batches(work)
        work.model.train()
        while True:
            # ---- evaluation: at its steps, and at the end
            late = sitting.is_late()
            due = (is_due(work) or late) and state.step and not evaluated(state)
            better = sitting.evaluate() if due else False

            # ---- reasons to stop
            asked = sitting.is_stopped()
            if state.step == pace.total and evaluated(state):
                stopped = DONE
            elif asked:
                stopped = INTERRUPTED
            elif late:
                stopped = BUDGET
            elif evaluated(state) and is_stale(work):
                stopped = EARLY

            # ---- checkpoint: at its steps, by the clock, for a new best, and at the end
            if sitting.save_if(bool(stopped), better) and sitting.is_stopped():  # asked for during the save
                stopped = stopped or INTERRUPTED
            if stopped:
                break

            # ---- the next batch: independent of what came before, and mixed by the draws of this step
            began, position = time.perf_counter(), pace.position(state.step)
            batch = sitting.next_batch(batches)
            if not batch.share.size:  # every image is unreadable, and counted: nothing to learn
                with state.lock:
                    state.step += 1
                continue
            images, targets = step.inputs(batch, mixed=position < plan.mix_until)
            if state.step == 0 and work.ranks.first:
                show_samples(work, images)

            # ---- forward and backward
            try:
                loss, norm = step.gradients(images, targets, batch.share)
            except Exception as error:
                if isinstance(error, WeevitError) or not watcher.should_stop():
                    raise
                continue  # the signal reached a compiler too; no weight was changed

            # ---- update, if all numbers are finite; under the lock, since another thread may save between two updates
            rate = work.schedule.rate(position)
            with state.lock:
                refuse_not_finite(work, loss, norm, batch)
                step.update(rate, batch.share.size)
                state.count(loss, norm)
                sitting.updated(batch.share.size, rate, began)
            sitting.moved()

    # ---- the end
    if stopped != INTERRUPTED and work.ranks.first:  # a stop does not wait for images
        show_metrics(work)
    run = outcome(work, stopped, sitting.digest(), state.step > first)
    if report and stopped != INTERRUPTED and state.best is not None and work.ranks.first:
        sitting.say(write_report(work, run))
    sitting.say(f"{stopped} after {state.step:,} of {run.total:,} steps · state {run.digest[:16]}")
    return run


@contextmanager
def _memory(work: Work) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        batch, pieces = work.recipe.loop.batch_size, work.machine.pieces
        raise TrainingError(
            f"The memory of {work.machine.device} does not hold a batch of {batch} in {pieces} micro-batch(es).",
            f"A new run with loop.accumulate={2 * pieces}, or auto; this one's weights: --from {typed(work.folder)}",
        ) from error


@contextmanager
def _compiler(work: Work) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        from torch._dynamo.exc import TorchDynamoException  # takes seconds to import

        if not isinstance(error, TorchDynamoException):
            raise
        cause = getattr(error, "inner_exception", error)
        line = str(cause).strip().partition("\n")[0]
        raise TrainingError(
            f"torch.compile does not work here: {type(cause).__name__}: {line}",
            "A compiler that works, then resume; or a new run with loop.compile=false.",
        ) from error


def _batches(work: Work) -> Iterator[Batch]:
    """Batches from the state's step on, epoch after epoch."""
    epoch, done = divmod(work.state.step, work.plan.steps_per_epoch)
    while True:
        yield from work.loader.epoch(epoch, done)
        epoch, done = epoch + 1, 0
