"""How a run ends in time: its schedule is shortened or stretched as fast as the machine turns out to be.

schedule   0 ───────────────────────────────────── planned    rate, evaluations and mixing follow a place on it
                    place(step), which rises
updates    0 ─── looked ─── looked ─── ... ─── total          the last one comes to the end of the schedule

Whenever it is looked, what is left of the schedule is spread over the updates that still fit. What was decided stands
in the state: a run that is resumed follows it, and is the same run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

LOOKS = 50
"""Times in a budget that it is looked how far a run will come."""

ENOUGH = 3
"""Updates that tell how long one takes, while half of the budget is left."""

SPARE = 0.02
"""Of the budget: what is left for the last update and the last checkpoint."""


@dataclass(frozen=True)
class Pace:
    """Where a run is on its schedule.

    Attributes:
        planned: updates of the schedule.
        ends: (update after which it was looked, update with which the schedule is to end), in order. Empty: as planned.
    """

    planned: int
    ends: list[tuple[int, int]]

    @property
    def total(self) -> int:
        """The last update."""
        return self.ends[-1][1] if self.ends else self.planned

    def place(self, step: int) -> float:
        """Updates of the schedule that `step` updates of the run stand for."""
        if not self.ends:
            return step
        begin, place, end = 0, 0.0, self.planned
        for looked, total in self.ends:
            if step <= looked:
                break
            place, begin, end = self._along(looked, begin, place, end), looked, total
        return self._along(step, begin, place, end)

    def _along(self, step: int, begin: int, place: float, end: int) -> float:
        return place + (self.planned - place) * (step - begin) / (end - begin) if end > begin else place

    def comes_by(self, step: int, every: int) -> bool:
        """Whether the last of `step` updates came to, or past, a multiple of `every` updates of the schedule."""
        return self.place(step) // every > self.place(step - 1) // every


@dataclass
class Lookout:
    """Decides where a run's schedule ends, from the time that its latest updates took.

    Attributes:
        pace: of the run; what is decided is added to its ends.
        seconds: that the run may take, all sittings together.
        clock: gives those that it has taken.
    """

    pace: Pace
    seconds: float
    clock: Callable[[], float]
    _times: list[float] = field(default_factory=list)
    _looked: float = 0.0
    _warm: bool = False

    def updated(self, step: int, took: float, evaluating: float) -> None:
        """Take note of an update, and decide where that was due.

        Args:
            step: updates done.
            took: seconds of this one, its images among them. The first of a sitting says nothing and is left out.
            evaluating: seconds of all evaluations that are still to come.
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
