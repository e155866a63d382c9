"""Copies of an image: by the bytes, and by thumbnails of 16 x 16 pixels.

Two thumbnails are compared by the correlation of their 768 numbers, which neither brightness nor contrast changes.
Measured on 3,409 photos of clothes (docs/lab-notes.md): copies that were compressed down to quality 20, scaled to 30 %
or squeezed into a square are at most 0.005 apart, the nearest two different photos 0.0175. Crops are not found in this
way; embeddings find some (see `moments.alike`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from weevit.duplicates.looks import Look
from weevit.search.neighbours import products

KINDS = EXACT, NEAR, MIRRORED = "exact", "near", "mirrored"
"""The same bytes; compressed or scaled again; near, and left is right."""

FARTHEST = 0.006
"""Greatest distance (1 - correlation) of two copies."""

_FLAT = 2.0
"""Least standard deviation of a thumbnail, of 255; otherwise one plain wall would be the copy of another."""

Rows = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Group:
    """Indices of copies of one image, in rising order."""

    kind: str
    members: tuple[int, ...]
    distance: float = 0.0


def exact_groups(looks: Sequence[Look]) -> list[Group]:
    """Whole images with the same bytes; broken files are no copies."""
    indices: dict[str, list[int]] = {}
    for index, look in enumerate(looks):
        if look.error is None and look.digest is not None:
            indices.setdefault(look.digest, []).append(index)
    return [Group(EXACT, tuple(members)) for members in indices.values() if len(members) > 1]


def near_groups(looks: Sequence[Look], exact: Sequence[Group]) -> list[Group]:
    """Images that look the same, or mirrored, and differ in bytes; with the exact copies of each.

    Args:
        looks: a look at every image.
        exact: result of `exact_groups`.
    """
    copies = {group.members[0]: group.members for group in exact}
    sets = _Sets()
    for pair in near_pairs(looks, exact):
        sets.join(*pair)
    groups = []
    for joined in sets.groups():
        members = sorted(index for first in joined.members for index in copies.get(first, (first,)))
        groups.append(Group(joined.kind, tuple(members), joined.distance))
    return groups


def near_pairs(looks: Sequence[Look], exact: Sequence[Group]) -> Iterator[tuple[int, int, float, bool]]:
    """(first, second, distance, mirrored) of images that look the same; of exact copies the first one only.

    Arguments as for `near_groups`.
    """
    skipped = {index for group in exact for index in group.members[1:]}
    varied = {index: thumb for index, thumb in varied_thumbs(looks).items() if index not in skipped}
    if len(varied) < 2:
        return
    indices, thumbs = list(varied), np.stack(list(varied.values()))
    for first, second, distance, mirrored in _pairs(thumbs):
        yield indices[first], indices[second], distance, mirrored


def varied_thumbs(looks: Sequence[Look]) -> dict[int, npt.NDArray[np.uint8]]:
    """Index -> thumbnail, of the images that have something in them."""
    return {index: look.thumb for index, look in enumerate(looks) if look.thumb is not None and _varied(look.thumb)}


def _varied(thumb: npt.NDArray[np.uint8]) -> bool:
    """Whether its pixels differ: the channels of one colour do, and are no shape."""
    return float((thumb - thumb.mean(axis=(0, 1))).std()) >= _FLAT


def _pairs(thumbs: npt.NDArray[np.uint8]) -> Iterator[tuple[int, int, float, bool]]:
    """(first, second, distance, mirrored) of near pairs."""
    rows, mirrored = thumb_rows(thumbs), thumb_rows(thumbs[:, :, ::-1])
    blocks = zip(products(rows, rows, later=True), products(mirrored, rows, later=True), strict=True)
    for (top, straight), (_, turned) in blocks:
        for row, column in np.argwhere(np.maximum(straight, turned) >= 1 - FARTHEST):
            if row < column:
                both = float(straight[row, column]), float(turned[row, column])
                yield int(top + row), int(top + column), max(0.0, 1 - max(both)), both[1] > both[0]


def thumb_rows(thumbs: npt.NDArray[np.uint8]) -> Rows:
    """(n, 768) of mean 0 and length 1, whose products are correlations."""
    rows = thumbs.reshape(len(thumbs), -1).astype(np.float32)
    rows -= rows.mean(axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6), dtype=np.float32)


@dataclass
class _Sets:
    """Union of near pairs into sets.

    Attributes:
        above: index -> another of its set, up to the first.
        pairs: first of a set -> the greatest distance within, and whether all pairs are mirrored.
    """

    above: dict[int, int] = field(default_factory=dict)
    pairs: dict[int, tuple[float, bool]] = field(default_factory=dict)

    def join(self, first: int, second: int, distance: float, mirrored: bool) -> None:
        """Join the sets of two near images."""
        one, other = sorted((self._top(first), self._top(second)))
        self.above[other] = one
        known = [self.pairs.pop(index) for index in {other, one} if index in self.pairs]
        distances, turned = zip(*known, (distance, mirrored), strict=True)
        self.pairs[one] = max(distances), all(turned)

    def groups(self) -> list[Group]:
        """Each set once, by its first index."""
        members: dict[int, list[int]] = {}
        for index in sorted(self.above):
            members.setdefault(self._top(index), []).append(index)
        return [
            Group(MIRRORED if self.pairs[top][1] else NEAR, tuple(own), self.pairs[top][0])
            for top, own in members.items()
        ]

    def _top(self, index: int) -> int:
        self.above.setdefault(index, index)
        while self.above[index] != index:
            self.above[index] = index = self.above[self.above[index]]
        return index
