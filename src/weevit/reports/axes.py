"""The base of charts: text of an SVG, axes with round numbers, and the positions of values.

An image is `WIDTH` units wide at any size on the screen; 13 units are a line of text, which stays legible on a phone.
Colours are classes of `templates/style.css`, so that a chart follows the page into dark mode.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape

from weevit.text import one_line

WIDTH = 460
_SCALE = 1.1
"""Pixels per unit, of an image that is not fitted into its column."""

_LETTER = 7.4
"""Mean width of a letter of 13 units, over common fonts."""


class Svg(str):
    """The text of an SVG image made here, which templates do not escape."""

    __slots__ = ()

    def __html__(self) -> str:
        """The text, for jinja2, which then does not escape it."""
        return str(self)


@dataclass(frozen=True)
class Axis:
    """One side of a chart.

    Attributes:
        label: the quantity, with its unit.
        low, high: the ends; by default those of the values.
        percent: values are shares, written as 80 %.
    """

    label: str
    low: float | None = None
    high: float | None = None
    percent: bool = False

    def around(self, values: Iterable[float]) -> Axis:
        """The axis with ends around all values; never of length 0."""
        known = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
        low = min(known) if self.low is None else self.low
        high = max(known) if self.high is None else self.high
        if high <= low and self.percent and low > 0:
            low = 0.0  # no share is over 100 %
        elif high <= low:
            high = low + (abs(low) or 1.0)
        return Axis(self.label, low, high, self.percent)

    def ends(self) -> tuple[float, float]:
        """Both ends, 0 and 1 by default."""
        return (0.0 if self.low is None else self.low, 1.0 if self.high is None else self.high)

    def ticks(self, about: int = 5) -> list[float]:
        """Round numbers between the ends."""
        low, high = self.ends()
        step = _round_step((high - low) / about)
        first = math.ceil(low / step - 1e-9)
        return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]

    def text(self, value: float) -> str:
        """A tick's number, with enough digits to differ from its neighbours."""
        low, high = self.ends()
        step = _round_step((high - low) / 5) * (100 if self.percent else 1)
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        value = value * 100 if self.percent else value
        return f"{value:,.{digits}f}" + ("\u00a0%" if self.percent else "")


def _round_step(step: float) -> float:
    """The smallest of 1, 2, 5, 10, 20, ... (and 0.5, 0.2, ...) that is no smaller."""
    unit = 10.0 ** math.floor(math.log10(step))
    return next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= step * (1 - 1e-9))


@dataclass(frozen=True)
class Plot:
    """The rectangle of the values, in units from the top left."""

    x: Axis
    y: Axis
    left: float = 54
    top: float = 12
    width: float = WIDTH - 54 - 26
    height: float = 250

    def across(self, value: float) -> float:
        """The position of a value on the horizontal axis, clipped to its ends."""
        low, high = self.x.ends()
        return self.left + self.width * min(1.0, max(0.0, (value - low) / (high - low)))

    def up(self, value: float) -> float:
        """The position of a value on the vertical axis, clipped to its ends."""
        low, high = self.y.ends()
        return self.top + self.height * (1 - min(1.0, max(0.0, (value - low) / (high - low))))

    @property
    def bottom(self) -> float:
        """Position of the horizontal axis."""
        return self.top + self.height

    def frame(self) -> Iterator[str]:
        """Grid, numbers and labels of both axes."""
        right = self.left + self.width
        for value in self.y.ticks():
            height = self.up(value)
            yield segment(self.left, height, right, height, "grid")
            yield text(self.left - 7, height + 4, self.y.text(value), "label", "end")
        for value in self.x.ticks():
            yield text(self.across(value), self.bottom + 18, self.x.text(value), "label", "middle")
        yield segment(self.left, self.bottom, right, self.bottom, "axis")
        yield text(right, self.bottom + 37, self.x.label, "label", "end")
        yield text(0, self.top - 13, self.y.label, "label")


def image(title: str, width: float, height: float, parts: Iterable[str]) -> Svg:
    """A whole image; screen readers read the title."""
    name = escape(one_line(title), quote=True)
    body = "".join(parts)
    shape = f'viewBox="0 0 {unit(width)} {unit(height)}" width="{unit(width * _SCALE)}"'
    return Svg(f'<svg {shape} role="img" aria-label="{name}">{body}</svg>')


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    """A line of text; `anchor` is `start`, `middle` or `end`."""
    return f'<text x="{unit(x)}" y="{unit(y)}" class="{kind}" text-anchor="{anchor}">{escape(one_line(words))}</text>'


def segment(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """A straight line."""
    return f'<line x1="{unit(x1)}" y1="{unit(y1)}" x2="{unit(x2)}" y2="{unit(y2)}" class="{kind}"/>'


def box(x: float, y: float, width: float, height: float, kind: str, tip: str = "") -> str:
    """A filled rectangle; `tip` is shown under the pointer."""
    shape = f'<rect x="{unit(x)}" y="{unit(y)}" width="{unit(max(width, 0))}" height="{unit(max(height, 0))}"'
    title = f"<title>{escape(one_line(tip))}</title>"
    return f'{shape} class="{kind}">{title}</rect>' if tip else f'{shape} class="{kind}"/>'


def unit(value: float) -> str:
    """A position, to a tenth of a unit."""
    return f"{value:.1f}".removesuffix(".0")


def shortened(words: str, width: float) -> str:
    """Text that fits into `width` units; the middle of longer ones is cut, since names differ at their ends."""
    letters = max(4, int(width / _LETTER))
    if len(words) <= letters:
        return words
    front = letters // 2
    return f"{words[:front]}…{words[len(words) - (letters - 1 - front) :]}"


def width_of(words: str) -> float:
    """About the width of a text in units."""
    return _LETTER * len(words)
