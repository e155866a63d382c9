"""`weevit.evaluate`: how good a model is on images with known classes.

data ── its classes matched by name to the model's ── one pass ── rows and figures ── a folder with a report
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from weevit.datasets.dataset import Dataset, Split, Targets
from weevit.datasets.read import check_there, read_dataset
from weevit.errors import DatasetError, UsageError
from weevit.evaluation import metrics
from weevit.evaluation.ask import AllOf, Asked, OneOf, Watcher, ask
from weevit.evaluation.metrics import Ints
from weevit.evaluation.model import JudgedModel, judged, labels_of, match_classes, unknown_below
from weevit.evaluation.results import DataFacts, Evaluation, Row
from weevit.evaluation.rows import all_figures, label_rows, rows_of
from weevit.evaluation.saved import EVALUATION, reporting, write_evaluation
from weevit.images.names import ids_of
from weevit.predict import Predictor
from weevit.store.outputs import local
from weevit.zoo.labels import Label

SPLITS = ("test", "validation", "all")
"""The default is the first of these in the data. Never the training split."""


def evaluate(
    model: str | Path | Predictor | JudgedModel,
    data: str | Path | Dataset,
    output: str | Path | None = None,
    *,
    split: str | None = None,
    allow_missing: bool = False,
    table: str = "csv",
    watch: Watcher = lambda progress: None,
) -> Evaluation:
    """Measure a model on images with known classes.

    Classes are matched by name: a class of the data to the model's by its id, else by its name for people.

    Args:
        model: as for `weevit.load`, or a loaded model (with another batch or image size, for instance), or any
            `weevit.evaluation.model.JudgedModel`.
        data: a folder with a subfolder per class, with or without `train/ val/ test/` above them; a CSV, TSV or Parquet
            file with paths and labels; tars; or a `Dataset`.
        output: a folder for `report.html`, `report.json`, `per_class.csv` and `predictions.csv`; none by default.
        split: the split to measure on; by default the first of `test`, `validation`, `all` in the data.
        allow_missing: accept data that lacks some of the model's classes.
        table: format of the predictions, `csv` or `parquet`.
        watch: called after each image.

    Raises:
        DatasetError: classes do not fit (all of them are listed), or there is no such split.
        UsageError: the model has no classifier, or no class names.
        MissingExtraError: a report needs jinja2 or filelock, which is not installed.
        OutputError: the folder cannot be written.
    """
    with reporting(output, EVALUATION, (model, data), table):
        evaluation = _evaluate(model, data, split, allow_missing, watch)
        if output is not None:
            write_evaluation(evaluation, local(output), table)
    return evaluation


def _evaluate(
    asked: str | Path | Predictor | JudgedModel,
    data: str | Path | Dataset,
    split: str | None,
    allow_missing: bool,
    watch: Watcher,
) -> Evaluation:
    check_there(data)
    model = judged(asked)
    labels, decision = labels_of(model.checkpoint), model.checkpoint.decision
    dataset = data if isinstance(data, Dataset) else read_dataset(data, allow_missing=allow_missing)
    indices = match_classes(dataset.classes, labels, allow_missing)
    part = choose_split(dataset, split)
    several = dataset.multi_label or (decision is not None and decision.multi_label)
    ids = ids_of(part.sources, dataset.path)
    found = (_several if several else _one)(model, part, ids, _in_head(part.targets, indices, labels), watch)
    return Evaluation(
        model=model.facts,
        data=describe_data(dataset, part),
        classes=labels,
        multi_label=several,
        rows=tuple(found.rows),
        metrics=found.figures,
        average_precision=found.precisions,
        seconds=found.asked.progress.seconds,
        sources=part.sources,
    )


def choose_split(dataset: Dataset, name: str | None) -> Split:
    """The split of this name, by default the first of `SPLITS` in the data; DatasetError where there is none."""
    for default in SPLITS if name is None else (name,):
        if name is not None or default in dataset.splits:
            return dataset.split(default)
    there = ", ".join(dataset.splits)
    raise DatasetError(
        f"{dataset.path} has no split for evaluation, only {there}. What a model was trained on does not tell how good "
        "it is.",
        f"--split {next(iter(dataset.splits), 'train')}   if you want it all the same",
    )


def describe_data(dataset: Dataset, part: Split) -> DataFacts:
    """The data that a figure was measured on, as plain data."""
    try:
        fingerprint = dataset.fingerprint()
    except UsageError:  # images in memory have no address
        fingerprint = ""
    return {"path": dataset.path, "split": part.name, "fingerprint": fingerprint, "notes": list(dataset.notes)}


def _in_head(targets: Targets, indices: Ints, labels: Sequence[Label]) -> Ints:
    """The (n) or (n, K) targets of the data as targets of the head."""
    if targets.ndim == 1:
        return np.asarray(indices[targets.astype(np.int64)], dtype=np.int64)
    flags = np.zeros((len(targets), len(labels)), dtype=np.int64)
    flags[:, indices] = targets
    return flags


@dataclass(frozen=True)
class _Found:
    """The rows and figures of a pass."""

    rows: list[Row]
    figures: dict[str, float]
    asked: Asked
    precisions: tuple[float, ...] = ()


def _one(model: JudgedModel, part: Split, ids: Sequence[str], targets: Ints, watch: Watcher) -> _Found:
    labels, unknown = labels_of(model.checkpoint), unknown_below(model.checkpoint)
    right = [(int(target),) for target in targets]
    judge = OneOf(right)
    asked = ask(model, part.sources, [judge], watch)
    indices, judged = judge.verdict()
    rows = rows_of(ids, right, labels, (indices, judged), asked, unknown)
    return _Found(rows, all_figures(judged, len(labels), len(ids), unknown), asked)


def _several(model: JudgedModel, part: Split, ids: Sequence[str], targets: Ints, watch: Watcher) -> _Found:
    labels = labels_of(model.checkpoint)
    flags = targets if targets.ndim == 2 else np.eye(len(labels), dtype=np.int64)[targets]
    judge = AllOf(len(labels))
    asked = ask(model, part.sources, [judge], watch)
    indices, probabilities = judge.verdict()
    decision = model.checkpoint.decision
    thresholds = np.asarray((decision.label_thresholds if decision else None) or 0.5, dtype=np.float64)
    figures = dict(metrics.multi_label(probabilities, flags[indices], thresholds))
    precisions = metrics.average_precision(probabilities, flags[indices])
    rows = label_rows(ids, flags, labels, (indices, (probabilities >= thresholds).astype(np.int64)), asked)
    return _Found(rows, figures, asked, tuple(float(value) for value in precisions))
