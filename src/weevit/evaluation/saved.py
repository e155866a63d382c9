"""An evaluation as a folder: `report.json`, `per_class.csv`, `predictions.csv` (or `.parquet`), `report.html`.

The JSON and the predictions are complete: read back, they give the same figures and the same page. The JSON is written
last, so that a folder with one is whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np

from weevit.answers.tables import arrow_table, csv_lines
from weevit.errors import MalformedFileError, UsageError
from weevit.evaluation.predictions import prediction_columns, read_predictions
from weevit.evaluation.results import DataFacts, Evaluation, ModelFacts
from weevit.images.parquet import pyarrow
from weevit.images.source import Source
from weevit.reports.page import is_page, require_jinja
from weevit.store.files import finite, write_file, write_whole, writing
from weevit.store.folder import Kind, check_folder, held
from weevit.store.outputs import first_line, free_name, local
from weevit.store.own import read_own
from weevit.text import csv_bytes, csv_row, typed
from weevit.zoo.fields import MAX_CLASSES
from weevit.zoo.labels import Label
from weevit.zoo.records import (
    MAX_RECORD_BYTES,
    Flag,
    anything,
    either,
    having,
    items,
    nothing,
    number,
    read_record_file,
    record,
    table,
    words,
)
from weevit.zoo.strict_json import parse_json_object

SCHEMA = "weevit.evaluation/2"
_OLD = "weevit.evaluation/1"
REPORT_JSON, REPORT_HTML, PER_CLASS, PREDICTIONS = "report.json", "report.html", "per_class.csv", "predictions"
TABLES = ("csv", "parquet")
OURS = (REPORT_JSON, REPORT_HTML, PER_CLASS, *(f"{PREDICTIONS}.{table}" for table in TABLES))

_CLASS_COLUMNS = ("class_id", "class_name", "precision", "recall", "f1", "support", "answered")

_POINTS = 201
"""Points of the coverage curve in the JSON; the rows have all."""


def _begins(text: str) -> Callable[[Path], bool]:
    """A function that recognises a table by its beginning."""
    return lambda path: first_line(path).startswith(text)


def _has_predictions(path: Path) -> bool:
    names = first_line(path).split(",")
    return names[:3] == ["input", "status", "error"] and "target" in names


def report(schema: str, own: Mapping[str, Callable[[Path], bool]]) -> Kind:
    """The folder of a report that is replaced as a whole.

    Args:
        schema: schema of `report.json`.
        own: further files, each with the function that recognises it.
    """
    name = schema.removeprefix("weevit.").partition("/")[0]
    schemas = (schema.partition("/")[0],)
    return Kind(name, REPORT_JSON, schemas, {"": ("*",)}, {REPORT_HTML: is_page, **own})


EVALUATION = report(
    SCHEMA,
    {
        f"{PREDICTIONS}.csv": _has_predictions,
        f"{PREDICTIONS}.parquet": _begins("PAR1"),
        PER_CLASS: _begins(csv_row(_CLASS_COLUMNS).rstrip()),
    },
)


def check_report(output: str | Path | None, kind: Kind, inputs: Iterable[object], table: str = "csv") -> None:
    """Refuse an output that could not be written, or would destroy something, before anything is computed.

    Args:
        output: the folder; None for no report.
        kind: kind of the report.
        inputs: models and data; only paths are looked at.
        table: `csv` or `parquet`.

    Raises:
        UsageError: another table; or as `weevit.store.folder.check_folder`.
        MissingExtraError: jinja2, filelock, or pyarrow for Parquet, is not installed.
        OutputError: as `check_folder`.
    """
    if output is None:
        return
    if table not in TABLES:
        raise UsageError(f"Predictions are written as {' or '.join(TABLES)}: {table!r} was given.", "--table csv")
    require_jinja()
    if table == "parquet":
        pyarrow()
    check_folder(local(output), kind, inputs)


@contextmanager
def reporting(output: str | Path | None, kind: Kind, inputs: Iterable[object], table: str = "csv") -> Iterator[None]:
    """Check as `check_report`, with its errors, and hold the folder of the report while the block runs."""
    check_report(output, kind, inputs, table)
    with nullcontext() if output is None else held(local(output), kind, inputs):
        yield


def write_report(folder: Path, page: str, values: Mapping[str, Any]) -> None:
    """Write `report.html`, then `report.json`: a folder with the JSON is whole. OutputError as for `write_file`."""
    write_file(folder / REPORT_HTML, page)
    write_file(folder / REPORT_JSON, values)


def clear_evaluation(folder: Path) -> None:
    """Delete the files of an evaluation of a replaced model; other files stay."""
    with writing(folder):
        for name in OURS:
            (folder / name).unlink(missing_ok=True)
    with suppress(OSError):  # missing, or not empty
        folder.rmdir()


def write_evaluation(evaluation: Evaluation, folder: Path, table: str = "csv") -> None:
    """Write the four files, each whole or not at all; OutputError where the disk does not take them."""
    from weevit.evaluation.report import evaluation_page

    columns = prediction_columns(evaluation.classes, evaluation.multi_label, _may_not_know(evaluation.model))
    path = folder / f"{PREDICTIONS}.{table}"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    other = folder / f"{PREDICTIONS}.{TABLES[1 - TABLES.index(table)]}"
    with writing(other):
        other.unlink(missing_ok=True)  # from an earlier evaluation in this folder
    if table == "csv":
        write_file(path, b"".join(csv_lines(evaluation.rows, columns)))
    else:
        rows = arrow_table(evaluation.rows, columns)
        write_whole(path, lambda file: pyarrow().parquet.write_table(rows, file))
    write_file(folder / PER_CLASS, csv_bytes(*_class_table(evaluation)))
    write_report(folder, evaluation_page(evaluation), as_json(evaluation))


def read_evaluation(folder: str | Path) -> Evaluation:
    """Read a saved evaluation; UsageError where there is no whole one."""
    folder = Path(folder)
    _refuse_old(folder)
    try:
        content = read_record_file(Saved, folder / REPORT_JSON, SCHEMA)
        classes = tuple(Label(one.id, one.name) for one in content.classes)
        tables = [folder / f"{PREDICTIONS}.{table}" for table in reversed(TABLES)]
        path = next((path for path in tables if path.is_file()), tables[-1])
        rows = read_predictions(path, classes, content.multi_label, _may_not_know(content.model))
    except (OSError, MalformedFileError) as error:
        raise UsageError(
            f"{folder} holds no whole evaluation: {error}", f"weevit eval MODEL DATA -o {typed(folder)}   makes one"
        ) from error
    root = Path(content.data["path"])
    return Evaluation(
        model=cast(ModelFacts, content.model),
        data=cast(DataFacts, content.data),
        classes=classes,
        multi_label=content.multi_label,
        rows=rows,
        metrics={name: _number(value) for name, value in content.metrics.items()},
        average_precision=tuple(map(_number, content.average_precision)),
        seconds=_number(content.seconds),
        sources=tuple(Source(row.input, root / row.input) for row in rows),
    )


def _may_not_know(model: Mapping[str, Any]) -> bool:
    return model.get("unknown_below") is not None


def _refuse_old(folder: Path) -> None:
    """Refuse an evaluation of an older schema, whose columns have other names, with a UsageError."""
    with suppress(OSError, MalformedFileError):
        if parse_json_object(read_own(folder / REPORT_JSON, MAX_RECORD_BYTES), REPORT_JSON).get("schema") == _OLD:
            raise UsageError(
                f"{folder} is an evaluation of an older kind ({_OLD}), whose columns have other names than those of "
                f"{SCHEMA}.",
                f"weevit eval MODEL DATA -o {typed(free_name(folder))}   measures again",
            )


def is_evaluation(path: str | Path) -> bool:
    """Whether a path leads to a saved evaluation."""
    return (Path(path) / REPORT_JSON).is_file()


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    """Everything but the rows, as plain data; an undefined figure is null."""
    columns, table = _class_table(evaluation)
    values = {
        "schema": SCHEMA,
        "model": dict(evaluation.model),
        "data": dict(evaluation.data),
        "images": len(evaluation.rows),
        "answered": len(evaluation.answered),
        "failed": dict(evaluation.failed),
        "multi_label": evaluation.multi_label,
        "metrics": dict(evaluation.metrics),
        "seconds": evaluation.seconds,
        "images_per_second": evaluation.images_per_second,
        "classes": [{"id": label.id, "name": label.name} for label in evaluation.classes],
        "average_precision": list(evaluation.average_precision),
        "per_class": [dict(zip(columns, row, strict=True)) for row in table],
        "failures": [{"input": row.input, "status": row.status, "error": row.error} for row in evaluation.failures],
    }
    return finite(values if evaluation.multi_label else values | _curves(evaluation))


def _curves(evaluation: Evaluation) -> dict[str, Any]:
    bins, curve = evaluation.calibration, evaluation.coverage
    some = np.unique(np.linspace(0, len(curve.coverage) - 1, _POINTS).astype(int).clip(min=0))[: len(curve.coverage)]
    return {
        "confused": [
            {"target": target, "answer": answer, "count": count} for target, answer, count in evaluation.confused(100)
        ],
        "calibration": {name: getattr(bins, name).tolist() for name in ("edges", "confidence", "accuracy", "counts")},
        "coverage": {name: getattr(curve, name)[some].tolist() for name in ("thresholds", "coverage", "accuracy")},
    }


def _class_table(evaluation: Evaluation) -> tuple[list[str], list[list[Any]]]:
    """A row per class: precision, recall, F1, support, answers; for labels the average precision too."""
    columns = list(_CLASS_COLUMNS)
    values = [getattr(evaluation.per_class, name).tolist() for name in columns[2:]]
    if evaluation.average_precision:
        columns, values = [*columns, "average_precision"], [*values, evaluation.average_precision]
    return columns, [[*label, *row] for label, *row in zip(evaluation.classes, *values, strict=True)]


# ---- reading: untrusted files


_plain = table(words(256), anything, 256)
_text = words(1 << 20)
_data = having(
    _plain,
    "an object",
    {**dict.fromkeys(("path", "split", "fingerprint"), _text), "notes": either(items(_text, 1 << 16), nothing)},
)
_figure = either(number(), nothing)

Plain = Annotated[dict[str, Any], _plain]
Ignored = Annotated[Any, anything]


@dataclass(frozen=True)
class SavedLabel:
    """A class."""

    id: Annotated[str, words(1 << 16)]
    name: Annotated[str, words(1 << 16)]


@dataclass(frozen=True)
class Saved:
    """`report.json`; keys that follow from the rows are for others, and not read."""

    model: Plain
    data: Annotated[dict[str, Any], _data]
    multi_label: Flag
    metrics: Annotated[dict[str, float | None], table(words(256), _figure, 1024)]
    seconds: Annotated[float | None, _figure]
    classes: Annotated[tuple[SavedLabel, ...], items(record(SavedLabel), MAX_CLASSES)]
    average_precision: Annotated[tuple[float | None, ...], items(_figure, MAX_CLASSES)]
    images: Ignored = None
    answered: Ignored = None
    failed: Ignored = None
    images_per_second: Ignored = None
    per_class: Ignored = None
    failures: Ignored = None
    confused: Ignored = None
    calibration: Ignored = None
    coverage: Ignored = None


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
