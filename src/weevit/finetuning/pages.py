"""The page of a fine-tuning: the fine-tuned model beside the linear head, and the course of the run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from weevit.batches.loader import Loader
from weevit.datasets.dataset import TRAIN
from weevit.evaluation.report import short_path, tile
from weevit.evaluation.results import Evaluation
from weevit.evaluation.saved import REPORT_HTML
from weevit.finetuning.baseline import FineTuned
from weevit.finetuning.task import Task
from weevit.reports import charts
from weevit.reports.axes import Axis, Svg
from weevit.reports.page import number, points, render
from weevit.store.files import write_file
from weevit.training.pages import EVALUATION_PAGE, LISTED, accuracy_tile, how_it_went, time_tiles


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
        went = how_it_went(done.run, recipe, loader, task.held, done.budget)
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
                *(accuracy_tile(name, side, measure) for name, side in sides if side),
                *_difference(done),
                *([] if done.run is None else time_tiles(done.run, done.minutes)),
            ],
            bars=_bars(sides, measure),
            links=links,
            failures=[(name, status, error) for _, name, status, error in done.failures][:LISTED],
            **went,
        ),
    )


def _difference(done: FineTuned) -> Iterator[dict[str, str]]:
    compared = done.comparison
    if compared is not None and done.measure == "top1":
        note = f"{points(compared.low)} to {points(compared.high)} at 95 %"
        yield tile("difference, points", points(compared.difference), note)
        alone = f"right alone: {compared.only_second:,} fine-tuned, {compared.only_first:,} head"
        yield tile("paired test (McNemar)", f"p = {compared.p_value:.2g}", alone)


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
