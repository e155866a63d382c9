"""The best rows of an index for some vectors: a pass over int8 codes, then the vectors themselves where it matters.

    codes (n, D) int8 ── float32, some at a time ── @ query ── * factor = cosine, off by at most `error`
          rows that may be above the k-th best ── vectors (float16) ── exact cosines ── the best k

The result is that of a search through all vectors: a row that the first pass leaves out is farther than the k-th best
by more than the codes can be wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from threading import Lock

import numpy as np
import numpy.typing as npt

from weevit.answers.results import Array, unit_length
from weevit.errors import MalformedFileError
from weevit.search.shards import Bools, Shard

Ints = npt.NDArray[np.int64]

_FLOATS = 1 << 18
"""Codes that are float32 at a time: 1 MB stays in the second-level cache of a core, and BLAS starts no threads."""

_RUN = 1 << 16
"""Rows per task of a thread."""

_RESCORED = 1 << 12
"""Vectors that are float32 at a time."""


@dataclass(frozen=True)
class Part:
    """A shard with the rows that left it, and what a cosine of its codes is off by at most."""

    shard: Shard
    left: Bools
    error: float


@dataclass(frozen=True)
class Best:
    """The best rows for one query, the best first.

    Attributes:
        shards, rows: (k) index of the part, and of the row in it.
        scores: (k) float32.
    """

    shards: Ints
    rows: Ints
    scores: Array


class _Floor:
    """The `count`-th largest of what cosines are at least: it rises, and whoever reads an earlier one only keeps more.

    Shards differ in what their codes are off by: each cosine is lowered by the error of its own.
    """

    def __init__(self, count: int) -> None:
        self._count, self._lock = count, Lock()
        self._largest: Array = np.empty(0, np.float32)
        self.value = float(np.finfo(np.float32).min)

    def see(self, values: Array) -> None:
        """Raise it by what the cosines of some rows are at least."""
        with self._lock:
            seen = np.concatenate([self._largest, values])
            if len(seen) >= self._count:
                self._largest = np.partition(seen, len(seen) - self._count)[len(seen) - self._count :]
                self.value = float(self._largest[0])
            else:
                self._largest = seen


def best(parts: Sequence[Part], queries: Array, count: int, threads: int) -> list[Best]:
    """The rows with the largest cosines for each query; equal ones in the order of the index.

    Args:
        parts: all shards.
        queries: (m, D) float32; their length does not matter.
        count: rows to find; at most as many as there are.
        threads: to compute with.
    """
    units = unit_length(queries)
    floors = [_Floor(count) for _ in units]
    with ThreadPoolExecutor(threads, "weevit-search") as pool:
        runs = [(part, start) for part in parts for start in range(0, len(part.shard), _RUN)]
        near = list(pool.map(partial(_first_pass, units=units, floors=floors), runs))
        found = []
        for query, floor in enumerate(floors):
            tasks = [
                (run, rows[cosines >= floor.value - run[0].error])
                for run, (rows, cosines) in zip(runs, (one[query] for one in near), strict=True)
            ]
            found.append(_merged(parts, runs, list(pool.map(partial(_second_pass, unit=units[query]), tasks)), count))
    return found


Run = tuple[Part, int]


def _first_pass(run: Run, units: Array, floors: Sequence[_Floor]) -> list[tuple[Ints, Array]]:
    """For each query, the rows of the run that may be among the best as far as is known, and nearly their cosines."""
    part, start = run
    codes = part.shard.codes[start : start + _RUN]
    factors = part.shard.factors[start : start + _RUN].astype(np.float32)
    _refuse_not_finite(factors, part.shard)
    near = np.empty((len(codes), len(units)), np.float32)
    rows = max(1, _FLOATS // units.shape[1])
    floats = np.empty((min(rows, len(codes)), units.shape[1]), np.float32)
    for top in range(0, len(codes), rows):
        block = floats[: len(codes[top : top + rows])]
        np.copyto(block, codes[top : top + rows])
        np.matmul(block, units.T, out=near[top : top + len(block)])
    near *= factors[:, None]
    near[part.left[start : start + _RUN]] = -np.inf
    found = []
    for column, floor in zip(near.T, floors, strict=True):
        value = floor.value
        chosen = np.flatnonzero(column >= value - part.error)
        cosines = column[chosen]
        floor.see(cosines[cosines >= value + part.error] - np.float32(part.error))
        found.append((chosen, cosines))
    return found


def _second_pass(task: tuple[Run, Ints], unit: Array) -> tuple[Ints, Array]:
    """Rows, and their cosines by the vectors themselves."""
    (part, start), rows = task
    exact = np.empty(len(rows), np.float32)
    for top in range(0, len(rows), _RESCORED):
        vectors = part.shard.vectors[start + rows[top : top + _RESCORED]].astype(np.float32)
        _refuse_not_finite(vectors, part.shard)
        exact[top : top + _RESCORED] = unit_length(vectors) @ unit
    return start + rows, exact


def _refuse_not_finite(numbers: Array, shard: Shard) -> None:
    """A shard that somebody else made may hold such numbers; ours has none, and its rows would never be found."""
    if not np.isfinite(numbers).all():
        raise MalformedFileError(f"{shard.path} has numbers that are NaN or infinite.", "Make the index again.")


def _merged(parts: Sequence[Part], runs: Sequence[Run], found: Sequence[tuple[Ints, Array]], count: int) -> Best:
    numbers = {id(part): number for number, part in enumerate(parts)}
    of = [np.full(len(rows), numbers[id(part)]) for (part, _), (rows, _) in zip(runs, found, strict=True)]
    shards, rows = np.concatenate(of), np.concatenate([rows for rows, _ in found])
    scores = np.concatenate([exact for _, exact in found])
    order = np.argsort(-scores, kind="stable")[:count]
    return Best(shards[order], rows[order], scores[order])


def best_by(parts: Sequence[Part], score: Callable[[Array], Array], count: int, threads: int) -> Best:
    """The rows with the largest scores, each computed from the vector itself.

    Args:
        parts: all shards.
        score: (b, D) float32 vectors -> (b) scores.
        count: rows to find; at most as many as there are.
        threads: to compute with.
    """

    def scored(run: Run) -> tuple[Ints, Array]:
        part, start = run
        vectors = part.shard.vectors[start : start + _RESCORED].astype(np.float32)
        _refuse_not_finite(vectors, part.shard)
        rows = np.flatnonzero(~part.left[start : start + _RESCORED])
        own = score(vectors)[rows].astype(np.float32)
        if len(rows) > count:
            kept = np.sort(np.argsort(-own, kind="stable")[:count])
            rows, own = rows[kept], own[kept]
        return start + rows, own

    runs = [(part, start) for part in parts for start in range(0, len(part.shard), _RESCORED)]
    with ThreadPoolExecutor(threads, "weevit-search") as pool:
        return _merged(parts, runs, list(pool.map(scored, runs)), count)
