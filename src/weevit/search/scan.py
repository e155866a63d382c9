"""The best rows of an index for some vectors: a pass over int8 codes, then the vectors themselves where it matters.

    codes (n, D) int8 ── float32, 512 rows at a time ── @ query ── * factor = cosine, off by at most `error`
          rows within twice the error of the k-th best ── vectors (float16) ── exact cosines ── the best k

The result is that of a search through all vectors: a row that the first pass leaves out is farther than the k-th best
by more than the codes can be wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from weevit.answers.results import Array, unit_length
from weevit.search.shards import Bools, Shard

Ints = npt.NDArray[np.int64]

_ROWS = 1024
"""Rows that are float32 at a time: they stay in the second-level cache of a core, and BLAS starts no threads."""

_RUN = 1 << 15
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


def best(parts: Sequence[Part], queries: Array, count: int, threads: int) -> list[Best]:
    """The rows with the largest cosines for each query; equal ones in the order of the index.

    Args:
        parts: all shards.
        queries: (m, D) float32; their length does not matter.
        count: rows to find; at most as many as there are.
        threads: to compute with.
    """
    units = unit_length(queries)
    with ThreadPoolExecutor(threads, "weevit-search") as pool:
        runs = [(part, start) for part in parts for start in range(0, len(part.shard), _RUN)]
        near = list(pool.map(partial(_first_pass, units=units, count=count), runs))
        found = []
        for query in range(len(units)):
            bound = float(_largest(np.concatenate([one[query][1] for one in near]), count).min())
            tasks = [(run, one[query][0], bound - 2 * run[0].error) for run, one in zip(runs, near, strict=True)]
            found.append(_merged(parts, runs, list(pool.map(partial(_second_pass, unit=units[query]), tasks)), count))
    return found


Run = tuple[Part, int]


def _first_pass(run: Run, units: Array, count: int) -> list[tuple[Array, Array]]:
    """For each query, (rows of the run) nearly the cosine, and the largest of them; rows that left have none."""
    part, start = run
    codes, factors = part.shard.codes[start : start + _RUN], part.shard.factors[start : start + _RUN]
    near = np.empty((len(codes), len(units)), np.float32)
    floats = np.empty((min(_ROWS, len(codes)), units.shape[1]), np.float32)
    for top in range(0, len(codes), _ROWS):
        block = floats[: len(codes[top : top + _ROWS])]
        np.copyto(block, codes[top : top + _ROWS])
        np.matmul(block, units.T, out=near[top : top + len(block)])
    near *= factors[:, None]
    near[part.left[start : start + _RUN]] = -np.inf
    columns = [np.ascontiguousarray(column) for column in near.T]
    return [(column, _largest(column, count)) for column in columns]


def _largest(values: Array, count: int) -> Array:
    """The `count` largest values, or all, in no order."""
    return values if len(values) <= count else np.partition(values, len(values) - count)[len(values) - count :]


def _second_pass(task: tuple[Run, Array, float], unit: Array) -> tuple[Ints, Array]:
    """Rows of the run that may be among the best, and their cosines."""
    (part, start), near, least = task
    rows = np.flatnonzero((near >= least) & np.isfinite(near))
    exact = np.empty(len(rows), np.float32)
    for top in range(0, len(rows), _RESCORED):
        chosen = start + rows[top : top + _RESCORED]
        exact[top : top + _RESCORED] = unit_length(part.shard.vectors[chosen].astype(np.float32)) @ unit
    return start + rows, exact


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
        rows = np.flatnonzero(~part.left[start : start + _RESCORED])
        own = score(vectors)[rows].astype(np.float32)
        if len(rows) > count:
            kept = np.sort(np.argsort(-own, kind="stable")[:count])
            rows, own = rows[kept], own[kept]
        return start + rows, own

    runs = [(part, start) for part in parts for start in range(0, len(part.shard), _RESCORED)]
    with ThreadPoolExecutor(threads, "weevit-search") as pool:
        return _merged(parts, runs, list(pool.map(scored, runs)), count)
