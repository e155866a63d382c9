"""`weevit classify`: the classes of an image."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from weevit.cli import options
from weevit.cli.console import say, say_json
from weevit.text import one_line

if TYPE_CHECKING:
    from weevit.answers.columns import Column
    from weevit.answers.results import Prediction, Result

_BAR = 20
_EIGHTHS = " ▏▎▍▌▋▊▉█"


@click.command()
@options.inputs
@options.loading_to_answer
@click.option("--topk", type=options.Whole(1), default=5, show_default=True, help="How many classes to name.")
@options.answers
@options.job
@options.json_lines
@options.strict
@options.quiet
@options.verbose
def classify(
    inputs: tuple[str, ...],
    loading: options.Loading,
    topk: int,
    output: Path | str | None,
    job: options.Job,
    json_lines: bool,
    strict: bool,
    quiet: bool,
) -> int:
    """Name what is in images: the most probable classes of each.

    --output answers.csv, .jsonl or .parquet writes one row per input, also for inputs without an answer.
    --output answers/ is a folder of Parquet files for any number of images: killed or stopped, rerun the command
    to resume. Where images were added or changed, only those are computed.
    """
    from weevit.answers.columns import COMMON, class_columns
    from weevit.cli import answers, signs
    from weevit.cli.console import Tally
    from weevit.cli.progress import images_progress
    from weevit.cli.writers import WRITERS

    if answers.is_folder(output):
        from weevit.cli.many import answer_many

        own: dict[str, Any] = {"topk": topk, "json_lines": json_lines}
        return answer_many("classify", inputs, loading, output, job, quiet=quiet, strict=strict, **own)
    assert not isinstance(output, str)  # an address is a folder
    answers.check_output(output, signs.CLASSIFY, inputs)
    options.refuse_job(job, output)
    sources, predictor = answers.begin(inputs, loading, quiet)
    columns = (*COMMON, *class_columns(predictor.checkpoint, topk))
    tally = Tally()
    results: Iterator[Result] = predictor.stream(sources, outputs=("logits",), topk=topk)
    results = answers.count_all(results, tally, images_progress(quiet or output is None))
    shown = show_json(results, columns) if json_lines else show_text(results)
    if output is None:
        for _ in shown:
            pass
    else:
        kept = shown if json_lines else (answers.told(result) for result in results)
        with answers.whole_or_nothing(output):
            WRITERS[output.suffix.lower()](output, kept, columns)
    answers.finish(tally, sources, quiet, str(output) if output else "")
    return tally.exit_code(strict)


def show_json(results: Iterator[Result], columns: Sequence[Column]) -> Iterator[Result]:
    """Print one object per line, as answers come."""
    from weevit.answers.columns import json_object
    from weevit.cli.answers import told

    for result in results:
        say_json(json_object(result, columns))
        yield told(result)


def show_text(results: Iterator[Result]) -> Iterator[Result]:
    """Print answers for a person: bars on a terminal, one line per image in a pipe."""
    from weevit.cli.answers import told

    for number, result in enumerate(results):
        yield told(result)
        if not result.ok:
            continue
        if sys.stdout.isatty():
            say(*[""] * bool(number), *_with_bars(result))
        else:
            classes = "; ".join(f"{p.probability:.1%} {_named(p)}" for p in result.top)
            say(f"{result.input}: {_said(result)}{classes}")


def _said(result: Result) -> str:
    """The model's decision beside its classes, for one line."""
    if result.present is not None:
        return f"{_present(result)} · "
    return "unknown · " if result.unknown else ""


def _present(result: Result) -> str:
    return ", ".join(prediction.name for prediction in result.present or ()) or "none of its labels"


def _with_bars(result: Result) -> list[str]:
    width = max(len(one_line(prediction.name)) for prediction in result.top)
    lines = [
        f"  {p.probability:6.1%}  {_bar(p.probability):<{_BAR}}  {one_line(p.name):<{width}}  {_other_id(p)}".rstrip()
        for p in result.top
    ]
    head = f"{result.input}   {_present(result)}" if result.present is not None else result.input
    if result.unknown:
        head += "   unknown: no class is likely enough"
    return [head, *lines]


def _named(prediction: Prediction) -> str:
    return f"{prediction.name} ({prediction.id})" if _other_id(prediction) else prediction.name


def _other_id(prediction: Prediction) -> str:
    """The id where it differs from the name."""
    return prediction.id if prediction.id and prediction.id != prediction.name else ""


def _bar(share: float) -> str:
    eighths = round(share * _BAR * 8)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
