"""The arithmetic of an answer against Python's own: sums without rounding, exponentials one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest

from weevit.answers.results import decide, top_classes, unit_length
from weevit.zoo.decision import Decision
from weevit.zoo.labels import Label


def softmax(logits: list[float]) -> list[float]:
    highest = max(logits)
    powers = [math.exp(value - highest) for value in logits]
    total = math.fsum(powers)
    return [power / total for power in powers]


@pytest.mark.parametrize("count", [2, 10, 11821])
def test_probabilities_are_exact_to_twelve_digits(count: int) -> None:
    logits = (3 * np.random.default_rng(count).standard_normal(count)).astype(np.float32)
    expected = softmax([float(value) for value in logits])
    found = top_classes(logits, count, None)
    assert math.fsum(one.probability for one in found) == pytest.approx(1, abs=1e-12)
    for one in found:
        assert one.probability == pytest.approx(expected[one.index], rel=1e-12)


def test_large_logits_do_not_overflow() -> None:
    found = top_classes(np.array([1e4, 1e4 - 1, -1e4], np.float32), 3, None)
    assert [one.index for one in found] == [0, 1, 2]
    assert [one.probability for one in found] == pytest.approx([1 / (1 + math.exp(-1)), 1 / (1 + math.e), 0])


def test_equal_classes_stand_in_the_order_of_the_head() -> None:
    found = top_classes(np.array([1, 2, 2, 0, 2], np.float32), 4, None)
    assert [one.index for one in found] == [1, 2, 4, 0]
    assert found[0].name == "class 1"
    assert found[0].id is None


LABELS = [Label("n1", "cat"), Label("n2", "dog"), Label("n3", "cow")]


@pytest.mark.parametrize(("threshold", "unknown"), [(0.666, False), (0.667, True), (None, False)])
def test_unknown_is_below_the_threshold(threshold: float | None, unknown: bool) -> None:
    logits = np.log(np.array([1, 2, 1e-9], np.float64) * 3).astype(np.float32)  # 2/3 at best
    answer = decide(logits, 2, LABELS, Decision(threshold=threshold) if threshold else None)
    assert answer.unknown is unknown
    assert [(one.id, one.name) for one in answer.top] == [("n2", "dog"), ("n1", "cat")]
    assert answer.present is None


def test_labels_that_are_there_are_those_above_their_own_thresholds() -> None:
    logits = np.array([0.0, 1.0, -800.0], np.float32)
    own = [0.5, 1 / (1 + math.exp(-1)), 0.0]
    answer = decide(logits, 2, LABELS, Decision(multi_label=True, label_thresholds=(0.5, 0.74, 0.5)))
    assert [one.id for one in answer.present or ()] == ["n1"]
    assert [one.probability for one in answer.top] == pytest.approx([own[1], own[0]], rel=1e-12)
    plain = decide(logits, 3, LABELS, Decision(multi_label=True))
    assert [one.id for one in plain.present or ()] == ["n2", "n1"]  # 0.5 is enough
    assert plain.top[2].probability == pytest.approx(0, abs=1e-300)


def test_unit_length() -> None:
    rows = unit_length(np.array([[3, 4], [0, 0], [0, -2]], np.float32))
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0, 0], [0, -1]], rtol=1e-7)
    assert rows.dtype == np.float32
