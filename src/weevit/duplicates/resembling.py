"""Copies that are certain: each was laid over the image that is kept in its place.

    alike thumbnails, parts of others ── sets ── the best of each set, and all that show the same pixels as it

Chains are no groups: where the first is a copy of the second, and the second of the third, the third is compared with
the first. What was taken at another time is no copy, however much alike: a camera on a stand takes such photos.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock

import numpy as np
import numpy.typing as npt

from weevit.duplicates.copies import FARTHEST, exact_groups, near_pairs, thumb_rows, varied_thumbs
from weevit.duplicates.groups import CROPPED, EXACT, LOOKS, MIRRORED, NEAR
from weevit.duplicates.looks import Look
from weevit.duplicates.moments import Member, Near, between, linked
from weevit.duplicates.overlay import (
    SIDE,
    WHOLE,
    Overlay,
    Sketch,
    Window,
    best_windows,
    closest_side,
    lay_over,
    look_closer,
    sketch,
)
from weevit.engine.ahead import map_ahead
from weevit.errors import ImageError
from weevit.images.decode import Limits
from weevit.images.facts import is_transparent
from weevit.images.source import Source, bytes_of
from weevit.images.taken import Taken
from weevit.search.neighbours import nearest

WINDOW = 0.85
"""Least correlation of a thumbnail with a window of another, of an image that may be a part of it."""

NEIGHBOURS = 5
"""Nearest embeddings of which an image may be a part."""

MOST = 12
"""Images of a large set that are laid over its best one at a time, the nearest first, until one time finds no copy: a
camera on a stand takes thousands of images with alike thumbnails."""

_SKETCHES = 512
_AHEAD = 32


@dataclass(frozen=True)
class Relation:
    """How one image shows another.

    Attributes:
        kind: of `groups.CERTAIN`; empty where they do not show the same pixels.
        distance: 1 - correlation of the thumbnails.
        contained: whether the first has all of the second.
        why: where they do not.
    """

    kind: str
    distance: float = 0.0
    contained: bool = True
    why: str = ""


_NONE = Relation("")
_OTHER = Relation("", why="alike as thumbnails, but not the same pixels")


class Resembling:
    """The images of a search, compared in pairs.

    Args:
        sources: the images.
        looks: a look at each.
        ages: time of modification of each; infinite where there is none.
        limits: the largest file and image to decode.
    """

    def __init__(self, sources: Sequence[Source], looks: Sequence[Look], ages: Sequence[float], limits: Limits) -> None:
        self._sources, self._looks, self._limits = sources, looks, limits
        self._thumbs = varied_thumbs(looks)
        self._sketches: OrderedDict[int, Sketch | None] = OrderedDict()
        self._seen_through: dict[int, bool] = {}
        self._related: dict[tuple[int, int], Relation] = {}
        self._lock = Lock()
        self.order = sorted(range(len(looks)), key=lambda own: (-looks[own].pixels, -looks[own].bytes, ages[own], own))
        self._rank = {index: rank for rank, index in enumerate(self.order)}
        exact = exact_groups(looks)
        self._twins = {own[0]: own[1:] for own in (self.best_first(group.members) for group in exact)}
        self.first_of = {index: first for first, others in self._twins.items() for index in others}
        self._links = {(self._first(first), self._first(second)) for first, second, _, _ in near_pairs(looks, exact)}

    def best_first(self, indices: Iterable[int]) -> list[int]:
        """Indices, the image to keep first: the most pixels, the most bytes, the oldest."""
        return sorted(indices, key=self._rank.__getitem__)

    def singles(self) -> list[int]:
        """Indices of all images, of those with the same bytes the one to keep."""
        return [index for index, look in enumerate(self._looks) if look.error is None and index not in self.first_of]

    def find_parts(self, vectors: npt.NDArray[np.float32], own: Sequence[int], threads: int) -> None:
        """Look for parts of other images among the nearest.

        Args:
            vectors: (n, D) of length 1.
            own: the index of each.
            threads: threads that decode and compare.
        """
        close: dict[int, set[int]] = {}
        if len(vectors) < 2:
            return
        for row, others in enumerate(nearest(vectors, vectors, NEIGHBOURS, others=True)[0].tolist()):
            for other in others:
                one, two = own[row], own[other]
                if one in self._thumbs and two in self._thumbs and not {(one, two), (two, one)} & self._links:
                    close.setdefault(one, set()).add(two)
                    close.setdefault(two, set()).add(one)
        likely = {
            (min(whole, part), max(whole, part))
            for whole, parts in close.items()
            for part, (score, _) in zip(sorted(parts), self._windows(whole, sorted(parts)), strict=True)
            if score >= WINDOW
        }
        for pair, relation in map_ahead(self._compared, iter(sorted(likely)), threads, _AHEAD, "weevit-compare"):
            if relation.kind:
                self._links.add(pair)

    def groups(self, threads: int) -> tuple[list[list[Member]], list[Near]]:
        """Groups of copies, the one to keep first in each; and pairs that look like copies but are not certain.

        Args:
            threads: threads that decode and compare.
        """
        groups: list[list[Member]] = []
        kept: dict[int, int] = {}
        for own in linked(self._links):
            left = self.best_first(own)
            while left:
                group, left = self._star(left, threads)
                kept |= {member.index: group[0].index for member in group}
                groups.append(group)
        groups += [[Member(first, "", 0.0)] for first in self._twins if first not in kept]
        groups = [self._with_twins(group) for group in groups]
        apart = {tuple(self.best_first((kept[one], kept[two]))) for one, two in self._links if kept[one] != kept[two]}
        unsure = [self._unsure(first, second) for first, second in sorted(apart)]
        return [group for group in groups if len(group) > 1], [pair for pair in unsure if pair is not None]

    def relation(self, first: int, second: int) -> Relation:
        """Whether the first shows what the second does, or a part of it; symmetric but for `contained`."""
        if (first, second) not in self._related:
            self._related[first, second] = self._relation(first, second)
        return self._related[first, second]

    # ---- steps

    def _relation(self, first: int, second: int) -> Relation:
        if unlike := self._unlike(first, second):
            return Relation("", why=f"alike as thumbnails, but {unlike}")
        start, turned = self._start(first, second)
        if start is not None:
            over = self._laid(first, second, start, turned)
            if over is not None and over.same:
                return _relation(over, turned)
            if over is not None and over.placed and over.inside:  # no other place would be better
                return _OTHER
        if not turned:
            ((score, place),) = self._windows(second, [first])
            over = self._laid(second, first, place, False) if score >= WINDOW else None
            if over is not None and over.same and over.inside:
                return Relation(CROPPED, over.distance, contained=False)
        return _OTHER

    def _unlike(self, first: int, second: int) -> str:
        """What makes two images none of which replaces the other, whatever their pixels are; empty without that."""
        (one, taken), (two, other) = ((self._looks[index], self._taken(index)) for index in (first, second))
        if taken is not None and other is not None and taken.differs(other):
            return between(taken, other)
        if any(look.facts is not None and look.facts.several for look in (one, two)):
            return "only the first of several frames or pages was compared"
        return "one is transparent in places" if self._transparent(first) != self._transparent(second) else ""

    def _compared(self, pair: tuple[int, int]) -> tuple[tuple[int, int], Relation]:
        return pair, self.relation(*pair)

    def _first(self, index: int) -> int:
        """Of images with the same bytes, the one to keep."""
        return self.first_of.get(index, index)

    def _star(self, left: list[int], threads: int) -> tuple[list[Member], list[int]]:
        """The best image with all that it shows, and the rest."""
        best = left[0]
        tried = {best}
        while True:
            relations = self._relations(best, [index for index in left if index != best], threads)
            larger = [
                index for index, own in relations.items() if own.kind and not own.contained and index not in tried
            ]
            if not larger:
                break
            best = larger[0]  # a part is never kept for the whole, even if it has more pixels
            tried.add(best)
        shown = [
            Member(index, own.kind, own.distance) for index, own in relations.items() if own.kind and own.contained
        ]
        inside = {best} | {member.index for member in shown}
        return [Member(best, "", 0.0), *shown], [index for index in left if index not in inside]

    def _relations(self, best: int, others: list[int], threads: int) -> dict[int, Relation]:
        """How the best image of a set shows others; those that are left out show other pixels, as far as is known."""
        found: dict[int, Relation] = {}
        ordered = others if len(others) <= MOST else self._nearest_first(best, others)
        for top in range(0, len(ordered), MOST):
            pairs = ((best, index) for index in ordered[top : top + MOST])
            compared = map_ahead(self._compared, pairs, threads, _AHEAD, "weevit-compare")
            own = {index: relation for (_, index), relation in compared}
            found |= own
            if not any(relation.kind for relation in own.values()):
                break
        return found

    def _nearest_first(self, best: int, others: list[int]) -> list[int]:
        """The parts and wholes that are known already, then the others by their thumbnails."""
        thumbs = np.stack([self._thumbs[index] for index in (best, *others)])
        rows, turned = thumb_rows(thumbs), thumb_rows(thumbs[:, :, ::-1])
        alike = np.maximum(rows[1:] @ rows[0], turned[1:] @ rows[0])
        known = [any(self._related.get(pair, _NONE).kind for pair in ((best, own), (own, best))) for own in others]
        return [others[at] for at in np.lexsort((-alike, ~np.array(known))).tolist()]

    def _with_twins(self, group: list[Member]) -> list[Member]:
        """The group with the other files that have the bytes of a member."""
        found = []
        for member in group:
            kind = member.kind or EXACT
            found += [member, *(Member(twin, kind, member.distance) for twin in self._twins.get(member.index, ()))]
        return found

    def _unsure(self, first: int, second: int) -> Near | None:
        """What makes two images no copies, where they were compared."""
        relation = self._related.get((first, second)) or self._related.get((second, first))
        return Near(first, second, LOOKS, 0.0, relation.why) if relation is not None and not relation.kind else None

    def _start(self, first: int, second: int) -> tuple[Window | None, bool]:
        """A guess which window of the first the second shows, and whether it is mirrored."""
        thumb, other = self._thumbs[first], self._thumbs[second]
        rows = thumb_rows(np.stack([thumb, other, other[:, ::-1]]))
        straight, turned = (rows[1:] @ rows[0]).tolist()
        if max(straight, turned) >= 1 - FARTHEST:
            return WHOLE, turned > straight
        ((score, place),) = self._windows(first, [second])
        return (place if score >= WINDOW else None), False

    def _windows(self, whole: int, parts: Sequence[int]) -> Sequence[tuple[float, Window]]:
        return best_windows(self._thumbs[whole], np.stack([self._thumbs[part] for part in parts]))

    def _laid(self, first: int, second: int, start: Window, turned: bool) -> Overlay | None:
        whole, part = self._sketch(first), self._sketch(second)
        if whole is None or part is None:
            return None
        looks = self._looks[first], self._looks[second]
        smallest = min(min(look.width, look.height) for look in looks)
        over = lay_over(whole, part[:, ::-1] if turned else part, start, smallest)
        side = closest_side(smallest)
        if side > SIDE and over.same and over.inside and not over.cut:
            closer = [sketch(self._sources[index], self._limits, side) for index in (first, second)]
            if closer[0] is not None and closer[1] is not None:
                return look_closer(over, closer[0], closer[1][:, ::-1] if turned else closer[1])
        return over

    def _sketch(self, index: int) -> Sketch | None:
        with self._lock:
            if index in self._sketches:
                self._sketches.move_to_end(index)
                return self._sketches[index]
        made = sketch(self._sources[index], self._limits)
        with self._lock:
            self._sketches[index] = made
            if len(self._sketches) > _SKETCHES:
                self._sketches.popitem(last=False)
        return made

    def _transparent(self, index: int) -> bool:
        facts = self._looks[index].facts
        if facts is None or not facts.alpha:
            return False
        if index not in self._seen_through:
            with suppress(ImageError):  # gone since: it has no sketch either
                self._seen_through[index] = is_transparent(bytes_of(self._sources[index], self._limits))
        return self._seen_through.get(index, True)

    def _taken(self, index: int) -> Taken | None:
        facts = self._looks[index].facts
        return facts.taken if facts is not None else None


def _relation(over: Overlay, turned: bool) -> Relation:
    if over.inside:
        kind = CROPPED if over.cut else MIRRORED if turned else NEAR
        return Relation(kind, over.distance)
    if over.outside:
        return Relation(CROPPED, over.distance, contained=False)
    return Relation("", why="the same pixels, but each shows something that the other does not")
