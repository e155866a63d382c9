"""Findings from embeddings: labels that similar images contradict, and images that are hard to tell apart.

An image is judged by others only: the images are cut into folds, copies on one side, and each fold is judged by the
rest. Two judges, logistic regression over the whole space and the 50 nearest neighbours, are averaged as logarithms;
a label is suspect where another class is five times as probable. (Out-of-fold probabilities: Northcutt, Jiang, Chuang,
Confident Learning, 2021. Their thresholds by class found fewer of the labels that were swapped on purpose; this and
other judges, with numbers: docs/lab-notes.md.)
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from weevit.datasets.dataset import Split, Targets
from weevit.datasets.splitting import folds
from weevit.search.neighbours import nearest
from weevit.store.extras import needed

TIMES = 5.0
"""Ratio of another class's probability to that of the label, from which the label is suspect."""

FEWEST = 5
"""Different images of a class below which its labels are not judged."""

NEARER, CLOSE = 0.4, 0.15
"""Two images are alike if each is the other's nearest, at a distance below CLOSE and below NEARER times that of the
next (Lowe, 2004)."""

_FOLDS = 5
_NEIGHBOURS = 50
_SHARPNESS = 10.0
"""A neighbour's weight is e to the power of this times its cosine."""

_STRENGTH = 0.01
"""Inverse of the regularisation of the regression, for numbers of variance 1."""

_FLOOR = 1e-3
"""Probability of a class that no neighbour has."""

Rows = npt.NDArray[np.float32]
Chances = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LabelIssue:
    """A contradicted label: index of the image, suggested class, and the probabilities of both classes."""

    index: int
    suggestion: int
    own: float
    suggested: float


def require_sklearn() -> Any:
    """scikit-learn's logistic regression; MissingExtraError where it is not installed."""
    what = "Labels are checked with scikit-learn, which is not installed."
    return needed("sklearn.linear_model", "data", what, "or leave that part out: --no-embeddings").LogisticRegression


def standardised(vectors: Rows) -> Rows:
    """Each column with mean 0 and variance 1; a constant one is 0."""
    spread = vectors.std(axis=0)
    return np.asarray((vectors - vectors.mean(axis=0)) / np.where(spread > 0, spread, 1), dtype=np.float32)


def _unit(rows: Rows) -> Rows:
    """Rows of length 1."""
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), dtype=np.float32)


def denied_labels(vectors: Rows, images: Split, groups: Sequence[Hashable | None]) -> list[LabelIssue]:
    """Labels that the other images contradict, the surest first.

    Args:
        vectors: (n, D) of readable images.
        images: the same images, with one class each.
        groups: a value for each image; images with the same value are copies and never judge each other.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    targets = images.targets
    kept = np.flatnonzero(~np.isin(targets, rare_classes(targets, groups)))
    if len(np.unique(targets[kept])) < 2:
        return []
    together = [groups[index] for index in kept.tolist()]
    chances = _judged(standardised(vectors[kept]), images.take(kept), together)
    rows, own = np.arange(len(kept)), targets[kept]
    of_own = chances[rows, own]
    others = chances.copy()
    others[rows, own] = 0
    suggestion = others.argmax(axis=1)
    of_other = others[rows, suggestion]
    order = np.argsort(of_own / of_other, kind="stable")
    sure = [row for row in order if of_own[row] * TIMES <= of_other[row]]
    return [LabelIssue(int(kept[row]), int(suggestion[row]), float(of_own[row]), float(of_other[row])) for row in sure]


def rare_classes(targets: Targets, groups: Sequence[Hashable | None]) -> list[int]:
    """Classes with fewer than `FEWEST` different images."""
    different: dict[int, set[Hashable]] = {}
    for index, (target, group) in enumerate(zip(targets.tolist(), groups, strict=True)):
        different.setdefault(target, set()).add(("alone", index) if group is None else group)
    return [target for target, own in different.items() if len(own) < FEWEST]


def _judged(rows: Rows, images: Split, groups: Sequence[Hashable | None]) -> Chances:
    """(n, classes) probabilities of both judges for each image, learned from the other folds."""
    classes = int(images.targets.max()) + 1
    logs = np.zeros((len(rows), classes))
    unit = _unit(rows)
    for learn, judge in folds(images, _FOLDS, groups=groups):
        own = images.targets[learn]
        for chances in (
            _by_regression(rows[learn], own, rows[judge], classes),
            _by_neighbours(unit[learn], own, unit[judge], classes),
        ):
            logs[judge] += np.log(np.maximum(chances, 1e-6)) / 2
    chances = np.exp(logs)
    return np.asarray(chances / chances.sum(axis=1, keepdims=True), dtype=np.float64)


def _by_regression(known: Rows, targets: Targets, asked: Rows, classes: int) -> Chances:
    model = require_sklearn()(C=_STRENGTH, max_iter=200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an approximate optimum suffices here
        model.fit(known, targets)
    chances = np.zeros((len(asked), classes))
    chances[:, model.classes_] = model.predict_proba(asked)
    return chances


def _by_neighbours(known: Rows, targets: Targets, asked: Rows, classes: int) -> Chances:
    indices, cosines = nearest(known, asked, _NEIGHBOURS)
    weights = np.exp(_SHARPNESS * cosines.astype(np.float64))
    chances = np.full((len(asked), classes), _FLOOR)
    rows = np.repeat(np.arange(len(asked)), indices.shape[1])
    np.add.at(chances, (rows, targets[indices].ravel()), (weights / weights.sum(axis=1, keepdims=True)).ravel())
    return np.asarray(chances / chances.sum(axis=1, keepdims=True), dtype=np.float64)


def alike(vectors: Rows, own: Sequence[int]) -> list[tuple[int, int, float]]:
    """(first, second, distance) of pairs that are hard to tell apart, the nearest first.

    Args:
        vectors: (n, D) of images of which no two are copies.
        own: the index of each, for the result.
    """
    if len(vectors) < 3:
        return []
    unit = _unit(standardised(vectors))
    indices, cosines = nearest(unit, unit, 2, others=True)
    first, distances = indices[:, 0], (1 - cosines).astype(np.float64)
    close = (distances[:, 0] < CLOSE) & (distances[:, 0] < NEARER * distances[:, 1])
    pairs = [
        (own[row], own[other], float(distances[row, 0]))
        for row, other in enumerate(first)
        if row < other and close[row] and close[other] and first[other] == row
    ]
    return sorted(pairs, key=lambda pair: pair[2])
