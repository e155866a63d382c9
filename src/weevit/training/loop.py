"""The training loop: one function, read from top to bottom. `train` begins a run, `resume` resumes one.

The result depends on the recipe, the data and the first weights, and not on interruptions: every draw is keyed by
(seed, epoch, sample) or (seed, step), and everything that the rest of a run depends on is in its `State`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import torch

from weevit.batches.loader import Batch
from weevit.batches.mixing import mix
from weevit.errors import DivergedError, TrainingError
from weevit.nn.vit import VisionTransformer
from weevit.recipes.schema import Recipe
from weevit.store.outputs import local
from weevit.text import some, typed
from weevit.training import run_folder
from weevit.training.board import Board
from weevit.training.determinism import draw_from, settled
from weevit.training.judging import (
    REMEDY,
    evaluated,
    evaluation_line,
    evaluation_of,
    is_due,
    is_stale,
    refuse_bad,
    still_evaluating,
    take_best,
)
from weevit.training.loss import loss, shares, smoothed
from weevit.training.optim import clip_gradients, set_rate
from weevit.training.pace import Lookout
from weevit.training.pages import write_report
from weevit.training.results import (
    Run,
    last_figures,
    outcome,
    publish,
    publish_again,
    show_metrics,
    show_samples,
)
from weevit.training.run_folder import STATE, hold
from weevit.training.saved import Row
from weevit.training.setup import Work, begin, reopen, resolved
from weevit.training.state import State, digest, save
from weevit.training.stopwatch import Stopwatch
from weevit.training.watch import Progress, Watcher

DONE, BUDGET, EARLY, INTERRUPTED = "done", "time budget", "early stop", "interrupted"

LOWEST_SCALE = 2.0**-14
"""Scale of float16 gradients: if they are not finite with this one, the scale is not the reason."""


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
        start: a module to start from, with a head for the data's classes in their order; None for the recipe's.
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
    with hold(folder, new=True, inputs=[*read, wanted.data.path]), closing(Board(folder, tensorboard)) as board:
        work = begin(folder, wanted, start, device, threads, in_time)
        if not isinstance(recipe, Recipe):  # the caller made it in Python
            work.notes += tuple(f"unlike the recipe it is based on: {line}" for line in work.facts["deviations"])
        with run_folder.logging(folder), _memory(work):
            return _run(work, board, watcher or Watcher(), report)


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
    folder, watcher = local(output), watcher or Watcher()
    tensorboard = tensorboard or (folder / run_folder.BOARD).is_dir()
    with hold(folder, new=False), closing(Board(folder, tensorboard)) as board, run_folder.logging(folder):
        work = reopen(folder, data, minutes, watcher.say, overrides)
        publish_again(work)
        with _memory(work):
            return _run(work, board, watcher, report)


def _run(work: Work, board: Board, watcher: Watcher, report: bool) -> Run:
    """Train from the state to the end, or to the first reason to stop."""
    folder, recipe, machine, plan, state = work.folder, work.recipe, work.machine, work.plan, work.state
    pace, first = work.pace, state.step
    model, optimizer, scaler, loop = work.model, state.optimizer, state.scaler, work.recipe.loop
    clock = Stopwatch(state.clock.seconds)
    progress = Progress(
        state.step, pace.total, plan.steps_per_epoch, figures=last_figures(state.metrics), best=state.best
    )
    say = _sayer(folder, watcher)
    record = _recorder(work, board)
    for note in work.notes:
        say(note)
    run_folder.write_metrics(folder, state.metrics)
    board.restart(state.metrics, state.clock.rows)
    watcher.offer(lambda: _save(work, clock))
    lookout = Lookout(pace, 60 * loop.minutes, clock.seconds) if loop.minutes and work.facts.get("in_time") else None
    stopped, path, saved, saved_at = "", work.checkpoint, _place(state), time.monotonic()

    with settled(machine.threads):
        forward = torch.compile(model) if loop.compile else model
        batches = _batches(work)
        model.train()
        while True:
            # ---- evaluation: at its steps, and at the end
            late = loop.minutes is not None and clock.seconds() + clock.evaluation >= 60 * loop.minutes
            due = is_due(work) or late
            better = False
            if due and state.step and not evaluated(state):
                watcher.moved(clock.into(progress, state, "evaluating"))
                found = evaluation_of(work, clock, watcher)
                if found:
                    with state.lock:
                        record("eval", found)
                        better = take_best(work, found)
                    progress.figures, progress.best = found, state.best
                    say(evaluation_line(work, found, better))

            # ---- reasons to stop
            if state.step == pace.total and evaluated(state):
                stopped = DONE
            elif watcher.should_stop():
                stopped = INTERRUPTED
            elif late:
                stopped = BUDGET
            elif evaluated(state) and is_stale(work):
                stopped = EARLY

            # ---- checkpoint: at its steps, by the clock, for a new best, and at the end
            old = state.step % plan.checkpoint_every == 0 or time.monotonic() - saved_at >= 60 * loop.checkpoint_minutes
            if (better or stopped or old) and _place(state) != saved:
                watcher.moved(clock.into(progress, state, "saving"))
                path, saved, saved_at = _save(work, clock), _place(state), time.monotonic()
                if better:
                    publish(work, path)
                stopped = stopped or (INTERRUPTED if watcher.should_stop() else "")  # asked for during the save
            if stopped:
                break

            # ---- the next batch: independent of what came before, and mixed by the draws of this step
            began, position = time.perf_counter(), pace.position(state.step)
            batch = clock.waiting(batches)
            _count_bad(work, batch)
            images = batch.images
            targets = smoothed(batch.targets, len(work.dataset.classes), recipe.loss, recipe.data.multi_label)
            if not len(images):  # every image is unreadable, and counted: nothing to learn
                with state.lock:
                    state.step += 1
                continue
            if position < plan.mix_until:
                images, targets = mix(images, targets, recipe.mix, len(work.dataset.classes), recipe.seed, state.step)
            if state.step == 0:
                show_samples(work, images)
            if machine.device.type == "cuda":
                images = images.contiguous(memory_format=torch.channels_last)

            # ---- forward and backward, one micro-batch after another
            mean = torch.zeros((), device=machine.device)
            for number, (piece, share) in enumerate(shares(len(images), machine.pieces)):
                draw_from(recipe.seed, state.step, number)
                with machine.autocast():
                    logits = forward(images[piece])
                value = loss(logits, targets[piece], recipe.loss, work.class_weights) * share
                scaler.scale(value).backward()
                mean += value.detach()

            # ---- update, if all numbers are finite; under the lock, since another thread may save between two updates
            rate = work.schedule.rate(position)
            set_rate(optimizer, rate)
            with state.lock:
                scaler.unscale_(optimizer)
                norm = clip_gradients(model.parameters(), recipe.optim)
                values = torch.stack([mean, norm.to(mean)]).tolist()  # the only wait for the device
                _refuse_not_finite(work, values, batch)
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad(set_to_none=True)
                state.step, state.seen = state.step + 1, state.seen + len(images)
                if state.ema is not None:
                    state.ema.update(model, state.step)
                state.count(*values)
                clock.trained += len(images)
                if lookout is not None:
                    took = time.perf_counter() - began
                    lookout.updated(state.step, took, still_evaluating(work, clock, took / len(images)))
                if state.step % loop.log_every == 0 or is_due(work):
                    record("train", {"lr": rate, **state.take_window()})
                    state.clock.rows.append(clock.lap(state.step))

            # ---- progress
            progress.loss = next((row["loss"] for row in reversed(state.metrics) if "loss" in row), None)
            progress.lr, progress.bad, progress.total = rate, len(state.bad), pace.total
            watcher.moved(clock.into(progress, state, "training", loop.minutes))

    # ---- the end
    if stopped != INTERRUPTED:  # a stop does not wait for images
        show_metrics(work)
    run = outcome(work, stopped, digest(path), state.step > first)
    if report and stopped != INTERRUPTED and state.best is not None:
        say(write_report(work, run))
    say(f"{stopped} after {state.step:,} of {run.total:,} steps · state {run.digest[:16]}")
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


def _place(state: State) -> tuple[int, int]:
    """The contents of a checkpoint by step and rows of metrics: an evaluation makes a new one of the same step."""
    return state.step, len(state.metrics)


def _save(work: Work, clock: Stopwatch) -> Path:
    with work.state.lock:
        work.state.clock.seconds = clock.seconds()
        return save(work.state, work.folder / STATE, work.recipe.loop.keep)


def _batches(work: Work) -> Iterator[Batch]:
    """Batches from the state's step on, epoch after epoch."""
    epoch, done = divmod(work.state.step, work.plan.steps_per_epoch)
    while True:
        yield from work.loader.epoch(epoch, done)
        epoch, done = epoch + 1, 0


def _sayer(folder: Path, watcher: Watcher) -> Callable[[str], None]:
    def say(text: str) -> None:
        run_folder.log(folder, text)
        watcher.say(text)

    return say


def _recorder(work: Work, board: Board) -> Callable[[str, dict[str, float]], None]:
    """A function that adds a row to the state, the table and the curves."""

    def record(kind: str, values: dict[str, float]) -> None:
        state = work.state
        row: Row = {"step": state.step, "epoch": work.epoch, "kind": kind, "seen": state.seen, **values}
        state.metrics.append(row)
        run_folder.append_row(work.folder, row)
        board.add(row)

    return record


def _count_bad(work: Work, batch: Batch) -> None:
    for name, kind, error in batch.bad:
        if name not in work.state.bad:
            work.state.bad[name] = (kind, error)
            run_folder.log(work.folder, f"unreadable: {name}: {error}")
    refuse_bad(work, work.state.bad, len(work.dataset.split("train")), "training")


def _refuse_not_finite(work: Work, loss_and_norm: list[float], batch: Batch) -> None:
    """Raise a DivergedError before an update if the loss or a gradient is not finite."""
    value, norm = loss_and_norm
    scaler = work.state.scaler
    if math.isfinite(value) and (math.isfinite(norm) or (scaler.is_enabled() and scaler.get_scale() > LOWEST_SCALE)):
        return
    what = "the norm of the gradients" if math.isfinite(value) else "the loss"
    step = work.state.step + 1
    run_folder.log(work.folder, f"step {step}: {what} is not finite; images: {' '.join(batch.ids)}")
    raise DivergedError(
        f"In step {step}, {what} is {norm if math.isfinite(value) else value}. The images: {some(batch.ids, 5)} "
        f"({work.folder / run_folder.LOG} has all). No weight was changed by it and nothing was saved since.",
        REMEDY,
    )
