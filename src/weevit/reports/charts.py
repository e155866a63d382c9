"""Charts as text: each a pure function from numbers to an inline SVG, with no script and no library."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from weevit.reports.axes import WIDTH, Axis, Plot, Svg, box, image, segment, shortened, text, unit, width_of

_DASHES = ("", "8 4", "2 4", "10 4 2 4", "5 3")
_UNDER_AXIS = 46
"""Units for the numbers and the name of the horizontal axis."""


@dataclass(frozen=True)
class Series:
    """One line of a chart.

    Attributes:
        name: name in the legend.
        x, y: its points, from left to right; a NaN breaks the line.
        low, high: a band around it (an interval), or empty.
        marks: draw the points themselves too.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    marks: bool = False


def line(series: Sequence[Series], x: Axis, y: Axis, title: str) -> Svg:
    """Lines over a common axis, distinguished by colour and dashes.

    Args:
        series: at most five.
        x, y: the axes; by default with the ends of the values.
        title: text alternative of the chart.
    """
    legend = list(_legend([one.name for one in series])) if len(series) > 1 else []
    rows = 1 + max((row for row, _ in legend), default=-1)
    xs, ys = _all(series, "x"), [*_all(series, "y"), *_all(series, "low"), *_all(series, "high")]
    plot = Plot(x.around(xs), y.around(ys), top=28 + 20 * rows)
    parts = [part for _, part in legend]
    parts += plot.frame()
    for index, one in enumerate(series):
        parts += _band(plot, one, index)
    for index, one in enumerate(series):
        parts += _path(plot, one, index)
    return image(title, WIDTH, plot.bottom + _UNDER_AXIS, parts)


def _all(series: Sequence[Series], field: str) -> list[float]:
    return [float(value) for one in series for value in getattr(one, field)]


def _legend(names: Sequence[str]) -> Iterator[tuple[int, str]]:
    """(row, text) of each entry; rows are filled one after another."""
    x, row = 0.0, 0
    for index, name in enumerate(names):
        name = shortened(name, WIDTH - 50)
        width = 44 + width_of(name)
        if x > 0 and x + width > WIDTH:
            x, row = 0.0, row + 1
        y = 14 + 20 * row
        dashes = _DASHES[index % 5]
        mark = f'<path d="M{unit(x)} {y - 4}h24" class="line s{index % 5 + 1}" stroke-dasharray="{dashes}"/>'
        yield row, mark + text(x + 30, y, name)
        x += width


def _path(plot: Plot, one: Series, index: int) -> Iterator[str]:
    points = [(plot.across(x), plot.up(y), np.isfinite(y)) for x, y in zip(one.x, one.y, strict=True)]
    steps, pen = [], "M"
    for x, y, known in points:
        if known:
            steps.append(f"{pen}{unit(x)} {unit(y)}")
        pen = "L" if known else "M"
    kind = f"s{index % 5 + 1}"
    yield f'<path d="{"".join(steps)}" class="line {kind}" stroke-dasharray="{_DASHES[index % 5]}"/>'
    if one.marks:
        for x, y, known in points:
            if known:
                yield f'<circle cx="{unit(x)}" cy="{unit(y)}" r="3.5" class="fill {kind}"/>'


def _band(plot: Plot, one: Series, index: int) -> Iterator[str]:
    if len(one.low):
        upper = [f"{unit(plot.across(x))} {unit(plot.up(y))}" for x, y in zip(one.x, one.high, strict=True)]
        lower = [f"{unit(plot.across(x))} {unit(plot.up(y))}" for x, y in zip(one.x, one.low, strict=True)]
        yield f'<path d="M{"L".join([*upper, *reversed(lower)])}Z" class="soft s{index % 5 + 1}"/>'


@dataclass(frozen=True)
class Bar:
    """One bar.

    Attributes:
        name: label beside it.
        value: its length; NaN for none.
        low, high: the ends of an interval around it, or None.
        note: text after the value.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    note: str = ""


def bars(rows: Sequence[Bar], axis: Axis, title: str) -> Svg:
    """Horizontal bars under each other, each with its value.

    Args:
        rows: from top to bottom.
        axis: the quantity; it begins at 0 by default.
        title: text alternative of the chart.
    """
    names = min(max((width_of(row.name) for row in rows), default=0), 150) + 10
    begin = Axis(axis.label, 0.0 if axis.low is None else axis.low, axis.high, axis.percent)
    scale = begin.around([value for row in rows for value in (row.value, row.high or row.value)])
    notes = [f"{scale.text(row.value) if np.isfinite(row.value) else '–'} {row.note}".rstrip() for row in rows]
    after = max((width_of(note) for note in notes), default=0) + 18
    plot = Plot(scale, Axis(""), left=names, width=WIDTH - names - after)
    parts = [text(names, 14, axis.label, "label")]
    for index, (row, note) in enumerate(zip(rows, notes, strict=True)):
        parts += _bar(plot, row, note, 22 + 26 * index)
    return image(title, WIDTH, 26 + 26 * len(rows), parts)


def _bar(plot: Plot, row: Bar, note: str, top: float) -> Iterator[str]:
    right = plot.left + plot.width
    yield text(plot.left - 8, top + 15, shortened(row.name, plot.left - 10), "", "end")
    yield box(plot.left, top + 3, plot.width, 16, "empty")
    if np.isfinite(row.value):
        yield box(plot.left, top + 3, plot.across(row.value) - plot.left, 16, "fill s1", f"{row.name}: {note}")
    if row.low is not None and row.high is not None:
        yield segment(plot.across(row.low), top + 11, plot.across(row.high), top + 11, "whisker")
    yield text(right + 8, top + 15, note)


def columns(edges: Sequence[float], counts: Sequence[float], x: Axis, y: Axis, title: str) -> Svg:
    """A histogram: upright columns between edges; one edge more than counts."""
    plot = Plot(x.around(edges), Axis(y.label, 0.0, y.high, y.percent).around([*counts, 1e-9]), top=24)
    parts = list(plot.frame())
    for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True):
        left, top = plot.across(low), plot.up(count)
        tip = f"{plot.x.text(low)} to {plot.x.text(high)}: {count:,g}"
        parts.append(box(left + 0.5, top, plot.across(high) - left - 1, plot.bottom - top, "fill s1", tip))
    return image(title, WIDTH, plot.bottom + _UNDER_AXIS, parts)


@dataclass(frozen=True)
class Grid:
    """A matrix with labels.

    Attributes:
        values: (rows, columns), counts or other non-negative numbers.
        rows, columns: names.
        row_title, column_title: titles of the sides.
    """

    values: npt.NDArray[np.float64] | npt.NDArray[np.int64]
    rows: Sequence[str]
    columns: Sequence[str]
    row_title: str = "true class"
    column_title: str = "answer"


def heatmap(grid: Grid, title: str) -> Svg:
    """A matrix as coloured cells with numbers; the colour is the share of the row. For up to about 40 rows."""
    values = np.asarray(grid.values, dtype=np.float64)
    totals = values.sum(axis=1, keepdims=True)
    shares = np.divide(values, totals, out=np.zeros_like(values), where=totals > 0)
    left = min(max((width_of(name) for name in grid.rows), default=0), 150) + 16
    cell = max(27.0, min(42.0, (640 - left) / max(len(grid.columns), 1)))
    above = min(max((width_of(name) for name in grid.columns), default=0), 130) * 0.75 + 40
    parts = [
        text(left, 14, f"{grid.column_title} →", "label"),
        text(left - 8, above - 8, f"{grid.row_title} ↓", "label", "end"),
    ]
    for column, name in enumerate(grid.columns):
        x, y = unit(left + cell * (column + 0.5)), unit(above - 8)
        parts.append(f'<g transform="translate({x} {y}) rotate(-48)">{text(0, 0, shortened(name, 130))}</g>')
    for row, name in enumerate(grid.rows):
        parts.append(text(left - 8, above + cell * (row + 0.5) + 4, shortened(name, 150), "", "end"))
        for column in range(len(grid.columns)):
            tip = f"{name} → {grid.columns[column]}: {values[row, column]:,g} ({shares[row, column]:.1%})"
            corner = (left + cell * column, above + cell * row)
            parts += _cell(corner, cell, values[row, column], shares[row, column], tip)
    reach = left + cell * len(grid.columns) + 60
    return image(title, reach, above + cell * len(grid.rows) + 4, parts)


def _cell(corner: tuple[float, float], size: float, value: float, share: float, tip: str) -> Iterator[str]:
    x, y = corner
    yield box(x + 1, y + 1, size - 2, size - 2, "empty", tip)
    if value:
        opacity = 0.12 + 0.88 * share
        shape = box(x + 1, y + 1, size - 2, size - 2, "cell", tip)
        yield shape.replace("<rect ", f'<rect fill-opacity="{opacity:.2f}" ', 1)
        digits = f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"
        kind = "on" if opacity > 0.6 else ""
        yield text(
            x + size / 2, y + size / 2 + 4.5, digits, f"{kind} small".strip() if len(digits) > 3 else kind, "middle"
        )


@dataclass(frozen=True)
class Bins:
    """Answers in bins of confidence.

    Attributes:
        edges: (bins + 1) of the probability, rising.
        confidence, accuracy: (bins) mean of the probability, share of right answers; NaN in an empty bin.
        counts: (bins).
    """

    edges: Sequence[float]
    confidence: Sequence[float]
    accuracy: Sequence[float]
    counts: Sequence[int]


def reliability(bins: Bins, title: str) -> Svg:
    """Accuracy over confidence, and below, the number of answers per bin.

    A bar is the accuracy of its bin; its difference to the mean probability is drawn as a gap. With perfect calibration
    all bars end on the diagonal.
    """
    plot = Plot(Axis("", 0, 1, percent=True), Axis("right answers", 0, 1, percent=True), top=54)
    names = (("fill s1", "accuracy"), ("gap", "gap to the probability given"))
    parts, x = [], 0.0
    for kind, name in names:
        parts += [box(x, 4, 14, 14, kind), text(x + 20, 16, name)]
        x += 44 + width_of(name)
    parts += plot.frame()
    for index, count in enumerate(bins.counts):
        if count:
            parts += _calibrated(plot, bins, index)
    parts.append(segment(plot.left, plot.bottom, plot.left + plot.width, plot.top, "axis dashed"))
    parts += _how_many(plot, bins)
    return image(title, WIDTH, plot.bottom + 118, parts)


def _calibrated(plot: Plot, bins: Bins, index: int) -> Iterator[str]:
    low, high = plot.across(bins.edges[index]), plot.across(bins.edges[index + 1])
    right, sure = bins.accuracy[index], bins.confidence[index]
    tip = f"{bins.counts[index]:,} answers, {sure:.1%} sure on average, {right:.1%} right"
    yield box(low + 1, plot.up(right), high - low - 2, plot.bottom - plot.up(right), "fill s1", tip)
    top, bottom = sorted((plot.up(sure), plot.up(right)))
    yield box(low + 1, top, high - low - 2, bottom - top, "gap", tip)
    yield segment(low + 1, plot.up(sure), high - 1, plot.up(sure), "line s2")


def _how_many(plot: Plot, bins: Bins) -> Iterator[str]:
    bottom, tallest = plot.bottom + 100, max([*bins.counts, 1])
    for low, high, count in zip(bins.edges[:-1], bins.edges[1:], bins.counts, strict=True):
        height = 56 * count / tallest
        left = plot.across(low)
        yield box(left + 1, bottom - height, plot.across(high) - left - 2, height, "fill s5", f"{count:,} answers")
    yield segment(plot.left, bottom, plot.left + plot.width, bottom, "axis")
    yield text(plot.left + 4, bottom - 60, f"answers (highest column {tallest:,})", "label")
    yield text(plot.left + plot.width, bottom + 15, "probability given to the answer", "label", "end")
