"""The page of a suite: one row a set, the published figure beside each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from weevit.evaluation.report import model_line, short_name, tile
from weevit.reports import charts
from weevit.reports.axes import Axis
from weevit.reports.page import interval, number, percent, render

if TYPE_CHECKING:
    from weevit.evaluation.suite import SetResult, SuiteEvaluation


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
        columns=("set", "pictures", "top-1", "published", "difference", "top-5", "published", "difference"),
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
    for place, name in enumerate(("top1", "top5")):
        cells.append(percent(found[name], 2))
        cells.append(f"{published[place]:.2f}\u00a0%" if published else "–")
        cells.append(f"{differences[place]:+.2f}" if differences and differences[place] == differences[place] else "–")
    whole = "" if one.whole else f" of {number(one.pictures)}"
    return (one.title, f"{number(len(one.evaluation.rows))}{whole}", *cells)


def _notices(suite: SuiteEvaluation) -> list[tuple[str, str]]:
    notices = [(note, "note") for note in suite.notes]
    for one in suite.sets:
        if not one.whole:
            text = f"{one.title}: {len(one.evaluation.rows):,} of its {one.pictures:,} pictures are here"
            bounds = interval((one.evaluation.metrics["top1_low"], one.evaluation.metrics["top1_high"]))
            notices.append((f"{text}; the published figure is of all of them, this one is {bounds} at 95 %.", "note"))
        if one.evaluation.failures:
            text = f"{one.title}: {len(one.evaluation.failures):,} pictures have no answer and are not in its figures"
            worst = percent(one.evaluation.metrics["top1_worst"])
            notices.append((f"{text}; counted as wrong, top-1 is {worst}.", "bad"))
    return notices
