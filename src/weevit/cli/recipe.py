"""`weevit recipe`: the shipped recipes, and their differences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from weevit.cli import options
from weevit.cli.console import say, say_json
from weevit.text import one_line

if TYPE_CHECKING:
    from weevit.recipes.recipe import Recipe

overrides = click.argument("changes", nargs=-1, metavar="[KEY=VALUE]...")


@click.group()
def recipe() -> None:
    """Look at recipes: each is a whole training in a YAML file."""


@recipe.command("list")
@options.json_lines
@options.verbose
def list_(json_lines: bool) -> None:
    """List the recipes that come with weevit."""
    from weevit.recipes.recipe import header, load_recipe, names

    rows = [summary(load_recipe(name), header(name)) for name in names()]
    if json_lines:
        for row in rows:
            say_json(row)
        return
    columns = ("name", "epochs", "batch", "rate", "loss", "about")
    shown = [dict(zip(columns, columns, strict=True)), *rows]
    widths = {key: max(len(_cell(row[key])) for row in shown) for key in columns[:-1]}
    for row in shown:
        say("  ".join(f"{_cell(row[key]):<{width}}" for key, width in widths.items()) + f"  {row['about']}")
    say("", f"{len(rows)} recipes.  Next: weevit recipe show {rows[0]['name']}")


def summary(recipe: Recipe, head: str) -> dict[str, Any]:
    """One row of the list, as plain data; None for a value that was not seen, or depends on one."""
    batch = None if "loop.batch_size" in recipe.not_seen else recipe.loop.batch_size
    known = recipe.optim.lr is not None or (batch and recipe.optim.base_lr is not None)
    return {
        "name": recipe.name,
        "epochs": str(recipe.schedule.epochs),
        "batch": batch,
        "rate": float(f"{recipe.learning_rate:.3g}") if known else None,
        "loss": recipe.loss.kind,
        "about": head.partition("\n")[0].removeprefix("# "),
    }


def _cell(value: Any) -> str:
    return "not seen" if value is None else str(value)


@recipe.command()
@click.argument("name")
@overrides
@options.json_lines
@options.verbose
def show(name: str, changes: tuple[str, ...], json_lines: bool) -> None:
    """Print a recipe with every value that it stands for.

    The comment at its head comes first. NAME is a recipe's name, a YAML file or a run folder.

    What is printed can be saved, changed and run.
    """
    from weevit.recipes.recipe import flat, header, load_recipe

    found, head = load_recipe(name, changes), header(name)
    if json_lines:
        say_json(flat(found))
        return
    say(*([*head.split("\n"), ""] if head else []), *yaml_lines(found))


@recipe.command()
@click.argument("first")
@click.argument("second")
@options.json_lines
@options.verbose
def diff(first: str, second: str, json_lines: bool) -> None:
    """Print what differs between two recipes, and nothing else.

    FIRST and SECOND are names, YAML files or run folders.
    """
    from weevit.recipes.recipe import difference, load_recipe

    one, two = load_recipe(first), load_recipe(second)
    rows = difference(one, two)
    if json_lines:
        for key, *values in rows:
            say_json({"key": key, "first": values[0], "second": values[1]})
        return
    cells = [
        ("", one_line(first), one_line(second)),
        *((key, _said(one, key, ours), _said(two, key, theirs)) for key, ours, theirs in rows),
    ]
    widths = [max(len(row[column]) for row in cells) for column in (0, 1)]
    for row in cells:
        say(f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]}")
    if not rows:
        say("The two say the same.")


def yaml_lines(recipe: Recipe) -> list[str]:
    """A recipe as printed, a line each."""
    from weevit.recipes.recipe import to_yaml

    return to_yaml(recipe).removesuffix("\n").split("\n")


def _said(recipe: Recipe, key: str, value: Any) -> str:
    from weevit.recipes.recipe_file import write_value

    return one_line(write_value(value)) + (" (not seen)" if key in recipe.not_seen else "")
