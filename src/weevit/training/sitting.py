"""One sitting of a run: what it tells, records and saves on the way. Only rank 0 writes."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from weevit.batches.loader import Batch
from weevit.errors import DivergedError, TrainingError
from weevit.runs import folder as run_folder
from weevit.runs.folder import STATE
from weevit.runs.saved import Row
from weevit.text import some
from weevit.training.board import Board
from weevit.training.judging import (
    REMEDY,
    evaluation_line,
    evaluation_of,
    is_due,
    refuse_bad,
    still_evaluating,
    take_best,
)
from weevit.training.pace import Lookout
from weevit.training.ranks import LostRankError
from weevit.training.results import last_figures, publish
from weevit.training.setup import Work
from weevit.training.state import digest, save
from weevit.training.stopwatch import Stopwatch
from weevit.training.watch import Progress, Watcher

LOWEST_SCALE = 2.0**-14
"""Scale of float16 gradients: if they are not finite with this one, the scale is not the reason."""


class Sitting:
    """A run at work in this process.

    Attributes:
        work: the run.
        path: the latest checkpoint.
    """

    def __init__(self, work: Work, board: Board, watcher: Watcher) -> None:
        state, minutes = work.state, work.recipe.loop.minutes
        self.work, self.path = work, work.checkpoint
        self._board, self._watcher = board, watcher
        self._clock = clock = Stopwatch(state.clock.seconds)
        figures = last_figures(state.metrics)
        self._progress = Progress(
            state.step, work.pace.total, work.plan.steps_per_epoch, figures=figures, best=state.best
        )
        in_time = minutes and work.facts.get("in_time")
        self._lookout = Lookout(work.pace, 60 * minutes, clock.seconds) if minutes and in_time else None
        self._saved, self._saved_at = self._contents(), time.monotonic()
        for note in work.notes:
            self.say(note)
        if work.ranks.first:
            run_folder.write_metrics(work.folder, state.metrics)
        board.restart(state.metrics, state.clock.rows)
        watcher.offer(self._save)

    # ---- what all ranks decide alike

    def is_late(self) -> bool:
        """Whether the time budget is used up."""
        minutes = self.work.recipe.loop.minutes
        if minutes is None:
            return False
        return self._first_says(self._clock.seconds() + self._clock.evaluation >= 60 * minutes)

    def is_stopped(self) -> bool:
        """Whether a rank is asked to stop."""
        return self.work.ranks.any(self._watcher.should_stop())

    def _first_says(self, flag: bool) -> bool:
        """What rank 0 says, whose clock counts."""
        return self.work.ranks.any(self.work.ranks.first and flag)

    # ---- evaluation and checkpoints

    def evaluate(self) -> bool:
        """Evaluate the weights; returns whether they are the best so far. Nothing after a request to stop."""
        work = self.work
        self._watcher.moved(self._clock.into(self._progress, work.state, "evaluating"))
        found = evaluation_of(work, self._clock, self._watcher)
        if not found:
            return False
        with work.state.lock:
            self._record("eval", found)
            better = take_best(work, found)
        self._progress.figures, self._progress.best = found, work.state.best
        self.say(evaluation_line(work, found, better))
        return better

    def save_if(self, due: bool, better: bool) -> bool:
        """Write a checkpoint, if one is due and there is something new; returns whether it did.

        Args:
            due: whether the run ends here; otherwise its steps or the clock of rank 0 may say so.
            better: whether the weights are the best so far: they become `model/`.
        """
        work, loop = self.work, self.work.recipe.loop
        old = self._first_says(time.monotonic() - self._saved_at >= 60 * loop.checkpoint_minutes)
        due = due or better or old or work.state.step % work.plan.checkpoint_every == 0
        if not due or self._contents() == self._saved:
            return False
        self._watcher.moved(self._clock.into(self._progress, work.state, "saving"))
        self._saved, self._saved_at = self._contents(), time.monotonic()
        if work.ranks.first:
            self.path = self._save()
            if better:
                publish(work, self.path)
        return True

    def digest(self) -> str:
        """The digest of the latest checkpoint."""
        ranks = self.work.ranks
        return ranks.from_first(digest(self.path) if ranks.first else "")

    # ---- batches and updates

    def next_batch(self, batches: Iterator[Batch]) -> Batch:
        """The next batch, its unreadable images counted."""
        batch = self._clock.waiting(batches)
        count_bad(self.work, batch)
        return batch

    def updated(self, images: int, rate: float, began: float) -> None:
        """Count an update of `images` that began at `began` of `time.perf_counter`; the lock of the state is held."""
        work, state, clock, loop = self.work, self.work.state, self._clock, self.work.recipe.loop
        clock.trained += images
        if self._lookout is not None:
            took = time.perf_counter() - began
            self._lookout.updated(state.step, took, still_evaluating(work, clock, took / images))
            state.ends[:] = work.ranks.from_first(state.ends)
        if state.step % loop.log_every == 0 or is_due(work):
            self._record("train", {"lr": rate, **state.take_window()})
            state.clock.rows.append(clock.lap(state.step))
        self._progress.lr = rate

    def moved(self) -> None:
        """Tell the watcher of an update."""
        state, progress = self.work.state, self._progress
        progress.loss = next((row["loss"] for row in reversed(state.metrics) if "loss" in row), None)
        progress.bad, progress.total = len(state.bad), self.work.pace.total
        self._watcher.moved(self._clock.into(progress, state, "training", self.work.recipe.loop.minutes))

    # ---- what is written

    def say(self, text: str) -> None:
        """Tell people, and the log."""
        log(self.work, text)
        self._watcher.say(text)

    def _record(self, kind: str, values: dict[str, float]) -> None:
        """Add a row to the state, the table and the curves."""
        work, state = self.work, self.work.state
        row: Row = {"step": state.step, "epoch": work.epoch, "kind": kind, "seen": state.seen, **values}
        state.metrics.append(row)
        if work.ranks.first:
            run_folder.append_row(work.folder, row)
        self._board.add(row)

    def _contents(self) -> tuple[int, int]:
        """The contents of a checkpoint by step and rows of metrics: an evaluation makes a new one of the same step."""
        return self.work.state.step, len(self.work.state.metrics)

    def _save(self) -> Path:
        work = self.work
        with work.state.lock:
            work.state.clock.seconds = self._clock.seconds()
            return save(work.state, work.folder / STATE, work.recipe.loop.keep)


def log(work: Work, text: str) -> None:
    """Add a line to `log.txt`."""
    if work.ranks.first:
        run_folder.log(work.folder, text)


def count_bad(work: Work, batch: Batch) -> None:
    """Record the unreadable images of a batch; a TrainingError if there are too many."""
    bad = work.state.bad
    for name, kind, error in batch.bad:
        if name not in bad:
            bad[name] = (kind, error)
            log(work, f"unreadable: {name}: {error}")
    with _said_once(work):
        refuse_bad(work, bad, len(work.dataset.split("train")), "training")


def refuse_not_finite(work: Work, loss: float, norm: float, batch: Batch) -> None:
    """Raise a DivergedError before an update if the loss or a gradient is not finite."""
    scaler, step = work.state.scaler, work.state.step + 1
    scaled = scaler.is_enabled() and scaler.get_scale() > LOWEST_SCALE
    if math.isfinite(loss) and (math.isfinite(norm) or scaled):
        return
    what = "the norm of the gradients" if math.isfinite(loss) else "the loss"
    log(work, f"step {step}: {what} is not finite; images: {' '.join(batch.ids)}")
    with _said_once(work):
        raise DivergedError(
            f"In step {step}, {what} is {norm if math.isfinite(loss) else loss}. The images: {some(batch.ids, 5)} "
            f"({work.folder / run_folder.LOG} has all). No weight was changed by it and nothing was saved since.",
            REMEDY,
        )


@contextmanager
def _said_once(work: Work) -> Iterator[None]:
    """An error that all ranks raise; rank 0 says it."""
    try:
        yield
    except TrainingError as error:
        raise error if work.ranks.first else LostRankError(error.message) from None
