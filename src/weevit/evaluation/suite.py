"""`weevit.evaluate_suite`: a model on ImageNet's test sets, beside the published figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from weevit.evaluation.ask import OneOf, Watcher, ask
from weevit.evaluation.evaluate import describe_data
from weevit.evaluation.imagenet import SETS, Material, TestSet, Truth, find_sets, read_set
from weevit.evaluation.model import describe, judged, labels_of, unknown_below
from weevit.evaluation.results import DataFacts, Evaluation, SetResult, SuiteEvaluation
from weevit.evaluation.rows import all_figures, rows_of
from weevit.evaluation.saved import EVALUATION, clear_evaluation, report, reporting, write_evaluation, write_report
from weevit.evaluation.suite_report import suite_page
from weevit.images.names import ids_of
from weevit.predict import Predictor, load
from weevit.store.files import finite
from weevit.store.outputs import local
from weevit.zoo.weights import BY_NAME

SCHEMA = "weevit.suite/2"
SUITE = report(SCHEMA, {one.name: lambda path: path.is_dir() and EVALUATION.is_ours(path) for one in SETS})


def evaluate_suite(
    model: str | Path | Predictor,
    suite: str | Path,
    output: str | Path | None = None,
    *,
    table: str = "csv",
    watch: Watcher = lambda progress: None,
) -> SuiteEvaluation:
    """Measure a model with ImageNet's classes on the sets in a folder.

    Args:
        model: as for `weevit.load`, or a loaded model.
        suite: folder of the sets, see `imagenet.SETS`; absent sets are named.
        output: a folder for `report.html` and `report.json`, with a folder per set for its evaluation.
        table: format of the predictions, `csv` or `parquet`.
        watch: called after each image; its total is that of the current set.

    Raises:
        DatasetError: none of the sets is there, or one has other classes than ImageNet's.
        UsageError: the model has no classifier, or no class names.
        MissingExtraError: a report needs jinja2 or filelock, which is not installed.
        OutputError: the folder cannot be written.
    """
    with reporting(output, SUITE, (model, suite), table):
        found = find_sets(Path(suite))
        predictor = model if isinstance(model, Predictor) else load(model)
        results: list[SetResult] = []
        notes = _notes(predictor)
        for one, path in found.items():
            material = read_set(one, path, Path(suite), labels_of(predictor.checkpoint))
            results += _results(predictor, material, watch)
            notes += material.notes
        there = {result.name for result in results}
        absent = tuple(one.title for one in SETS if one.name not in there)
        evaluated = SuiteEvaluation(describe(predictor), str(suite), tuple(results), absent, tuple(notes))
        if output is not None:
            write_suite(evaluated, local(output), table)
    return evaluated


def _notes(predictor: Predictor) -> list[str]:
    weight = BY_NAME.get(predictor.checkpoint.name)
    if weight is None or not weight.metrics:
        return ["No figures are published for these weights."]
    if predictor.preprocessing != weight.preprocessing:
        return [f"The published figures are of the weights' own preprocessing, at {weight.img_size} px; these are not."]
    return []


def _results(predictor: Predictor, material: Material, watch: Watcher) -> list[SetResult]:
    """One pass over a folder, judged by each of its truths."""
    judges = [OneOf(truth.targets, truth.columns) for truth in material.truths]
    asked = ask(judged(predictor), material.part.sources, judges, watch)
    ids = ids_of(material.part.sources, material.dataset.path)
    unknown = unknown_below(predictor.checkpoint)
    results = []
    for truth, judge in zip(material.truths, judges, strict=True):
        verdict = judge.verdict()
        rows = rows_of(ids, truth.targets, truth.labels, verdict, asked, unknown)
        counted = [source for source, own in zip(material.part.sources, truth.targets, strict=True) if own]
        evaluation = Evaluation(
            model=describe(predictor),
            data=_data(material, truth),
            classes=truth.labels,
            multi_label=False,
            rows=tuple(rows),
            metrics=all_figures(verdict[1], len(truth.labels), len(rows), unknown),
            seconds=asked.progress.seconds,
            sources=tuple(counted),
        )
        results.append(_result(predictor, truth.name, evaluation))
    return results


def _data(material: Material, truth: Truth) -> DataFacts:
    one, data = _set(truth.name), describe_data(material.dataset, material.part)
    if truth.columns is not None:
        data["notes"].append(f"Only the {len(truth.labels)} classes of {one.title.partition(',')[0]} are answers here.")
    return {**data, "split": one.title}


def _result(predictor: Predictor, name: str, evaluation: Evaluation) -> SetResult:
    one, weight = _set(name), BY_NAME.get(predictor.checkpoint.name)
    published = weight.metrics.get(name) if weight else None
    return SetResult(name, one.title, one.images, evaluation, published)


def _set(name: str) -> TestSet:
    return next(one for one in SETS if one.name == name)


def write_suite(suite: SuiteEvaluation, folder: Path, table: str = "csv") -> None:
    """Write both reports and a folder for each set; OutputError where the disk does not take them."""
    there = {one.name for one in suite.sets}
    for name in (one.name for one in SETS if one.name not in there):
        clear_evaluation(folder / name)  # from an earlier suite in this folder
    for one in suite.sets:
        write_evaluation(one.evaluation, folder / one.name, table)
    write_report(folder, suite_page(suite), suite_json(suite))


def suite_json(suite: SuiteEvaluation) -> dict[str, Any]:
    """Everything but the rows, as plain data; an undefined figure is null."""
    return finite(
        {
            "schema": SCHEMA,
            "model": dict(suite.model),
            "path": suite.path,
            "sets": [_set_json(one) for one in suite.sets],
            "absent": list(suite.absent),
            "notes": list(suite.notes),
        }
    )


def _set_json(one: SetResult) -> dict[str, Any]:
    evaluation, differences = one.evaluation, one.differences
    return {
        "name": one.name,
        "title": one.title,
        "path": evaluation.data["path"],
        "images": len(evaluation.rows),
        "images_of_the_whole_set": one.images,
        "failed": dict(evaluation.failed),
        "metrics": dict(evaluation.metrics),
        "published_percent": one.published and {"top1": one.published[0], "top5": one.published[1]},
        "difference_points": differences and {"top1": differences[0], "top5": differences[1]},
        "seconds": evaluation.seconds,
    }
