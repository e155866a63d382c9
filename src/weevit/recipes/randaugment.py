"""RandAugment (arXiv:1909.13719) in timm's notation: the draws. Their application is in `pixels.py`.

    rand-m6-inc1-mstd1.0-n3
         m     magnitude, 0 to mmax                                     default 10
         mstd  spread of the magnitude; above 100: even from 0 to m     0
         mmax  greatest magnitude                                       10
         inc   1: a greater magnitude makes every treatment stronger    0
         n     treatments of an image                                   2
         p     probability of each                                      0.5
         tweights  turns and shifts often, colours seldom, none twice

Neither numpy nor torch is imported, so that recipes are checked without them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from weevit.errors import RecipeError, did_you_mean


@dataclass(frozen=True)
class Op:
    """One treatment of an image.

    Attributes:
        name: name in `pixels.OPS`.
        value: in its own unit (degrees, a share of the side, bits, a factor, ...); 0 without one.
        interpolation: `bilinear` or `bicubic`, of turns and shifts; empty for others.
    """

    name: str
    value: float = 0.0
    interpolation: str = ""


Level = Callable[[float, Random], float]
"""Magnitude in tenths of the usual greatest one (which is 10) -> the value of an `Op`."""


def _none(level: float, rng: Random) -> float:
    return 0.0


def _either_way(most: float) -> Level:
    return lambda level, rng: level * most if rng.random() < 0.5 else -level * most


def _factor(level: float, rng: Random) -> float:
    return 0.1 + 1.8 * level


def _factor_around_one(level: float, rng: Random) -> float:
    return max(0.1, 1 + (0.9 * level if rng.random() < 0.5 else -0.9 * level))


def _up_to(most: int, factor: int | None = None) -> Level:
    return lambda level, rng: min(most, int(level * (factor or most)))


def _down_from(most: int, factor: int | None = None) -> Level:
    return lambda level, rng: most - min(most, int(level * (factor or most)))


@dataclass(frozen=True)
class _Row:
    """The values of one treatment.

    Attributes:
        level: without inc1; for some treatments a greater magnitude is then weaker.
        increasing: with inc1.
        weight: with tweights, which always increases.
        moves: whether it interpolates between pixels.
    """

    name: str
    level: Level
    increasing: Level
    weight: float
    moves: bool = False


# fmt: off
_ROWS = (
    _Row("autocontrast", _none, _none, 0.25),
    _Row("equalize", _none, _none, 0.05),
    _Row("invert", _none, _none, 0.05),
    _Row("rotate", _either_way(30), _either_way(30), 3, moves=True),
    _Row("posterize", _up_to(99, 4), _down_from(4), 0.05),
    _Row("solarize", _up_to(256), _down_from(256), 0.05),
    _Row("solarize_add", _up_to(128, 110), _up_to(128, 110), 0.05),
    _Row("color", _factor, _factor_around_one, 0.25),
    _Row("contrast", _factor, _factor_around_one, 0.05),
    _Row("brightness", _factor, _factor_around_one, 0.05),
    _Row("sharpness", _factor, _factor_around_one, 0.25),
    _Row("shear_x", _either_way(0.3), _either_way(0.3), 2, moves=True),
    _Row("shear_y", _either_way(0.3), _either_way(0.3), 2, moves=True),
    _Row("translate_x", _either_way(0.45), _either_way(0.45), 1, moves=True),
    _Row("translate_y", _either_way(0.45), _either_way(0.45), 1, moves=True),
)
# fmt: on


@dataclass(frozen=True)
class RandAugment:
    """A parsed text; the attributes are its words, in the order of the module's docstring."""

    magnitude: int = 10
    spread: float = 0.0
    most: int = 10
    increasing: bool = False
    layers: int = 2
    prob: float = 0.5
    weighted: bool = False

    @classmethod
    def parse(cls, text: str) -> RandAugment:
        """Read an `augment.auto` text; RecipeError for an unknown or repeated word or an invalid number."""
        first, *words = text.split("-")
        if first != "rand":
            raise RecipeError(f"augment.randaugment is {text!r}; it begins with 'rand', as in {_EXAMPLE}.")
        values: dict[str, Any] = {}  # `_WORDS` has the types
        for word in words:
            name, value = _read(word, text)
            if name in values:
                raise RecipeError(f"augment.randaugment {text!r}: {word!r} repeats an earlier word.")
            values[name] = value
        found = cls(**values)
        if found.magnitude > found.most:
            raise RecipeError(
                f"augment.randaugment {text!r}: m{found.magnitude} is above the greatest magnitude, {found.most}.",
                f"Add -mmax{found.magnitude} to allow it.",
            )
        return found

    def draw(self, rng: Random, interpolation: str) -> tuple[Op, ...]:
        """The treatments of one image, in order; fewer than `layers`, since each has a probability."""
        rows = self._rows(rng)
        return tuple(self._op(row, rng, interpolation) for row in rows if self.prob == 1 or rng.random() < self.prob)

    def _rows(self, rng: Random) -> list[_Row]:
        if not self.weighted:
            return [_ROWS[int(rng.random() * len(_ROWS))] for _ in range(self.layers)]
        left, chosen = list(_ROWS), []
        for _ in range(self.layers):
            rest = rng.random() * sum(row.weight for row in left)
            row = next((row for row in left if (rest := rest - row.weight) < 0), left[-1])
            left.remove(row)
            chosen.append(row)
        return chosen

    def _op(self, row: _Row, rng: Random, interpolation: str) -> Op:
        magnitude: float = self.magnitude
        if self.spread > 100:
            magnitude *= rng.random()
        elif self.spread > 0:
            magnitude = min(max(0.0, rng.gauss(magnitude, self.spread)), self.most)
        level = row.increasing if self.increasing or self.weighted else row.level
        value = level(magnitude / 10, rng)
        return Op(row.name, value, draw_interpolation(rng, interpolation) if row.moves else "")


def draw_interpolation(rng: Random, interpolation: str) -> str:
    """The given interpolation, or one of two at `random`."""
    return interpolation if interpolation != "random" else ("bilinear" if rng.random() < 0.5 else "bicubic")


_EXAMPLE = "rand-m6-inc1-mstd1.0-n3"


@dataclass(frozen=True)
class _Word:
    """One word of the notation: its attribute, the type of its number, and the range."""

    field: str
    kind: type[int] | type[float] | type[bool]
    low: float
    high: float


_WORDS = {
    "m": _Word("magnitude", int, 0, 100),
    "mstd": _Word("spread", float, 0, 1e9),
    "mmax": _Word("most", int, 1, 100),
    "inc": _Word("increasing", bool, 0, 1),
    "n": _Word("layers", int, 1, 15),
    "p": _Word("prob", float, 0, 1),
}


def _read(word: str, text: str) -> tuple[str, float]:
    if word == "tweights":
        return "weighted", True
    match = re.fullmatch(r"([a-z]+)(\d+(?:\.\d+)?)", word)
    name = match[1] if match else word
    if name not in _WORDS or match is None:
        allowed = ", ".join(f"{name}NUMBER" for name in _WORDS) + ", tweights"
        gone = "timm has dropped 'w0'; 'tweights' is near it. " if name == "w" else ""
        raise RecipeError(
            f"augment.randaugment {text!r}: {word!r} is none of {allowed}.",
            gone + (did_you_mean(name, [*_WORDS, "tweights"]) or f"An example: {_EXAMPLE}"),
        )
    known = _WORDS[name]
    number = float(match[2])
    whole = known.kind is float or "." not in match[2]
    if not whole or not known.low <= number <= known.high:
        kind = "a number" if known.kind is float else "a whole number"
        raise RecipeError(
            f"augment.randaugment {text!r}: {name} is {match[2]}; expected {kind} from {known.low:g} to {known.high:g}."
        )
    return known.field, known.kind(number)
