"""The page of a suite: one row per set, the published figure beside each."""

from __future__ import annotations

from typing import Any

from weevit.evaluation.report import model_line, short_name, tile
from weevit.evaluation.results import SetResult, SuiteEvaluation
from weevit.reports import charts
from weevit.reports.axes import Axis
from weevit.reports.page import number, percent, render
from weevit.text import counted


def suite_page(suite: SuiteEvaluation) -> str:
    """The page as one HTML text."""
    bars = [_bar(one) for one in suite.sets]
    return render(
        "suite.html",
        title=f"{short_name(suite.model)} on ImageNet's test sets",
        model=model_line(suite.model),
        tiles=[_tile(one) for one in suite.sets],
        notices=_notices(suite),
        chart=charts.bars(bars, Axis("top-1, with its 95 % interval", 0.0, 1.0, percent=True), "Top-1 on each set"),
        columns=("set", "images", "top-1", "published", "difference", "top-5", "published", "difference"),
        rows=[_row(one) for one in suite.sets],
        links=[(one.name, one.title) for one in suite.sets],
        absent=list(suite.absent),
        path=suite.path,
    )


def _tile(one: SetResult) -> dict[str, str]:
    note = "nothing published" if one.published is None else f"published {one.published[0]:.2f}\u00a0%"
    return tile(one.title.partition(",")[0], percent(one.evaluation.metrics["top1"]), note)


def _bar(one: SetResult) -> charts.Bar:
    found = one.evaluation.metrics
    return charts.Bar(one.title.partition(",")[0], found["top1"], found["top1_low"], found["top1_high"])


def _row(one: SetResult) -> tuple[Any, ...]:
    found, published, differences = one.evaluation.metrics, one.published, one.differences
    cells: list[str] = []
    for index, name in enumerate(("top1", "top5")):
        cells.append(percent(found[name], 2))
        cells.append(f"{published[index]:.2f}\u00a0%" if published else "–")
        cells.append(f"{differences[index]:+.2f}" if differences and differences[index] == differences[index] else "–")
    whole = "" if one.whole else f" of {number(one.images)}"
    return (one.title, f"{number(len(one.evaluation.rows))}{whole}", *cells)


def _notices(suite: SuiteEvaluation) -> list[tuple[str, str]]:
    notices = [(note, "note") for note in suite.notes]
    parts = [f"{one.title} ({len(one.evaluation.rows):,} of {one.images:,})" for one in suite.sets if not one.whole]
    if parts:
        text = f"Not all images are here of {'; '.join(parts)}. The published figures are of all of them."
        notices.append((text, "note"))
    for one in suite.sets:
        if one.evaluation.failures:
            worst = percent(one.evaluation.metrics["top1_worst"])
            text = f"{one.title}: no answer for {counted(len(one.evaluation.failures), 'image')}"
            notices.append((f"{text}. Counted as wrong, they would make top-1 {worst}.", "bad"))
    return notices
