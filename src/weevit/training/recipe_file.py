"""A recipe's text: YAML with one reading, where each key stands, words of the command line, and values written back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from weevit.errors import RecipeError
from weevit.training.kinds import Kind, unknown_key
from weevit.zoo.strict_json import shorten

MAX_CHARACTERS = 1 << 20
MAX_DEPTH = 8

_PLAIN_TAGS = (yaml.resolver.BaseResolver.DEFAULT_SEQUENCE_TAG, yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG)

SOURCE = ""
"""The key in `Raw.origins` that stands for the whole file."""


@dataclass(frozen=True)
class Raw:
    """A recipe as it was written.

    Attributes:
        values: as YAML gives them.
        origins: dotted key -> where it stands, in words.
    """

    values: Mapping[str, Any]
    origins: Mapping[str, str]

    def at(self, key: str) -> str:
        """Where a key stands, in words; the file for a key that stands nowhere."""
        return self.origins.get(key, self.origins[SOURCE])

    def over(self, base: Raw) -> Raw:
        """These values, and those of `base` where there are none."""
        values = dict(base.values)
        for key, value in self.values.items():
            below = values.get(key)
            values[key] = {**below, **value} if isinstance(below, dict) and isinstance(value, dict) else value
        return Raw(values, {**base.origins, **self.origins})


def read_yaml(content: str, source: str) -> Raw:
    """Parse YAML that has one reading: plain values only, and no key twice in one place.

    Raises:
        RecipeError: it is not YAML, not a mapping, too large or too deep, or a key stands there twice.
    """
    if len(content) > MAX_CHARACTERS:
        raise RecipeError(f"{source} has {len(content):,} characters; a recipe has at most {MAX_CHARACTERS:,}.")
    try:
        node = yaml.compose(content, yaml.SafeLoader)
        origins = {SOURCE: source}
        values = {} if node is None else _plain(node, "", source, origins)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise RecipeError(f"{source}, line {line}: this is not YAML: {error.problem}.") from None
    except RecipeError:
        raise
    except (yaml.YAMLError, RecursionError, ValueError) as error:  # the last one of a date in no calendar, for instance
        raise RecipeError(f"{source} is not YAML: {shorten(str(error))}.") from None
    if not isinstance(values, dict):
        raise RecipeError(
            f"{source} holds {shorten(values)}; a recipe is keys and values.", "weevit recipe show finetune"
        )
    return Raw(values, origins)


def _plain(node: Any, path: str, source: str, origins: dict[str, str]) -> Any:
    """A YAML node as dicts, lists and plain values; notes where each key stands."""
    line = f"{source}, line {node.start_mark.line + 1}"
    if path.count(".") > MAX_DEPTH:
        raise RecipeError(f"{line}: {path} is nested too deep for a recipe.")
    if isinstance(node, yaml.ScalarNode):
        return yaml.SafeLoader("").construct_object(node)
    if node.tag not in _PLAIN_TAGS:
        raise RecipeError(f"{line}: {shorten(node.tag)} is no kind of value that a recipe has.")
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, f"{path}.", source, origins) for item in node.value]
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = f"{source}, line {key_node.start_mark.line + 1}"
        if not isinstance(key_node, yaml.ScalarNode):
            raise RecipeError(f"{line}: a key is a word.")
        key = f"{path}.{key_node.value}" if path else key_node.value
        if key_node.value in found:
            raise RecipeError(f"{line}: {key} stands there twice; the first is at {origins[key].partition(', ')[2]}.")
        origins[key] = line
        found[key_node.value] = _plain(value_node, key, source, origins)
    return found


def apply_overrides(raw: Raw, overrides: Sequence[str], kinds: Mapping[str, Kind]) -> Raw:
    """The recipe with the `key=value` words of the command line over it.

    Args:
        raw: the recipe.
        overrides: the words; the last of two for one key counts.
        kinds: dotted key -> what may stand there.

    Raises:
        RecipeError: a word without `=`, or a key that no recipe has.
    """
    values = {key: dict(value) if isinstance(value, dict) else value for key, value in raw.values.items()}
    origins = dict(raw.origins)
    for word in overrides:
        key, sign, value = word.partition("=")
        if not sign:
            raise RecipeError(f"{word!r} changes nothing: a change is key=value.", "For instance optim.lr=2e-4.")
        if key not in kinds:
            raise unknown_key(key, word, list(kinds))
        part, dot, name = key.rpartition(".")
        place = _part(values, part, raw) if dot else values
        place[name] = kinds[key].from_text(value)
        origins[key] = word
    return Raw(values, origins)


def _part(values: dict[str, Any], part: str, raw: Raw) -> dict[str, Any]:
    if values.get(part) is None:
        values[part] = {}
    if not isinstance(values[part], dict):
        raise RecipeError(f"{raw.at(part)}: {part} is {shorten(values[part])}; expected keys and values below it.")
    place: dict[str, Any] = values[part]
    return place


def write_value(value: Any) -> str:
    """A plain value or a list of them as YAML, on one line."""
    written = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=1 << 20)
    return written.removesuffix("\n").removesuffix("\n...")
