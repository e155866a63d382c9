"""Heads, neighbours and calibration against scikit-learn, and where it has no word, against brute force."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from weevit.evaluation import metrics
from weevit.evaluation.metrics import sigmoid, softmax
from weevit.fitting import calibration, neighbours
from weevit.fitting.heads import Head, path
from weevit.fitting.search import one_thread_each

WIDTH = 12


def clouds(classes: int, count: int = 150, seed: int = 0, spread: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping clouds of points whose numbers differ in mean and size, as embeddings do."""
    rng = np.random.default_rng(seed)
    targets = np.arange(count) % classes
    centres = rng.normal(0, 1, (classes, WIDTH))
    points = centres[targets] + rng.normal(0, spread, (count, WIDTH))
    return (points * rng.uniform(0.1, 9, WIDTH) + rng.normal(0, 20, WIDTH)).astype(np.float32), targets


def several(count: int = 160, labels: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    points = rng.normal(0, 2, (count, WIDTH)).astype(np.float32)
    scores = points @ rng.normal(0, 1, (WIDTH, labels)) + rng.normal(0, 2, (count, labels))
    return points, (scores > 1).astype(np.uint8)


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("balanced", [False, True])
def test_a_head_is_that_of_scikit_learn_with_the_scaling_folded_in(classes: int, balanced: bool) -> None:
    vectors, targets = clouds(classes)
    targets = np.where(np.arange(len(targets)) < 40, 0, targets)  # not the same number of each
    weight = "balanced" if balanced else None
    oracle = make_pipeline(StandardScaler(), LogisticRegression(C=0.3, tol=1e-8, max_iter=9999, class_weight=weight))
    oracle.fit(vectors.astype(np.float64), targets)
    head = path(vectors, targets, classes, balanced).fit(0.3)
    expected = oracle.predict_proba(vectors.astype(np.float64))
    np.testing.assert_allclose(softmax(head.logits(vectors)), expected, atol=2e-3)


@pytest.mark.parametrize("balanced", [False, True])
def test_labels_are_fitted_one_against_the_rest(balanced: bool) -> None:
    vectors, targets = several()
    weight = "balanced" if balanced else None
    inner = LogisticRegression(C=0.3, tol=1e-8, max_iter=9999, class_weight=weight)
    oracle = make_pipeline(StandardScaler(), OneVsRestClassifier(inner)).fit(vectors.astype(np.float64), targets)
    head = path(vectors, targets, targets.shape[1], balanced).fit(0.3)
    expected = oracle.predict_proba(vectors.astype(np.float64))
    np.testing.assert_allclose(sigmoid(head.logits(vectors)), expected, atol=2e-3)


def test_along_a_path_heads_are_those_that_are_fitted_alone() -> None:
    vectors, targets = clouds(5)
    walked = path(vectors, targets, 5)
    for strength in (1e-3, 1e-1, 10.0):
        head, alone = walked.fit(strength), path(vectors, targets, 5).fit(strength)
        difference = softmax(head.logits(vectors)) - softmax(alone.logits(vectors))
        assert np.abs(difference).max() < 5e-3


def test_what_there_is_nothing_to_learn_from() -> None:
    vectors, targets = clouds(3)
    vectors[:, 4] = 7.0  # says nothing, and has no standard deviation
    head = path(vectors, np.where(targets == 1, 0, targets), 4).fit(1.0)
    probabilities = softmax(head.logits(vectors))
    assert np.isfinite(probabilities).all()
    assert probabilities[:, [1, 3]].max() < 1e-6
    assert (head.weight[:, 4] == 0).all()
    one = path(vectors, np.zeros(len(vectors), np.int64), 3).fit(1.0)
    assert (one.logits(vectors).argmax(axis=1) == 0).all()
    labels = np.zeros((len(vectors), 3), np.uint8)
    labels[:, 0], labels[:, 2] = 1, targets == 1
    shares = sigmoid(path(vectors, labels, 3).fit(1.0).logits(vectors))
    assert shares[:, 0].min() > 0.99
    assert shares[:, 1].max() < 0.01


def test_a_cooled_head() -> None:
    vectors, targets = clouds(3)
    head = path(vectors, targets, 3).fit(1.0)
    np.testing.assert_allclose(head.cooled(2.5).logits(vectors), head.logits(vectors) / 2.5, atol=1e-12)


def test_noise_is_fitted_without_a_warning() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(0, 1, (30, 40)).astype(np.float32)
    with one_thread_each():
        assert np.isfinite(path(vectors, np.arange(30) % 2, 2).fit(1e6).weight).all()


# ---- neighbours


@pytest.mark.parametrize("kind", ["classes", "labels"])
def test_neighbours_vote_as_in_scikit_learn(kind: str) -> None:
    vectors, targets = clouds(4, 200) if kind == "classes" else several(200)
    known, asked = vectors[:150], vectors[150:]
    found = {(count, weighting): votes for count, weighting, votes in neighbours.scores(known, targets[:150], asked, 4)}
    assert set(found) == {(count, weighting) for count in neighbours.COUNTS for weighting in neighbours.WEIGHTINGS}
    for (count, weighting), votes in found.items():
        oracle = KNeighborsClassifier(count, weights=weighting, metric="cosine", algorithm="brute")
        said: Any = oracle.fit(known.astype(np.float64), targets[:150]).predict_proba(asked.astype(np.float64))
        expected = said if kind == "classes" else np.stack([one[:, 1] for one in said], axis=1)
        np.testing.assert_allclose(votes, expected, atol=2e-4)


def test_fewer_images_than_neighbours() -> None:
    vectors, targets = clouds(3, 9)
    assert {count for count, _, _ in neighbours.scores(vectors[:6], targets[:6], vectors[6:], 3)} == {1, 3, 5}


# ---- calibration


def drawn(scale: float, count: int = 20_000, classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Logits, `scale` times as sure as they may be, and targets drawn from the right probabilities."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (count, classes))
    targets = (softmax(logits).cumsum(axis=1) > rng.random((count, 1))).argmax(axis=1)
    return scale * logits, targets


@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
def test_the_temperature_is_found_again(scale: float) -> None:
    logits, targets = drawn(scale)
    found = calibration.temperature(logits, targets)
    assert found == pytest.approx(scale, rel=0.03)
    assert calibration.calibration_error(logits / found, targets) < 0.015
    labels = (np.random.default_rng(1).random(logits.shape) < sigmoid(logits / scale)).astype(np.uint8)
    assert calibration.temperature(logits, labels) == pytest.approx(scale, rel=0.03)


def test_a_few_images_that_are_all_right_make_nothing_certain() -> None:
    targets = np.arange(12) % 3
    found = calibration.temperature(4.0 * np.eye(3)[targets], targets)
    assert 0.3 < found < 3
    assert softmax(4.0 * np.eye(3)[targets] / found).max() < 1


@pytest.mark.parametrize("coverage", [0.05, 0.5, 0.9, 0.95])
@pytest.mark.parametrize("count", [19, 20, 40, 997])
def test_a_threshold_keeps_its_share_of_new_images(coverage: float, count: int) -> None:
    """Of these and one new image, each is as likely as any other to be the k-th: of count + 1, not of count."""
    logits, _ = drawn(1.0, count)
    threshold = calibration.unknown_threshold(logits, coverage)
    assert threshold is not None
    kept = (softmax(logits).max(axis=1) >= threshold).sum() / (count + 1)
    assert coverage - 1e-9 <= kept < coverage + 1.5 / (count + 1)  # one more where two are equal but for rounding
    new, _ = drawn(1.0)
    thresholds = [
        calibration.unknown_threshold(new[start : start + 40], coverage) or 0.0 for start in range(0, 8000, 40)
    ]
    best = softmax(new[8000:]).max(axis=1)
    assert np.mean([(best >= one).mean() for one in thresholds]) >= coverage - 0.005


def test_a_threshold_that_nothing_can_promise() -> None:
    logits, _ = drawn(1.0, 100)
    for coverage, needed in ((0.5, 1), (0.9, 9), (0.95, 19), (0.99, 99)):
        assert calibration.unknown_threshold(logits[:needed], coverage) is not None
        assert calibration.unknown_threshold(logits[: needed - 1], coverage) is None
    all_of_them = calibration.unknown_threshold(logits, 1.0)
    assert all_of_them is not None
    assert (softmax(logits).max(axis=1) >= all_of_them).all()
    assert calibration.unknown_threshold(logits[:0], 1.0) is None


@pytest.mark.parametrize(("scale", "clear"), [(0.2, True), (1.0, False), (5.0, True)])
@pytest.mark.parametrize("kind", ["classes", "labels"])
def test_a_temperature_is_used_where_it_is_clearly_better(scale: float, clear: bool, kind: str) -> None:
    logits, targets = drawn(scale, 300)
    if kind == "labels":
        targets = (np.random.default_rng(1).random(logits.shape) < sigmoid(logits / scale)).astype(np.uint8)
    found = calibration.clear_temperature(logits, targets)
    assert (found != 1) == clear
    if clear:
        best = calibration.temperature(logits, targets)
        assert min(1.0, best) < found < max(1.0, best)  # the nearest to 1 of those that are as good
        assert found == pytest.approx(best, rel=0.15)
        assert found == pytest.approx(scale, rel=0.3)


def test_a_temperature_from_few_images_is_none() -> None:
    """The best temperature of so few is far from the right one, 1, and now and then clearly so by chance."""
    logits, targets = drawn(1.0, 8000)
    used = 0
    for start in range(0, 8000, 20):
        own = slice(start, start + 20)
        used += calibration.clear_temperature(logits[own], targets[own]) != 1
        assert calibration.clear_temperature(logits[own][:9], targets[own][:9]) == 1
    assert used <= 0.06 * 400


def test_equal_embeddings_tell_nothing_and_overflow_nothing() -> None:
    """Their standard deviation is rounding alone, and to divide by it would make weights of 1e15."""
    row = np.random.default_rng(0).normal(0, 1, WIDTH).astype(np.float32)
    head = path(np.repeat(row[None], 7, axis=0), np.arange(7) % 2, 2).fit(10.0)
    assert np.abs(head.weight).max() < 1e-3
    assert np.abs(head.logits(np.random.default_rng(1).normal(0, 100, (9, WIDTH)))).max() < 10


def test_label_thresholds_give_the_best_f1() -> None:
    rng = np.random.default_rng(0)
    logits = np.round(rng.normal(-1, 2, (300, 5)), 1)  # with equals among them
    targets = (rng.random((300, 5)) < sigmoid(0.7 * logits)).astype(np.uint8)
    targets[:, 4] = 0
    found = calibration.label_thresholds(logits, targets)
    assert found[4] == 1.0
    once = np.zeros((300, 1), np.uint8)
    once[7] = 1
    assert calibration.label_thresholds(logits[:, :1], once) == (0.5,)
    for k in range(4):
        probabilities = sigmoid(logits[:, k])
        best = max(f1_score(targets[:, k], probabilities >= cut) for cut in np.unique(probabilities))
        assert f1_score(targets[:, k], probabilities >= found[k]) == pytest.approx(best, abs=1e-12)


def test_the_error_is_that_of_the_evaluation() -> None:
    logits, targets = drawn(2.0, 400)
    expected = dict(metrics.confidence_measures(metrics.judge(logits, targets)))["ece"]
    assert calibration.calibration_error(logits, targets) == pytest.approx(expected, abs=1e-12)


def test_few_images_show_an_error_by_chance() -> None:
    chance = [calibration.error_by_chance(*drawn(1.0, count), seed=0) for count in (100, 1000, 10_000)]
    assert chance[0] > 2 * chance[1] > 4 * chance[2] > 0
    logits, targets = drawn(1.0, 1000)
    assert calibration.calibration_error(logits, targets) == pytest.approx(chance[1], rel=0.5)


def test_rounding_is_allowed_for_and_another_head_is_not() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(8, 192)).astype(np.float32)
    head, other = (Head(rng.normal(size=(10, 192)), np.zeros(10)) for _ in range(2))

    def in_bf16(values: np.ndarray) -> np.ndarray:
        bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
        return ((bits + 0x8000) & 0xFFFF0000).view(np.float32)

    rounded = in_bf16(in_bf16(vectors) @ in_bf16(head.weight).T)
    off = np.abs(rounded - head.logits(vectors)).max()
    assert head.rounding(vectors, "fp32") < off < head.rounding(vectors, "bf16")
    assert np.abs(other.logits(vectors) - head.logits(vectors)).max() > 10 * head.rounding(vectors, "bf16")
