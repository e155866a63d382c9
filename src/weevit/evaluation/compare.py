"""`weevit.compare`: which of two models is better on the same images, and whether that is luck."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from weevit.arguments import MAX_SEED, whole
from weevit.datasets.dataset import Dataset
from weevit.datasets.read import read_dataset
from weevit.errors import DatasetError, UsageError
from weevit.evaluation.ask import Watcher
from weevit.evaluation.comparison_report import comparison_page
from weevit.evaluation.evaluate import evaluate
from weevit.evaluation.paired import bootstrap_difference, mcnemar
from weevit.evaluation.results import Comparison, Evaluation
from weevit.evaluation.saved import is_evaluation, read_evaluation, report, reporting, write_report
from weevit.predict import Predictor
from weevit.store.files import finite
from weevit.store.outputs import local
from weevit.text import signed

SCHEMA = "weevit.comparison/2"
COMPARISON = report(SCHEMA, {})

Model = str | Path | Predictor
Given = Model | Evaluation


def compare(
    first: Given,
    second: Given,
    data: str | Path | Dataset | None = None,
    output: str | Path | None = None,
    *,
    split: str | None = None,
    allow_missing: bool = False,
    seed: int = 0,
    watch: Watcher = lambda progress: None,
) -> Comparison:
    """Compare two models on the same images, or two saved evaluations of the same images.

    Args:
        first, second: models as for `weevit.evaluate` if there is data; else evaluations, or folders of them.
        data: the images, as for `weevit.evaluate`.
        output: a folder for `report.html` and `report.json`; none by default.
        split, allow_missing: as for `weevit.evaluate`.
        seed: seed of the bootstrap.
        watch: called after each image of either model.

    Raises:
        UsageError: models without data, or evaluations with data.
        DatasetError: the evaluations are not of the same images and classes.
    """
    whole("seed", seed, 0, MAX_SEED)
    with reporting(output, COMPARISON, (first, second, data)):
        if data is None:
            evaluations = [_saved(given) for given in (first, second)]
        else:
            dataset = data if isinstance(data, Dataset) else read_dataset(data, allow_missing=allow_missing)
            evaluations = [
                evaluate(_model(given), dataset, split=split, allow_missing=allow_missing, watch=watch)
                for given in (first, second)
            ]
        comparison = compare_evaluations(evaluations[0], evaluations[1], seed, same_run=data is not None)
        if output is not None:
            write_comparison(comparison, local(output))
    return comparison


def _model(given: Given) -> Model:
    if isinstance(given, Evaluation):
        raise UsageError("With data, both arguments must be models; an evaluation was given.", "Leave the data out.")
    return given


def _saved(given: Given) -> Evaluation:
    if isinstance(given, Evaluation):
        return given
    if isinstance(given, str | Path) and is_evaluation(given):
        return read_evaluation(given)
    name = given.checkpoint.name if isinstance(given, Predictor) else str(given)
    raise UsageError(
        f"{name!r} is no saved evaluation, and there is no data on which to compare models.",
        "weevit compare MODEL MODEL DATA, or the folders that weevit eval -o wrote",
    )


def compare_evaluations(first: Evaluation, second: Evaluation, seed: int = 0, same_run: bool = False) -> Comparison:
    """Compare two evaluations; DatasetError where they are not of the same images and classes."""
    second = _in_order(first, second)
    rows = list(zip(first.rows, second.rows, strict=True))
    indices = tuple(index for index, (one, other) in enumerate(rows) if one.ok and other.ok)
    counts = Counter((rows[index][0].right, rows[index][1].right) for index in indices)
    only_first, only_second = counts[True, False], counts[False, True]
    p_value, mid_p = mcnemar(only_first, only_second)
    same = counts[True, True] + counts[False, False]
    low, high = bootstrap_difference((only_first, only_second, same), seed)
    return Comparison(
        first=first,
        second=second,
        indices=indices,
        both=counts[True, True],
        only_first=only_first,
        only_second=only_second,
        neither=counts[False, False],
        p_value=p_value,
        mid_p=mid_p,
        low=low,
        high=high,
        seed=seed,
        same_run=same_run,
    )


def _in_order(first: Evaluation, second: Evaluation) -> Evaluation:
    """The second evaluation with its rows in the order of the first."""
    for which in (first, second):
        name, times = next(iter(Counter(row.input for row in which.rows).most_common(1)), ("", 0))
        if times > 1:  # one row would stand for all of them
            raise DatasetError(
                f"An evaluation has {times} rows of {name}; each image has one.",
                "weevit compare MODEL MODEL DATA   asks both about the same",
            )
    indices = {row.input: index for index, row in enumerate(second.rows)}
    names = {row.input for row in first.rows}
    less, more = sorted(names - set(indices)), sorted(set(indices) - names)
    pairs = [(row, second.rows[indices[row.input]]) for row in first.rows if row.input in indices]
    other = [one.input for one, two in pairs if one.target != two.target]
    if less or more or other:
        raise DatasetError(
            "The two evaluations are not of the same images (- only in the first, + only in the second, ! of another "
            "class):\n" + "\n".join([*signed("-", less, 10), *signed("+", more, 10), *signed("!", other, 10)]),
            "weevit compare MODEL MODEL DATA   asks both about the same",
        )
    order = [indices[row.input] for row in first.rows]
    sources = tuple(second.sources[index] for index in order) if second.sources else ()
    return replace(second, rows=tuple(second.rows[index] for index in order), sources=sources)


def write_comparison(comparison: Comparison, folder: Path) -> None:
    """Write `report.html` and `report.json`; OutputError where the disk does not take them."""
    write_report(folder, comparison_page(comparison), comparison_json(comparison))


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """Everything but the rows, as plain data; an undefined figure is null."""
    names = ("both", "only_first", "only_second", "neither", "difference", "low", "high", "p_value", "mid_p", "seed")
    return finite(
        {
            "schema": SCHEMA,
            "first": _side(comparison.first),
            "second": _side(comparison.second),
            "data": dict(comparison.first.data),
            "images": len(comparison.indices),
            "left_out": len(comparison.first.rows) - len(comparison.indices),
            **{name: getattr(comparison, name) for name in names},
            "classes": [
                {"id": name, "images": count, "first": one, "second": other}
                for name, count, one, other in comparison.wins()
            ],
            "disagreements": [
                {"input": one.input, "target": one.target, "first": one.answer, "second": other.answer}
                for second in (False, True)
                for index in comparison.only(second)
                for one, other in [(comparison.first.rows[index], comparison.second.rows[index])]
            ],
        }
    )


def _side(evaluation: Evaluation) -> dict[str, Any]:
    return {
        "model": dict(evaluation.model),
        "metrics": dict(evaluation.metrics),
        "images_per_second": evaluation.images_per_second,
    }
