"""`weevit eval`: how good a model is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from weevit.cli import options
from weevit.cli.console import EXIT_NOTHING, EXIT_SOME_FAILED, say, say_json, tell
from weevit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from weevit.evaluation.results import Evaluation, SetResult, SuiteEvaluation

_FAILURES = 10
"""Failures that are printed to stderr; the report has all of them."""


@click.command()
@options.loading_argument
@click.argument("data", required=False)
@options.allow_urls
@click.option("--suite", type=click.Path(path_type=Path), help="A folder with ImageNet's val, V2, A, R, Sketch, ReaL.")
@click.option("--split", help="Split of the data; by default test, else validation, else all of it.")
@click.option("--allow-missing", is_flag=True, help="The data may lack some of the model's classes.")
@click.option("--min-top1", type=float, help="Exit with 1 if top-1 of all images is below this share, as in 0.9.")
@click.option(
    "--table", type=options.OneOf(("csv", "parquet")), default="csv", show_default=True,
    help="Format of the predictions.",
)  # fmt: skip
@options.output
@options.json_lines
@options.strict
@options.quiet
@options.verbose
def eval(
    loading: options.Loading,
    data: str | None,
    suite: Path | None,
    split: str | None,
    allow_missing: bool,
    min_top1: float | None,
    table: str,
    output: Path | None,
    json_lines: bool,
    strict: bool,
    quiet: bool,
) -> int:
    """Measure a MODEL on DATA.

    DATA are images in a folder for each class, or a table of paths and labels.

    Top-1 and top-5 with intervals, figures of each class, calibration, confusions. --output report/ writes a page for
    people (report.html), and report.json, per_class.csv and predictions.csv for machines.

    --suite imagenet/ measures those of ImageNet's test sets that are in the folder, beside the published figures.
    """
    from weevit.cli import answers
    from weevit.cli.dataset import read_told
    from weevit.cli.progress import watching
    from weevit.evaluation.ask import Progress
    from weevit.evaluation.evaluate import evaluate
    from weevit.evaluation.imagenet import find_sets
    from weevit.evaluation.saved import EVALUATION, as_json, check_report
    from weevit.evaluation.suite import SUITE, evaluate_suite, suite_json

    _check(data, suite, min_top1)
    check_report(output, EVALUATION if suite is None else SUITE, (loading.model, data, suite), table)
    dataset = None if data is None else read_told(data, quiet, allow_missing)
    if suite is not None:
        find_sets(suite)
    predictor = answers.load_model(loading, quiet)
    with watching(quiet, Progress.line) as watch:
        if suite is not None:
            sets = evaluate_suite(predictor, suite, output, table=table, watch=watch)
            found, values, lines = {one.name: one.evaluation for one in sets.sets}, suite_json(sets), _suite_lines(sets)
        else:
            own: dict[str, Any] = {"split": split, "allow_missing": allow_missing, "table": table, "watch": watch}
            one = evaluate(predictor, str(data) if dataset is None else dataset, output, **own)
            found, values, lines = {"": one}, as_json(one), _lines(one)
    say_json(values) if json_lines else say(*lines)
    if not quiet:
        _summary(found, output)
    gated = found.get("imagenet") or next(iter(found.values()))
    if min_top1 is not None and not _passes(gated, min_top1):
        return EXIT_NOTHING
    return _exit_code(list(found.values()), strict)


def _check(data: str | None, suite: Path | None, min_top1: float | None) -> None:
    if (data is None) == (suite is None):
        raise UsageError("Give either DATA or --suite, not both.", "weevit eval MODEL DATA")
    if min_top1 is not None and not 0 <= min_top1 <= 1:
        raise UsageError(f"--min-top1 is a share from 0 to 1: {min_top1:g} was given.", "--min-top1 0.9")


def _lines(evaluation: Evaluation) -> list[str]:
    """The most important figures, a line each."""
    rows = list(_label_rows(evaluation.metrics) if evaluation.multi_label else _rows(evaluation.metrics))
    width = max(len(title) for title, _, _ in rows)
    return [f"{title:<{width}}  {value:>7}  {note}".rstrip() for title, value, note in rows]


def _rows(found: Mapping[str, float]) -> Iterator[tuple[str, str, str]]:
    for k in (1, 5):
        if f"top{k}" in found:
            bounds = f"{_percent(found[f'top{k}_low'])} to {_percent(found[f'top{k}_high'])} at 95 %"
            yield f"top-{k}", _percent(found[f"top{k}"]), bounds
    yield "balanced accuracy", _percent(found["balanced_accuracy"]), ""
    yield "calibration error (ECE)", _percent(found["ece"]), ""
    if "known" in found:
        yield "names a class for", _percent(found["known"]), f"and is right on {_percent(found['known_top1'])} of them"


def _label_rows(found: Mapping[str, float]) -> Iterator[tuple[str, str, str]]:
    yield "mean average precision", _percent(found["map"]), ""
    yield "F1", _percent(found["micro_f1"]), "all decisions together"
    yield "F1 of the labels", _percent(found["macro_f1"]), "mean"
    yield "every label right", _percent(found["exact"]), "of the images"


def _suite_lines(suite: SuiteEvaluation) -> list[str]:
    """A row per set, with the published figure and the difference."""
    head = ["set", "images", "top-1", "published", "difference", "top-5", "published", "difference"]
    rows = [head, *(_suite_row(one) for one in suite.sets)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            [f"{row[0]:<{widths[0]}}", *(f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
    return [*lines, *suite.notes, *([f"not there: {'; '.join(suite.absent)}"] if suite.absent else [])]


def _suite_row(one: SetResult) -> list[str]:
    cells = [one.title, f"{len(one.evaluation.rows):,}"]
    for index, name in enumerate(("top1", "top5")):
        cells.append(_percent(one.evaluation.metrics[name], 2))
        cells.append(f"{one.published[index]:.2f} %" if one.published else "-")
        cells.append(f"{one.differences[index]:+.2f}" if one.differences else "-")
    return cells


def _percent(share: float, digits: int = 1) -> str:
    return "-" if share != share else f"{100 * share:.{digits}f} %"


def _summary(found: Mapping[str, Evaluation], output: Path | None) -> None:
    for name, evaluation in found.items():
        start, failures = f"{name}: " if name else "", evaluation.failures
        for row in failures[:_FAILURES]:
            tell(f"{start}{row.input}: {row.error}")
        answered = f"{len(evaluation.answered):,} of {len(evaluation.rows):,} images answered"
        tell(f"{start}{answered} · {evaluation.images_per_second:.1f} images/s{_worst(evaluation)}")
    if output is not None:
        tell(f"written: {output / 'report.html'}, and the figures beside it")


def _worst(evaluation: Evaluation) -> str:
    if not evaluation.failures or "top1_worst" not in evaluation.metrics:
        return ""
    worst = _percent(evaluation.metrics["top1_worst"])
    return f" · with the other {len(evaluation.failures):,} counted as wrong, top-1 is {worst}"


def _exit_code(evaluations: Sequence[Evaluation], strict: bool) -> int:
    """1 where nothing was answered, 3 with --strict where some images were not."""
    if not any(evaluation.answered for evaluation in evaluations):
        return EXIT_NOTHING
    return EXIT_SOME_FAILED if strict and any(evaluation.failures for evaluation in evaluations) else 0


def _passes(evaluation: Evaluation, least: float) -> bool:
    """Whether the gate passes: top-1 of all images, those without an answer counted as wrong."""
    if evaluation.multi_label:
        raise UsageError("--min-top1 is for images with one class each; these have labels.", "Leave it out.")
    top1 = evaluation.metrics["top1_worst"]
    if top1 >= least:  # False for NaN
        return True
    tell(f"gate: top-1 of all images is {_percent(top1, 2)}, below --min-top1 {least:g}")
    return False
