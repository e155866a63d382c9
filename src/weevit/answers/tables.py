"""Answers as tables: CSV with flattened lists, and Arrow for Parquet with lists."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from weevit.answers.columns import Column, Kind, metadata, plain
from weevit.errors import MalformedFileError, UsageError
from weevit.images.parquet import pyarrow
from weevit.text import csv_row, plain_cell

BETWEEN = ";"
"""Separator of the names of a set in CSV."""


# ---- CSV


def csv_lines(rows: Iterable[Any], columns: Sequence[Column]) -> Iterator[bytes]:
    """A table: the names of the columns (`class_id1`, `class_id2`, ... where classes are ranked), then the rows."""
    yield _line([_names(column) for column in columns])
    for row in rows:
        yield _line([_cells(plain(column.value(row), column), column) for column in columns])


def _line(cells: Sequence[Sequence[Any]]) -> bytes:
    """Columns with the same number of cells are interleaved: the first cell of each, then the second of each."""
    flat = (cell for _, group in groupby(cells, len) for rank in zip(*group, strict=True) for cell in rank)
    return csv_row(flat).encode("utf-8", "backslashreplace")


def _names(column: Column) -> list[str]:
    """The names of the column's cells."""
    return [f"{column.name}{rank + 1}" for rank in range(*column.shape)] if column.form == "ranked" else [column.name]


def _cells(value: Any, column: Column) -> list[Any]:
    if value is None:
        return [None] * len(_names(column))
    return value if column.form == "ranked" else [BETWEEN.join(value) if column.form == "set" else value]


def read_csv(content: bytes, columns: Sequence[Column], where: str) -> Iterator[dict[str, Any]]:
    """The rows that `csv_lines` wrote, as column -> value or None; MalformedFileError for a wrong column or cell."""
    lines = csv.reader(io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", newline=""))
    try:
        names = next(lines, [])
        if sorted(names) != sorted(name for column in columns for name in _names(column)):
            raise MalformedFileError(f"{where} has other columns than {', '.join(column.name for column in columns)}.")
        for cells in lines:
            found = dict(zip(names, map(plain_cell, cells), strict=True))
            yield {column.name: _value([found[name] for name in _names(column)], column) for column in columns}
    except (ValueError, csv.Error) as error:
        raise MalformedFileError(f"{where} cannot be read: {error}.") from error


def _value(texts: list[str], column: Column) -> Any:
    if not any(texts):
        return None
    if column.form == "set":
        return texts[0].split(BETWEEN)
    own = [_typed(text, column.kind) for text in texts]
    return own if column.form == "ranked" else own[0]


def _typed(text: str, kind: Kind) -> Any:
    if kind == "string":
        return text
    if kind == "bool":
        return {"0": False, "1": True}.get(text, text)
    with np.errstate(over="ignore"):  # a number above float32's range becomes infinite
        return int(text) if kind == "int32" else float(np.dtype(kind).type(text))


# ---- Arrow


def arrow_table(rows: Iterable[Any], columns: Sequence[Column], said: dict[str, str] | None = None) -> Any:
    """Rows as a `pyarrow.Table`; its metadata has the schema's version, the shapes of vectors, and `said`."""
    values = [[column.value(row) for column in columns] for row in rows]
    by_column = zip(*values, strict=True) if values else [()] * len(columns)
    arrays = {
        column.name: _lists(own, column.kind) if column.has_arrays else pyarrow().array(own, arrow_type(column))
        for column, own in zip(columns, by_column, strict=True)
    }
    return pyarrow().table(arrays, metadata=metadata(columns) | (said or {}))


def arrow_type(column: Column) -> Any:
    """The Arrow type of a column."""
    arrow = pyarrow()
    named = {"string": arrow.string(), "bool": arrow.bool_()}
    kind = named.get(column.kind) or arrow.from_numpy_dtype(np.dtype(column.kind))
    return kind if column.form == "one" else arrow.list_(kind)


def _lists(values: Sequence[npt.NDArray[Any] | None], kind: Kind) -> Any:
    """Arrays of one size, or None, as an Arrow array of lists.

    The lists have no fixed size for Arrow: with absent ones, pyarrow before 26 and libraries built on it can neither
        write
    nor read Parquet files of such lists.
    """
    arrow = pyarrow()
    there = np.array([value is not None for value in values], bool)
    present = [value.reshape(-1) for value in values if value is not None]
    flat = np.concatenate(present) if present else np.zeros(0, kind)
    width = len(present[0]) if present else 0
    ends = np.concatenate([[0], np.cumsum(there)]) * width
    if ends[-1] > np.iinfo(np.int32).max:
        raise UsageError(f"{len(values):,} rows of {width:,} numbers are too many for one file.", "--shard-size 64")
    # Put together from buffers: `from_arrays` loads pyarrow.compute, 10 MB and 30 ms.
    own = arrow.Array.from_buffers(arrow.from_numpy_dtype(np.dtype(kind)), len(flat), [None, arrow.py_buffer(flat)])
    buffers = [arrow.py_buffer(np.packbits(there, bitorder="little")), arrow.py_buffer(ends.astype(np.int32))]
    return arrow.Array.from_buffers(arrow.list_(own.type), len(values), buffers, children=[own])
