"""Labels that similar images contradict.

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
from weevit.duplicates.moments import standardised, unit
from weevit.search.neighbours import nearest
from weevit.store.extras import needed

TIMES = 5.0
"""Ratio of another class's probability to that of the label, from which the label is suspect."""

FEWEST = 5
"""Different images of a class below which its labels are not judged."""

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
    directions = unit(rows)
    for learn, judge in folds(images, _FOLDS, groups=groups):
        own = images.targets[learn]
        for chances in (
            _by_regression(rows[learn], own, rows[judge], classes),
            _by_neighbours(directions[learn], own, directions[judge], classes),
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
