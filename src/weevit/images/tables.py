"""Lists and tables of pictures: text files, CSV, and Parquet with paths or with the pictures themselves.

A table has a column of paths or of encoded pictures, and may have one of ids and one of classes; which they are is told
by their names (`PATHS`, `IDS`, `TARGETS`). Paths are meant from the table's own folder on.
"""

from __future__ import annotations

import csv
import io
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from weevit.errors import (
    ImageError,
    MissingImageError,
    TooLargeImageError,
    UnreadableImageError,
    UsageError,
)
from weevit.extras import missing
from weevit.images.decode import Limits
from weevit.images.source import File, Source, read_bytes

PATHS = ("path", "image_path", "file", "filename", "file_name", "filepath", "file_path", "image", "url")
IDS = ("id", "key", "image_id")
TARGETS = ("label", "class", "target", "class_name")
PICTURES = ("image", "img", "jpg", "png", "webp", "bytes", "image_bytes")

MAX_ROW_GROUP_BYTES = 1 << 30
"""Pictures of a Parquet file are read a row group at a time; the hub's files have about 50 MB in each."""


def read_list(file: File) -> Iterator[Source]:
    """A path a line; empty lines are skipped. The line is the source's name."""
    with _text(file) as lines:
        for number, line in enumerate(lines, 1):
            entry = line.rstrip("\r\n")
            if entry.strip():
                yield _row(file, number, entry, None, None)


def read_csv(file: File) -> Iterator[Source]:
    """Rows of a CSV (or, for `.tsv`, tab-separated) file with a header.

    Raises:
        UsageError: no column of paths.
    """
    return (source for source, _ in csv_rows(file))


def csv_rows(file: File, *wanted: Sequence[str]) -> Iterator[tuple[Source, list[Any]]]:
    """The same, each with its text in further columns: of each of `wanted`, the first name that there is, else None."""
    with _text(file) as lines:
        delimiter = "\t" if file.name.lower().endswith(".tsv") else ","
        try:
            reader = csv.reader(lines, delimiter=delimiter)
            header = next(reader, [])
            path, key, target = (_column(header, names) for names in (PATHS, IDS, TARGETS))
            if path is None:
                raise _no_column(file, header, PATHS)
            further = [_column(header, names) for names in wanted]
            for number, row in enumerate(reader, 2):
                if row:
                    source = _row(file, number, *(_cell(row, place) for place in (path, key, target)))
                    yield source, [_cell(row, place) for place in further]
        except csv.Error as error:
            raise UsageError(f"{file.name} cannot be read as a table: {error}.") from error


def read_parquet(file: File) -> Iterator[Source]:
    """Rows of a Parquet file: paths, or encoded pictures as bytes or as the hub's struct of bytes and path.

    Raises:
        UsageError: no column of either, or not a Parquet file.
        MissingExtraError: pyarrow is not installed.
    """
    return (source for source, _ in parquet_rows(file))


def parquet_rows(file: File, *wanted: Sequence[str]) -> Iterator[tuple[Source, list[Any]]]:
    """The same, each with its values in further columns, as `csv_rows`; lists stay lists."""
    pictures = _Parquet(file)
    names = pictures.names
    key, target = (_column(names, known) for known in (IDS, TARGETS))
    image = _column([name if pictures.holds(place) else "" for place, name in enumerate(names)], PICTURES)
    path = _column(names, PATHS)
    if image is None and path is None:
        raise _no_column(file, names, (*PICTURES, *PATHS))
    further = [_column(names, known) for known in wanted]
    number = 0
    for group in range(pictures.groups):
        places = (key, target, path if image is None else None, *further)
        columns = list(dict.fromkeys(place for place in places if place is not None))
        table = pictures.columns(group, columns) if columns else {}
        for row in range(pictures.rows(group)):
            number += 1
            own = [None if place is None or place not in table else table[place][row] for place in (path, key, target)]
            texts = [None if value is None else str(value) for value in own]
            if image is None:
                source = _row(file, number, *texts)
            else:
                name = texts[1] or f"{file.name}#row{number}"
                source = Source(name, Cell(pictures, image, group, row, number), texts[2])
            yield source, [None if place is None else table[place][row] for place in further]


READERS: dict[str, Callable[[File], Iterator[Source]]] = {
    ".txt": read_list,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".parquet": read_parquet,
}
"""Ending -> what reads it."""

ROW_READERS: dict[str, Callable[..., Iterator[tuple[Source, list[Any]]]]] = {
    ".csv": csv_rows,
    ".tsv": csv_rows,
    ".parquet": parquet_rows,
}
"""The same for tables, with further columns."""


def pyarrow() -> Any:
    """The library, or the command that installs it.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise missing("data", "Parquet files need pyarrow, which is not installed.") from error
    return pyarrow


class Cell:
    """A picture in a Parquet file; its bytes are read when they are wanted."""

    def __init__(self, table: _Parquet, column: int, group: int, row: int, number: int) -> None:
        self._table, self._column, self._group, self._row, self._number = table, column, group, row, number

    def read(self, limits: Limits) -> bytes:
        """The encoded picture."""
        value = self._table.picture(self._column, self._group, self._row)
        if isinstance(value, dict):
            if value.get("bytes") is None and value.get("path"):
                return read_bytes(self._table.file.beside(value["path"]), limits)
            value = value.get("bytes")
        if value is None:
            raise MissingImageError(f"{self._table.file.name}: row {self._number} holds no picture")
        if len(value) > limits.max_bytes:
            raise TooLargeImageError(f"{len(value):,} bytes; the limit is {limits.max_bytes:,}")
        return bytes(value)

    def fingerprint(self) -> str:
        """The file's, and the row."""
        return f"{self._table.stamp}-{self._number:x}"


class _Parquet:
    """A Parquet file, read a row group at a time; the last two groups of pictures are kept for all threads."""

    def __init__(self, file: File) -> None:
        arrow = pyarrow()
        self.file = file
        self.stamp = file.fingerprint()
        try:
            with file.open() as raw:
                parquet = arrow.parquet.ParquetFile(raw)
        except (arrow.ArrowInvalid, OSError) as error:
            raise UsageError(f"{file.name} is not a whole Parquet file: {error}.") from error
        self._metadata: Any = parquet.metadata
        self._schema: Any = parquet.schema_arrow
        self.names: list[str] = self._schema.names
        self.groups: int = parquet.num_row_groups
        self._kept: OrderedDict[tuple[int, int], Any] = OrderedDict()
        self._lock = threading.Lock()

    def rows(self, group: int) -> int:
        """Rows of a row group."""
        return int(self._metadata.row_group(group).num_rows)

    def holds(self, place: int) -> bool:
        """Whether a column holds encoded pictures rather than their paths."""
        import pyarrow.types as types

        kind = self._schema.field(place).type
        if types.is_struct(kind):
            return bool(kind.get_field_index("bytes") >= 0)
        return bool(types.is_binary(kind) or types.is_large_binary(kind))

    def columns(self, group: int, places: Sequence[int]) -> dict[int, list[Any]]:
        """Small columns of a row group as lists."""
        table = self._read(group, places)
        return {place: table.column(self.names[place]).to_pylist() for place in places}

    def picture(self, place: int, group: int, row: int) -> Any:
        """One cell, as Python's bytes or dict."""
        with self._lock:
            key = (place, group)
            if key not in self._kept:
                size = self._metadata.row_group(group).total_byte_size
                if size > MAX_ROW_GROUP_BYTES:
                    raise TooLargeImageError(
                        f"{self.file.name}: a row group of {size:,} bytes; the limit is {MAX_ROW_GROUP_BYTES:,}"
                    )
                self._kept[key] = self._read(group, [place]).column(0)
                while len(self._kept) > 2:
                    self._kept.popitem(last=False)
            column = self._kept[key]
        return column[row].as_py()

    def _read(self, group: int, places: Sequence[int]) -> Any:
        """Some columns of a row group; the file is opened for it, for nobody would be there to close it later."""
        import pyarrow.parquet

        try:
            with self.file.open() as raw:
                parquet = pyarrow.parquet.ParquetFile(raw, metadata=self._metadata, pre_buffer=False)
                return parquet.read_row_group(group, columns=[self.names[place] for place in places])
        except ImageError:
            raise
        except Exception as error:  # pyarrow's errors share no base class but this
            raise UnreadableImageError(f"{self.file.name}: row group {group}: {error}") from error


def _row(file: File, number: int, path: str | None, key: str | None, target: str | None) -> Source:
    if not path:
        name = key or f"{file.name}#row{number}"
        return Source(name, MissingImageError(f"{file.name}: row {number} has no path"), target or None)
    try:
        return Source(key or path, file.beside(path), target or None)
    except ImageError as error:
        return Source(key or path, error, target or None)


def _cell(row: Sequence[str], place: int | None) -> str | None:
    return row[place] if place is not None and place < len(row) else None


def _column(names: Sequence[str], wanted: Sequence[str]) -> int | None:
    """The place of the first wanted column that there is; upper and lower case are the same."""
    lower = [name.strip().lower() for name in names]
    return next((lower.index(name) for name in wanted if name in lower), None)


def _no_column(file: File, names: Sequence[str], wanted: Sequence[str]) -> UsageError:
    shown = ", ".join(repr(name) for name in names) or "none"
    return UsageError(
        f"{file.name} has no column of pictures; its columns are {shown}.", f"Call it one of {', '.join(wanted)}."
    )


@contextmanager
def _text(file: File) -> Iterator[Iterable[str]]:
    """Lines of UTF-8, with or without a byte order mark."""
    try:
        with file.open() as raw, io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as lines:
            yield lines
    except UnicodeDecodeError as error:
        raise UsageError(f"{file.name} is not UTF-8 text: {error}.") from error
