"""Lists and tables of images: text files, CSV, and Parquet with paths or with the images themselves.

A table has a column of paths or of encoded images, and may have columns of ids and of classes, recognised by their
names (`PATHS`, `IDS`, `TARGETS`). Paths are relative to the table's own folder.

One row is one source: a row that cannot be read is a source that raises.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any, TypeAlias

from weevit.errors import ImageError, MissingImageError, UnreadableImageError, UsageError, WeevitError
from weevit.images.files import File
from weevit.images.lines import MAX_LINE, lines, open_text, rows
from weevit.images.parquet import Cell, Parquet
from weevit.images.source import MAX_PATH, TARGETS, Source, printable

PATHS = ("path", "image_path", "file", "filename", "file_name", "filepath", "file_path", "image", "url")
IDS = ("id", "key", "image_id")
IMAGES = ("image", "img", "jpg", "png", "webp", "bytes", "image_bytes")

Row: TypeAlias = "tuple[Source, list[Any] | None]"
"""A source, and its values in further columns; None where the row could not be read."""

Unused: TypeAlias = Callable[[Sequence[str]], None]
"""Called with the names of the columns that were not read."""


def read_list(file: File) -> Iterator[Source]:
    """A path per line; empty lines are skipped. The line is the source's name."""
    with open_text(file) as text:
        for number, line in enumerate(lines(text), 1):
            if line is None:
                yield _unread(f"{file.name}#line{number}", f"a line of more than {MAX_LINE:,} characters")
            elif not line.isspace():
                yield _source(file, line.rstrip("\r\n"))


def csv_rows(file: File, *wanted: Sequence[str], unused: Unused = lambda names: None) -> Iterator[Row]:
    """Rows of a CSV (`.tsv`: tab-separated) with a header, each with its text in further columns.

    Args:
        file: the table.
        wanted: for each further column its names; the first that the table has counts, None stands for none.
        unused: told the columns that are not read.

    Raises:
        UsageError: no column of paths, or two.
    """
    with open_text(file) as text:
        found = rows(text, "\t" if file.name.lower().endswith(".tsv") else ",")
        _, header = next(found, (1, []))
        if isinstance(header, str):
            raise UsageError(f"{file.name} cannot be read as a table: {header}.")
        path, *others = (column(file, header, names) for names in (PATHS, IDS, TARGETS, *wanted))
        if path is None:
            raise no_column(file, header, PATHS)
        unused(_without(header, (path, *others)))
        number = 1
        for line, cells in found:
            if cells:
                number += 1
                yield _csv_row(file, (number, line), cells, (len(header), path, *others))


def _csv_row(file: File, numbers: tuple[int, int], cells: list[str] | str, indices: tuple[int | None, ...]) -> Row:
    number, line = numbers
    width, path, key, target, *further = indices
    wrong = cells if isinstance(cells, str) else ""
    if not wrong and any(cells[width:]):
        wrong = f"{len(cells)} cells in a table of {width} columns: is there a comma without quotes around it?"
    if wrong:
        return _unread(f"{file.name}#row{number}", f"line {line}: {wrong}"), None
    texts = [_cell(cells, index) for index in (path, key, target)]
    return row_of_path(file, number, *texts), [_cell(cells, index) for index in further]


def parquet_rows(file: File, *wanted: Sequence[str], unused: Unused = lambda names: None) -> Iterator[Row]:
    """Rows of a Parquet file with paths, or with encoded images as bytes or as the hub's struct of bytes and path.

    Arguments as for `csv_rows`. Lists stay lists; a class number becomes its name where the file has the names.

    Raises:
        UsageError: no column of either.
        UnreadableImageError: not a whole Parquet file.
        MissingExtraError: pyarrow is not installed.
    """
    table = Parquet(file)
    image = column(file, [name if table.holds(index) else "" for index, name in enumerate(table.names)], IMAGES)
    path = None if image is not None else column(file, table.names, PATHS)
    if image is None and path is None:
        raise no_column(file, table.names, (*IMAGES, *PATHS))
    key, target, *further = (column(file, table.names, names) for names in (IDS, TARGETS, *wanted))
    indices = (path, key, target, *further)
    unused(_without(table.names, (image, *indices)))
    number = 0
    for group in range(table.groups):
        for row, values in enumerate(table.rows(group, [index for index in indices if index is not None])):
            number += 1
            own = [None if index is None else values[index] for index in indices]
            named, texts = own[0], [text_of(value) for value in own[:3]]
            index = path if isinstance(named, bytes) and texts[0] is None else image
            if index is None:
                source = row_of_path(file, number, *texts)
            else:
                name = texts[1] or f"{file.name}#row{number}"
                source = Source(printable(name), Cell(table, index, group, row, number), texts[2] or None)
            yield source, [_plain(value) for value in own[3:]]


ROW_READERS: dict[str, Callable[..., Iterator[Row]]] = {
    ".csv": csv_rows,
    ".tsv": csv_rows,
    ".parquet": parquet_rows,
}
"""Ending of a table -> its reader."""


def sources_in(file: File) -> Iterator[Source]:
    """The inputs that a list or a table names or holds."""
    read = ROW_READERS.get(PurePosixPath(file.name).suffix.lower())
    return (source for source, _ in read(file)) if read else read_list(file)


def text_of(value: Any) -> str | None:
    """A value as text; None without one, and for bytes that are no text."""
    if isinstance(value, bytes):
        try:
            text = value.decode() if len(value) <= MAX_PATH else ""
        except UnicodeDecodeError:
            return None
        return text if text.isprintable() and text else None
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    return str(value)


def _plain(value: Any) -> Any:
    """A value, or a list of values: text in place of bytes, since some writers do not mark text; None for NaN."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, bytes) or (isinstance(value, float) and math.isnan(value)):
        return text_of(value)
    return value


def row_of_path(file: File, number: int, path: str | None, key: str | None, target: str | None) -> Source:
    """The source of a row with a path."""
    if not path or path.isspace():
        name = key or f"{file.name}#row{number}"
        return Source(printable(name), MissingImageError(f"{file.name}: row {number} has no path"), target or None)
    return _source(file, path, key, target)


def _source(file: File, path: str, key: str | None = None, target: str | None = None) -> Source:
    """The source of a path in a file; an invalid path is the failure of its row alone."""
    name = printable(key or path)
    try:
        return Source(name, file.beside(path), target or None)
    except ImageError as error:
        return Source(name, error, target or None)
    except WeevitError as error:
        return Source(name, UnreadableImageError(f"{error.message} {error.hint}".strip()), target or None)


def _unread(name: str, why: str) -> Source:
    return Source(name, UnreadableImageError(f"{name}: {why}"))


def _cell(row: Sequence[str], index: int | None) -> str | None:
    return row[index] if index is not None and index < len(row) else None


def column(file: File, names: Sequence[str], wanted: Sequence[str]) -> int | None:
    """The index of the first wanted column, in any case, or None; UsageError where two columns have that name."""
    lower = [name.strip().lower() for name in names]
    found = next((name for name in wanted if name in lower), None)
    if found is None:
        return None
    if lower.count(found) > 1:
        raise UsageError(
            f"{file.name} has {lower.count(found)} columns called {found!r}.", "Rename all but one of them."
        )
    return lower.index(found)


def _without(names: Sequence[str], used: Iterable[int | None]) -> list[str]:
    return [name for index, name in enumerate(names) if index not in set(used)]


def no_column(file: File, names: Sequence[str], wanted: Sequence[str]) -> UsageError:
    """The error for a table without a column of images."""
    shown = ", ".join(repr(printable(name)[:60]) for name in names[:40]) or "none"
    other = next((sign for sign in ";\t,|" if len(names) == 1 and sign in names[0]), "")
    hint = f"Its columns are separated by {other!r}: .csv is read with ',' between them, and .tsv with tabs."
    return UsageError(
        f"{file.name} has no column of images; its columns are {shown}.",
        hint if other else f"Call it one of {', '.join(wanted)}.",
    )
