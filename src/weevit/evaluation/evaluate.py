"""`weevit.evaluate`: how good a model is on images whose classes are known.

data ── its classes found by name among the model's ── one pass ── rows and figures ── a folder to read and to look at
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from weevit.datasets.dataset import Dataset, Split, Targets
from weevit.datasets.read import check_there, read_dataset
from weevit.errors import DatasetError, UsageError
from weevit.evaluation import metrics
from weevit.evaluation.ask import AllOf, Asked, OneOf, Watcher, ask
from weevit.evaluation.metrics import Ints
from weevit.evaluation.model import JudgedModel, judged, labels_of, match_classes, unknown_below
from weevit.evaluation.results import DataFacts, Evaluation, Row
from weevit.evaluation.rows import figures_of, label_rows, rows_of, worst_case
from weevit.evaluation.saved import EVALUATION, reporting, write_evaluation
from weevit.images.names import ids_of
from weevit.predict import Predictor
from weevit.zoo.labels import Label

SPLITS = ("test", "validation", "all")
"""What is evaluated where nothing is said: the first of these that there is. Never what was trained on."""


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
    """Ask a model about images whose classes are known, and hold its answers against them.

    Classes are matched by name: a class of the data is found among the model's by its id, else by its name for people.

    Args:
        model: as for `weevit.load`, or what that returned (with another batch or image size, for instance), or
            a `weevit.evaluation.model.JudgedModel`, whoever gives its answers.
        data: a folder with a subfolder for each class, with or without `train/ val/ test/` above them; a CSV, TSV or
            Parquet file with paths and labels; tars; or a data set that was read.
        output: a folder for `report.html`, `report.json`, `per_class.csv` and `predictions.csv`; none by default.
        split: which part of the data; by default the first of `test`, `validation`, `all` that there is.
        allow_missing: the data may lack some of the model's classes.
        table: `csv` or `parquet`, for the predictions.
        watch: told after each image.

    Raises:
        DatasetError: classes do not fit (all of them are listed), or there is no such split.
        UsageError: the model has no classifier, or no class names.
        MissingExtraError: a report is wanted, and jinja2 or filelock is not installed.
        OutputError: the folder cannot be written.
    """
    with reporting(output, EVALUATION, (model, data), table):
        evaluation = _evaluate(model, data, split, allow_missing, watch)
        if output is not None:
            write_evaluation(evaluation, Path(output), table)
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


def evaluate_logits(
    logits: npt.ArrayLike,
    targets: npt.ArrayLike,
    unknown: float | None = None,
    thresholds: npt.ArrayLike = 0.5,
) -> Iterator[tuple[str, float]]:
    """Every figure of some logits, as (name, value): for whoever has them already.

    Args:
        logits: (n, K).
        targets: (n) class index, or (n, K) with 1 for each label of an image.
        unknown: the probability under which the answer is that it is not known; None where that is never said.
        thresholds: probability from which a label is said to be there, one for all or (K); for (n, K) targets.
    """
    scores, truth = np.asarray(logits), np.asarray(targets)
    if truth.ndim == 2:
        yield from metrics.multi_label(metrics.sigmoid(scores), truth, thresholds)
    else:
        yield from figures_of(metrics.judge(scores, truth), scores.shape[1], unknown)


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
    """What was measured on; plain data."""
    try:
        fingerprint = dataset.fingerprint()
    except UsageError:  # images in memory, which nothing could find again
        fingerprint = ""
    return {"path": dataset.path, "split": part.name, "fingerprint": fingerprint, "notes": list(dataset.notes)}


def _in_head(targets: Targets, indices: Ints, labels: Sequence[Label]) -> Ints:
    """(n) or (n, K) targets of the data as those of the head."""
    if targets.ndim == 1:
        return np.asarray(indices[targets.astype(np.int64)], dtype=np.int64)
    flags = np.zeros((len(targets), len(labels)), dtype=np.int64)
    flags[:, indices] = targets
    return flags


@dataclass(frozen=True)
class _Found:
    """What came of a pass."""

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
    figures = dict(figures_of(judged, len(labels), unknown)) | worst_case(judged, len(ids), len(labels))
    return _Found(rows, figures, asked)


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
