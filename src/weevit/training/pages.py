"""The pages of `train` and `finetune`: quality, course, samples and settings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from weevit.datasets.dataset import TRAIN, Dataset
from weevit.evaluation.report import model_line, short_name, short_path, tile
from weevit.evaluation.results import Evaluation
from weevit.evaluation.saved import REPORT_HTML, write_evaluation
from weevit.reports import charts
from weevit.reports.axes import Axis, Svg
from weevit.reports.page import counted, interval, number, percent, points, render
from weevit.reports.thumbnails import in_page
from weevit.store.files import write_file
from weevit.text import span
from weevit.training.data import Loader
from weevit.training.mixing import mix
from weevit.training.plots import PANELS, to_pixels
from weevit.training.recipe import flat
from weevit.training.recipe_file import write_value
from weevit.training.results import Run, failures
from weevit.training.run_folder import EVALUATION, TRAINING
from weevit.training.schema import Recipe
from weevit.training.watch import SHARES

if TYPE_CHECKING:
    from weevit.training.baseline import FineTuned
    from weevit.training.setup import Work
    from weevit.training.task import Task

EVALUATION_PAGE = EVALUATION

_SHOWN = 12
"""Training images on the page."""

_LISTED = 200

_TITLES = {"loss": "loss", "top1": "right answers", "map": "mean average precision", "lr": "learning rate"}
"""Panel of `PANELS` -> its title."""


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
            tiles=[_tile("validation", evaluation, name), *_time_tiles(run, None), tile("best", when)],
            bars=None,
            links=[(EVALUATION_PAGE, "the evaluation: mistakes, calibration, class by class")],
            failures=[(name, status, error) for name, _, status, error in failures(work)][:_LISTED],
            **_how_it_went(run, work.recipe, work.loader, work.dataset),
        ),
    )


def write_finetune_page(done: FineTuned, task: Task) -> None:
    """The page of a fine-tuning."""
    measure, compared = done.measure, done.comparison
    tuned = compared.second if compared else None
    sides = [("fine-tuned", tuned), ("linear head", done.head)]
    links = [(EVALUATION_PAGE, "the evaluation of the kept weights: mistakes, calibration, each class")]
    links += [("comparison/report.html", "both compared, image by image")] if compared else []
    links += [("probe/report.html", "the linear head")]
    assert done.plan is not None
    recipe, held = done.plan.recipe, task.held.split(TRAIN)
    went: dict[str, Any] = {"curves": [], "samples": [], "happened": [], "looks": "", "settings": [], "recipe": []}
    if done.run is not None:
        loader = Loader(held, recipe, task.checkpoint.preprocessing, torch.device("cpu"))
        went = _how_it_went(done.run, recipe, loader, task.held, done.budget)
    write_file(
        done.folder / REPORT_HTML,
        render(
            "training.html",
            verb="weevit finetune",
            title=f"{short_path(task.dataset.path)}: {number(len(task.dataset.classes))} classes",
            lede=f"{task.checkpoint.name} · {task.dataset.contents()}",
            verdict=f"Kept is {done.verdict()}.",
            kind="good" if done.chosen == "tuned" else "note",
            tiles=[
                *(_tile(name, side, measure) for name, side in sides if side),
                *_difference(done),
                *([] if done.run is None else _time_tiles(done.run, done.minutes)),
            ],
            bars=_bars(sides, measure),
            links=links,
            failures=[(name, status, error) for _, name, status, error in done.failures][:_LISTED],
            **went,
        ),
    )


# ---- accuracy


def _answered(evaluation: Evaluation) -> str:
    return counted(sum(row.ok for row in evaluation.rows), "validation image")


def _tile(name: str, evaluation: Evaluation, measure: str) -> dict[str, str]:
    found = evaluation.metrics
    if measure != "top1":
        return tile(f"{name}: mean average precision", percent(found[measure]), _answered(evaluation))
    note = f"{interval((found['top1_low'], found['top1_high']))} at 95 %, {_answered(evaluation)}"
    return tile(f"{name}: right", percent(found["top1"]), note)


def _difference(done: FineTuned) -> Iterator[dict[str, str]]:
    compared = done.comparison
    if compared is not None and done.measure == "top1":
        note = f"{points(compared.low)} to {points(compared.high)} at 95 %"
        yield tile("difference, points", points(compared.difference), note)
        alone = f"right alone: {compared.only_second:,} fine-tuned, {compared.only_first:,} head"
        yield tile("paired test (McNemar)", f"p = {compared.p_value:.2g}", alone)


def _time_tiles(run: Run, minutes: float | None) -> Iterator[dict[str, str]]:
    whole = run.minutes if minutes is None else minutes
    yield tile("time", span(60 * whole), f"of it training: {span(60 * run.minutes)}")


def _bars(sides: Sequence[tuple[str, Evaluation | None]], measure: str) -> Svg | None:
    rows = [
        charts.Bar(name, side.metrics[measure], side.metrics.get("top1_low"), side.metrics.get("top1_high"))
        for name, side in sides
        if side is not None
    ]
    if measure != "top1":
        rows = [charts.Bar(row.name, row.value) for row in rows]
    what = "right on the validation images" if measure == "top1" else "mean average precision"
    return charts.bars(rows, Axis(what, 0.0, 1.0, percent=True), f"The fine-tuned model and the head: {what}")


# ---- curves


def _how_it_went(
    run: Run, recipe: Recipe, loader: Loader, dataset: Dataset, budget: float | None = None
) -> dict[str, Any]:
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
    images, targets = mix(images, targets, recipe.mix, len(dataset.classes), recipe.seed, 0)
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
