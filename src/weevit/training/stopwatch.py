"""The speed of a run and its remaining time; no result depends on it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TypeVar

from weevit.runs.saved import Row
from weevit.training.state import State
from weevit.training.watch import Progress

Item = TypeVar("Item")


class Stopwatch:
    """The times of one sitting.

    Attributes:
        trained: images since the last lap.
        evaluation: seconds of the last evaluation.
    """

    def __init__(self, before: float) -> None:
        self.trained = 0
        self.evaluation = 0.0
        self._before = before
        self._start = self._lap = time.perf_counter()
        self._waited = 0.0
        self._first_step: int | None = None
        self._speed = self._share = 0.0

    def seconds(self) -> float:
        """Seconds of all sittings together."""
        return self._before + time.perf_counter() - self._start

    def waiting(self, items: Iterator[Item]) -> Item:
        """The next item; the wait for it is counted."""
        start = time.perf_counter()
        item = next(items)
        self._waited += time.perf_counter() - start
        return item

    def evaluated(self, start: float) -> None:
        """Count an evaluation that began at `start` of `time.perf_counter`."""
        self.evaluation = time.perf_counter() - start
        self._lap += self.evaluation

    def lap(self, step: int) -> Row:
        """The figures since the last lap, which this ends."""
        self._measure()
        self.trained, self._waited, self._lap = 0, 0.0, time.perf_counter()
        return {"step": step, "images_per_second": self._speed, "data_wait": self._share}

    def _measure(self) -> None:
        elapsed = max(time.perf_counter() - self._lap, 1e-9)
        self._speed, self._share = self.trained / elapsed, min(1.0, self._waited / elapsed)

    def into(self, progress: Progress, state: State, doing: str, minutes: float | None = None) -> Progress:
        """Set the times of `progress`."""
        if self.trained:
            self._measure()
        progress.step, progress.doing = state.step, doing
        progress.images_per_second, progress.data_wait = self._speed, self._share
        progress.seconds_left = self._left(progress, minutes)
        return progress

    def _left(self, progress: Progress, minutes: float | None) -> float | None:
        """Remaining seconds at the pace of this sitting, evaluations and checkpoints included."""
        if self._first_step is None:
            self._first_step = progress.step
        steps = progress.step - self._first_step
        if not steps:
            return None
        left = (time.perf_counter() - self._start) / steps * (progress.total - progress.step)
        return left if minutes is None else max(0.0, min(left, 60 * minutes - self.seconds()))
