"""Paired tests against scipy, comparisons of models and of saved evaluations, and their page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from browsing import DESKTOP, PHONE, Browser

import weevit
from weevit.errors import DatasetError, UsageError
from weevit.evaluation.compare import compare_evaluations
from weevit.evaluation.comparison_report import names_of, verdict
from weevit.evaluation.paired import bootstrap_difference, mcnemar
from weevit.evaluation.results import Comparison, Evaluation, Row
from weevit.predict import Predictor

PAIRS = [(0, 0), (1, 0), (0, 1), (5, 5), (3, 12), (12, 3), (100, 140), (1, 60), (0, 1200), (2000, 2150), (9000, 9300)]


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_mcnemar(first: int, second: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    exact, mid = mcnemar(first, second)
    total, fewer = first + second, min(first, second)
    expected = stats.binomtest(first, total).pvalue if total else 1.0
    assert exact == pytest.approx(expected, rel=1e-9)
    point = stats.binom.pmf(fewer, total, 0.5) if total else 0.0
    assert mid == pytest.approx(expected - point if first != second else 1.0, rel=1e-8)
    assert 0 <= mid <= exact <= 1
    assert mcnemar(second, first) == (exact, mid)


def test_mcnemar_keeps_its_level() -> None:
    """Two equally good models: the exact test cries wolf in less than 5 %, mid-p in about 5 %."""
    rng = np.random.default_rng(0)
    draws = [mcnemar(int(first), 60 - int(first)) for first in rng.binomial(60, 0.5, 4000)]
    exact, mid = (np.mean([p[place] < 0.05 for p in draws]) for place in (0, 1))
    assert exact < 0.05
    assert exact <= mid < 0.06


@pytest.mark.parametrize(("only_first", "only_second", "same"), [(20, 35, 445), (3, 2, 15), (0, 40, 60), (0, 0, 9)])
def test_bootstrap(only_first: int, only_second: int, same: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    counts = (only_first, only_second, same)
    low, high = bootstrap_difference(counts, seed=3)
    values = np.repeat([-1.0, 1.0, 0.0], counts)
    if values.any():
        theirs = stats.bootstrap(
            (values,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(1)
        ).confidence_interval
        room = 0.15 * (theirs.high - theirs.low)
        assert low == pytest.approx(theirs.low, abs=room)
        assert high == pytest.approx(theirs.high, abs=room)
    assert low <= values.mean() <= high
    assert bootstrap_difference(counts, seed=3) == (low, high)
    if values.any() and same > 100:
        assert bootstrap_difference(counts, seed=4) != (low, high)


def test_bootstrap_of_nothing() -> None:
    assert np.isnan(bootstrap_difference((0, 0, 0))).all()


@pytest.fixture(scope="module")
def comparison(colour_model: Path, other_model: Path, images: Path) -> Comparison:
    return weevit.compare(colour_model, _blunt(other_model), images)


def _blunt(model: Path) -> Predictor:
    """A predictor that sees less than it should: at another size it errs on some images."""
    return weevit.load(model, image_size=16, threads=1, cache=False)


def test_two_models(comparison: Comparison, predictor: Predictor, other_model: Path, images: Path) -> None:
    files = [path for path in sorted(images.rglob("*.png")) if path.name != "broken.png"]
    right = np.array(
        [
            [model.classify(path).labels[0] == path.parent.name for path in files]
            for model in (predictor, _blunt(other_model))
        ]
    )
    assert comparison.both == (right[0] & right[1]).sum()
    assert comparison.only_first == (right[0] & ~right[1]).sum()
    assert comparison.only_second == (~right[0] & right[1]).sum()
    assert comparison.neither == (~right[0] & ~right[1]).sum()
    assert comparison.difference == pytest.approx(right[1].mean() - right[0].mean())
    assert comparison.only_first != comparison.only_second
    assert len(comparison.indices) == 42
    wins = {name: (count, first, second) for name, count, first, second in comparison.wins()}
    assert wins["blue"][0] == 6
    assert sum(first for _, first, _ in wins.values()) == right[0].sum()
    assert len(comparison.only(second=False)) == comparison.only_first
    assert len(comparison.only(second=True)) == comparison.only_second


def test_saved_evaluations_in_another_order(
    comparison: Comparison, colour_model: Path, other_model: Path, images: Path, tmp_path: Path
) -> None:
    pytest.importorskip("jinja2")
    weevit.evaluate(colour_model, images, tmp_path / "a")
    weevit.evaluate(_blunt(other_model), images, tmp_path / "b", table="csv")
    again = weevit.compare(tmp_path / "a", tmp_path / "b", output=tmp_path / "out")
    for name in ("both", "only_first", "only_second", "neither", "p_value", "mid_p", "low", "high"):
        assert getattr(again, name) == getattr(comparison, name), name
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    assert written["schema"] == "weevit.comparison/2"
    assert written["only_first"] == again.only_first
    assert len(written["disagreements"]) == again.only_first + again.only_second
    backwards = replace(comparison.second, rows=comparison.second.rows[::-1], sources=comparison.second.sources[::-1])
    turned = compare_evaluations(comparison.first, backwards)
    assert (turned.both, turned.only_first, turned.second.rows) == (
        comparison.both, comparison.only_first, comparison.second.rows,
    )  # fmt: skip


def test_what_cannot_be_compared(comparison: Comparison, colour_model: Path, images: Path) -> None:
    first = comparison.first
    with pytest.raises(UsageError, match="no data"):
        weevit.compare(colour_model, colour_model)
    with pytest.raises(UsageError, match="both arguments must be models"):
        weevit.compare(first, colour_model, images)
    fewer = replace(first, rows=first.rows[1:])
    with pytest.raises(DatasetError, match=f"- {first.rows[0].input}"):
        compare_evaluations(first, fewer)
    with pytest.raises(DatasetError, match=f"\\+ {first.rows[0].input}"):
        compare_evaluations(fewer, first)
    other = replace(
        first,
        rows=(replace(first.rows[0], target="blue" if first.rows[0].target != "blue" else "red"), *first.rows[1:]),
    )
    with pytest.raises(DatasetError, match=f"! {first.rows[0].input}"):
        compare_evaluations(first, other)
    many = replace(first, rows=tuple(replace(row, input=f"x{row.input}") for row in first.rows))
    with pytest.raises(DatasetError, match="and 33 more"):
        compare_evaluations(first, many)
    twice = replace(first, rows=(*first.rows, first.rows[0]))
    for pair in ((first, twice), (twice, first)):
        with pytest.raises(DatasetError, match=f"has 2 rows of {first.rows[0].input}"):
            compare_evaluations(*pair)


def _made(first: Evaluation, rights: list[bool | None]) -> Evaluation:
    rows = tuple(
        Row(str(i), "ok" if right is not None else "missing", target="red", class_id="red" if right else "blue",
            right=bool(right), probability=0.5)
        for i, right in enumerate(rights)
    )  # fmt: skip
    return replace(first, rows=rows, sources=())


def test_the_verdict_says_what_the_figures_say(comparison: Comparison) -> None:
    first = comparison.first

    def said(ours: list[bool | None], theirs: list[bool | None]) -> str:
        return verdict(compare_evaluations(_made(first, ours), _made(first, theirs)))

    names = names_of(compare_evaluations(_made(first, [True]), _made(first, [True])))
    assert names[0] != names[1]
    assert "right and wrong on the same images" in said([True, False], [True, False])
    assert "right on as many images; on 2 of them" in said([True, False, True], [False, True, True])
    assert said([True, None], [None, True]).startswith("There is no image")
    assert said([True] * 20 + [False], [False] * 20 + [True]).startswith(
        f"{names[0]} is better: right on 19 more images"
    )
    assert said([False] * 10, [True] * 10).startswith(f"{names[1]} is better: right on 10 more images of 10")
    unsure = said([True, True, False], [True, False, False])
    assert unsure.startswith(f"No clear difference: {names[0]} is right on 1 more image of 3")


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_the_page_in_a_browser(comparison: Comparison, tmp_path: Path, browser: Browser, width: int) -> None:
    pytest.importorskip("jinja2")
    from weevit.evaluation.compare import write_comparison

    write_comparison(comparison, tmp_path)
    seen = browser.look(tmp_path / "report.html", width, dark=width == PHONE)
    seen.check()
    assert seen.facts["images"] == min(comparison.only_first, 12) + min(comparison.only_second, 12)
    assert verdict(comparison).split("\u00a0")[0] in seen.facts["text"]
    assert "Left out: 1 image" in seen.facts["text"]
