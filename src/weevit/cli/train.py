"""`weevit train`: from a recipe and images with classes to a model."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from weevit.cli import options
from weevit.cli.app import EXIT_FAILED
from weevit.cli.console import say, say_json, tell
from weevit.cli.recipe import yaml_lines
from weevit.errors import UsageError
from weevit.store.files import finite
from weevit.text import span, typed

if TYPE_CHECKING:
    from weevit.cli.stopping import Stop
    from weevit.training.results import Run
    from weevit.training.watch import Watcher

tensorboard = click.option("--tensorboard", is_flag=True, help="Write event files to tensorboard/ in the run.")
minutes = click.option("--minutes", type=float, help="Time budget: end with a checkpoint and an evaluation in time.")
no_report = click.option("--no-report", is_flag=True, help="Leave out the report of the best weights at the end.")


@click.command()
@click.argument("recipe", required=False)
@click.argument("changes", nargs=-1, metavar="[KEY=VALUE]...")
@options.allow_urls
@click.option("--data", help="Images with classes: a folder, a table or archives; by default data.path of the recipe.")
@click.option("--output", "-o", type=options.Output(), help="The run's folder, new or empty.")
@click.option("--model", "-m", help="Model to train instead of the recipe's model.name.")
@click.option("--from", "source", help="Begin with the weights of this run, folder or model: a new run, continued.")
@click.option("--epochs", type=float, help="Number of epochs: short for schedule.epochs=N.")
@minutes
@options.seed(None)
@click.option("--device", default="auto", show_default=True, help="Device: auto, cpu, cuda or cuda:1.")
@options.threads
@click.option("--dry-run", is_flag=True, help="Print the recipe as it would be followed, and train nothing.")
@tensorboard
@no_report
@options.json_lines
@options.quiet
@options.verbose
def train(
    recipe: str | None,
    changes: tuple[str, ...],
    data: str | None,
    output: Path | None,
    model: str | None,
    source: str | None,
    epochs: float | None,
    minutes: float | None,
    seed: int | None,
    device: str,
    threads: int | None,
    dry_run: bool,
    tensorboard: bool,
    no_report: bool,
    json_lines: bool,
    quiet: bool,
) -> int:
    """Train by RECIPE.

    RECIPE is a name of `weevit recipe list`, a YAML file, or the folder of a run.

    Without RECIPE, `--from RUN` takes that run's recipe and data too: `--from RUN --epochs 5 -o NEW` trains on.
    KEY=VALUE changes a value of the recipe, as in optim.lr=2e-4 or schedule.epochs=30. Killed or stopped with Ctrl-C, a
    run is resumed by `weevit resume RUN`, and ends with the same bytes as if nothing had happened.
    """
    from weevit.cli.stopping import stopping

    recipe, changes = _recipe_of(recipe, changes, source)
    words = [*changes, *_options_as_changes(model, source, epochs, minutes, seed)]
    if dry_run:
        from weevit import train as begin  # raises MissingExtraError without PyTorch
        from weevit.training.setup import resolved

        say(*yaml_lines(resolved(recipe, data, words)))
        return 0
    if output is None:
        raise UsageError(
            "Where should the run go? --output was not given.", f"weevit train {typed(recipe)} ... -o runs/first"
        )
    with stopping(partial(going_on, output)) as stop:  # before PyTorch is imported, which takes long
        from weevit import train as begin  # raises MissingExtraError without PyTorch

        with watched(stop, quiet) as (quiet, watcher):
            run = begin(
                recipe,
                data,
                output,
                words,
                device=device,
                threads=threads,
                tensorboard=tensorboard,
                report=not no_report,
                watcher=watcher,
            )
    return finish(run, stop, json_lines, quiet)


@contextmanager
def watched(stop: Stop, quiet: bool) -> Iterator[tuple[bool, Watcher]]:
    """Whether to be quiet, and the watcher of a run."""
    from weevit.cli.training_view import watching

    with _one_voice(quiet) as quiet, watching(quiet, stop) as watcher:
        yield quiet, watcher


@contextmanager
def _one_voice(quiet: bool) -> Iterator[bool]:
    """Whether to be quiet: of the ranks of a run, the first one speaks, and what it says is not said again."""
    from weevit.training.ranks import LostRankError, speaks

    try:
        yield quiet or not speaks()
    except LostRankError:
        if speaks():
            raise
        sys.exit(EXIT_FAILED)


def _recipe_of(recipe: str | None, changes: tuple[str, ...], source: str | None) -> tuple[str, tuple[str, ...]]:
    """The recipe, possibly that of the run to continue, and the changes: a first `KEY=VALUE` is no recipe."""
    change = recipe is not None and "=" in recipe and source is not None and not Path(recipe).exists()
    if recipe is not None and not change:
        return recipe, changes
    changes = (recipe, *changes) if recipe is not None else changes
    for folder in (Path(source), Path(source) / "tuned") if source else ():  # a run, or the result of `weevit finetune`
        if (folder / "recipe.yaml").is_file():
            return str(folder), changes
    what = f"{source} is no run with one" if source else "RECIPE was not given"
    raise UsageError(f"No recipe: {what}.", "weevit recipe list   names the shipped recipes")


def _options_as_changes(
    model: str | None, source: str | None, epochs: float | None, minutes: float | None, seed: int | None
) -> list[str]:
    """The options that change the recipe, as `key=value`."""
    if model and source:
        raise UsageError("--model starts fresh, --from continues: both at once is not possible.")
    if source and Path(source).exists():
        source = str(Path(source).absolute())  # the recipe is read elsewhere too
    given = {"model.name": model or source, "loop.minutes": minutes, "seed": seed}
    given["model.pretrained"] = "true" if source else None
    given["schedule.epochs"] = None if epochs is None else f"{epochs:g} epochs"
    return [f"{key}={value}" for key, value in given.items() if value is not None]


def going_on(folder: Path) -> str:
    """What goes on with a run that ended without a result."""
    from weevit.store.outputs import local

    if not (local(folder) / "run.json").is_file():
        return "Nothing was trained yet. Rerun the command."
    return f"next: {_resuming(folder)}"


def _resuming(folder: Path) -> str:
    """The command that resumes a run, by as many ranks as are at work now."""
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    start = f"torchrun --nproc-per-node {ranks} -m weevit" if ranks > 1 else "weevit"
    return f"{start} resume {typed(folder)}"


def finish(run: Run, stop: Stop, json_lines: bool, quiet: bool) -> int:
    """Print the result of a run and the next commands; returns the exit code."""
    from weevit.training.loop import INTERRUPTED
    from weevit.training.ranks import speaks
    from weevit.training.watch import shown

    if json_lines and speaks():
        say_json(finite({"schema": "weevit.run/1", "folder": str(run.folder), **run.as_json()}))
    if not quiet:
        if run.best:
            figure = f"{run.best.figure} {shown(run.best.figure, run.best.value)}"
            tell(f"best: {figure} after step {run.best.step:,} · {run.model} · {span(60 * run.minutes)}")
        tell(*_next(run))
    return stop.exit_code if run.stopped == INTERRUPTED and stop.asked() else 0


def _next(run: Run) -> Iterator[str]:
    """The next commands."""
    from weevit.training.loop import BUDGET, DONE, EARLY, INTERRUPTED

    where = f"resumes from step {run.step:,} of {run.total:,}"
    if run.stopped == INTERRUPTED:
        yield f"next: {_resuming(run.folder)}   {where}"
    elif run.stopped == BUDGET:
        twice = f"{max(1, math.ceil(2 * run.minutes))}   {where}"
        yield f"next: {_resuming(run.folder)} --minutes {twice}"
    if run.stopped == EARLY or (run.stopped == DONE and not run.worked):
        yield f"more: weevit train --from {typed(run.folder)} --epochs N -o NEW   trains on from its best weights"
    if run.stopped in (DONE, EARLY):
        yield f"next: weevit classify IMAGE -m {typed(run.folder)}"
