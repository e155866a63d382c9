"""Labels that neighbours deny are those that were changed; pairs that are alike are those that are nearest."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from weevit.checking import neighbours
from weevit.checking.neighbours import denied_labels, rare_classes
from weevit.datasets.dataset import Split
from weevit.duplicates import moments
from weevit.duplicates.moments import alike, standardised
from weevit.errors import MissingExtraError
from weevit.images.source import Source


def clouds(count: int, classes: int = 4, width: int = 24, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Vectors around one centre a class, a little mixed, and their classes."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, classes, count)
    centres = rng.standard_normal((classes, width)) * 1.7
    return (centres[targets] + rng.standard_normal((count, width))).astype(np.float32), targets


def split(targets: np.ndarray) -> Split:
    sources = tuple(Source(f"{place}.jpg", f"{place}.jpg") for place in range(len(targets)))
    return Split("all", sources, targets)


@pytest.mark.parametrize("seed", range(3))
def test_labels_that_were_changed_are_the_first_suspects(seed: int) -> None:
    pytest.importorskip("sklearn")
    vectors, targets = clouds(400, seed=seed)
    rng = np.random.default_rng(seed + 100)
    wrong = rng.choice(400, 20, replace=False)
    changed = targets.copy()
    changed[wrong] = (changed[wrong] + rng.integers(1, 4, 20)) % 4
    found = denied_labels(vectors, split(changed), [None] * 400)
    assert len({denied.index for denied in found[:25]} & set(wrong)) >= 18
    right = [denied for denied in found if denied.index in set(wrong)]
    assert np.mean([denied.suggestion == targets[denied.index] for denied in right]) > 0.9
    ratios = [denied.own / denied.suggested for denied in found]
    assert ratios == sorted(ratios)
    assert max(ratios) <= 1 / neighbours.TIMES
    assert denied_labels(vectors, split(changed), [None] * 400) == found


def test_nothing_is_denied_where_all_labels_are_right() -> None:
    pytest.importorskip("sklearn")
    vectors, targets = clouds(300)
    vectors[np.arange(300), targets] += 30
    assert denied_labels(vectors, split(targets), [None] * 300) == []


def test_copies_are_not_each_others_judges() -> None:
    """Ten copies of one image, all with the wrong label, would vouch for each other."""
    pytest.importorskip("sklearn")
    vectors, targets = clouds(300)
    place = int(np.flatnonzero(targets == 0)[0])
    vectors = np.concatenate([vectors, np.repeat(vectors[[place]], 10, axis=0)])
    targets = np.concatenate([targets, np.full(10, 1)])
    groups = [*([None] * 300), *(["copy"] * 10)]
    together = {denied.index for denied in denied_labels(vectors, split(targets), groups)}
    alone = {denied.index for denied in denied_labels(vectors, split(targets), [None] * 310)}
    assert set(range(300, 310)) <= together
    assert not set(range(300, 310)) <= alone


def test_rare_classes_are_not_judged_and_not_suggested() -> None:
    pytest.importorskip("sklearn")
    vectors, targets = clouds(200, classes=3)
    targets[:4] = 7
    groups = [None] * 200
    assert rare_classes(targets, groups) == [7]
    assert rare_classes(targets, ["same"] * 10 + [None] * 190) == [7]
    found = denied_labels(vectors, split(targets), groups)
    assert not {denied.index for denied in found} & {0, 1, 2, 3}
    assert 7 not in {denied.suggestion for denied in found}


def test_copies_count_once_for_how_rare_a_class_is() -> None:
    targets = np.array([0] * 6 + [1] * 6)
    assert rare_classes(targets, [*("a" for _ in range(3)), None, None, None, *(["b"] * 6)]) == [0, 1]


@pytest.mark.parametrize("targets", [np.zeros(50, np.int64), np.arange(50)])
def test_one_class_or_none_with_enough_images_is_no_error(targets: np.ndarray) -> None:
    pytest.importorskip("sklearn")
    vectors, _ = clouds(50)
    assert denied_labels(vectors, split(targets), [None] * 50) == []


def test_the_nearest_neighbours_are_scikit_learns() -> None:
    sklearn = pytest.importorskip("sklearn.neighbors")
    vectors, targets = clouds(300)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    own = neighbours._by_neighbours(unit[:200], targets[:200], unit[200:], 4)

    def weights(distances: np.ndarray) -> np.ndarray:
        return np.exp(10 * (1 - distances.astype(np.float64)))

    judge = sklearn.KNeighborsClassifier(50, weights=weights, metric="cosine", algorithm="brute")
    theirs = judge.fit(unit[:200], targets[:200]).predict_proba(unit[200:]) + 1e-3
    np.testing.assert_allclose(own, theirs / theirs.sum(axis=1, keepdims=True), atol=1e-6)


def test_numbers_that_never_change_are_no_reason_to_divide_by_zero() -> None:
    rows = standardised(np.array([[1, 5], [1, 7], [1, 9]], np.float32))
    assert rows[:, 0].tolist() == [0, 0, 0]
    assert rows[:, 1].std() == pytest.approx(1)


def test_pairs_that_are_much_nearer_to_each_other_than_to_anything_else_are_alike() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((60, 32)).astype(np.float32)
    vectors[10] = vectors[40] + 0.1 * rng.standard_normal(32)
    vectors[20] = vectors[50] + 0.05 * rng.standard_normal(32)
    found = alike(vectors, [1000 + place for place in range(60)])
    assert [(first, second) for first, second, _ in found] == [(1020, 1050), (1010, 1040)]
    assert 0 < found[0][2] < found[1][2] < moments.CLOSE


def test_a_crowd_is_not_alike() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((60, 32)).astype(np.float32)
    vectors[:10] = vectors[0] + 0.2 * rng.standard_normal((10, 32))
    assert alike(vectors, list(range(60))) == []


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_are_never_alike(count: int) -> None:
    assert alike(np.ones((count, 8), np.float32), list(range(count))) == []


def test_without_scikit_learn_the_way_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sklearn", "sklearn.linear_model"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError) as caught:
        neighbours.require_sklearn()
    assert "weevit[data]" in caught.value.hint
    assert "--no-embeddings" in caught.value.hint


def test_three_are_enough_to_be_alike() -> None:
    """The third is what the other two are much nearer to each other than to."""
    vectors = np.array([[1, 2, 3, 4], [1.01, 2, 3, 4.01], [-7, 5, -1, 0]], np.float32)
    assert [(first, second) for first, second, _ in alike(vectors, [5, 6, 7])] == [(5, 6)]
