"""A shard on disk: a Parquet file with a row per input, with or without an answer.

Uncompressed and plainly encoded: embeddings do not compress, and the same rows always give the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from weevit.answers.columns import COMMON, Column
from weevit.answers.tables import arrow_table, arrow_type
from weevit.errors import JobError
from weevit.images.parquet import pyarrow
from weevit.jobs.plan import DATA
from weevit.store.place import Place
from weevit.text import typed

_NUMBERS = {"halffloat": np.float16, "float": np.float32, "int32": np.int32}
"""Arrow's name of a type -> numpy's; asking Arrow needs pandas before pyarrow 26."""

MAX_NUMBERS = 1 << 32
"""Numbers of a column in one array: 16 GiB of float32."""


@dataclass(slots=True)
class Row:
    """One input and its answer; `answers` has a value per column, None where there is no answer."""

    input: str
    fingerprint: str
    target: str | None = None
    status: str = "ok"
    error: str | None = None
    width: int | None = None
    height: int | None = None
    answers: list[Any] | None = None

    @property
    def failure(self) -> str:
        """The kind of the failure: `truncated`, `missing`, ..."""
        return (self.error or self.status).partition(":")[0]


OWN = (Column("target", "string", attrgetter("target")), Column("fingerprint", "string", attrgetter("fingerprint")))
"""Further columns of a job's rows."""


def write_shard(path: Path, rows: list[Row], columns: Sequence[Column], said: dict[str, str]) -> None:
    """Write a Parquet file; the caller renames it when it is whole."""

    def answer(index: int, row: Row) -> Any:
        return row.answers and row.answers[index]

    answers = [replace(column, value=partial(answer, index)) for index, column in enumerate(columns)]
    table = arrow_table(rows, [*COMMON, *answers, *OWN], said)
    parquet = pyarrow().parquet
    with path.open("wb") as file:  # of a path pyarrow takes UTF-8 only
        parquet.write_table(table, file, compression="none", use_dictionary=False, row_group_size=len(rows))


def read_rows(place: Place, file: str, columns: Sequence[Column]) -> list[Row]:
    """The rows of a shard; JobError where the file is damaged, or of another job."""
    table = read_table(place, file)
    found = {field.name: field.type for field in table.schema}
    if list(found.items()) != [(column.name, arrow_type(column)) for column in (*COMMON, *columns, *OWN)]:
        raise _not_ours(place, file, "its columns are not those of this job")
    plain = {column.name: table.column(column.name).to_pylist() for column in (*COMMON, *OWN)}
    answers = [
        vectors(table, column.name) if column.has_arrays else table.column(column.name).to_pylist()
        for column in columns
    ]
    return [
        Row(
            **{name: values[index] for name, values in plain.items()},
            answers=[own[index] for own in answers] if plain["status"][index] == "ok" else None,
        )
        for index in range(table.num_rows)
    ]


def read_table(place: Place, name: str, columns: list[str] | None = None) -> Any:
    """A shard as an Arrow table; JobError where it is missing, damaged, or not written by a job."""

    def read(file: Any) -> Any:
        _refuse_foreign(place, name, file)
        return file.read(columns=columns)

    return _opened(place, name, read)


def read_schema(place: Place, name: str) -> Any:
    """The Arrow schema of any Parquet file; JobError where it is missing or damaged."""
    return _opened(place, name, lambda file: file.schema_arrow)


def _opened(place: Place, name: str, read: Callable[[Any], Any]) -> Any:
    arrow = pyarrow()
    try:
        with place.open(f"{DATA}/{name}") as raw:
            return read(arrow.parquet.ParquetFile(raw))
    except (OSError, ValueError, MemoryError, arrow.ArrowException) as error:
        command = f"weevit jobs verify {typed(place)}"
        raise JobError(f"{place}/{DATA}/{name} cannot be read: {error}.", command) from error


def _refuse_foreign(place: Place, name: str, file: Any) -> None:
    """Refuse foreign types and columns larger than the file with a JobError, before a column is read."""
    metadata, schema = file.metadata, file.schema_arrow
    own = {column.name: arrow_type(column) for column in (*COMMON, *OWN)}
    found = {field.name: field.type for field in schema}
    if any(found.get(column) != kind for column, kind in own.items()):
        raise _not_ours(place, name, "its columns are not those of a job")
    if not all(_is_answer(field.type) for field in schema if field.name not in own):
        raise _not_ours(place, name, "it has columns of another kind than answers have")
    groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
    chunks = [group.column(index) for group in groups for index in range(metadata.num_columns)]
    if any(chunk.compression != "UNCOMPRESSED" or chunk.has_dictionary_page for chunk in chunks):
        raise _not_ours(place, name, "it is packed, and might unpack to any size")


def _is_answer(kind: Any) -> bool:
    types = pyarrow().types
    if types.is_list(kind):
        kind = kind.value_type
    return bool(str(kind) in _NUMBERS or types.is_string(kind) or types.is_boolean(kind))


def _not_ours(place: Place, name: str, why: str) -> JobError:
    return JobError(
        f"{place}/{DATA}/{name} is not a file of a job: {why}.", f"Delete it and rerun the command that made {place}."
    )


def vectors(table: Any, name: str) -> Any:
    """A column of equally long lists as (rows, width), zeros for absent rows; JobError where the lengths differ."""
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
