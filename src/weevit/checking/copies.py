"""Which images are the same one: by their bytes, and by how they look at 16 x 16 pixels.

Two tiny images are compared by the correlation of their 768 numbers, which neither brightness nor contrast changes.
Measured on 3,409 photos of clothes (docs/lab-notes.md): copies that were compressed down to quality 20, scaled to 30 %
or squeezed into a square are at most 0.005 apart, the nearest two different photos 0.0175. What was cropped is not
found in this way; embeddings find a part of it (see `neighbours.alike`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from weevit.checking.inspection import Look
from weevit.checking.results import EXACT, MIRRORED, NEAR

FARTHEST = 0.006
"""1 - correlation, up to which two images are the same one."""

_FLAT = 2.0
"""Levels of 255 that a tiny image has to vary by; without it, one grey wall would be the copy of another."""

_BLOCK = 2048
"""Images that are compared with as many others at a time: 16 MB."""

Rows = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Group:
    """Places of images that are the same one, in rising order."""

    kind: str
    members: tuple[int, ...]
    distance: float = 0.0


def exact_groups(looks: Sequence[Look]) -> list[Group]:
    """Whole images with the same bytes. Broken files have no image to be a copy of."""
    indices: dict[str, list[int]] = {}
    for place, look in enumerate(looks):
        if look.error is None and look.digest is not None:
            indices.setdefault(look.digest, []).append(place)
    return [Group(EXACT, tuple(members)) for members in indices.values() if len(members) > 1]


def near_groups(looks: Sequence[Look], exact: Sequence[Group]) -> list[Group]:
    """Images that look the same, or mirrored, and are not the same bytes; with all copies of each.

    Args:
        looks: at every image.
        exact: what `exact_groups` gave.
    """
    copies = {group.members[0]: group.members for group in exact}
    skipped = {place for group in exact for place in group.members[1:]}
    indices = [place for place, look in enumerate(looks) if look.thumb is not None and place not in skipped]
    indices = [place for place in indices if _varies(looks[place])]
    if len(indices) < 2:
        return []
    thumbs = np.stack([thumb for place in indices if (thumb := looks[place].thumb) is not None])
    sets = _Sets()
    for first, second, distance, mirrored in _pairs(thumbs):
        sets.join(indices[first], indices[second], distance, mirrored)
    groups = []
    for joined in sets.groups():
        members = sorted(place for first in joined.members for place in copies.get(first, (first,)))
        groups.append(Group(joined.kind, tuple(members), joined.distance))
    return groups


def _varies(look: Look) -> bool:
    return look.thumb is not None and float(look.thumb.std()) >= _FLAT


def _pairs(thumbs: npt.NDArray[np.uint8]) -> Iterator[tuple[int, int, float, bool]]:
    """(first, second, distance, mirrored) of those that are near; a block against a block, so that memory stays."""
    for top in range(0, len(thumbs), _BLOCK):
        rows = _unit(thumbs[top : top + _BLOCK])
        for left in range(top, len(thumbs), _BLOCK):
            block = thumbs[left : left + _BLOCK]
            straight, turned = rows @ _unit(block).T, rows @ _unit(block[:, :, ::-1]).T
            near = np.maximum(straight, turned) >= 1 - FARTHEST
            for row, column in np.argwhere(near):
                if top + row < left + column:
                    both = float(straight[row, column]), float(turned[row, column])
                    yield int(top + row), int(left + column), max(0.0, 1 - max(both)), both[1] > both[0]


def _unit(thumbs: npt.NDArray[np.uint8]) -> Rows:
    """(n, 768) of mean 0 and length 1."""
    rows = thumbs.reshape(len(thumbs), -1).astype(np.float32)
    rows -= rows.mean(axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6), dtype=np.float32)


@dataclass
class _Sets:
    """Sets that grow together: whoever is near to one of them belongs to all.

    Attributes:
        above: place -> another of its set, up to the first.
        pairs: first of a set -> the greatest distance that joined it, and whether all that did were mirrored.
    """

    above: dict[int, int] = field(default_factory=dict)
    pairs: dict[int, tuple[float, bool]] = field(default_factory=dict)

    def join(self, first: int, second: int, distance: float, mirrored: bool) -> None:
        """Two that are the same."""
        one, other = sorted((self._top(first), self._top(second)))
        self.above[other] = one
        known = [self.pairs.pop(place) for place in {other, one} if place in self.pairs]
        distances, turned = zip(*known, (distance, mirrored), strict=True)
        self.pairs[one] = max(distances), all(turned)

    def groups(self) -> list[Group]:
        """Each set once, by its first member."""
        members: dict[int, list[int]] = {}
        for place in sorted(self.above):
            members.setdefault(self._top(place), []).append(place)
        return [
            Group(MIRRORED if self.pairs[top][1] else NEAR, tuple(own), self.pairs[top][0])
            for top, own in members.items()
        ]

    def _top(self, place: int) -> int:
        self.above.setdefault(place, place)
        while self.above[place] != place:
            self.above[place] = place = self.above[self.above[place]]
        return place
