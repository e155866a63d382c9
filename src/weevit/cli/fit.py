"""`weevit fit`: a classifier of your classes from a folder of images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from weevit.cli import options
from weevit.cli.app import EXIT_INTERRUPTED
from weevit.cli.console import EXIT_SOME_FAILED, say, say_json, tell
from weevit.errors import UsageError
from weevit.store.files import finite
from weevit.text import typed

if TYPE_CHECKING:
    from weevit.evaluation.results import Evaluation
    from weevit.fitting.fit import Stage
    from weevit.fitting.results import Fit

_FAILURES = 10
"""Failures that are printed to stderr; failures.csv has all of them."""


@click.command()
@click.argument("data")
@options.allow_urls
@options.loading_to_fit
@click.option(
    "--folds",
    type=options.Whole(2),
    default=5,
    show_default=True,
    help="Folds of the cross-validation that chooses the head.",
)
@options.seed(help="Seed of all random draws.")
@click.option(
    "--class-weights", type=options.OneOf(("none", "balanced")), default="none", show_default=True,
    help="balanced: all classes count the same.",
)  # fmt: skip
@click.option(
    "--coverage", type=float, default=0.95, show_default=True,
    help="Share of images of known classes that keep their class; the others are called unknown.",
)  # fmt: skip
@click.option(
    "--validation-share", type=float, default=0.2, show_default=True,
    help="Share of the training images that becomes the validation split, where there is none.",
)  # fmt: skip
@click.option(
    "--calibrate", type=options.OneOf(("folds", "validation")), default="folds", show_default=True,
    help="Images that the temperature is from: folds of the training images, or the validation images.",
)  # fmt: skip
@click.option("--allow-missing", is_flag=True, help="Splits may lack classes, and classes have a single image.")
@options.output
@options.json_lines
@options.strict
@options.quiet
@options.verbose
def fit(
    data: str,
    loading: options.Loading,
    folds: int,
    seed: int,
    class_weights: str,
    coverage: float,
    validation_share: float,
    calibrate: str,
    allow_missing: bool,
    output: Path | None,
    json_lines: bool,
    strict: bool,
    quiet: bool,
) -> int:
    """Fit a classifier to DATA.

    DATA are images in a folder for each class, or a table of paths and labels.

    Each image is embedded once and remembered, so that a second fit takes seconds. Heads are chosen by
    cross-validation on the training images only. --output runs/mine becomes a model like any other, with a report.
    """
    from weevit.cli import answers
    from weevit.cli.dataset import read_told
    from weevit.cli.progress import watching
    from weevit.fitting.fit import fit as fit_head
    from weevit.fitting.folder import FIT
    from weevit.fitting.heads import require_sklearn
    from weevit.fitting.results import Settings
    from weevit.reports.page import require_jinja
    from weevit.store.folder import check_folder

    if output is None:
        raise UsageError(
            "A fit is written into a folder: --output says which.", f"weevit fit {typed(data)} -o runs/mine"
        )
    own = Settings(folds, seed, class_weights, coverage, validation_share, calibrate, allow_missing)
    own.check()
    require_jinja()
    require_sklearn()
    check_folder(output, FIT, (loading.model, data))  # before the model is loaded
    dataset = read_told(data, quiet, allow_missing, notes=False)
    int8 = loading.precision == "int8"
    predictor = answers.load_model(replace(loading, precision=None) if int8 else loading, quiet)
    try:
        with watching(quiet, _stage) as watch:
            done = fit_head(dataset, output, predictor, **vars(own), int8=int8, watch=watch)
    except KeyboardInterrupt:
        tell("", "Interrupted. What was embedded is kept. Rerun the command to resume.")
        return EXIT_INTERRUPTED
    values = {"schema": 1, "folder": str(done.folder), **done.as_json()}
    say_json(finite(values)) if json_lines else say(*_lines(done))
    if not quiet:
        _summary(done, data)
    return EXIT_SOME_FAILED if strict and done.failures else 0


def _stage(stage: Stage) -> str:
    return f"{stage.name}: {stage.words}" if stage.words else stage.name


def _lines(done: Fit) -> list[str]:
    """The chosen head and its figures, a line each."""
    compared = done.chosen.score == done.chosen.score  # NaN without a cross-validation
    score = f"{done.measure} in cross-validation {done.chosen.score:.1%}" if compared else "without a cross-validation"
    rows = [("chosen", f"{done.chosen.name} ({score})")]
    for name, evaluation in done.evaluations.items():
        rows.append((name, _figures(evaluation)))
    errors = done.calibration.errors
    rows.append(
        (
            "calibration error",
            f"{errors['before']:.1%} before, {errors['after']:.1%} after on validation "
            f"(exact probabilities would show {errors['by_chance']:.1%} on so few)",
        )
    )
    decision = done.checkpoint.decision
    if decision and decision.threshold is not None:
        known = done.metrics.get("known", float("nan"))
        rows.append(("unknown", f"below {decision.threshold:.1%}; {known:.1%} of validation keeps its class"))
    width = max(len(title) for title, _ in rows)
    return [f"{title:<{width}}  {text}" for title, text in rows]


def _figures(evaluation: Evaluation) -> str:
    found, count = evaluation.metrics, len(evaluation.answered)
    if evaluation.multi_label:
        return f"mean average precision {found['map']:.1%}, F1 {found['micro_f1']:.1%} ({count:,} images)"
    return f"{found['top1']:.1%} right ({found['top1_low']:.1%} to {found['top1_high']:.1%} at 95 %, {count:,} images)"


def _summary(done: Fit, data: str) -> None:
    for split, name, _, error in done.failures[:_FAILURES]:
        tell(f"{split}: {name}: {error}")
    if done.failures:
        tell(f"{len(done.failures):,} images have no answer and were left out: {done.folder / 'failures.csv'}")
    for note in done.notes:
        tell(f"note: {note}")
    if done.neighbours_better and done.neighbours:
        tell(
            f"ATTENTION: {done.neighbours.name} would be clearly better ({done.neighbours.score:.1%} against "
            f"{done.chosen.score:.1%}). A checkpoint has a linear head, so that one was written."
        )
    tell(
        f"{done.computed:,} images embedded, {done.cached:,} known · {done.seconds['total']:.1f} s · "
        f"report: {done.folder / 'report.html'}"
    )
    tell(f"next: weevit classify new.jpg --model {typed(done.folder)}")
    if "test" in done.evaluations or not done.validation_cut:  # else the evaluation would include training images
        tell(f"      weevit eval {typed(done.folder)} {typed(data)}")
