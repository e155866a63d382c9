"""Which of two models is better: rows made by hand, one model clearly ahead, figures worked out beside them."""

from __future__ import annotations

import pytest

from weevit.evaluation.compare import compare_evaluations, comparison_json
from weevit.evaluation.paired import bootstrap_difference
from weevit.evaluation.results import Comparison, Evaluation, Row


def made(rights: str) -> Evaluation:
    """`1` for a right answer, `0` for a wrong one, `x` for none."""
    rows = tuple(
        Row(str(place), status="missing" if right == "x" else "ok", target="a", class_id="a", right=right == "1",
            probability=0.5 + place / 1000)
        for place, right in enumerate(rights)
    )  # fmt: skip
    return Evaluation({"name": "made"}, {}, (), False, rows, {})


FIRST = "1" * 60 + "0" * 40 + "x"
SECOND = "1" * 52 + "0" * 8 + "1" * 30 + "0" * 10 + "1"


@pytest.fixture
def ahead() -> Comparison:
    return compare_evaluations(made(FIRST), made(SECOND), seed=5)


def test_all_four_counts_and_the_difference(ahead: Comparison) -> None:
    assert (ahead.both, ahead.only_first, ahead.only_second, ahead.neither) == (52, 8, 30, 10)
    assert ahead.difference == pytest.approx((82 - 60) / 100)
    assert len(ahead.indices) == 100


def test_the_interval_lies_on_the_side_of_the_better_model(ahead: Comparison) -> None:
    assert 0 < ahead.low < ahead.difference < ahead.high
    turned = compare_evaluations(made(SECOND), made(FIRST), seed=5)
    assert turned.low < turned.difference < turned.high < 0
    assert turned.p_value == ahead.p_value < 0.001


def test_the_seed_is_that_of_the_interval(ahead: Comparison) -> None:
    assert (ahead.low, ahead.high) == bootstrap_difference((8, 30, 62), 5)
    assert comparison_json(ahead)["seed"] == 5
    assert comparison_json(ahead)["left_out"] == 1


def test_disagreements_begin_with_what_the_wrong_one_was_surest_of(ahead: Comparison) -> None:
    assert ahead.only(second=False) == list(range(59, 51, -1))
    assert ahead.only(second=True) == list(range(89, 59, -1))
    assert ahead.wins() == [("a", 100, 60, 82)]
