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
    types = _types(columns)
    plain = {name: [getattr(row, name) for row in rows] for name in (*_BEFORE, *_AFTER)}
    arrays = {name: arrow.array(plain[name], types[name]) for name in _BEFORE}
    for place, column in enumerate(columns):
        values = [None if row.answers is None else row.answers[place] for row in rows]
        arrays[column.name] = _array(values, column, types[column.name])
    arrays |= {name: arrow.array(plain[name], types[name]) for name in _AFTER}
    table = arrow.table(arrays, metadata=metadata)
    arrow.parquet.write_table(table, path, compression="none", use_dictionary=False, row_group_size=len(rows))


_BEFORE = {
    "id": "string",
    "status": "string",
    "error": "string",
    "width": "int32",
    "height": "int32",
    "target": "string",
}
_AFTER = {"fingerprint": "string"}
"""Column -> its type, before and after the answers."""


def _types(columns: list[Column]) -> dict[str, Any]:
    """Every column of a shard, in order, and its Arrow type."""
    arrow = pyarrow()
    kinds = {"string": arrow.list_(arrow.string()), "bool": arrow.bool_()}

    def kind_of(column: Column) -> Any:
        return kinds.get(column.kind) or arrow.list_(arrow.from_numpy_dtype(np.dtype(column.kind)), column.width)

    before, after = ({name: getattr(arrow, kind)() for name, kind in part.items()} for part in (_BEFORE, _AFTER))
    return before | {column.name: kind_of(column) for column in columns} | after


def _array(values: list[Any], column: Column, kind: Any) -> Any:
    return pyarrow().array(values, kind) if column.kind in ("string", "bool") else _vectors(values, column)


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
        JobError: the file is damaged, or of another job.
    """
    table = read_table(path)
    found = {field.name: field.type for field in table.schema}
    if list(found.items()) != list(_types(columns).items()):
        raise _not_ours(path, "its columns are not those of this job")
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
        with path.open("rb") as raw:
            file = arrow.parquet.ParquetFile(raw)
            _refuse_foreign(path, file.metadata, file.schema_arrow)
            return file.read(columns=columns)
    except (OSError, ValueError, MemoryError, arrow.ArrowException) as error:
        raise JobError(f"{path} cannot be read: {error}.", f"weevit jobs verify {typed(path.parent)}") from error


def read_schema(path: Path) -> Any:
    """The Arrow schema of a shard: its columns, and in its metadata what it says of its job.

    Raises:
        JobError: missing or damaged.
    """
    return read_table(path, []).schema


def _refuse_foreign(path: Path, metadata: Any, schema: Any) -> None:
    """Refuse what weevit would not have written, before a column is read: types, and columns larger than the file.

    Raises:
        JobError: so it is.
    """
    plain = {name: str(schema.field(name).type) for name in schema.names}
    if any(plain.get(name) != kind for name, kind in {**_BEFORE, **_AFTER}.items()):
        raise _not_ours(path, "its columns are not those of a job")
    if not all(_is_answer(field.type) for field in schema if field.name not in {**_BEFORE, **_AFTER}):
        raise _not_ours(path, "it has columns of another kind than answers have")
    groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
    chunks = [group.column(place) for group in groups for place in range(metadata.num_columns)]
    if any(chunk.compression != "UNCOMPRESSED" or chunk.has_dictionary_page for chunk in chunks):
        raise _not_ours(path, "it is packed, and might unpack to any size")


def _is_answer(kind: Any) -> bool:
    types = pyarrow().types
    if types.is_fixed_size_list(kind) or types.is_list(kind):
        kind = kind.value_type
    return bool(types.is_floating(kind) or types.is_int32(kind) or types.is_string(kind) or types.is_boolean(kind))


def _not_ours(path: Path, why: str) -> JobError:
    return JobError(
        f"{path} is not a file of a job: {why}.", f"Delete it and rerun the command that made {path.parent}."
    )


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
