"""The page of a run: quality, course, samples and settings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from torch import Tensor

from weevit.batches.loader import Loader
from weevit.batches.mixing import mix
from weevit.datasets.dataset import Dataset
from weevit.errors import WeevitError
from weevit.evaluation.evaluate import evaluate
from weevit.evaluation.report import model_line, short_name, short_path, tile
from weevit.evaluation.results import Evaluation
from weevit.evaluation.saved import REPORT_HTML, write_evaluation
from weevit.recipes.recipe import flat
from weevit.recipes.recipe_file import write_value
from weevit.recipes.schema import Recipe
from weevit.reports import charts
from weevit.reports.axes import Axis, Svg
from weevit.reports.page import interval, number, percent, render
from weevit.reports.thumbnails import in_page
from weevit.runs.folder import EVALUATION, MODEL, REPORT, TRAINING
from weevit.store.files import write_file
from weevit.text import counted, span
from weevit.training.plots import PANELS, to_pixels
from weevit.training.results import Run, failures
from weevit.training.watch import SHARES, shown

if TYPE_CHECKING:
    from weevit.training.setup import Work

EVALUATION_PAGE = EVALUATION

_SHOWN = 12
"""Training images on the page."""

LISTED = 200
"""Unreadable images on the page."""

_TITLES = {"loss": "loss", "top1": "right answers", "map": "mean average precision", "lr": "learning rate"}
"""Panel of `PANELS` -> its title."""


def write_report(work: Work, run: Run) -> str:
    """Evaluate `model/` as `weevit eval` does, and write the page of the run; returns a sentence on it.

    A report that cannot be written does not fail the run: it can be made again.
    """
    try:
        found = evaluate(work.folder / MODEL, work.dataset, split="validation")
        write_evaluated(found, work.folder)
        write_run_page(work, run, found)
    except WeevitError as error:
        return f"No report: {error.message}"
    name = "map" if found.multi_label else "top1"
    return f"model/ on the validation split: {name} {shown(name, found.metrics[name])} · {work.folder / REPORT}"


def write_evaluated(evaluation: Evaluation, folder: Path) -> None:
    """Write an evaluation into a run's folder as `evaluation.html`, beside the run's `report.html`."""
    write_evaluation(evaluation, folder)
    with TRAINING.writing(folder):
        (folder / REPORT_HTML).replace(folder / EVALUATION_PAGE)


def write_run_page(work: Work, run: Run, evaluation: Evaluation) -> None:
    """The page of a training run."""
    name = "map" if evaluation.multi_label else "top1"
    best, what = run.best, "right" if name == "top1" else "mean average precision"
    assert best is not None  # it was evaluated
    when = f"after {_epochs(best.step, work.plan.steps_per_epoch)} of {_epochs(run.total, work.plan.steps_per_epoch)}"
    write_file(
        run.folder / REPORT_HTML,
        render(
            "training.html",
            verb="weevit train",
            title=f"{short_name(evaluation.model)}: {number(len(work.dataset.classes))} classes",
            lede=f"{model_line(evaluation.model)} · {short_path(str(work.recipe.data.path))}",
            verdict=f"The best weights: {percent(evaluation.metrics[name])} {what} of the {_answered(evaluation)}.",
            kind="note",
            tiles=[accuracy_tile("validation", evaluation, name), *time_tiles(run, None), tile("best", when)],
            bars=None,
            links=[(EVALUATION_PAGE, "the evaluation: mistakes, calibration, class by class")],
            failures=[(name, status, error) for name, _, status, error in failures(work)][:LISTED],
            **how_it_went(run, work.recipe, work.loader, work.dataset),
        ),
    )


# ---- accuracy


def _answered(evaluation: Evaluation) -> str:
    return counted(sum(row.ok for row in evaluation.rows), "validation image")


def accuracy_tile(name: str, evaluation: Evaluation, measure: str) -> dict[str, str]:
    """The accuracy of a model on the validation split, or its mean average precision."""
    found = evaluation.metrics
    if measure != "top1":
        return tile(f"{name}: mean average precision", percent(found[measure]), _answered(evaluation))
    note = f"{interval((found['top1_low'], found['top1_high']))} at 95 %, {_answered(evaluation)}"
    return tile(f"{name}: right", percent(found["top1"]), note)


def time_tiles(run: Run, minutes: float | None) -> Iterator[dict[str, str]]:
    """The time of training, and of all steps (`minutes`)."""
    whole = run.minutes if minutes is None else minutes
    yield tile("time", span(60 * whole), f"of it training: {span(60 * run.minutes)}")


# ---- curves


def how_it_went(
    run: Run, recipe: Recipe, loader: Loader, dataset: Dataset, budget: float | None = None
) -> dict[str, Any]:
    """The course of a run, for its template; `budget` are the minutes of all steps, where training is one of them."""
    epoch = loader.steps_per_epoch
    return {
        "curves": [chart for panel in _TITLES if (chart := _curves(panel, run.metrics, epoch))],
        "samples": _samples(loader, recipe, dataset),
        "happened": list(_happened(run, recipe, epoch, budget)),
        "looks": _looks(run, epoch),
        "settings": _settings(run, recipe),
        "recipe": [(key, write_value(value)) for key, value in flat(recipe).items()],
    }


def _curves(panel: str, rows: Sequence[Mapping[str, Any]], epoch: int) -> Svg | None:
    name, share = _TITLES[panel], panel in SHARES
    most = max((row["lr"] for row in rows if row.get("lr")), default=1.0) if panel == "lr" else 1.0
    unit = 10.0 ** math.floor(math.log10(most)) if most > 0 else 1.0
    series = []
    for column, label in PANELS[panel]:
        found = [(row["step"] / epoch, row[column] / unit) for row in rows if column in row]
        if found:
            x, y = zip(*found, strict=True)
            series.append(charts.Series(label, x, y, marks=len(found) <= 12))
    if not series:
        return None
    label = name if unit == 1 else f"{name}, in units of {unit:.0e}"
    across = Axis("epoch", 0.0)
    return charts.line(series, across, Axis(label, None if share else 0.0, None, share), f"{name} over epochs")


def _samples(loader: Loader, recipe: Recipe, dataset: Dataset) -> list[dict[str, Any]]:
    """The first training images, augmented and mixed by the same draws as in training."""
    batch = next(loader.epoch(0))
    if not len(batch.images):
        return []
    images, targets = batch.images.cpu(), batch.targets.cpu()
    images, targets = mix(images, targets, recipe.mix, len(dataset.classes), (recipe.seed, 0))
    shown = zip(to_pixels(images[:_SHOWN], loader.spec), targets[:_SHOWN], strict=True)
    return [
        {"image": in_page(Image.fromarray(pixels)), "alt": f"a training image: {name}", "title": name, "lines": []}
        for pixels, target in shown
        if (name := _named(dataset, target))
    ]


def _named(dataset: Dataset, target: Tensor) -> str:
    if target.ndim == 0:
        return dataset.classes[int(target)]
    shares = {dataset.classes[index]: float(share) for index, share in enumerate(target) if share > 0}
    whole = all(share == 1 for share in shares.values())
    return ", ".join(name if whole else f"{name} {share:.0%}" for name, share in shares.items()) or "no label"


def _happened(run: Run, recipe: Recipe, epoch: int, budget: float | None) -> Iterator[tuple[str, str, str]]:
    yield "epochs", f"{run.planned / epoch:.1f}", f"{run.step / epoch:.1f}"
    yield "updates", number(run.planned), number(run.step)
    yield "images in an update", "", number(recipe.loop.batch_size)
    yield "side of an image, pixels", "", number(recipe.model.image_size)
    minutes = budget if budget is not None else recipe.loop.minutes
    yield "minutes of training", "" if minutes is None else f"{minutes:g} in all", f"{run.minutes:.1f}"
    seen = max((int(row["seen"]) for row in run.metrics), default=0)
    yield "images per second, evaluations included", "", number(seen / (60 * run.minutes) if run.minutes else None, 1)
    yield "ended by", "", run.stopped


def _looks(run: Run, epoch: int) -> str:
    """The decisions on the schedule's end, in a sentence."""
    if not run.ends:
        return ""
    ends = [total for _, total in run.ends]
    return (
        f"The schedule was fitted to the time, {counted(len(ends), 'look', 'looks')} in all: it would have ended after "
        f"{ends[0] / epoch:.1f} epochs by the first one, {min(ends) / epoch:.1f} by the lowest, and ended after "
        f"{ends[-1] / epoch:.1f}."
    )


def _settings(run: Run, recipe: Recipe) -> list[tuple[str, str]]:
    augment, optim = recipe.augment, recipe.optim
    return [
        ("recipe", recipe.name),
        ("weights to begin with", recipe.model.name if recipe.model.pretrained else "fresh"),
        (
            "optimiser",
            f"{optim.name}, rate {recipe.learning_rate:.1e}, weight decay {optim.weight_decay:g}",
        ),
        ("schedule", f"{recipe.schedule.kind}, warmup {recipe.schedule.warmup}"),
        (
            "augmentation",
            f"scale {augment.scale[0]:g} to {augment.scale[1]:g}, {augment.randaugment or 'no RandAugment'}",
        ),
        ("seed", str(recipe.seed)),
        ("data", str(recipe.data.path)),
        ("state", f"sha256 {run.digest}"),
    ]


def _epochs(step: int, epoch: int) -> str:
    return counted(step, "update") if epoch <= 1 else f"{step / epoch:.1f} epochs"
