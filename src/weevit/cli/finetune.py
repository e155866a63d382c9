"""`weevit finetune`: published weights fine-tuned to your classes."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from weevit.cli import options
from weevit.cli.console import say, say_json, tell
from weevit.cli.train import minutes
from weevit.errors import UsageError
from weevit.text import typed

if TYPE_CHECKING:
    from weevit.cli.stopping import Stop
    from weevit.finetuning.baseline import FineTuned


@click.command()
@click.argument("data")
@click.argument("changes", nargs=-1, metavar="[KEY=VALUE]...")
@options.allow_urls
@click.option("--model", "-m", show_default=options.DEFAULT_MODEL, help="Weights to begin with.")
@click.option(
    "--output", "-o", type=options.Output(), help="Folder of the result: new, empty, or of a stopped fine-tuning."
)
@minutes
@click.option("--plan", "plan_only", is_flag=True, help="Print the plan and how long it takes, and do nothing.")
@click.option("--recipe", default="finetune", show_default=True, help="Recipe to begin with: a name or a YAML file.")
@options.seed(None)
@click.option("--device", default="auto", show_default=True, help="Device: auto, cpu, cuda or cuda:1.")
@options.threads
@options.json_lines
@options.quiet
@options.verbose
def finetune(
    data: str,
    changes: tuple[str, ...],
    model: str | None,
    output: Path | None,
    minutes: float | None,
    plan_only: bool,
    recipe: str,
    seed: int | None,
    device: str,
    threads: int | None,
    json_lines: bool,
    quiet: bool,
) -> int:
    """Fine-tune a model on DATA.

    DATA are images in a folder for each class, or a table of paths and labels.

    A linear head is fitted first, as `weevit fit` does, and training starts from it. A held-out split,
    which neither sees, says which of the two is better; the validation split only judges. KEY=VALUE changes a value of
    the recipe, as in optim.lr=1e-4 or schedule.epochs=10. Rerun the command to resume a stopped one.
    """
    from weevit.cli.stopping import stopping

    words = [*changes, *([] if seed is None else [f"seed={seed}"])]
    how: dict[str, Any] = {"recipe": recipe, "minutes": minutes, "device": device, "threads": threads}
    if plan_only:
        from weevit import finetune as begin  # raises MissingExtraError without PyTorch
        from weevit.finetuning.finetune import plan_finetune

        plan = plan_finetune(data, model or options.DEFAULT_MODEL, words, **how)
        say_json(plan.as_json()) if json_lines else say(*_split(plan.lines()))
        return 0
    if output is None:
        raise UsageError(
            "A fine-tuning is written into a folder: --output says which.",
            f"weevit finetune {shlex.quote(data)} -o runs/mine",
        )
    with stopping(lambda: "Rerun the command to resume.") as stop:
        from weevit import finetune as begin  # raises MissingExtraError without PyTorch
        from weevit.cli.training_view import watching

        with watching(quiet, stop) as watcher:
            done = begin(data, output, model, words, **how, watcher=watcher)
    return _finish(done, stop, json_lines, quiet, data)


def _finish(done: FineTuned, stop: Stop, json_lines: bool, quiet: bool, data: str) -> int:
    """Print the result; returns the exit code."""
    say_json(done.as_json()) if json_lines else say(*_split(done.lines()))
    if not quiet:
        tell(f"next: weevit classify IMAGE -m {typed(done.folder)}" if done.chosen else f"next: {_again(done, data)}")
    return stop.exit_code if not done.chosen and stop.asked() else 0


def _again(done: FineTuned, data: str) -> str:
    assert done.run is not None  # None where the head was chosen
    return f"weevit finetune {shlex.quote(data)} -o {typed(done.folder)}   resumes from step {done.run.step:,}"


def _split(texts: list[str]) -> list[str]:
    return [line for text in texts for line in text.split("\n")]
