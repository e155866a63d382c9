"""Seconds of several things that do the same, in turn: A B, B A, A B, ..., wall and processor time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)

ROUND = 0.1
"""Seconds that a turn takes at least: of what is shorter, several calls are timed together."""


@dataclass(frozen=True)
class Taken:
    """Seconds per call, a number for each round.

    Attributes:
        wall: as a clock shows them.
        cpu: of all threads of this process: hardly changed by what else the machine does.
    """

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Ratio:
    """How many times faster, round by round: median, least and greatest, and the share of rounds that were faster."""

    median: float
    low: float
    high: float
    won: float

    @classmethod
    def of(cls, ours: list[float], theirs: list[float]) -> Ratio:
        """From the seconds of the same rounds."""
        pairs = sorted(their / max(our, 1e-12) for our, their in zip(ours, theirs, strict=True))
        won = sum(pair > 1 for pair in pairs) / len(pairs)
        return cls(statistics.median(pairs), pairs[0], pairs[-1], won)

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def interleaved(calls: Mapping[Key, Callable[[], object]], rounds: int, seconds: float = ROUND) -> dict[Key, Taken]:
    """Call each in turn, in the other order in every second round; two calls before that do not count.

    Args:
        calls: what is timed, by name.
        rounds: turns of each.
        seconds: that a turn takes at least.
    """
    counts = {}
    for name, call in calls.items():
        call()  # loads and compiles
        counts[name] = max(1, ceil(seconds / max(_timed(call, 1)[0], 1e-6)))
    taken: dict[Key, Taken] = {name: Taken() for name in calls}
    for number in range(rounds):
        for name in list(calls)[:: -1 if number % 2 else 1]:
            wall, cpu = _timed(calls[name], counts[name])
            taken[name].wall.append(wall)
            taken[name].cpu.append(cpu)
    return taken


def _timed(call: Callable[[], object], count: int) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(count):
        call()
    return (time.perf_counter() - wall) / count, (time.process_time() - cpu) / count
