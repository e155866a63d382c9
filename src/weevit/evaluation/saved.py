"""An evaluation as a folder: `report.json`, `per_class.csv`, `predictions.csv` (or `.parquet`), `report.html`.

The JSON and the table of predictions are all of it: what is read back gives the same figures and the same page. The
JSON is written last, so that a folder that has one is whole.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, TypeVar

import numpy as np

from weevit.answers.tables import arrow_table, csv_lines
from weevit.errors import MalformedFileError, OutputError, UsageError
from weevit.evaluation.predictions import prediction_columns, read_predictions
from weevit.evaluation.results import Evaluation
from weevit.images.parquet import pyarrow
from weevit.images.source import Source
from weevit.outputs import first_line, free_name, local, refuse_foreign, refuse_inputs
from weevit.reports.page import is_page, require_jinja
from weevit.text import csv_bytes, csv_row, typed
from weevit.zoo.fields import MAX_CLASSES
from weevit.zoo.labels import Label
from weevit.zoo.manifest import replace_file
from weevit.zoo.own import read_own
from weevit.zoo.records import (
    MAX_RECORD_BYTES,
    Flag,
    anything,
    either,
    items,
    nothing,
    number,
    read_record_file,
    record,
    table,
    words,
)
from weevit.zoo.strict_json import parse_json_object

T = TypeVar("T")

SCHEMA = "weevit.evaluation/2"
_OLD = "weevit.evaluation/1"
REPORT_JSON, REPORT_HTML, PER_CLASS, PREDICTIONS = "report.json", "report.html", "per_class.csv", "predictions"
TABLES = ("csv", "parquet")
OURS = (REPORT_JSON, REPORT_HTML, PER_CLASS, *(f"{PREDICTIONS}.{table}" for table in TABLES))

_CLASS_COLUMNS = ("class_id", "class_name", "precision", "recall", "f1", "support", "answered")

_POINTS = 201
"""Of the coverage curve in the JSON; the rows have them all."""


def check_folder(folder: Path, table: str = "csv") -> None:
    """Find out that a report could not be written before anything is computed for it.

    Raises:
        UsageError: another table than `csv` or `parquet`; the name of a file.
        MissingExtraError: jinja2, or pyarrow for Parquet, is not installed.
        OutputError: the folder cannot be made.
    """
    if table not in TABLES:
        raise UsageError(f"Predictions are written as {' or '.join(TABLES)}: {table!r} was given.", "--table csv")
    local(folder)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; a report is a folder.", "-o report")
    require_jinja()
    if table == "parquet":
        pyarrow()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made: {error.strerror or error}.", "Choose another --output.") from error


def check_report(output: str | Path, schema: str, inputs: Iterable[object], table: str = "csv") -> None:
    """Find out that a report could not be written, or would destroy something, before anything is computed for it.

    Args:
        output: the folder.
        schema: of the report.
        inputs: models and data; those that are no paths are passed over.
        table: `csv` or `parquet`.

    Raises:
        UsageError: an address; an input; a folder of something else; or as `check_folder`.
        MissingExtraError, OutputError: as `check_folder`.
    """
    folder = local(output)
    check_folder(folder, table)
    refuse_others(folder, (schema,), inputs)


def refuse_others(
    folder: Path,
    schemas: Sequence[str],
    inputs: Iterable[object] = (),
    headers: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> None:
    """Refuse a folder whose files the verb did not write, or in which an input lies.

    Args:
        folder: of a report.
        schemas: of the reports that the verb writes.
        inputs: models and data; those that are no paths are passed over.
        headers: tables that the verb writes beside the report -> their columns.

    Raises:
        UsageError: it is not empty, and holds no such report.
    """
    refuse_inputs(folder, [one for one in inputs if isinstance(one, str | Path)], inside=True)
    what = " or ".join(schema.removeprefix("weevit.").partition("/")[0] for schema in schemas)
    refuse_foreign(folder, lambda path: _is_ours(path, schemas, headers), what)


def _is_ours(folder: Path, schemas: Sequence[str], headers: Mapping[str, Sequence[str]]) -> bool:
    """By the schema of its report; one that was stopped while it was written has none yet, but files with a sign."""
    if (folder / "run.json").exists():  # a fit or a training, which has a report of its own
        return False
    try:
        return json.loads((folder / REPORT_JSON).read_bytes())["schema"] in schemas
    except FileNotFoundError:
        return all(_has_sign(path, schemas, headers) for path in folder.iterdir() if not path.name.startswith("."))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _has_sign(path: Path, schemas: Sequence[str], headers: Mapping[str, Sequence[str]]) -> bool:
    if path.is_dir():
        return _is_ours(path, schemas, headers)
    if path.name == REPORT_HTML:
        return is_page(path)
    if path.name == f"{PREDICTIONS}.parquet":
        return path.read_bytes()[:4] == b"PAR1"
    if path.name == f"{PREDICTIONS}.csv":
        names = first_line(path).split(",")
        return names[:3] == ["input", "status", "error"] and "target" in names
    columns = {PER_CLASS: _CLASS_COLUMNS, **headers}.get(path.name)
    return columns is not None and first_line(path).startswith(csv_row(columns).rstrip())


def clear_evaluation(folder: Path) -> None:
    """Delete what an evaluation wrote, so that none of a model that is gone stays behind; other files stay."""
    names = (REPORT_JSON, REPORT_HTML, PER_CLASS, *(f"{PREDICTIONS}.{ending}" for ending in TABLES))
    for name in names:
        with_errors(folder, lambda name=name: (folder / name).unlink(missing_ok=True))  # type: ignore[misc]
    with suppress(OSError):  # not there, or not empty
        folder.rmdir()


def write_evaluation(evaluation: Evaluation, folder: Path, table: str = "csv") -> None:
    """Write the four files; each appears whole or not at all.

    Raises:
        OutputError: the disk is full or the folder cannot be written.
    """
    from weevit.evaluation.report import evaluation_page

    check_folder(folder, table)
    columns = prediction_columns(evaluation.classes, evaluation.multi_label, _may_not_know(evaluation.model))
    path = folder / f"{PREDICTIONS}.{table}"
    other = folder / f"{PREDICTIONS}.{TABLES[1 - TABLES.index(table)]}"
    with_errors(folder, lambda: other.unlink(missing_ok=True))  # of an evaluation that was here before
    if table == "csv":
        write_bytes(path, b"".join(csv_lines(evaluation.rows, columns)))
    else:
        rows = arrow_table(evaluation.rows, columns)
        with_errors(path, lambda: replace_file(path, lambda tmp: pyarrow().parquet.write_table(rows, tmp)))
    write_bytes(folder / PER_CLASS, csv_bytes(*_class_table(evaluation)))
    write_bytes(folder / REPORT_HTML, evaluation_page(evaluation).encode("utf-8", "backslashreplace"))
    write_bytes(folder / REPORT_JSON, json_bytes(as_json(evaluation)))


def read_evaluation(folder: str | Path) -> Evaluation:
    """An evaluation that was written.

    Raises:
        UsageError: there is none, or not a whole one.
    """
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
        model=content.model,
        data=content.data,
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
    """Refuse an evaluation of an older kind, whose columns have other names.

    Raises:
        UsageError: it is one.
    """
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
    """Everything but the rows, as plain data; what is not defined is null."""
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
    plain: dict[str, Any] = finite(values if evaluation.multi_label else values | _curves(evaluation))
    return plain


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
    """One row per class: precision, recall, F1, support, how often answered; of labels the average precision too."""
    columns = list(_CLASS_COLUMNS)
    values = [getattr(evaluation.per_class, name).tolist() for name in columns[2:]]
    if evaluation.average_precision:
        columns, values = [*columns, "average_precision"], [*values, evaluation.average_precision]
    return columns, [[*label, *row] for label, *row in zip(evaluation.classes, *values, strict=True)]


# ---- files


def write_bytes(path: Path, data: bytes) -> None:
    """A file, whole or not at all.

    Raises:
        OutputError: the disk is full or the folder cannot be written.
    """
    with_errors(path, lambda: replace_file(path, lambda tmp: tmp.write_bytes(data)))


def with_errors(path: Path, write: Callable[[], T]) -> T:
    """Do something to a file, and turn the operating system's errors into ours."""
    try:
        return write()
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {error.strerror or error}.", "Free some room or choose another --output."
        ) from error


def json_bytes(values: Mapping[str, Any]) -> bytes:
    """One object, as a file."""
    text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode("utf-8", "backslashreplace")


def finite(value: Any) -> Any:
    """Plain data with None for NaN and infinity, which JSON does not have."""
    if isinstance(value, Mapping):
        return {name: finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


# ---- reading: what others may have written


def _data(value: Any) -> dict[str, Any]:
    found: dict[str, Any] = _plain(value)
    for name in ("path", "split", "fingerprint"):
        if not isinstance(found.get(name), str):
            raise ValueError(f"an object whose {name} is text")
    notes = found.get("notes", [])
    if not isinstance(notes, list) or not all(isinstance(note, str) for note in notes):
        raise ValueError("an object whose notes are texts")
    return found


_plain = table(words(256), anything, 256)
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
    """`report.json`; what follows from the rows is written for others, and not read."""

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
