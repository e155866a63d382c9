"""`weevit resume`: resume a stopped run, exactly."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from weevit.cli import options
from weevit.cli.train import finish, going_on, minutes, no_report, tensorboard, watched


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("changes", nargs=-1, metavar="[KEY=VALUE]...")
@options.allow_urls
@click.option("--data", help="New path of the run's data, if it was moved; the data must be the same.")
@minutes
@tensorboard
@no_report
@options.json_lines
@options.quiet
@options.verbose
def resume(
    run: Path,
    changes: tuple[str, ...],
    data: str | None,
    minutes: float | None,
    tensorboard: bool,
    no_report: bool,
    json_lines: bool,
    quiet: bool,
) -> int:
    """Resume a RUN that was stopped or killed.

    Same order, same draws, and in the end the same bytes.

    The newest complete checkpoint is used. Another recipe, other data or other weights than the run began with are
    refused: a new run from its weights is `weevit train --from RUN -o NEW`. Of the recipe, loop.max_bad, loop.workers
    and loop.keep may be other values (KEY=VALUE): they change nothing about what comes out.
    """
    from weevit.cli.stopping import stopping

    with stopping(partial(going_on, run)) as stop:
        from weevit import resume as go_on  # raises MissingExtraError without PyTorch

        with watched(stop, quiet) as (quiet, watcher):
            done = go_on(
                run,
                data,
                minutes=minutes,
                overrides=changes,
                tensorboard=tensorboard,
                report=not no_report,
                watcher=watcher,
            )
    return finish(done, stop, json_lines, quiet)
