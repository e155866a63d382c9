"""Checks of a user's numbers and words, common to the command line and Python."""

from __future__ import annotations

import re
from collections.abc import Iterable
from operator import index
from typing import SupportsIndex, cast

from weevit.errors import UsageError, did_you_mean

MAX_THREADS = 1024
"""More are refused: each costs memory, and an engine with a million ends the process."""

MAX_BATCH = 4096
"""Images in one pass; more are refused: a batch is held in memory before it is answered."""

MAX_SEED = 2**63 - 1

MEANT = {
    "int8": "weevit quantize tiny --data photos/ -o tiny-int8   makes an int8 model, which every verb takes",
    "gpu": "Did you mean 'cuda'?",
}
"""Words that people try as a precision or device -> how they come to what they mean."""

_LONGEST = 60


def whole(name: str, value: object, low: int, high: int | None = None, why: str = "", hint: str = "") -> int:
    """A whole number from `low` to `high`. Text is none: where text may come, `parsed` stands around the value.

    Args:
        name: name of the argument: `--topk`, `topk`.
        value: the given value.
        low, high: the limits, both allowed; None for no upper limit.
        why: reason of the lower limit, in brackets after it.
        hint: the next thing to type.

    Raises:
        UsageError: another value.
    """
    reason = f" ({why})" if why else ""
    hint = hint or (f"For instance {name} {max(low, 1)}." if name.startswith("-") else "")
    number = _number(value)
    if number is None:
        raise UsageError(f"{name} is a whole number, {low:,} or more{reason}: {_short(value)} was given.", hint)
    if number < low:
        raise UsageError(f"{name} is {low:,} or more{reason}: {_short(number)} was given.", hint)
    if high is not None and number > high:
        raise UsageError(f"{name} is at most {high:,}: {_short(number)} was given.", f"{name} {high}" if hint else "")
    return number


def parsed(value: object) -> object:
    """A text of digits as its number; anything else as it is."""
    return int(value) if isinstance(value, str) and re.fullmatch("-?[0-9]{1,40}", value.strip()) else value


def _number(value: object) -> int | None:
    try:
        return None if isinstance(value, bool) else index(cast(SupportsIndex, value))
    except TypeError:  # an isinstance check takes ten times as long
        return None


def wholes(name: str, values: object) -> tuple[int, ...]:
    """A list of whole numbers, of one at least, in any iterable but text.

    Raises:
        UsageError: something else.
    """
    several = list(values) if isinstance(values, Iterable) and not isinstance(values, str | bytes) else []
    numbers = [number for value in several if (number := _number(value)) is not None]
    if not numbers or len(numbers) < len(several):
        hint = f"For instance {name}=[1, 2]."
        raise UsageError(f"{name} is a list of whole numbers: {_short(values)} was given.", hint)
    return tuple(numbers)


def flag(name: str, value: object) -> bool:
    """True or False.

    Raises:
        UsageError: another value; a text like "no" would count as true.
    """
    if type(value).__name__ not in ("bool", "bool_"):  # numpy's too, which is not imported for that
        raise UsageError(f"{name} is True or False: {_short(value)} was given.")
    return bool(value)


def within(name: str, value: float, low: float, high: float) -> float:
    """A number within bounds.

    Raises:
        UsageError: it is not a number, or not within them.
    """
    if not is_number(value) or not low <= value <= high:
        raise UsageError(f"{name} is a number from {low:g} to {high:g}: {_short(value)} was given.")
    return value


def is_number(value: object) -> bool:
    """Whether a value is a number: no truth value, and no text."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def one_of(name: str, value: object, allowed: Iterable[str]) -> str:
    """The value where it is one of the allowed words; else a UsageError that names the nearest."""
    words = list(allowed)
    if value not in words:
        near = MEANT.get(str(value)) or did_you_mean(str(value)[:_LONGEST], words)
        raise UsageError(f"{name} is {' or '.join(words)}: {_short(value)} was given.", near)
    return str(value)


def _short(value: object) -> str:
    number = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**_LONGEST
    text = f"{value:,}" if number else repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
