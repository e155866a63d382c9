"""Records that a stranger may have written: JSON objects read into dataclasses, every value within its bounds.

A field's type gives its check, and reading is strict: no unknown key, none missing, nothing converted.

    @dataclass(frozen=True)
    class Best:
        step: Count
        figure: Name
        value: Number

Every file that weevit keeps in a folder and reads back is read this way: job, run and fit folders travel, and a value
that weevit would not have written is an error that names it, before it is used.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from weevit.errors import MalformedFileError
from weevit.store.own import read_own
from weevit.zoo.fields import boolean, whole
from weevit.zoo.strict_json import parse_json_object, shorten

T = TypeVar("T")

Check = Callable[[Any], Any]
"""Returns the typed value, or raises a ValueError with the allowed values."""

MAX_RECORD_BYTES = 64 << 20
"""Size of a file that is one record; the longest list in one is of unreadable images."""

MAX_LINE_BYTES = 1 << 16
"""Size of a record on a line; the longest that weevit writes has about 2 kB."""

MAX_COUNT = (1 << 53) - 1
"""The greatest integer that every reader of JSON represents exactly."""


# ---- checks of fields


def words(limit: int = 4096, pattern: str = "", shown: str = "") -> Check:
    """Text of at most `limit` characters, matching a pattern that `shown` describes."""
    compiled = re.compile(pattern, re.ASCII) if pattern else None

    def check(value: Any) -> str:
        if not isinstance(value, str) or len(value) > limit or (compiled and not compiled.fullmatch(value)):
            raise ValueError(shown or f"text of at most {limit:,} characters")
        return value

    return check


def number(low: float = -math.inf, high: float = math.inf) -> Check:
    """A finite number from `low` to `high`, int or float as written: writing it again keeps its bytes."""
    bounds = "" if math.isinf(low) and math.isinf(high) else f" from {low:g} to {high:g}"

    def check(value: Any) -> float:
        try:
            if type(value) in (int, float) and math.isfinite(value) and low <= value <= high:
                return cast(float, value)
        except OverflowError:  # a whole number that no float can hold
            pass
        raise ValueError(f"a finite number{bounds}")

    return check


def items(check: Check, most: int) -> Check:
    """A list of at most `most` values, as a tuple."""

    def checked(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) > most:
            raise ValueError(f"a list of at most {most:,} values")
        return tuple(check(item) for item in value)

    return checked


def table(key: Check, check: Check, most: int) -> Check:
    """An object of at most `most` keys and values."""

    def checked(value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping) or len(value) > most:
            raise ValueError(f"an object of at most {most:,} keys")
        return {key(name): check(item) for name, item in value.items()}

    return checked


def having(check: Check, what: str, keys: Mapping[str, Check]) -> Check:
    """What `check` allows, with some of its keys checked further; `what` names the object in errors."""

    def checked(value: Any) -> dict[str, Any]:
        found: dict[str, Any] = check(value)
        for name, own in keys.items():
            try:
                own(found.get(name))
            except ValueError as error:
                raise ValueError(f"{what} whose {name} is {error}") from None
        return found

    return checked


def either(*checks: Check) -> Check:
    """A value that one of several checks allows."""

    def checked(value: Any) -> Any:
        allowed = []
        for check in checks:
            try:
                return check(value)
            except ValueError as error:
                allowed.append(str(error))
        raise ValueError(", or ".join(allowed))

    return checked


def anything(value: Any) -> Any:
    """Any value; for keys that are only compared or shown."""
    return value


def nothing(value: Any) -> None:
    """`null`."""
    if value is not None:
        raise ValueError("null")


def record(cls: type[Any]) -> Check:
    """A nested record."""
    return lambda value: _read(cls, value)


Count = Annotated[int, whole(0, MAX_COUNT)]
Number = Annotated[float, number()]
Seconds = Annotated[float, number(0, 1e12)]
Flag = Annotated[bool, boolean]
Name = Annotated[str, words(256)]
Text = Annotated[str, words(1 << 16)]
Sha256 = Annotated[str, words(64, "[0-9a-f]{64}", "64 hex digits of a sha256")]


# ---- reading


def read_record(cls: type[T], raw: object, where: str) -> T:
    """A parsed JSON object as a dataclass.

    Args:
        cls: the dataclass; `Annotated` types, other such dataclasses, or either of them or None.
        raw: the object.
        where: the file's name, for errors.

    Raises:
        MalformedFileError: a key is missing or unknown, or a value is invalid.
    """
    try:
        return _read(cls, raw)
    except _WrongError as error:
        raise MalformedFileError(f"{where}: {error}.") from None


def read_record_file(cls: type[T], path: Path, schema: str = "", limit: int = MAX_RECORD_BYTES) -> T:
    """A file that is one record.

    Args:
        cls: as for `read_record`.
        path: a file that weevit wrote.
        schema: value of the key `schema`; empty without such a key.
        limit: maximum size in bytes.

    Raises:
        FileNotFoundError: it does not exist.
        MalformedFileError: no plain file, too large, ambiguous JSON, another schema, or no such record.
    """
    return parse_record(cls, read_own(path, limit), str(path), schema)


def parse_record(cls: type[T], content: bytes, where: str, schema: str = "") -> T:
    """The record in a file's bytes; MalformedFileError as `read_record_file`."""
    raw = parse_json_object(content, where, paths=True)
    if schema and raw.pop("schema", None) != schema:
        raise MalformedFileError(f"{where} is not of the kind {schema}.")
    return read_record(cls, raw, where)


def parse_line(line: bytes, where: str) -> dict[str, Any]:
    """The JSON object on a line of `to_line`, or without check sum as older versions wrote; else MalformedFileError."""
    if len(line) > MAX_LINE_BYTES:
        raise MalformedFileError(f"{where} has {len(line):,} bytes; the limit is {MAX_LINE_BYTES:,}.")
    values = parse_json_object(line, where)
    digest = values.pop(CHECK, None)
    if digest is not None and digest != _digest(values):
        raise MalformedFileError(f"{where} changed after it was written: its {CHECK} differs.")
    return values


def to_line(values: Mapping[str, Any]) -> bytes:
    """A JSON object on a line, with a check sum: a flipped bit in a number would be a valid number."""
    return json.dumps({**values, CHECK: _digest(values)}, allow_nan=False).encode() + b"\n"


CHECK = "check"


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]


class _WrongError(ValueError):
    """The fault of a record, in a sentence."""


def _read(cls: type[T], raw: object) -> T:
    if not isinstance(raw, Mapping):
        raise _WrongError(f"{_shown(raw)} is given where an object {{...}} is expected")
    checks, required = _checks(cast(Any, cls))
    for name in raw:
        if name not in checks:
            raise _WrongError(f"the key {shorten(name)} is unknown; there are {', '.join(checks)}")
    values = {}
    for name, check in checks.items():
        if name in raw:
            values[name] = _checked(check, name, raw[name])
        elif name in required:
            raise _WrongError(f"the key {name} is missing")
    return cls(**values)


def _checked(check: Check, name: str, value: Any) -> Any:
    try:
        return check(value)
    except _WrongError as error:
        raise _WrongError(f"{name}: {error}") from None
    except ValueError as error:
        raise _WrongError(f"{name} is {_shown(value)}; expected {error}") from None


def _shown(value: Any) -> str:
    return f"an object of {len(value):,} keys" if isinstance(value, Mapping) else shorten(value)


@cache
def _checks(cls: Any) -> tuple[dict[str, Check], frozenset[str]]:
    """Field -> its check, and the fields that have no default."""
    hints = get_type_hints(cls, include_extras=True)
    own = [field for field in fields(cls) if field.init]
    required = [field.name for field in own if field.default is MISSING and field.default_factory is MISSING]
    return {field.name: _check_of(hints[field.name]) for field in own}, frozenset(required)


def _check_of(hint: Any) -> Check:
    if get_origin(hint) is Annotated:
        return cast(Check, hint.__metadata__[0])
    if is_dataclass(hint):
        return record(cast(Any, hint))
    if get_origin(hint) in (Union, UnionType) and NoneType in get_args(hint):
        (other,) = [_check_of(one) for one in get_args(hint) if one is not NoneType]
        return lambda value: None if value is None else other(value)
    raise TypeError(f"{hint} has no check")
