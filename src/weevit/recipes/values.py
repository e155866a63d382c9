"""The kinds of values in a recipe, and their spelling in YAML and on the command line.

A recipe's dataclasses declare each field with `setting(default, kind)`. A `Kind` reads a value from YAML or from a
word of the command line, and writes it back. Types come from here and never from YAML's guesses: YAML takes `2e-4` for
a string and `no` for false.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypeVar

from weevit.errors import RecipeError, did_you_mean
from weevit.recipes.duration import EXPECTED as A_DURATION
from weevit.recipes.duration import Duration, Unit
from weevit.zoo.strict_json import shorten

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Part = TypeVar("Part", bound="DataclassInstance")


@dataclass(frozen=True)
class Kind:
    """One kind of value.

    Attributes:
        expected: the allowed values, for errors.
        read: a YAML value -> the typed value; a ValueError for another.
        from_text: a word of the command line -> a value for `read`.
        plain: the typed value -> a YAML value.
    """

    expected: str
    read: Callable[[Any], Any]
    from_text: Callable[[str], Any] = lambda word: word
    plain: Callable[[Any], Any] = lambda value: value


def setting(default: Any, kind: Kind) -> Any:
    """A field of a recipe's dataclass."""
    return field(default=default, metadata={"kind": kind})


def whole(low: int, high: int) -> Kind:
    """A whole number from `low` to `high`."""

    def read(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError
        return value

    return Kind(f"a whole number from {low:,} to {high:,}", read, _whole_or_word)


_SIGNS = re.compile(r"\s*[-+]?[0-9._][-+0-9._eE]{0,39}\s*")
"""The spelling of a number: no `nan`, no digits of other scripts, at most 40 characters."""


def _whole_or_word(word: str) -> int | str:
    try:
        return int(word) if _SIGNS.fullmatch(word) else word
    except ValueError:
        return word  # `read` raises its error


def number(low: float, high: float, above: bool = False) -> Kind:
    """A number from `low` (above it, if so said) to `high`."""

    def read(value: Any) -> float:
        if isinstance(value, bool | list | dict) or (isinstance(value, str) and not _SIGNS.fullmatch(value)):
            raise ValueError
        try:
            found = float(value)  # also of a string: so YAML reads 2e-4
        except (TypeError, ValueError, OverflowError):
            raise ValueError from None
        if not low <= found <= high or (above and found == low):
            raise ValueError
        return found

    top = f"{high:g}" if float(f"{high:g}") == high else f"{high}"  # 0.9999999 is not 1, which is refused
    return Kind(f"a number {'above' if above else 'from'} {low:g} {'and up ' if above else ''}to {top}", read)


def flag() -> Kind:
    """`true` or `false`."""

    def read(value: Any) -> bool:
        if not isinstance(value, bool):
            raise ValueError
        return value

    words = {"true": True, "false": False, "yes": True, "no": False, "on": True, "off": False}
    return Kind("true or false", read, lambda word: words.get(word.lower(), word))


_LONGEST = 4096
"""Maximum characters of a path on Linux."""


def text() -> Kind:
    """A non-empty string that fits into a file name."""

    def read(value: Any) -> str:
        if not isinstance(value, str) or not value.strip() or "\0" in value or len(value) > _LONGEST:
            raise ValueError
        try:
            value.encode("utf-8", "surrogateescape")  # a file's name may have bytes that are not UTF-8
        except UnicodeEncodeError:  # half a character, as YAML can spell it
            raise ValueError from None
        return value

    return Kind("a word or a path", read)


def one_of(*words: str) -> Kind:
    """One of a few words."""

    def read(value: Any) -> str:
        if not isinstance(value, str) or value not in words:
            raise ValueError(did_you_mean(value, words) if isinstance(value, str) else "")
        return value

    return Kind(f"one of {', '.join(words)}", read)


def duration(bare: Unit | None = None, allowed: tuple[Unit, ...] = ("epochs", "steps", "samples", "%")) -> Kind:
    """A length of training in one of the units; a number without a unit has the unit `bare`."""

    def read(value: Any) -> Duration:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError
        found = Duration.parse(f"{value}", bare)
        if found.unit not in allowed:
            raise ValueError(f"{found.unit} is no unit here; {', '.join(allowed)} are.")
        return found

    return Kind(A_DURATION, read, plain=str)


def several(kind: Kind, low: int, high: int) -> Kind:
    """A list of `low` to `high` values of one kind; on the command line separated by commas."""

    def read(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or not low <= len(value) <= high:
            raise ValueError
        return tuple(kind.read(item) for item in value)

    count = f"{low}" if low == high else f"{low} to {high}"
    return Kind(
        f"a list of {count}, each {kind.expected}",
        read,
        lambda word: [kind.from_text(item.strip()) for item in word.strip("[]()").split(",") if item.strip()],
        lambda value: [kind.plain(item) for item in value],
    )


def optional(kind: Kind, word: str = "null") -> Kind:
    """A value of a kind, or none; `word` spells none in a recipe (`null` always does)."""
    none = {word, "null", "none"}
    return Kind(
        f"{kind.expected}, or {word}",
        lambda value: None if value is None or value == word else kind.read(value),
        lambda given: None if given.lower() in none else kind.from_text(given),
        lambda value: (None if word == "null" else word) if value is None else kind.plain(value),
    )


def kind_of(declared: Field[Any]) -> Kind:
    """The kind that a field was declared with."""
    kind: Kind = declared.metadata["kind"]
    return kind


def read_value(kind: Kind, value: Any, key: str, origin: str) -> Any:
    """A value with its type; a RecipeError names the key and the allowed values."""
    try:
        return kind.read(value)
    except ValueError as error:
        more = "" if str(error) in kind.expected else str(error)
        raise RecipeError(f"{origin}: {key} is {shorten(value)}; expected {kind.expected}.", more) from None


def read_part(cls: type[Part], raw: Any, prefix: str, origins: Mapping[str, str]) -> Part:
    """One part of a recipe from its mapping.

    Args:
        cls: a dataclass with fields from `setting`.
        raw: the mapping from YAML; None for an empty one.
        prefix: the part's name.
        origins: dotted key -> its line, for errors; "" -> the recipe.

    Raises:
        RecipeError: an unknown key, or a value of another kind.
    """
    where = origins.get(prefix, origins[""])
    if raw is not None and not isinstance(raw, dict):
        raise RecipeError(f"{where}: {prefix} is {shorten(raw)}; expected keys and values below it.")
    kinds = {declared.name: kind_of(declared) for declared in fields(cls)}
    values = {}
    for key, value in (raw or {}).items():
        dotted = f"{prefix}.{key}"
        if key not in kinds:
            raise unknown_key(dotted, origins.get(dotted, where), [f"{prefix}.{name}" for name in kinds])
        values[key] = read_value(kinds[key], value, dotted, origins.get(dotted, where))
    return cls(**values)


def unknown_key(key: str, origin: str, allowed: list[str]) -> RecipeError:
    """The error for a key that no recipe has."""
    leaf = key.rpartition(".")[2]
    same = [name for name in allowed if name.rpartition(".")[2] == leaf]
    near = f"Did you mean {' or '.join(map(repr, same))}?" if same else did_you_mean(key, allowed)
    return RecipeError(f"{origin}: there is no key {shorten(key)}.", near or f"There are: {', '.join(allowed)}.")


def plain_part(part: Any) -> Iterator[tuple[str, Any]]:
    """(key, YAML value) of one part, in the order of its declaration."""
    for declared in fields(part):
        yield declared.name, kind_of(declared).plain(getattr(part, declared.name))
