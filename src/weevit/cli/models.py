"""`weevit models`: the whole family."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import click

from weevit.cli import options
from weevit.cli.console import say, say_json
from weevit.errors import UnknownModelError, did_you_mean


@click.command()
@click.argument("pattern", default="*")
@options.json_lines
def models(pattern: str, json_lines: bool) -> None:
    """List every published model.

    Name, alias, parameters, GMACs, image size, top-1 and licence of each.

    PATTERN shows only names like it: a part of a name, or * and ? as in a shell.

    Top-1 is timm's published figure on ImageNet's validation set, in percent. GMACs are 10^9 multiply-accumulates for
    one image, attention included, as in timm's tables.
    """
    from weevit.zoo.weights import BY_NAME, WEIGHTS

    wanted = pattern if set(pattern) & set("*?[") else f"*{pattern}*"
    rows = [row for row in map(summary, WEIGHTS) if fnmatchcase(row["name"], wanted) or row["alias"] == pattern]
    if not rows:
        raise UnknownModelError(
            f"No model's name is like {pattern!r}.", did_you_mean(pattern, BY_NAME) or "weevit models   lists them all"
        )
    if json_lines:
        for row in rows:
            say_json(row)
        return
    _print_table(rows)


def summary(weight: Any) -> dict[str, Any]:
    """One row of the table, as plain data."""
    from weevit.zoo.counts import count

    counts = count(weight.architecture, weight.num_classes)
    return {
        "name": weight.name,
        "alias": weight.alias or None,
        "params": counts.params,
        "gmacs": round(counts.gmacs, 2),
        "image_size": weight.img_size,
        "num_classes": weight.num_classes,
        "top1": weight.top1,
        "license": weight.license,
    }


def _print_table(rows: list[dict[str, Any]]) -> None:
    width = max(len(row["name"]) for row in rows)
    say(f"{'name':<{width}}  {'alias':<13} {'params':>8} {'GMACs':>7} {'size':>5} {'classes':>7} {'top-1':>6}  licence")
    for row in rows:
        top1 = "-" if row["top1"] is None else f"{row['top1']:.2f}"
        say(
            f"{row['name']:<{width}}  {row['alias'] or '':<13} {row['params'] / 1e6:>6.1f} M {row['gmacs']:>7.2f} "
            f"{row['image_size']:>5} {row['num_classes']:>7} {top1:>6}  {row['license']}"
        )
    first = rows[0]["alias"] or rows[0]["name"]
    say("", f"{len(rows)} models. An alias means exactly this weight.  Next: weevit info {first}")
