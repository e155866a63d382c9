"""Charts: sound XML, values where they belong, nothing of a stranger's name taken for markup."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from weevit.reports import charts
from weevit.reports.axes import WIDTH, Axis, Svg, shortened

HOSTILE = "<script>alert('x')</script>&\"'"


def parsed(svg: Svg) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def texts(svg: Svg) -> list[str]:
    return [element.text or "" for element in parsed(svg).iter("text")]


def boxes(svg: Svg, kind: str) -> list[dict[str, float]]:
    found = [element for element in parsed(svg).iter("rect") if element.get("class") == kind]
    return [{name: float(element.get(name, "nan")) for name in ("x", "y", "width", "height")} for element in found]


def _charts(name: str) -> dict[str, Svg]:
    x = np.linspace(0, 1, 5)
    bins = charts.Bins([0, 0.5, 1], [0.3, 0.8], [0.4, 0.7], [3, 7])
    return {
        "line": charts.line([charts.Series(name, x, x), charts.Series(name, x, 1 - x)], Axis(name), Axis(name), name),
        "bars": charts.bars([charts.Bar(name, 0.5, 0.4, 0.6, name)], Axis(name), name),
        "columns": charts.columns([0, 1, 2], [3, 4], Axis(name), Axis(name), name),
        "heatmap": charts.heatmap(charts.Grid(np.eye(2) * 5, [name, name], [name, name], name, name), name),
        "reliability": charts.reliability(bins, name),
    }


@pytest.mark.parametrize("kind", ["line", "bars", "columns", "heatmap", "reliability"])
def test_names_are_text_and_the_image_has_words(kind: str) -> None:
    svg = _charts(HOSTILE)[kind]
    image = parsed(svg)
    assert image.get("role") == "img"
    assert image.get("aria-label") == HOSTILE
    assert not list(image.iter("script"))
    assert "<script" not in svg
    assert svg.__html__() == svg


def test_bars_are_as_long_as_their_values() -> None:
    rows = [charts.Bar("a", 0.25), charts.Bar("b", 1.0, 0.9, 1.0), charts.Bar("none", math.nan), charts.Bar("zero", 0)]
    svg = charts.bars(rows, Axis("recall", 0, 1, percent=True), "recall")
    whole = boxes(svg, "empty")[0]["width"]
    assert [round(one["width"] / whole, 2) for one in boxes(svg, "fill s1")] == [0.25, 1.0, 0.0]
    assert "–" in texts(svg)
    assert "25 %".replace(" ", "\u00a0") in " ".join(texts(svg))


def test_columns_are_as_high_as_their_counts() -> None:
    svg = charts.columns([0, 10, 20, 40], [5, 0, 10], Axis("px"), Axis("images"), "sizes")
    low, none, high = boxes(svg, "fill s1")
    assert low["height"] * 2 == pytest.approx(high["height"], abs=0.2)
    assert none["height"] == 0
    assert high["width"] == pytest.approx(2 * low["width"] + 1, abs=0.2)


def test_lines_go_through_their_points_and_break_at_gaps() -> None:
    one = charts.Series("a", [0, 1, 2, 3], [0, 1, math.nan, 0.5], marks=True)
    svg = charts.line([one], Axis("x"), Axis("y"), "t")
    path = next(element.get("d", "") for element in parsed(svg).iter("path"))
    assert re.sub(r"[0-9. ]+", "", path) == "MLM"
    assert len(list(parsed(svg).iter("circle"))) == 3
    first, second, _ = (tuple(map(float, step.split())) for step in re.split("[ML]", path)[1:])
    assert first[0] < second[0]
    assert first[1] > second[1]  # up is less


def test_heatmap_colours_by_share_of_the_row() -> None:
    matrix = np.array([[8, 2], [0, 0], [1234, 0]])
    svg = charts.heatmap(charts.Grid(matrix, ["a", "b", "c"], ["x", "y"]), "confusion")
    opacities = [
        float(cell.get("fill-opacity", "nan")) for cell in parsed(svg).iter("rect") if cell.get("class") == "cell"
    ]
    assert opacities == [pytest.approx(0.12 + 0.88 * share, abs=0.01) for share in (0.8, 0.2, 1.0)]
    assert {"8", "2", "1,234"} <= set(texts(svg))
    assert "a → y: 2 (20.0%)" in svg


def test_reliability_shows_the_gap() -> None:
    bins = charts.Bins([0, 0.5, 1.0], [math.nan, 0.9], [math.nan, 0.6], [0, 40])
    svg = charts.reliability(bins, "reliability")
    (bar,), gaps = boxes(svg, "fill s1")[1:], boxes(svg, "gap")[1:]  # the first of each is the legend's
    assert len(gaps) == 1
    assert gaps[0]["height"] / bar["height"] == pytest.approx(0.5, abs=0.01)
    assert "40 answers, 90.0% sure on average, 60.0% right" in svg


def test_shares_that_are_all_alike_lie_between_nought_and_one() -> None:
    assert Axis("x", percent=True).around([1.0, 1.0]).ends() == (0.0, 1.0)
    assert Axis("x", percent=True).around([0.0]).ends() == (0.0, 1.0)


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0.5, 0.52), (0, 12345), (-3, 7), (1e-9, 2e-9), (5, 5), (0, 0), (1e6, 1.1e6), (-1, -1)]
)
def test_ticks_are_round_few_and_inside(low: float, high: float) -> None:
    axis = Axis("x").around([low, high, math.nan])
    begin, end = axis.ends()
    ticks = axis.ticks()
    room = 1e-9 * (end - begin)
    assert begin <= low
    assert high <= end
    assert begin < end
    assert 2 <= len(ticks) <= 7
    assert all(begin - room <= tick <= end + room for tick in ticks)
    steps = np.diff(ticks)
    assert np.allclose(steps, steps[0])
    assert round(steps[0] / 10 ** math.floor(math.log10(steps[0] * 1.0000001)), 6) in (1, 2, 5)
    written = [axis.text(tick) for tick in ticks]
    assert len(set(written)) == len(written)


def test_nothing_to_draw_is_still_a_image() -> None:
    for svg in (
        charts.line([], Axis("x"), Axis("y"), "t"),
        charts.bars([], Axis("x"), "t"),
        charts.columns([0.0], [], Axis("x"), Axis("y"), "t"),
        charts.heatmap(charts.Grid(np.zeros((0, 0)), [], []), "t"),
        charts.reliability(charts.Bins([0, 1], [math.nan], [math.nan], [0]), "t"),
    ):
        assert "nan" not in svg
        parsed(svg)


def test_long_names_keep_both_ends() -> None:
    assert shortened("short", 100) == "short"
    cut = shortened("vit_tiny_patch16_224.augreg_in21k_ft_in1k", 100)
    assert cut.startswith("vit_ti")
    assert cut.endswith("in1k")
    assert len(cut) * 6.9 <= 100
    many = [charts.Series("a name of some length", [0, 1], [0, 1])] * 5
    assert len({element.get("y") for element in parsed(charts.line(many, Axis("x"), Axis("y"), "t")).iter("text")}) > 2
    assert WIDTH > 0
