"""JSON from strangers' files: one reading only, or an error.

Python's own reader accepts the last of two equal keys, `NaN`, and UTF-16 in silence; with each of these, one file means
two things to two programs.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from weevit.errors import MalformedFileError

_HALF = re.compile(rb"\\u[dD][89a-fA-F]")


def parse_json_object(text: bytes, what: str, paths: bool = False) -> dict[str, Any]:
    """Parse one JSON object.

    Args:
        text: UTF-8 bytes, of a size that the caller has limited.
        what: the file's name, for errors.
        paths: whether paths stand in it, as Python spells them: a byte that is not UTF-8 is a surrogate from U+DC80 on.

    Raises:
        MalformedFileError: not UTF-8, not JSON, not an object, equal keys, `NaN` or `Infinity`, nested too deep, a lone
            surrogate.
    """
    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise MalformedFileError(f"{what} is not UTF-8 text: {error.reason} at byte {error.start}.") from None
    except RecursionError:
        raise MalformedFileError(f"{what} is nested too deep.") from None
    except ValueError as error:
        raise MalformedFileError(f"{what} is not valid JSON: {error}.") from None
    try:
        if _HALF.search(text):
            json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogateescape" if paths else "strict")
    except UnicodeEncodeError:
        raise MalformedFileError(f"{what} has half a character in it (a lone surrogate), which is not text.") from None
    if not isinstance(value, dict):
        raise MalformedFileError(f"{what} holds a JSON {type(value).__name__}, where an object {{...}} is expected.")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        differing = (name for (name, _), own in zip(pairs, result, strict=False) if name != own)
        twice = next(differing, pairs[len(result)][0])  # the first name out of order repeats one
        raise ValueError(f"the key {shorten(twice)} is given more than once")
    return result


def _no_constant(literal: str) -> NoReturn:
    raise ValueError(f"{literal} is not a JSON number")


def shorten(value: object, limit: int = 80) -> str:
    """`repr` for messages: a hostile name can neither fill the screen nor send control codes to it."""
    # Cut before repr: the repr of a huge container costs more than the error that it is for.
    text = ascii(value[:limit] if isinstance(value, str | list | tuple) else value)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
