"""Where things are drawn: nothing outside its image, columns side by side, areas as large as what they stand for."""

from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest

from weevit.reports import charts
from weevit.reports.axes import Axis, Svg

COUNTS = [3, 0, 9, 6]
EDGES = [0.0, 0.25, 0.5, 0.75, 1.0]
BINS = charts.Bins(EDGES, [0.2, float("nan"), 0.6, 0.9], [0.1, float("nan"), 0.75, 0.8], COUNTS)

DRAWN = {
    "columns": charts.columns(EDGES, COUNTS, Axis("x"), Axis("y"), "t"),
    "reliability": charts.reliability(BINS, "t"),
    "heatmap": charts.heatmap(charts.Grid(np.arange(9).reshape(3, 3), list("abc"), list("abc")), "t"),
    "bars": charts.bars([charts.Bar("a", 2.0, 1.5, 2.5), charts.Bar("b", 3.0)], Axis("x"), "t"),
    "line": charts.line(
        [charts.Series(f"a rather long name {n}", [0, 1, 2], [n, 2, 1]) for n in range(5)],
        Axis("x"), Axis("y"), "t",
    ),
}  # fmt: skip


def boxes(svg: Svg, kind: str = "") -> list[tuple[float, float, float, float]]:
    """(left, right, top, bottom) of every box of a kind, from left to right."""
    found = [one for one in ElementTree.fromstring(svg).iter("rect") if not kind or one.get("class") == kind]
    places = [[float(one.get(name, "nan")) for name in ("x", "width", "y", "height")] for one in found]
    return sorted((x, x + width, y, y + height) for x, width, y, height in places)


@pytest.mark.parametrize("name", DRAWN)
def test_nothing_is_drawn_outside(name: str) -> None:
    svg = DRAWN[name]
    _, _, width, height = map(float, ElementTree.fromstring(svg).get("viewBox", "").split())
    for left, right, top, bottom in boxes(svg):
        assert 0 <= left <= right <= width + 0.11
        assert 0 <= top <= bottom <= height + 0.11
    for words in ElementTree.fromstring(svg).iter("text"):
        if words.get("text-anchor") == "start" and float(words.get("x", "0")):
            assert float(words.get("x", "nan")) < width


@pytest.mark.parametrize(
    ("name", "kind"), [("columns", "fill s1"), ("reliability", "fill s1"), ("reliability", "fill s5")]
)
def test_columns_stand_side_by_side(name: str, kind: str) -> None:
    found = [one for one in boxes(DRAWN[name], kind) if one[1] - one[0] > 15]  # not the legend's
    assert len(found) >= 3
    for before, after in pairwise(found):
        assert before[1] <= after[0]
    widths = [right - left for left, right, _, _ in found]
    assert max(widths) - min(widths) <= 0.3


def test_columns_are_as_high_as_their_counts() -> None:
    heights = [bottom - top for _, _, top, bottom in boxes(DRAWN["columns"], "fill s1")]
    assert [round(9 * height / heights[2]) for height in heights] == COUNTS
    heights = [bottom - top for _, _, top, bottom in boxes(DRAWN["reliability"], "fill s5")]
    assert [round(9 * height / max(heights)) for height in heights] == COUNTS


def test_a_bin_reaches_to_its_accuracy_and_the_gap_to_its_confidence() -> None:
    """In units of the axis from 0 to 1, whose length is that of the two together where both are known."""
    full = [one for one in boxes(DRAWN["reliability"], "fill s1") if one[1] - one[0] > 15]
    gaps = [one for one in boxes(DRAWN["reliability"], "gap") if one[1] - one[0] > 15]
    scale = (full[1][3] - full[1][2]) / 0.75
    heights = [(bottom - top) / scale for _, _, top, bottom in full]
    assert heights == pytest.approx([0.1, 0.75, 0.8], abs=0.01)
    assert [(bottom - top) / scale for _, _, top, bottom in gaps] == pytest.approx([0.1, 0.15, 0.1], abs=0.01)


def test_a_legend_that_is_too_long_has_rows() -> None:
    places = [
        (float(one.get("x", "nan")), float(one.get("y", "nan")))
        for one in ElementTree.fromstring(DRAWN["line"]).iter("text")
        if "rather long" in (one.text or "")
    ]
    assert len(set(places)) == 5
    assert len({y for _, y in places}) >= 2
    assert places[0][1] == places[1][1]  # as many in a row as there is room for
    short = charts.line([charts.Series(name, [0, 1], [0, 1]) for name in "ab"], Axis("x"), Axis("y"), "t")
    rows = [one.get("y") for one in ElementTree.fromstring(short).iter("text") if one.text in ("a", "b")]
    assert len(rows) == 2
    assert len(set(rows)) == 1
