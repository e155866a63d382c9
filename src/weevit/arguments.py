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

_LONGEST = 60


def whole(name: str, value: object, low: int, high: int | None = None, why: str = "", hint: str = "") -> int:
    """A whole number from `low` to `high`; text is one for the command line (`--topk`) alone.

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
    number = _number(parsed(value) if name.startswith("-") else value)
    if number is None:
        raise UsageError(f"{name} is a whole number, {low:,} or more{reason}: {_short(value)} was given.", hint)
    if number < low:
        raise UsageError(f"{name} is {low:,} or more{reason}: {_short(number)} was given.", hint)
    if high is not None and number > high:
        raise UsageError(f"{name} is at most {high:,}: {_short(number)} was given.", f"{name} {high}" if hint else "")
    return number


def parsed(value: object) -> object:
    """The whole number that a text spells; anything else as it is."""
    if isinstance(value, str) and re.fullmatch("-?[0-9]{1,40}", value.strip()):
        return int(value)
    return value


def _number(value: object) -> int | None:
    try:
        return None if isinstance(value, bool) else index(cast(SupportsIndex, value))
    except TypeError:  # an isinstance check takes ten times as long
        return None


def within(name: str, value: float, low: float, high: float) -> float:
    """A number within bounds.

    Raises:
        UsageError: it is not a number, or not within them.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise UsageError(f"{name} is a number from {low:g} to {high:g}: {_short(value)} was given.")
    return value


def one_of(name: str, value: object, allowed: Iterable[str]) -> str:
    """The value where it is one of the allowed words; else a UsageError that names the nearest."""
    words = list(allowed)
    if value not in words:
        near = did_you_mean(str(value)[:_LONGEST], words)
        raise UsageError(f"{name} is {' or '.join(words)}: {_short(value)} was given.", near)
    return str(value)


def _short(value: object) -> str:
    text = f"{value:,}" if isinstance(value, int) and abs(value) < 10**_LONGEST else repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
