"""Recipes: a whole training in one YAML file that a person can read, run and compare.

The schema is in `schema.py`. Reading is strict: an unknown key, a wrong unit or values that exclude each other are
errors that name the line and the nearest key. The shipped recipes are in `weevit/recipes/`; a recipe with `based_on:
NAME` takes its other values from that one, and `deviations` lists the changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from weevit.errors import RecipeError, did_you_mean
from weevit.recipes.combinations import check
from weevit.recipes.duration import Duration
from weevit.recipes.recipe_file import MAX_BYTES, Raw, apply_overrides, read_yaml, write_value
from weevit.recipes.schema import (
    PARTS,
    AugmentPart,
    DataPart,
    EmaPart,
    LoopPart,
    LossPart,
    MixPart,
    ModelPart,
    OptimPart,
    Recipe,
    SchedulePart,
)
from weevit.recipes.values import Kind, kind_of, plain_part, read_part, read_value, unknown_key
from weevit.store.home import expand_home
from weevit.zoo.strict_json import shorten

__all__ = [
    "FOLDER",
    "AugmentPart",
    "DataPart",
    "Duration",
    "EmaPart",
    "LoopPart",
    "LossPart",
    "MixPart",
    "ModelPart",
    "OptimPart",
    "Recipe",
    "SchedulePart",
    "deviations",
    "difference",
    "find",
    "flat",
    "header",
    "load_recipe",
    "names",
    "override",
    "parse_recipe",
    "to_yaml",
]

FOLDER = Path(__file__).parent

NO_RESULT = frozenset(
    [
        *("name", "based_on", "not_seen", "data.path", "loop.workers", "loop.log_every", "loop.keep"),
        *("loop.checkpoint_every", "loop.checkpoint_minutes"),
    ]
)
"""Keys without influence on the result."""


def names() -> list[str]:
    """The shipped recipes."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        name_or_path: a shipped recipe's name, a YAML file, or a run folder (for its `recipe.yaml`).
        overrides: `key=value` words, such as `optim.lr=2e-4`; the last of two equal keys counts.

    Raises:
        RecipeError: there is no such recipe, or it has an invalid value.
    """
    path = find(name_or_path)
    return parse_recipe(_text(path), str(path), overrides, path.stem)


def find(name_or_path: str | Path) -> Path:
    """The file of a recipe; RecipeError where it is neither a shipped name nor a file."""
    given = str(name_or_path)
    if given in names():
        return FOLDER / f"{given}.yaml"
    path, found = Path(given), False
    with suppress(OSError):  # a name that is too long for a file
        path = expand_home(name_or_path)
        path = path / "recipe.yaml" if path.is_dir() else path
        found = path.is_file()
    if not found:
        raise RecipeError(
            f"No recipe {shorten(given)}: not one of {', '.join(names())}, and no file or run folder of that name.",
            did_you_mean(given, names()) or "weevit recipe list",
        )
    return path


def parse_recipe(content: str, source: str, overrides: Sequence[str] = (), name: str = "") -> Recipe:
    """A recipe from YAML text.

    Args:
        content: the text.
        source: its name in errors.
        overrides: as for `load_recipe`.
        name: the recipe's name, where the text has none.

    Raises:
        RecipeError: it has an invalid value.
    """
    raw = read_yaml(content, source)
    shipped = Path(source) == FOLDER / f"{name}.yaml"
    base = name if shipped else raw.values.get("based_on")
    if base and not shipped:
        raw = raw.over(_base(base, raw))
    raw = apply_overrides(raw, overrides, KINDS)
    recipe = _build(raw)
    recipe = replace(recipe, name=recipe.name or name, based_on=base or "")
    check(recipe, raw)
    return recipe


def override(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """Change values of a recipe and check it again; RecipeError for an unknown key or an invalid value."""
    return parse_recipe(to_yaml(recipe), f"recipe {recipe.name}", overrides, recipe.name)


def to_yaml(recipe: Recipe) -> str:
    """The recipe as YAML with every value; `parse_recipe` reads it back."""
    lines = [f"{key}: {write_value(value)}" for key, value in _top(recipe)]
    for part in PARTS:
        lines += ["", f"{part}:"]
        for key, value in plain_part(getattr(recipe, part)):
            remark = "  # not seen" if f"{part}.{key}" in recipe.not_seen else ""
            lines.append(f"  {key}: {write_value(value)}{remark}")
    return "\n".join(lines) + "\n"


def flat(recipe: Recipe) -> dict[str, Any]:
    """Dotted key -> value as YAML writes it, for all keys."""
    values = dict(_top(recipe))
    for part in PARTS:
        values |= {f"{part}.{key}": value for key, value in plain_part(getattr(recipe, part))}
    return values


def difference(first: Recipe, second: Recipe) -> list[tuple[str, Any, Any]]:
    """(key, value in the first, value in the second) where two recipes differ, apart from their names."""
    ours, theirs = flat(first), flat(second)
    names_alone = {"name", "based_on", "not_seen"}
    return [(key, ours[key], theirs[key]) for key in ours if key not in names_alone and ours[key] != theirs[key]]


def deviations(recipe: Recipe) -> list[str]:
    """A line for each difference from the shipped recipe it is based on, and for each published value not seen."""
    if not recipe.based_on:
        return []
    published = load_recipe(recipe.based_on)
    changed = {key: (ours, theirs) for key, ours, theirs in difference(recipe, published) if key not in NO_RESULT}
    lines = [
        f"{key}: {write_value(ours)} here, {write_value(theirs)} in {published.name}"
        for key, (ours, theirs) in changed.items()
    ]
    values = flat(recipe)
    return lines + [
        f"{key}: {write_value(values[key])} is weevit's; the published value was not seen"
        for key in published.not_seen
        if key not in changed
    ]


def header(name_or_path: str | Path) -> str:
    """The comment at the top of a recipe's file: its paper, the command, the expected result."""
    lines = _text(find(name_or_path)).splitlines()
    count = next((index for index, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return "\n".join(lines[:count])


def _top(recipe: Recipe) -> Iterator[tuple[str, Any]]:
    """The values outside of parts; empty names are left out."""
    for declared in fields(Recipe):
        if declared.name not in PARTS:
            value = kind_of(declared).plain(getattr(recipe, declared.name))
            if value not in ("", []):
                yield declared.name, value


def _build(raw: Raw) -> Recipe:
    values: dict[str, Any] = {}
    for key, value in raw.values.items():
        if key in PARTS:
            values[key] = read_part(PARTS[key], value, key, raw.origins)
        elif key in KINDS and "." not in key:
            values[key] = read_value(KINDS[key], value, key, raw.at(key))
        else:
            raise unknown_key(key, raw.at(key), [*PARTS, *KINDS])
    return Recipe(**values)


def _all_kinds() -> dict[str, Kind]:
    kinds = {declared.name: kind_of(declared) for declared in fields(Recipe) if declared.name not in PARTS}
    for part, cls in PARTS.items():
        kinds |= {f"{part}.{declared.name}": kind_of(declared) for declared in fields(cls)}
    return kinds


KINDS = _all_kinds()
"""Dotted key -> its kind."""


def _base(name: Any, raw: Raw) -> Raw:
    if not isinstance(name, str) or name not in names():
        raise RecipeError(
            f"{raw.at('based_on')}: based_on is {shorten(name)}; there are {', '.join(names())}.",
            did_you_mean(name, names()) if isinstance(name, str) else "",
        )
    return read_yaml(_text(FOLDER / f"{name}.yaml"), name)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:  # `find` saw a regular file; reading stops at a recipe's greatest size
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise RecipeError(f"{path} has more than {MAX_BYTES:,} bytes; a recipe has fewer.")
        return content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} cannot be read as text: {error}.") from None
