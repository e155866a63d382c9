"""A shard on disk: a Parquet file with a row for each input, whether it has an answer or not.

Uncompressed and plainly encoded: embeddings do not compress, and the same rows always give the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from weevit.errors import JobError, UsageError
from weevit.images.parquet import pyarrow
from weevit.jobs.columns import Column, Kind
from weevit.text import typed

_NUMBERS = {"halffloat": np.float16, "float": np.float32, "int32": np.int32}
"""Arrow's name of a type -> numpy's; to ask Arrow takes pandas before pyarrow 26."""

MAX_NUMBERS = 1 << 32
"""Of a column that is made into one array: 16 GiB of float32."""


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
        return kinds.get(column.kind) or arrow.list_(arrow.from_numpy_dtype(np.dtype(column.kind)))

    before, after = ({name: getattr(arrow, kind)() for name, kind in part.items()} for part in (_BEFORE, _AFTER))
    return before | {column.name: kind_of(column) for column in columns} | after


def _array(values: list[Any], column: Column, kind: Any) -> Any:
    return pyarrow().array(values, kind) if column.kind in ("string", "bool") else vector_array(values, column.kind)


def vector_array(values: Sequence[npt.NDArray[Any] | None], kind: Kind) -> Any:
    """Arrays of one size, or None, as an Arrow array of lists.

    The lists are not of a fixed size for Arrow: with an absent one among them, Parquet files of such lists could be
    neither written nor read before pyarrow 26, nor read by what is built on an older one.
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
        raise JobError(f"{path} cannot be read: {error}.", f"weevit jobs verify {typed(job_of(path))}") from error


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
    if types.is_list(kind):
        kind = kind.value_type
    return bool(str(kind) in _NUMBERS or types.is_string(kind) or types.is_boolean(kind))


def _not_ours(path: Path, why: str) -> JobError:
    return JobError(
        f"{path} is not a file of a job: {why}.", f"Delete it and rerun the command that made {job_of(path)}."
    )


def job_of(path: Path) -> Path:
    """The folder of the job that a shard is of, where it lies in its place."""
    return path.parent.parent


def vectors(table: Any, name: str) -> Any:
    """A column of lists of numbers as (rows, width), without a copy where no row is absent; zeros where one is.

    Raises:
        JobError: the lists differ in size.
    """
    column = table.column(name)
    column = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()  # which would copy even one
    kind, values = _NUMBERS[str(column.type.value_type)], column.values
    numbers = np.frombuffer(values.buffers()[1] or b"", kind)[values.offset :]
    if pyarrow().types.is_fixed_size_list(column.type):  # as `read_results` gives them
        width = column.type.list_size
        return numbers[column.offset * width :][: len(column) * width].reshape(len(column), width)
    ends = np.frombuffer(column.buffers()[1] or bytes(4), np.int32)[column.offset :][: len(column) + 1]
    sizes = np.diff(ends)
    width = int(sizes.max(initial=0))
    if not np.isin(sizes, (0, width)).all() or len(sizes) * width > MAX_NUMBERS:
        raise JobError(f"The lists of the column {name!r} differ in size, or are too long.")
    present = numbers[ends[0] : ends[-1]].reshape(-1, width) if width else numbers[:0].reshape(0, 0)
    if len(present) == len(sizes):
        return present
    found = np.zeros((len(sizes), width), kind)
    found[sizes > 0] = present
    return found


def _names(columns: list[Column]) -> set[str]:
    return {column.name for column in columns}
