"""The text of a recipe: unambiguous YAML, the line of each key, overrides of the command line, and values written back.

A recipe may be a stranger's. YAML can say much in few bytes: an alias repeats its anchor's whole value, a tag gives
a type, `1:30` for 90, `010` for 8. A recipe needs none of it, and none of it is read: the result is as large as the
file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from weevit.errors import RecipeError
from weevit.recipes.values import Kind, unknown_key
from weevit.zoo.strict_json import shorten

MAX_BYTES = 1 << 16
"""Thirty times the longest shipped recipe; any text of that size is read in less than one second."""

MAX_DEPTH = 8

_SHOWN = 120
"""Characters of a value in an error."""

SOURCE = ""
"""The key of the whole file in `Raw.origins`."""


@dataclass(frozen=True)
class Raw:
    """A recipe as written.

    Attributes:
        values: values as YAML gives them.
        origins: dotted key -> its line, in words.
    """

    values: Mapping[str, Any]
    origins: Mapping[str, str]

    def at(self, key: str) -> str:
        """The line of a key, in words; the file for a key without one."""
        return self.origins.get(key, self.origins[SOURCE])

    def over(self, base: Raw) -> Raw:
        """These values on top of those of `base`."""
        values = dict(base.values)
        for key, value in self.values.items():
            below = values.get(key)
            values[key] = {**below, **value} if isinstance(below, dict) and isinstance(value, dict) else value
        return Raw(values, {**base.origins, **self.origins})


class _Refused(yaml.MarkedYAMLError):
    """Sound YAML that a recipe does not use."""


class _Loader(yaml.SafeLoader):
    """Composes only what a recipe may hold: no aliases, anchors or tags, and no deep nesting."""

    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]  # in types-PyYAML
        mark = event.start_mark
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise _Refused(problem="a recipe has no anchors and no aliases (& and *)", problem_mark=mark)
        if event.tag is not None:
            problem = f"{shorten(event.tag)} is no kind of value that a recipe has"
            raise _Refused(problem=problem, problem_mark=mark)
        if self._depth > MAX_DEPTH:
            raise _Refused(problem="this is nested too deep for a recipe", problem_mark=mark)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def read_yaml(content: str, source: str) -> Raw:
    """Parse unambiguous YAML: plain values only, and no key twice.

    Raises:
        RecipeError: not YAML, not a mapping, too large or too deep, a key twice, or a value that programs read in
            different ways.
    """
    if len(content) > MAX_BYTES:
        raise RecipeError(f"{source} has {len(content):,} characters; a recipe has at most {MAX_BYTES:,}.")
    try:
        node = yaml.compose(content, _Loader)
        origins = {SOURCE: source}
        values = {} if node is None else _plain(node, "", source, origins)
    except _Refused as error:
        raise RecipeError(f"{source}, line {_line(error)}: {error.problem}.") from None
    except yaml.MarkedYAMLError as error:
        raise RecipeError(f"{source}, line {_line(error)}: this is not YAML: {str(error.problem)[:_SHOWN]}.") from None
    except yaml.YAMLError as error:  # a character that YAML does not have, NUL for instance
        raise RecipeError(f"{source} is not YAML: {shorten(str(error))}.") from None
    if not isinstance(values, dict):
        raise RecipeError(
            f"{source} holds {shorten(values)}; a recipe is keys and values.", "weevit recipe show finetune"
        )
    return Raw(values, origins)


def _line(error: yaml.MarkedYAMLError) -> int:
    return error.problem_mark.line + 1 if error.problem_mark else 1


def _plain(node: Any, path: str, source: str, origins: dict[str, str]) -> Any:
    """A YAML node as dicts, lists and plain values; the line of each key is noted."""
    line = f"{source}, line {node.start_mark.line + 1}"
    if isinstance(node, yaml.ScalarNode):
        return _value(node, line)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, f"{path}.", source, origins) for item in node.value]
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = f"{source}, line {key_node.start_mark.line + 1}"
        if not isinstance(key_node, yaml.ScalarNode):
            raise RecipeError(f"{line}: a key is a word.")
        key = f"{path}.{key_node.value}" if path else key_node.value
        if key_node.value in found:
            first = origins[key].partition(", ")[2]
            raise RecipeError(f"{line}: {shorten(key)[1:-1]} is given twice; the first is at {first}.")
        origins[key] = line
        found[key_node.value] = _plain(value_node, key, source, origins)
    return found


_DIGITS = 40
"""Digits of a number. One with more is left as text, which no kind of number accepts."""

_WHOLE = re.compile(rf"[-+]?(0|[1-9][0-9_]{{0,{_DIGITS}}})")
_FLAGS = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}


def _whole(text: str) -> int | str | None:
    if _WHOLE.fullmatch(text):
        return int(text.replace("_", ""))
    return text if len(text) > _DIGITS and ":" not in text else None


def _number(text: str) -> float | str | None:
    if text.lower().lstrip("+-") in (".inf", ".nan"):
        return float(text.replace(".", ""))
    if ":" in text:
        return None
    return float(text.replace("_", "")) if len(text) <= _DIGITS else text


_TAGS: dict[str, Callable[[str], Any]] = {
    "tag:yaml.org,2002:str": lambda text: text,
    "tag:yaml.org,2002:bool": lambda text: _FLAGS[text.lower()],
    "tag:yaml.org,2002:int": _whole,
    "tag:yaml.org,2002:float": _number,
}
"""YAML 1.1's tag of a value -> its reader; None where YAML 1.2 reads the value in another way."""


def _value(node: Any, line: str) -> Any:
    """One value. Octal and sexagesimal numbers, dates and `<<` are refused: other readers take them for text."""
    if node.tag == "tag:yaml.org,2002:null":
        return None
    read = _TAGS.get(node.tag)
    value = read(node.value) if read else None
    if value is None:
        raise RecipeError(
            f"{line}: {shorten(node.value)} is not YAML with one reading: a number or date to some programs, text to "
            "others.",
            "Put it in quotes if it is text.",
        )
    return value


def apply_overrides(raw: Raw, overrides: Sequence[str], kinds: Mapping[str, Kind]) -> Raw:
    """The recipe with `key=value` words on top; the last of two for one key counts.

    Raises:
        RecipeError: a word without `=`, an unknown key, or `based_on`, which gives the values below the words.
    """
    values = {key: dict(value) if isinstance(value, dict) else value for key, value in raw.values.items()}
    origins = dict(raw.origins)
    for word in words_of(overrides):
        key, sign, value = word.partition("=")
        if not sign:
            raise RecipeError(f"{shorten(word)} changes nothing: a change is key=value.", "For instance optim.lr=2e-4.")
        if key not in kinds:
            raise unknown_key(key, word[:_SHOWN], list(kinds))
        if key == "based_on":
            raise RecipeError(
                f"{shorten(word)}: a word changes one value, and based_on gives all that a file leaves out.",
                "Name that recipe in place of this one, or write based_on into a file.",
            )
        part, dot, name = key.rpartition(".")
        target = _part(values, part, raw) if dot else values
        target[name] = kinds[key].from_text(value)
        origins[key] = word if len(word) <= _SHOWN else f"{word[:_SHOWN]}..."
    return Raw(values, origins)


def words_of(overrides: object) -> Sequence[str]:
    """Changes as a list of words; RecipeError for one text, whose letters would be taken for words, and for others."""
    words = overrides if isinstance(overrides, Sequence) and not isinstance(overrides, str) else None
    if words is None or not all(isinstance(word, str) for word in words):
        raise RecipeError(
            f"Changes are a list of key=value words: {shorten(overrides)} was given.", "['optim.lr=2e-4']"
        )
    return words


def _part(values: dict[str, Any], part: str, raw: Raw) -> dict[str, Any]:
    if values.get(part) is None:
        values[part] = {}
    if not isinstance(values[part], dict):
        raise RecipeError(f"{raw.at(part)}: {part} is {shorten(values[part])}; expected keys and values below it.")
    found: dict[str, Any] = values[part]
    return found


def write_value(value: Any) -> str:
    """A plain value or a list of them as YAML, on one line."""
    written = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=1 << 20)
    return written.removesuffix("\n").removesuffix("\n...")
