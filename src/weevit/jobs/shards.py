"""A shard on disk: a Parquet file with a row for each input, whether it has an answer or not.

Uncompressed and plainly encoded: embeddings do not compress, and the same rows always give the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from weevit.errors import JobError
from weevit.images.parquet import pyarrow
from weevit.jobs.columns import Column
from weevit.text import typed


@dataclass(slots=True)
class Row:
    """One input and what became of it; `answers` has a value for each column, and is None where there is no answer."""

    id: str
    fingerprint: str
    target: str | None = None
    status: str = "ok"
    error: str | None = None
    width: int | None = None
    height: int | None = None
    answers: list[Any] | None = None


def write_shard(path: Path, rows: list[Row], columns: list[Column], metadata: dict[str, str]) -> None:
    """Write a Parquet file; the caller sees to it that it appears under its name only when it is whole."""
    arrow = pyarrow()
    arrays = {
        "id": arrow.array([row.id for row in rows], arrow.string()),
        "status": arrow.array([row.status for row in rows], arrow.string()),
        "error": arrow.array([row.error for row in rows], arrow.string()),
        "width": arrow.array([row.width for row in rows], arrow.int32()),
        "height": arrow.array([row.height for row in rows], arrow.int32()),
        "target": arrow.array([row.target for row in rows], arrow.string()),
    }
    for place, column in enumerate(columns):
        values = [None if row.answers is None else row.answers[place] for row in rows]
        arrays[column.name] = _array(values, column)
    arrays["fingerprint"] = arrow.array([row.fingerprint for row in rows], arrow.string())
    table = arrow.table(arrays, metadata=metadata)
    arrow.parquet.write_table(table, path, compression="none", use_dictionary=False, row_group_size=len(rows))


def _array(values: list[Any], column: Column) -> Any:
    arrow = pyarrow()
    if column.kind == "string":
        return arrow.array(values, arrow.list_(arrow.string()))
    return arrow.array(values, arrow.bool_()) if column.kind == "bool" else _vectors(values, column)


def _vectors(values: list[Any], column: Column) -> Any:
    arrow = pyarrow()
    flat = np.zeros((len(values), column.width), column.kind)
    absent = np.array([value is None for value in values])
    if not absent.all():
        present = np.stack([value for value in values if value is not None])
        flat[~absent] = present.reshape(len(present), column.width)
    # Put together from its buffers: `from_arrays` with a mask loads pyarrow.compute, 10 MB and 30 ms.
    own = arrow.Array.from_buffers(arrow.from_numpy_dtype(flat.dtype), flat.size, [None, arrow.py_buffer(flat)])
    there = arrow.py_buffer(np.packbits(~absent, bitorder="little"))
    return arrow.Array.from_buffers(arrow.list_(own.type, column.width), len(flat), [there], children=[own])


def read_rows(path: Path, columns: list[Column]) -> list[Row]:
    """The rows of a shard, as they were written.

    Raises:
        JobError: the file is damaged.
    """
    table = read_table(path)
    plain = {name: table.column(name).to_pylist() for name in table.column_names if name not in _names(columns)}
    answers = [
        table.column(column.name).to_pylist() if column.kind in ("string", "bool") else vectors(table, column.name)
        for column in columns
    ]
    return [
        Row(
            **{name: values[index] for name, values in plain.items()},
            answers=[own[index] for own in answers] if plain["status"][index] == "ok" else None,
        )
        for index in range(table.num_rows)
    ]


def read_table(path: Path, columns: list[str] | None = None) -> Any:
    """A shard as an Arrow table.

    Raises:
        JobError: missing or damaged.
    """
    arrow = pyarrow()
    try:
        return arrow.parquet.ParquetFile(path).read(columns=columns)
    except (OSError, arrow.ArrowException) as error:
        raise JobError(f"{path} cannot be read: {error}.", f"weevit jobs verify {typed(path.parent)}") from error


def vectors(table: Any, name: str) -> Any:
    """A column of fixed-size lists as (rows, width), without a copy; zeros where there is no answer."""
    column = table.column(name)
    column = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()  # which would copy even one
    kind = column.type.value_type.to_pandas_dtype()
    start = column.offset * column.type.list_size
    flat = np.frombuffer(column.values.buffers()[1], kind)[start : start + len(column) * column.type.list_size]
    return flat.reshape(len(column), column.type.list_size)


def _names(columns: list[Column]) -> set[str]:
    return {column.name for column in columns}
