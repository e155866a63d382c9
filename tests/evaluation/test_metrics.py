"""Every measure against scikit-learn or scipy, on random and on degenerate inputs, to 1e-12."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from weevit.evaluation import metrics as m

sk = pytest.importorskip("sklearn.metrics")
EXACT = {"rel": 0, "abs": 1e-12}


@contextmanager
def muted() -> Iterator[None]:
    """scikit-learn warns where weevit defines a value."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def some(n: int, k: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, k, n)
    logits = rng.normal(size=(n, k)) * 3
    logits[np.arange(n), targets] += 2
    return logits, targets


def _ties() -> tuple[np.ndarray, np.ndarray]:
    logits, targets = some(300, 6, 3)
    return np.round(logits / 2) * 2, targets


def _all_equal() -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((40, 7)), np.arange(40) % 7


def _absent() -> tuple[np.ndarray, np.ndarray]:
    logits, targets = some(120, 9, 4)
    return logits, targets % 4


def _all_wrong() -> tuple[np.ndarray, np.ndarray]:
    logits, targets = some(60, 5, 5)
    logits[np.arange(60), targets] = -20
    return logits, targets


def _all_right() -> tuple[np.ndarray, np.ndarray]:
    logits, targets = some(60, 5, 6)
    logits[np.arange(60), targets] = 40
    return logits, targets


def _one_target() -> tuple[np.ndarray, np.ndarray]:
    logits, targets = some(50, 4, 7)
    return logits, np.zeros_like(targets)


def _sure() -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of exactly 0 and 1, right and wrong."""
    _, targets = some(30, 3, 8)
    return np.where(np.arange(3) == (targets + (np.arange(30) % 5 == 0))[:, None] % 3, 0.0, -2000.0), targets


CASES: dict[str, tuple[np.ndarray, np.ndarray]] = {
    "random": some(500, 10),
    "two classes": some(200, 2, 1),
    "a thousand classes": some(400, 1000, 2),
    "ties": _ties(),
    "all equal": _all_equal(),
    "absent classes": _absent(),
    "all wrong": _all_wrong(),
    "all right": _all_right(),
    "one class in the data": _one_target(),
    "one image": some(1, 5, 9),
    "quite sure": _sure(),
}
every_case = pytest.mark.parametrize("case", CASES)


@every_case
def test_accuracy(case: str) -> None:
    logits, targets = CASES[case]
    classes = logits.shape[1]
    judged = m.judge(logits, targets)
    named = dict(m.accuracy(judged, classes))
    assert named["top1"] == pytest.approx(sk.accuracy_score(targets, logits.argmax(axis=1)), **EXACT)
    assert ("top5" in named) == (classes > 5)
    if classes > 2:  # of equal scores, scikit-learn takes the last first, and weevit the first: mirrored, they agree
        for k in range(1, min(6, classes)):
            with muted():
                expected = sk.top_k_accuracy_score(
                    classes - 1 - targets, logits[:, ::-1], k=k, labels=np.arange(classes)
                )
            assert (judged.ranks < k).mean() == pytest.approx(expected, **EXACT)


@every_case
def test_confusion_and_classes(case: str) -> None:
    logits, targets = CASES[case]
    labels = np.arange(logits.shape[1])
    answers = m.judge(logits, targets).answers
    with muted():
        assert (
            m.confusion(targets, answers, len(labels)) == sk.confusion_matrix(targets, answers, labels=labels)
        ).all()
    _same_classes(targets, answers, labels)


@pytest.mark.parametrize("silent", [0.3, 1.0])
def test_images_without_an_answer_are_wrong_and_nobody_elses_mistake(silent: float) -> None:
    logits, targets = some(300, 6, 11)
    answers = m.judge(logits, targets).answers
    answers[np.random.default_rng(0).random(300) < silent] = m.NO_ANSWER
    _same_classes(targets, answers, np.arange(6))
    known = answers >= 0
    assert m.confusion(targets, answers, 6).sum() == known.sum()


def _same_classes(targets: np.ndarray, answers: np.ndarray, labels: np.ndarray) -> None:
    ours = m.per_class(targets, answers, len(labels))
    theirs = sk.precision_recall_fscore_support(targets, answers, labels=labels, zero_division=0)
    for mine, other in zip((ours.precision, ours.recall, ours.f1, ours.support), theirs, strict=True):
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-12)
    present = labels[ours.present]
    averages = dict(m.class_averages(ours))
    for kind in ("macro", "weighted"):
        expected = sk.precision_recall_fscore_support(targets, answers, labels=present, average=kind, zero_division=0)
        for name, value in zip(("precision", "recall", "f1"), expected, strict=False):
            assert averages[f"{kind}_{name}"] == pytest.approx(value, **EXACT), (kind, name)


@every_case
def test_balanced_accuracy(case: str) -> None:
    logits, targets = CASES[case]
    named = dict(m.classification(m.judge(logits, targets), logits.shape[1]))
    with muted():
        assert named["balanced_accuracy"] == pytest.approx(
            sk.balanced_accuracy_score(targets, logits.argmax(axis=1)), **EXACT
        )


@every_case
def test_probabilities(case: str) -> None:
    logits, targets = CASES[case]
    labels = np.arange(logits.shape[1])
    judged, probabilities = m.judge(logits, targets), m.softmax(logits)
    named = dict(m.confidence_measures(judged))
    with muted():
        brier = sk.brier_score_loss(_named(targets), probabilities, labels=_named(labels), scale_by_half=False)
        loss = sk.log_loss(targets, probabilities, labels=labels)
    assert named["brier"] == pytest.approx(brier, **EXACT)
    assert named["log_loss"] == pytest.approx(loss, **EXACT)


def _named(classes: np.ndarray) -> np.ndarray:
    return np.array([f"{index:04d}" for index in classes])


@every_case
def test_calibration(case: str) -> None:
    from sklearn.calibration import calibration_curve

    logits, targets = CASES[case]
    judged = m.judge(logits, targets)
    found = m.calibration(judged.confidence, judged.right)
    with muted():
        right, sure = calibration_curve(judged.right, judged.confidence, n_bins=15, pos_label=True)
    filled = found.counts > 0
    np.testing.assert_allclose(found.accuracy[filled], right, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.confidence[filled], sure, rtol=0, atol=1e-12)
    weights = found.counts[filled] / len(targets)
    assert found.error == pytest.approx(float((np.abs(right - sure) * weights).sum()), **EXACT)
    assert found.counts.sum() == len(targets)


@every_case
def test_coverage(case: str) -> None:
    logits, targets = CASES[case]
    judged = m.judge(logits, targets)
    found = m.risk_coverage(judged.confidence, judged.right)
    with muted():
        precision, _, thresholds = sk.precision_recall_curve(judged.right, judged.confidence)
    np.testing.assert_array_equal(found.thresholds, thresholds[::-1])
    np.testing.assert_allclose(found.accuracy, precision[:-1][::-1], rtol=0, atol=1e-12)
    for threshold, coverage in zip(found.thresholds, found.coverage, strict=True):
        assert coverage == (judged.confidence >= threshold).mean()
    assert found.accuracy[-1] == judged.right.mean()
    assert 0 <= found.area <= 1


def test_area_of_the_coverage_curve_by_hand() -> None:
    found = m.risk_coverage(np.array([0.9, 0.8, 0.8, 0.1]), np.array([True, True, False, False]))
    assert found.coverage.tolist() == [0.25, 0.75, 1.0]
    assert found.area == pytest.approx(0.25 * 0 + 0.5 * (1 / 3) + 0.25 * 0.5)


@pytest.mark.parametrize(
    ("right", "total"), [(0, 1), (1, 1), (0, 20), (20, 20), (413, 500), (1, 50_000), (49_999, 50_000)]
)
def test_wilson(right: int, total: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    expected = stats.binomtest(right, total).proportion_ci(0.95, method="wilson")
    low, high = m.wilson(right, total)
    assert low == pytest.approx(expected.low, **EXACT)
    assert high == pytest.approx(expected.high, **EXACT)
    assert 0 <= low <= right / total <= high <= 1


def test_nothing_to_measure() -> None:
    judged = m.judge(np.zeros((0, 4)), [])
    named = dict(m.classification(judged, 4))
    assert (named.pop("top1_low"), named.pop("top1_high")) == (0.0, 1.0)
    assert named
    assert all(math.isnan(value) for value in named.values())
    assert all(math.isnan(value) for _, value in m.multi_label(np.zeros((0, 3)), np.zeros((0, 3))))
    assert m.confusion([], [], 3).tolist() == [[0] * 3] * 3
    assert len(m.joined([])) == 0
    assert m.risk_coverage(np.zeros(0), np.zeros(0, bool)).coverage.tolist() == []


def test_one_class() -> None:
    named = dict(m.classification(m.judge(np.full((3, 1), 5.0), [0, 0, 0]), 1))
    assert (named["top1"], named["macro_f1"], named["ece"], named["brier"]) == (1, 1, 0, 0)
    assert named["log_loss"] == pytest.approx(sk.log_loss([0, 0, 0], [[1, 0]] * 3, labels=[0, 1]), **EXACT)


def test_batches_add_up() -> None:
    logits, targets = CASES["ties"]
    whole = m.judge(logits, targets)
    parts = m.joined([m.judge(logits[i : i + 7], targets[i : i + 7]) for i in range(0, 300, 7)])
    for name in m.Judged.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))
    some_of_it = whole.take(np.array([3, 1]))
    assert (some_of_it.targets == targets[[3, 1]]).all()


def test_several_right_classes() -> None:
    logits = np.array([[0.0, 3.0, 2.0], [5.0, 1.0, 2.0], [1.0, 1.0, 1.0]])
    judged = m.judge_any(logits, [[2, 1], [1, 2], [2, 1]])
    assert judged.targets.tolist() == [1, 2, 1]  # of equally likely ones, the first
    assert judged.ranks.tolist() == [0, 1, 1]


def _labels(n: int, k: int, share: float = 0.3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = (rng.random((n, k)) < share).astype(np.uint8)
    return m.sigmoid(rng.normal(size=(n, k)) + 1.5 * targets), targets


def _rounded() -> tuple[np.ndarray, np.ndarray]:
    scores, targets = _labels(200, 4, seed=1)
    return np.round(scores, 1), targets


def _without(column: int, value: int) -> tuple[np.ndarray, np.ndarray]:
    scores, targets = _labels(90, 4, seed=2)
    targets[:, column] = value
    return scores, targets


LABELLED: dict[str, Callable[[], tuple[np.ndarray, np.ndarray]]] = {
    "random": lambda: _labels(300, 7),
    "ties": _rounded,
    "an absent label": lambda: _without(1, 0),
    "a label that is always there": lambda: _without(2, 1),
    "no label at all": lambda: _labels(40, 3, share=0.0),
    "all labels": lambda: _labels(40, 3, share=1.0),
    "one image": lambda: _labels(1, 5, seed=3),
    "all scores equal": lambda: (np.full((30, 3), 0.5), _labels(30, 3)[1]),
}


@pytest.mark.parametrize("case", LABELLED)
@pytest.mark.parametrize("thresholds", [0.5, [0.1, 0.9, 0.5, 0.5, 0.3, 0.2, 0.7]])
def test_multi_label(case: str, thresholds: float | list[float]) -> None:
    scores, targets = LABELLED[case]()
    k = targets.shape[1]
    limits = np.asarray(thresholds if isinstance(thresholds, float) else thresholds[:k])
    said = (scores >= limits).astype(int)
    named = dict(m.multi_label(scores, targets, limits))
    with muted():
        precisions = [sk.average_precision_score(targets[:, i], scores[:, i]) for i in range(k)]
        np.testing.assert_allclose(m.average_precision(scores, targets), precisions, rtol=0, atol=1e-12)
        occurs = targets.any(axis=0)
        if occurs.any():
            assert named["map"] == pytest.approx(np.mean(np.array(precisions)[occurs]), **EXACT)
        else:
            assert math.isnan(named["map"])
        for average in ("micro", "macro", "weighted"):
            theirs = _averaged(targets, said, average)
            for name, value in zip(("precision", "recall", "f1"), theirs, strict=False):
                if f"{average}_{name}" in named:
                    assert named[f"{average}_{name}"] == pytest.approx(value, **EXACT, nan_ok=True), (average, name)
        assert named["samples_f1"] == pytest.approx(_samples_f1(targets, said), **EXACT)
    assert named["exact"] == pytest.approx((targets == said).all(axis=1).mean(), **EXACT)
    assert named["hamming"] == pytest.approx((targets != said).mean(), **EXACT)


def _averaged(targets: np.ndarray, said: np.ndarray, average: str) -> tuple[float, ...]:
    """scikit-learn's, over the labels that occur or were said; NaN where there are none to average."""
    measures = sk.precision_recall_fscore_support
    if average == "micro":
        return measures(targets, said, average="micro", zero_division=0)[:3]
    if average == "weighted":
        found = measures(targets, said, average="weighted", zero_division=0)[:3]
        return found if targets.any() else (math.nan,) * 3
    occurs = (targets | said).any(axis=0)
    each = measures(targets, said, average=None, zero_division=0)[:3]
    return tuple(float(values[occurs].mean()) if occurs.any() else math.nan for values in each)


def _samples_f1(targets: np.ndarray, said: np.ndarray) -> float:
    return float(sk.precision_recall_fscore_support(targets, said, average="samples", zero_division=0)[2])


@pytest.mark.parametrize("seed", range(20))
def test_random_shapes(seed: int) -> None:
    rng = np.random.default_rng([7, seed])
    n, k = int(rng.integers(1, 60)), int(rng.integers(3, 12))
    logits, targets = np.round(rng.normal(size=(n, k)) * 2, int(rng.integers(0, 3))), rng.integers(0, k, n)
    judged = m.judge(logits, targets)
    _same_classes(targets, judged.answers, np.arange(k))
    with muted():
        assert m.log_loss(judged) == pytest.approx(
            sk.log_loss(targets, m.softmax(logits), labels=np.arange(k)), **EXACT
        )


def test_links() -> None:
    special = pytest.importorskip("scipy.special")
    logits = np.array([[1e4, 0.0, -1e4], [0.1, 0.2, 0.3], [-np.inf, 0.0, 0.0]])
    np.testing.assert_allclose(m.softmax(logits), special.softmax(logits, axis=1), rtol=0, atol=1e-15)
    np.testing.assert_allclose(m.sigmoid(logits), special.expit(logits), rtol=0, atol=1e-15)
