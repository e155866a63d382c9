"""A run that ends in time: its schedule is shortened or stretched to the speed of the machine.

schedule   0 ───────────────────────────────────── planned    rate, evaluations and mixing follow a position on it
                    position(step), which rises
updates    0 ─── look ─── look ─── ... ─── total              the last one reaches the end of the schedule

At each look, the rest of the schedule is spread over the updates that still fit. The decisions are in the state: a
resumed run follows them, and is the same run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

LOOKS = 50
"""Looks per time budget."""

ENOUGH = 3
"""Updates that suffice to time one, while half of the budget is left."""

SPARE = 0.02
"""Share of the budget for the last update and the last checkpoint."""


@dataclass(frozen=True)
class Pace:
    """The position of a run on its schedule.

    Attributes:
        planned: updates of the schedule.
        ends: (update of the look, update that ends the schedule), in order. Empty: as planned.
    """

    planned: int
    ends: list[tuple[int, int]]

    @property
    def total(self) -> int:
        """The last update."""
        return self.ends[-1][1] if self.ends else self.planned

    def position(self, step: int) -> float:
        """The position on the schedule, in its updates, after `step` updates of the run."""
        if not self.ends:
            return step
        begin, position, end = 0, 0.0, self.planned
        for looked, total in self.ends:
            if step <= looked:
                break
            position, begin, end = self._along(looked, begin, position, end), looked, total
        return self._along(step, begin, position, end)

    def _along(self, step: int, begin: int, position: float, end: int) -> float:
        return position + (self.planned - position) * (step - begin) / (end - begin) if end > begin else position

    def comes_by(self, step: int, every: int) -> bool:
        """Whether the last of `step` updates reached or passed a multiple of `every` updates of the schedule."""
        return self.position(step) // every > self.position(step - 1) // every


@dataclass
class Lookout:
    """Decides the end of a run's schedule from the time of its latest updates.

    Attributes:
        pace: pace of the run; decisions are added to its ends.
        seconds: time budget, all sittings together.
        clock: gives the seconds spent.
    """

    pace: Pace
    seconds: float
    clock: Callable[[], float]
    _times: list[float] = field(default_factory=list)
    _looked: float = 0.0
    _warm: bool = False

    def updated(self, step: int, took: float, evaluating: float) -> None:
        """Note an update, and decide if a look is due.

        Args:
            step: updates done.
            took: seconds of this one, with its images. The first of a sitting does not count.
            evaluating: seconds of all remaining evaluations.
        """
        if not self._warm:
            self._warm, self._looked = True, self.clock()
            return
        self._times.append(took)
        now = self.clock()
        few = len(self._times) < ENOUGH and now < self.seconds / 2
        if few or now - self._looked < self.seconds / LOOKS:
            return
        left = self.seconds * (1 - SPARE) - now - evaluating
        fits = step + max(0, int(left * len(self._times) / max(sum(self._times), 1e-9)))
        total = min(self.pace.planned, fits)
        if total != self.pace.total:
            self.pace.ends.append((step, total))
        self._times, self._looked = [], now
