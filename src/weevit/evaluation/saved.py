"""An evaluation as a folder: `report.json`, `per_class.csv`, `predictions.csv` (or `.parquet`), `report.html`.

The JSON and the table of predictions are all of it: what is read back gives the same figures and the same page. The
JSON is written last, so that a folder that has one is whole.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, TypeVar, cast

import numpy as np

from weevit.errors import MalformedFileError, OutputError, UsageError
from weevit.evaluation.results import BETWEEN, DataFacts, Evaluation, ModelFacts, Row
from weevit.images.parquet import pyarrow
from weevit.images.source import Source
from weevit.outputs import first_line, local, refuse_foreign, refuse_inputs
from weevit.reports.page import is_page, require_jinja
from weevit.text import csv_bytes, csv_row, plain_cell, typed
from weevit.zoo.fields import MAX_CLASSES, whole
from weevit.zoo.labels import Label
from weevit.zoo.manifest import replace_file
from weevit.zoo.own import read_own
from weevit.zoo.records import (
    Flag,
    Name,
    Text,
    anything,
    either,
    items,
    nothing,
    number,
    read_record,
    read_record_file,
    record,
    table,
    words,
)

T = TypeVar("T")

SCHEMA = "weevit.evaluation/2"
REPORT_JSON, REPORT_HTML, PER_CLASS, PREDICTIONS = "report.json", "report.html", "per_class.csv", "predictions"
TABLES = ("csv", "parquet")
OURS = (REPORT_JSON, REPORT_HTML, PER_CLASS, *(f"{PREDICTIONS}.{table}" for table in TABLES))

MAX_BYTES = 4 << 30
"""Of a table of predictions: ten million images."""

_CLASS_COLUMNS = ("id", "name", "precision", "recall", "f1", "support", "answered")

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
    own = {f"{PREDICTIONS}.csv": [field.name for field in fields(Row)], PER_CLASS: _CLASS_COLUMNS, **headers}
    columns = own.get(path.name)
    return columns is not None and first_line(path).startswith(csv_row(columns).rstrip())


def clear_evaluation(folder: Path) -> None:
    """Delete what an evaluation wrote, so that none of a model that is gone stays behind; other files stay."""
    names = (REPORT_JSON, REPORT_HTML, PER_CLASS, *(f"{PREDICTIONS}.{ending}" for ending in TABLES))
    for name in names:
        with_errors(folder, partial((folder / name).unlink, missing_ok=True))
    with suppress(OSError):  # not there, or not empty
        folder.rmdir()


def write_evaluation(evaluation: Evaluation, folder: Path, table: str = "csv") -> None:
    """Write the four files; each appears whole or not at all.

    Raises:
        OutputError: the disk is full or the folder cannot be written.
    """
    from weevit.evaluation.report import evaluation_page

    check_folder(folder, table)
    columns = [field.name for field in fields(Row)]
    rows = [[getattr(row, name) for name in columns] for row in evaluation.rows]
    other = folder / f"{PREDICTIONS}.{TABLES[1 - TABLES.index(table)]}"
    with_errors(folder, lambda: other.unlink(missing_ok=True))  # of an evaluation that was here before
    if table == "csv":
        write_bytes(folder / f"{PREDICTIONS}.csv", csv_bytes(columns, rows))
    else:
        _write_parquet(folder / f"{PREDICTIONS}.parquet", columns, rows)
    write_bytes(folder / PER_CLASS, csv_bytes(*_class_table(evaluation)))
    write_bytes(folder / REPORT_HTML, evaluation_page(evaluation).encode("utf-8", "backslashreplace"))
    write_bytes(folder / REPORT_JSON, json_bytes(as_json(evaluation)))


def read_evaluation(folder: str | Path) -> Evaluation:
    """An evaluation that was written.

    Raises:
        UsageError: there is none, or not a whole one.
    """
    folder = Path(folder)
    try:
        content = read_record_file(Saved, folder / REPORT_JSON, SCHEMA)
        rows = _read_rows(folder, frozenset(one.id for one in content.classes), content.multi_label)
    except (OSError, MalformedFileError) as error:
        raise UsageError(
            f"{folder} holds no whole evaluation: {error}", f"weevit eval MODEL DATA -o {typed(folder)}   makes one"
        ) from error
    root = Path(content.data["path"])
    return Evaluation(
        model=cast(ModelFacts, content.model),
        data=cast(DataFacts, content.data),
        classes=tuple(Label(one.id, one.name) for one in content.classes),
        multi_label=content.multi_label,
        rows=rows,
        metrics={name: _number(value) for name, value in content.metrics.items()},
        average_precision=tuple(map(_number, content.average_precision)),
        seconds=_number(content.seconds),
        sources=tuple(Source(row.id, root / row.id) for row in rows),
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
        "failures": [{"id": row.id, "status": row.status, "error": row.error} for row in evaluation.failures],
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


def _write_parquet(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    arrow = pyarrow()
    kinds = {"float | None": arrow.float64(), "int | None": arrow.int64(), "bool": arrow.bool_()}
    types = [kinds.get(str(field.type), arrow.string()) for field in fields(Row)]
    arrays = [arrow.array([row[at] for row in rows], kind) for at, kind in enumerate(types)]
    table = arrow.table(dict(zip(columns, arrays, strict=True)))
    with_errors(path, lambda: replace_file(path, lambda tmp: arrow.parquet.write_table(table, tmp)))


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


@dataclass(frozen=True)
class SavedRow:
    """`Row`."""

    id: Text
    status: Name
    error: Annotated[str | None, either(words(1 << 16), nothing)]
    target: Text
    answer: Annotated[str | None, either(words(1 << 16), nothing)]
    probability: Annotated[float | None, either(number(0, 1.000001), nothing)]
    target_probability: Annotated[float | None, either(number(0, 1.000001), nothing)]
    rank: Annotated[int | None, either(whole(1, MAX_CLASSES), nothing)]
    right: Flag
    unknown: Flag


def _read_rows(folder: Path, classes: frozenset[str], multi_label: bool) -> tuple[Row, ...]:
    """The table of predictions.

    Raises:
        FileNotFoundError: there is none.
        MalformedFileError: it is not one that weevit writes, or names a class that the report does not have.
    """
    parquet, text = (folder / f"{PREDICTIONS}.{kind}" for kind in reversed(TABLES))
    path = parquet if parquet.is_file() else text
    content = read_own(path, MAX_BYTES)
    values = _parquet_rows(content, path) if path == parquet else _csv_rows(content, path)
    rows = []
    for place, raw in enumerate(values, 1):
        where = f"{path}, row {place}"
        row = Row(**vars(read_record(SavedRow, raw, where)))
        _refuse_strange(row, classes, multi_label, where)
        rows.append(row)
    return tuple(rows)


def _refuse_strange(row: Row, classes: frozenset[str], multi_label: bool, where: str) -> None:
    def known(text: str) -> bool:
        return text in classes or all(name in classes for name in text.split(BETWEEN) if name)

    if not (known(row.target) and known(row.answer or "")):
        raise MalformedFileError(f"{where} names a class that {REPORT_JSON} does not have.")
    if row.ok and not multi_label and (not row.target or not row.answer or row.probability is None):
        raise MalformedFileError(f"{where} is answered, and lacks its target, its answer or its probability.")


def _parquet_rows(content: bytes, path: Path) -> Iterator[dict[str, Any]]:
    arrow = pyarrow()
    try:
        for batch in arrow.parquet.ParquetFile(io.BytesIO(content)).iter_batches(1024):
            yield from batch.to_pylist()
    except (OSError, ValueError, MemoryError, arrow.ArrowException) as error:
        raise MalformedFileError(f"{path} cannot be read: {error}.") from error


def _csv_rows(content: bytes, path: Path) -> Iterator[dict[str, Any]]:
    try:
        lines = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", newline="")
        for values in csv.DictReader(lines):
            yield _typed({name: plain_cell(text) if isinstance(text, str) else text for name, text in values.items()})
    except (ValueError, csv.Error) as error:
        raise MalformedFileError(f"{path} cannot be read: {error}.") from error


def _typed(values: dict[str, Any]) -> dict[str, Any]:
    """A row of a CSV, in which nothing and an empty text look the same."""
    kinds = {"error": str, "probability": float, "target_probability": float, "rank": int}
    found = {name: kinds[name](value) if value else None for name, value in values.items() if name in kinds}
    flags = {"0": False, "1": True, "": False}
    found |= {name: flags.get(value, value) for name, value in values.items() if name in ("right", "unknown")}
    answer = values.get("answer") if values.get("status") == "ok" else None
    return {**{str(name): value for name, value in values.items()}, **found, "answer": answer}


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
