"""The search for a head: candidates are compared by cross-validation on the training images only.

Every image is judged once, by a head that did not see it. The best has the highest score; among equals (on few or easy
images all may be right everywhere) the least log loss, each at its own best temperature: the head is calibrated
afterwards anyway. The cost of other rules: `python benchmarks/fit.py rules`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from weevit.answers.results import Array
from weevit.evaluation.metrics import average_precision
from weevit.fitting import neighbours
from weevit.fitting.calibration import least_loss
from weevit.fitting.heads import STRENGTHS, Floats, Head, Path, path, require_sklearn

Ints = npt.NDArray[np.int64]
Folds = Sequence[tuple[Ints, Ints]]

CLEARLY = 2.0
"""Standard errors of the difference from which one candidate is clearly better."""

_ROUNDING = 1e-9
"""Difference up to which scores are equal."""

_LABELS_CLEARLY = 0.01
"""Difference of mean average precision up to which two candidates are equal: it has no known standard error."""


@dataclass(frozen=True)
class Images:
    """The images that heads are fitted to.

    Attributes:
        vectors: (n, D) float32 embeddings.
        targets: (n) class index, or (n, K) of 0 and 1 for any number of labels.
        num_classes: K.
        balanced: every class counts the same, in fitting and in the score.
        groups: (n) the same number for copies of one image; None where every image is unique.
    """

    vectors: Array
    targets: npt.NDArray[Any]
    num_classes: int
    balanced: bool = False
    groups: Ints | None = None

    def take(self, indices: Ints) -> Images:
        """The images at some indices."""
        groups = None if self.groups is None else self.groups[indices]
        return replace(self, vectors=self.vectors[indices], targets=self.targets[indices], groups=groups)

    @property
    def multi_label(self) -> bool:
        """Whether an image may have any number of labels."""
        return self.targets.ndim == 2

    @property
    def measure(self) -> str:
        """Name of the score."""
        if self.multi_label:
            return "mean average precision"
        return "balanced accuracy" if self.balanced else "accuracy"

    def weights(self) -> Floats:
        """(n), adding up to 1: the weight of each image in the score."""
        if not self.balanced or self.multi_label:
            return np.full(len(self.targets), 1 / len(self.targets))
        counts = np.bincount(self.targets, minlength=self.num_classes)
        return np.asarray(1 / (counts[self.targets] * (counts > 0).sum()))


class HeadSettings(TypedDict, total=False):
    """`strength` of logistic regression; `count` and `weighting` of nearest neighbours."""

    strength: float
    count: int
    weighting: str


@dataclass(frozen=True)
class Candidate:
    """A candidate of the search.

    Attributes:
        kind: `linear` or `neighbours`.
        settings: `strength`; or `count` and `weighting`.
        score: in cross-validation, by the measure of `Images.measure`.
        right: whether each judged image was right; empty for labels.
    """

    kind: str
    settings: HeadSettings
    score: float
    right: npt.NDArray[np.bool_] = field(repr=False)

    @property
    def name(self) -> str:
        """For people."""
        if self.kind == "linear":
            return f"logistic regression, C={self.settings['strength']:.3g}"
        count, weighting = self.settings["count"], self.settings["weighting"]
        return f"{count} nearest neighbour{'' if count == 1 else 's'}, {weighting} weights"


@dataclass(frozen=True)
class Search:
    """The result of a search.

    Attributes:
        measure: name of the score.
        candidates: every candidate, in order.
        linear: the best head.
        neighbours: the best nearest-neighbour candidate; None without.
        clear: whether that is clearly better than the best head, which is written all the same.
        logits: (n, K) of the best kind of head, each image by the one that did not see it.
        seen: (n) different images of its class that head had seen; 0 where nothing was judged.
        notes: the parts that were left out.
    """

    measure: str
    candidates: tuple[Candidate, ...]
    linear: Candidate
    neighbours: Candidate | None
    clear: bool
    logits: Floats = field(repr=False)
    seen: Ints = field(repr=False)
    notes: tuple[str, ...] = ()


Watcher = Callable[[int, int, str], None]
"""Called with the number done, the total, and the last candidate."""


def search(images: Images, folds: Folds, threads: int = 1, watch: Watcher = lambda done, total, last: None) -> Search:
    """Try all candidates and choose the best.

    Args:
        images: the training split.
        folds: (indices to fit to, indices to judge by), each image in one of the latter.
        threads: folds that are fitted at the same time.
        watch: called after each candidate.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    seen = _seen(images, folds)
    known = np.flatnonzero(seen > 0)
    if not len(known):
        return _unjudged(images, seen)
    total = len(STRENGTHS) + 1
    tried, linear, logits = _heads(images, folds, known, threads, lambda done, last: watch(done, total, last))
    others = list(_neighbours(images, folds, known)) if len(images.targets) <= neighbours.MOST else []
    watch(total, total, "nearest neighbours")
    near = max(others, key=lambda one: one.score, default=None)
    clear = near is not None and _clearly(images.take(known), near, linear)
    notes: tuple[str, ...] = (
        () if others else (f"nearest neighbours were not tried: more than {neighbours.MOST:,} images",)
    )
    if len(known) < len(seen):
        left = f"{len(seen) - len(known):,} of {len(seen):,} images"
        notes += (f"cross-validation leaves out {left}: no fold learned their class without them",)
    return Search(images.measure, (*tried, *others), linear, near, clear, logits, seen, notes)


def _seen(images: Images, folds: Folds) -> Ints:
    """(n): the number of different images of its class that the judging head has seen; labels are always judged.

    A label that a fold lacks gets the probability of such a label, and distorts no figure.
    """
    count = len(images.targets)
    if images.multi_label:
        return np.full(count, count, np.int64)
    groups = np.arange(count) if images.groups is None else images.groups
    seen = np.zeros(count, np.int64)
    for learned, judged in folds:
        pairs = np.unique(np.stack([images.targets[learned], groups[learned]]), axis=1)
        seen[judged] = np.bincount(pairs[0], minlength=images.num_classes)[images.targets[judged]]
    return seen


def _unjudged(images: Images, seen: Ints) -> Search:
    """Where every class has one image: the middle head, since nothing can be compared."""
    middle = Candidate("linear", {"strength": STRENGTHS[len(STRENGTHS) // 2]}, float("nan"), np.zeros(0, bool))
    logits = np.zeros((len(seen), images.num_classes))
    note = "nothing was compared in cross-validation: every class has one image"
    return Search(images.measure, (middle,), middle, None, False, logits, seen, (note,))


def _heads(
    images: Images, folds: Folds, known: Ints, threads: int, watch: Callable[[int, str], None]
) -> tuple[list[Candidate], Candidate, Floats]:
    """All linear candidates, the best of them by the images at the known indices, and its logits."""
    judged = images.take(known)
    tried: list[Candidate] = []
    best: tuple[Candidate, Floats] | None = None
    with one_thread_each(), ThreadPoolExecutor(threads, thread_name_prefix="weevit-fit") as pool:
        held_out = _HeldOut(images, folds, pool)
        for strength in STRENGTHS:
            logits = held_out.logits(strength)
            tried.append(_candidate("linear", {"strength": strength}, judged, logits[known]))
            watch(len(tried), tried[-1].name)
            if best is None or _better(judged, (tried[-1], logits[known]), best):
                best, kept = (tried[-1], logits[known]), logits
            if _over_the_top(tried, judged):
                break
    assert best is not None
    return tried, best[0], kept


def _better(images: Images, one: tuple[Candidate, Floats], best: tuple[Candidate, Floats]) -> bool:
    ahead = one[0].score - best[0].score
    if abs(ahead) > _ROUNDING:
        return ahead > 0
    return least_loss(one[1], images.targets) < least_loss(best[1], images.targets)


def final(images: Images, strength: float) -> Head:
    """The head of this strength on all images."""
    with one_thread_each():
        return _path(images, np.arange(len(images.targets))).fit(strength)


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Several fits at once, each on one thread: faster than the reverse, and the same bits on any number of cores.

    A fit that has not converged to the last digit after thousands of steps (noise, or two indistinguishable classes) is
    good enough; scikit-learn's warning about it is silenced.
    """
    require_sklearn()
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def _path(images: Images, indices: Ints) -> Path:
    return path(images.vectors[indices], images.targets[indices], images.num_classes, images.balanced)


class _HeldOut:
    """A path of heads for each fold."""

    def __init__(self, images: Images, folds: Folds, pool: ThreadPoolExecutor) -> None:
        self._images, self._folds, self._pool = images, folds, pool
        self._paths = list(pool.map(lambda fold: _path(images, fold[0]), folds))

    def logits(self, strength: float) -> Floats:
        """(n, K), each image's from the head that did not see it."""
        heads = self._pool.map(lambda own: own.fit(strength), self._paths)
        logits = np.zeros((len(self._images.targets), self._images.num_classes))
        for head, (_, judged) in zip(heads, self._folds, strict=True):
            logits[judged] = head.logits(self._images.vectors[judged])
        return logits


def _neighbours(images: Images, folds: Folds, known: Ints) -> Iterator[Candidate]:
    said: dict[tuple[int, str], Floats] = {}
    for learned, held_out in folds:
        own = neighbours.scores(
            images.vectors[learned], images.targets[learned], images.vectors[held_out], images.num_classes
        )
        for count, weighting, votes in own:
            shape = (len(images.targets), images.num_classes)
            said.setdefault((count, weighting), np.full(shape, np.nan))[held_out] = votes
    for (count, weighting), votes in said.items():
        if not np.isnan(votes).any():  # the size of the smallest fold
            settings = HeadSettings(count=count, weighting=weighting)
            yield _candidate("neighbours", settings, images.take(known), votes[known])


def _candidate(kind: str, settings: HeadSettings, images: Images, scores: Floats) -> Candidate:
    if images.multi_label:
        there = images.targets.any(axis=0)
        precision = average_precision(scores[:, there], images.targets[:, there])
        return Candidate(kind, settings, float(precision.mean()), np.zeros(0, bool))
    right = scores.argmax(axis=1) == images.targets
    return Candidate(kind, settings, float(images.weights() @ right), right)


def _over_the_top(tried: Sequence[Candidate], images: Images) -> bool:
    """Whether the last two are clearly worse than the best: weaker regularisation costs time and gains nothing."""
    best = max(tried, key=lambda one: one.score)
    return len(tried) > 2 and all(_clearly(images, best, one) for one in tried[-2:])


def _clearly(images: Images, one: Candidate, other: Candidate) -> bool:
    """Whether one is better than the other by more than chance, on the same images."""
    if images.multi_label:
        return one.score - other.score > _LABELS_CLEARLY
    difference = one.right.astype(np.float64) - other.right
    weights = images.weights()
    mean = float(weights @ difference)
    error = float(np.sqrt((weights**2) @ (difference - mean) ** 2))
    return mean > CLEARLY * error and mean > 0
