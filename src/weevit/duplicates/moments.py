"""Images of one moment: they are no copies, and that a person should look at together.

Embeddings alone are the wrong tool for that: different photos of one kind of thing are as near as two of one moment.
A pair is therefore listed if its embeddings are close and a camera took both within seconds; without times only if each
is the other's nearest by far.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from weevit.answers.results import unit_length
from weevit.duplicates.groups import ALIKE, TIME, TO_LOOK_AT
from weevit.images.taken import Taken
from weevit.search.neighbours import nearest
from weevit.text import some, span

Rows = npt.NDArray[np.float32]

NEARER, CLOSE = 0.4, 0.15
"""Two images are alike if each is the other's nearest, at a distance below CLOSE and below NEARER times that of the
next (Lowe, 2004)."""

SECONDS, RESEMBLES = 30.0, 0.25
"""Two images are of one moment if they were taken within this time, at less than this distance (1 - cosine)."""

_FOLLOWING = 50
"""Images after one, by time, with which it is compared: a batch of scans may have one time for all."""


@dataclass(frozen=True)
class Member:
    """An image of a group: its index, its relation to the first, and how far from it."""

    index: int
    kind: str
    distance: float


@dataclass(frozen=True)
class Near:
    """Two images to look at together: their indices, and why."""

    first: int
    second: int
    kind: str
    distance: float
    why: str


def of_one_moment(vectors: Rows, own: Sequence[int], times: Sequence[Taken | None]) -> Iterator[Near]:
    """Pairs that were taken within `SECONDS`, and resemble each other.

    Args:
        vectors: (n, D) of images of which no two are copies.
        own: the index of each, for the result.
        times: when each was taken.
    """
    known = sorted((time.clock, row) for row, time in enumerate(times) if time is not None)
    rows = unit_length(vectors)
    for place, (_, row) in enumerate(known):
        for _, other in known[place + 1 : place + 1 + _FOLLOWING]:
            one, two = times[row], times[other]
            if one is None or two is None or two.clock - one.clock > SECONDS:
                break
            distance = float(1 - rows[row] @ rows[other])
            if one.apart(two) <= SECONDS and distance < RESEMBLES:
                yield Near(own[row], own[other], TIME, max(0.0, distance), f"taken within {SECONDS:.0f} s")


def surely_alike(vectors: Rows, own: Sequence[int], times: Sequence[Taken | None]) -> Iterator[Near]:
    """Pairs that are `alike`, with their times in words; arguments as for `of_one_moment`."""
    taken = dict(zip(own, times, strict=True))
    for first, second, distance in alike(vectors, own):
        why = f"each the other's nearest by far, {between(taken[first], taken[second])}"
        yield Near(first, second, ALIKE, max(0.0, distance), why)


def between(one: Taken | None, other: Taken | None) -> str:
    """The time between two images, in words."""
    if one is None or other is None:
        return "no EXIF time"
    apart = one.apart(other)
    return f"taken {span(apart) if apart >= 1 else f'{apart:.2f} s'} apart"


def standardised(vectors: Rows) -> Rows:
    """Each column with mean 0 and variance 1; a constant one is 0."""
    spread = vectors.std(axis=0)
    return np.asarray((vectors - vectors.mean(axis=0)) / np.where(spread > 0, spread, 1), dtype=np.float32)


def unit(rows: Rows) -> Rows:
    """Rows of length 1."""
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), dtype=np.float32)


def alike(vectors: Rows, own: Sequence[int]) -> list[tuple[int, int, float]]:
    """(first, second, distance) of pairs that are hard to tell apart, the nearest first.

    Args:
        vectors: (n, D) of images of which no two are copies.
        own: the index of each, for the result.
    """
    if len(vectors) < 3:
        return []
    rows = unit(standardised(vectors))
    indices, cosines = nearest(rows, rows, 2, others=True)
    first, distances = indices[:, 0], (1 - cosines).astype(np.float64)
    close = (distances[:, 0] < CLOSE) & (distances[:, 0] < NEARER * distances[:, 1])
    pairs = [
        (own[row], own[other], float(distances[row, 0]))
        for row, other in enumerate(first)
        if row < other and close[row] and close[other] and first[other] == row
    ]
    return sorted(pairs, key=lambda pair: pair[2])


def together(pairs: Sequence[Near], best_first: Callable[[Iterable[int]], list[int]]) -> list[tuple[list[Member], str]]:
    """Groups of images that pairs connect, each with its reasons in words; the image to keep first."""
    nearest_of: dict[int, Near] = {}
    for pair in sorted(pairs, key=lambda pair: (TO_LOOK_AT.index(pair.kind), pair.distance)):
        nearest_of.setdefault(pair.first, pair)
        nearest_of.setdefault(pair.second, pair)
    groups = []
    for own in linked((pair.first, pair.second) for pair in pairs):
        first, *others = best_first(own)
        members = [Member(index, nearest_of[index].kind, nearest_of[index].distance) for index in others]
        whys = dict.fromkeys(nearest_of[index].why for index in others)
        groups.append(([Member(first, "", 0.0), *members], some(list(whys), 3)))
    return sorted(groups, key=lambda group: min(TO_LOOK_AT.index(member.kind) for member in group[0][1:]))


def linked(links: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Linked indices, together."""
    above: dict[int, int] = {}

    def top(index: int) -> int:
        above.setdefault(index, index)
        while above[index] != index:
            above[index] = index = above[above[index]]
        return index

    for one, other in links:
        first, second = sorted((top(one), top(other)))
        above[second] = first
    found: dict[int, list[int]] = {}
    for index in sorted(above):
        found.setdefault(top(index), []).append(index)
    return list(found.values())
