"""Parquet files, read a few rows at a time: the unpacked size of a file is never held in memory.

Parquet stores a frequent value once (dictionary encoding). Neither the file's size nor the footer's figures for a row
group therefore bound the memory of its rows. One row takes at most the unpacked size of its column in the file.
"""

from __future__ import annotations

import json
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from weevit.errors import (
    ImageError,
    MissingImageError,
    TooLargeImageError,
    UnreadableImageError,
    UsageError,
)
from weevit.images.decode import Limits, check_bytes
from weevit.images.files import File
from weevit.images.source import read_bytes, shortened
from weevit.memory import give_back
from weevit.store.extras import needed

MAX_ROW_GROUP_BYTES = 64 << 20
"""Unpacked size up to which a column of a row group is read whatever its size in the file."""

MAX_RATIO = 100
"""Unpacked size of a larger column over its size in the file: compression hardly shrinks images."""

MAX_UNPACKED_BYTES = 1 << 30
"""Bytes of all values of a row group, read one after another, whatever the group unpacks to."""

MAX_VALUES = 1000
"""Mean number of values in a cell."""

_BATCH_BYTES, _BATCH_ROWS = 64 << 20, 1024
_KEPT_BYTES = 64 << 20
_REELS = 4
_LARGE = 4 << 20
_BLOCK = 1 << 20
_MAX_FEATURES_BYTES = 4 << 20


def pyarrow() -> Any:
    """pyarrow with its Parquet module; MissingExtraError where it is not installed."""
    what = "Parquet files need pyarrow, which is not installed."
    arrow = needed("pyarrow", "data", what)
    needed("pyarrow.parquet", "data", what)
    return arrow


@dataclass(frozen=True)
class _Content:
    """A file and its footer, from which rows are read."""

    file: File
    metadata: Any

    def batches(self, group: int, names: Sequence[str]) -> Generator[Any, None, None]:
        """Some columns of a row group, in batches of at most `_BATCH_BYTES`; ImageError as for `values`."""
        import pyarrow.parquet

        unpacked = self._check_sizes(group, names)
        rows = max(1, min(_BATCH_ROWS, _BATCH_BYTES // max(1, unpacked)))
        try:
            with self.file.open() as raw:
                parquet = pyarrow.parquet.ParquetFile(raw, metadata=self.metadata, pre_buffer=False, buffer_size=_BLOCK)
                yield from parquet.iter_batches(batch_size=rows, row_groups=[group], columns=names, use_threads=False)
        except ImageError:
            raise
        except Exception as error:  # as above
            raise UnreadableImageError(f"{self.file.name}: row group {group}: {error}") from error

    def values(self, group: int, name: str) -> Generator[Any, None, None]:
        """The values of one column in order; ImageError if unreadable or over a limit."""
        count = self.counter(group, [name])
        for batch in self.batches(group, [name]):
            for scalar in batch.column(0):
                value = scalar.as_py()
                count(_size(value))
                yield value

    def counter(self, group: int, names: Sequence[str]) -> Callable[[int], None]:
        """A function that adds up the sizes of values and raises TooLargeImageError over the limit."""
        limit, found = max(MAX_UNPACKED_BYTES, MAX_RATIO * self._check_sizes(group, names)), 0

        def count(size: int) -> None:
            nonlocal found
            found += size
            if found > limit:
                raise TooLargeImageError(f"{self.file.name}: the rows of a group take more than {limit:,} bytes")

        return count

    def _check_sizes(self, group: int, names: Sequence[str]) -> int:
        """The unpacked size of the columns, as the footer gives it."""
        whole, found = self.metadata.row_group(group), 0
        for number in range(whole.num_columns):
            part = whole.column(number)
            if part.path_in_schema.partition(".")[0] not in names and part.path_in_schema not in names:
                continue
            size = part.total_uncompressed_size
            if size > max(MAX_ROW_GROUP_BYTES, MAX_RATIO * part.total_compressed_size):
                raise TooLargeImageError(f"{self.file.name}: a row group of {size:,} bytes that are packed to nothing")
            if part.num_values > MAX_VALUES * max(1, whole.num_rows):
                raise TooLargeImageError(f"{self.file.name}: a row group with {part.num_values:,} values in its cells")
            found += max(0, size)
        return found


class Parquet:
    """A Parquet file.

    Attributes:
        names: names of the columns.
        groups: number of row groups.
    """

    def __init__(self, file: File) -> None:
        arrow = pyarrow()
        self.file = file
        self.stamp = file.fingerprint()
        try:
            with file.open() as raw:
                parquet = arrow.parquet.ParquetFile(raw)
                self._content = _Content(file, parquet.metadata)
                self._schema: Any = parquet.schema_arrow
        except ImageError:
            raise
        except Exception as error:  # pyarrow's errors share no base class but this
            reason = str(error).rstrip(".")
            raise UnreadableImageError(f"{file.name}: not a whole Parquet file: {reason}") from error
        self.names: list[str] = self._schema.names
        self.groups: int = self._content.metadata.num_row_groups
        self._classes = _class_names(self._schema.metadata or {})
        weakref.finalize(self, _forget, id(self))

    def holds(self, index: int) -> bool:
        """Whether a column holds encoded images rather than their paths."""
        kind = _plain(self._schema.field(index).type)
        return _is_any(kind, *_BYTES) or (_is_any(kind, "struct") and _child(kind, "bytes", *_MAYBE_BYTES) is not None)

    def rows(self, group: int, indices: Sequence[int]) -> Iterator[dict[int, Any]]:
        """The values of small columns, row by row; ImageError if unreadable or over a limit."""
        if not indices:
            yield from ({} for _ in range(self._content.metadata.row_group(group).num_rows))
            return
        for index in indices:
            self._check_kind(index)
        names = [self.names[index] for index in indices]
        count = self._content.counter(group, names)
        for batch in self._content.batches(group, names):
            columns = {index: self._values(batch, index) for index in indices}
            count(sum(_size(value) for column in columns.values() for value in column))
            for row in range(len(batch)):
                yield {index: column[row] for index, column in columns.items()}

    def _check_kind(self, index: int) -> None:
        """Refuse structs, maps and unions: none is an id or a class."""
        kind = _plain(self._schema.field(index).type)
        if _is_any(kind, "struct", "map", "union"):
            raise UsageError(
                f"{self.file.name}: the column {self.names[index]!r} holds {shortened(str(kind), 200)}.",
                "Paths, ids and classes are text or numbers; images are bytes.",
            )

    def _values(self, batch: Any, index: int) -> list[Any]:
        values: list[Any] = batch.column(self.names[index]).to_pylist()
        names = self._classes.get(self.names[index])
        return values if names is None else [_named(value, names) for value in values]

    def image(self, index: int, group: int, row: int) -> tuple[bytes | None, str | None]:
        """The bytes and the path in an image's value."""
        value = _reel(self._content, (id(self), group, index), self.names[index]).value(row)
        if not isinstance(value, dict):
            return value, None
        kind = _plain(self._schema.field(index).type)
        data, path = _child(kind, "bytes", *_MAYBE_BYTES), _child(kind, "path", *_TEXT)
        return value.get(data), value.get(path)


class Cell:
    """An image in a Parquet file; `read` reads its bytes."""

    def __init__(self, table: Parquet, column: int, group: int, row: int, number: int) -> None:
        self._table, self._column, self._group, self._row, self._number = table, column, group, row, number

    def read(self, limits: Limits) -> bytes:
        """The encoded image."""
        data, path = self._table.image(self._column, self._group, self._row)
        if data is None and path:
            return read_bytes(self._table.file.beside(path), limits)
        if data is None:
            raise MissingImageError(f"{self._table.file.name}: row {self._number} holds no image")
        check_bytes(len(data), limits)
        return bytes(data)

    def fingerprint(self) -> str:
        """The file's stamp and the row."""
        return f"{self._table.stamp}-{self._number:x}"


class _Reel:
    """The images of a row group in order; the latest are kept, because threads ask out of order."""

    def __init__(self, content: _Content, group: int, name: str) -> None:
        self._begin = partial(content.values, group, name)
        self._lock = threading.Lock()
        self._rewind()

    def _rewind(self) -> None:
        self._values = self._begin()
        self._next = self._bytes = self._read = 0
        self._kept: OrderedDict[int, Any] = OrderedDict()
        self._failed: ImageError | None = None

    def value(self, row: int) -> Any:
        """The value of a row; ImageError if unreadable."""
        with self._lock:
            if row < self._next and row not in self._kept:
                self._rewind()
            while row >= self._next:
                self._keep(self._following())
            return self._kept[row]

    def _following(self) -> Any:
        if self._failed is None:
            try:
                return next(self._values)
            except StopIteration:
                self._failed = UnreadableImageError("the row group ends before its last row")
            except ImageError as error:
                self._failed = error.with_traceback(None)
        raise type(self._failed)(self._failed.message, self._failed.hint)  # later rows are lost as well

    def _keep(self, value: Any) -> None:
        self._kept[self._next] = value
        self._next += 1
        self._bytes += _size(value)
        while self._bytes > _KEPT_BYTES and len(self._kept) > 1:
            self._bytes -= _size(self._kept.popitem(last=False)[1])
        self._read += _size(value) if _size(value) > _LARGE else 0
        if self._read > _KEPT_BYTES:  # otherwise glibc keeps two large values per thread
            self._read = 0
            give_back()

    def __del__(self) -> None:
        self._values.close()  # and the file with it


_reels: OrderedDict[tuple[int, ...], _Reel] = OrderedDict()
"""(process, table, row group, column) -> its images; one limit for all tables together."""

_reels_lock = threading.RLock()


def _reel(content: _Content, key: tuple[int, ...], name: str) -> _Reel:
    key = (os.getpid(), *key)  # a forked process would move the parent's position in the file
    with _reels_lock:
        if key not in _reels:
            _reels[key] = _Reel(content, key[2], name)
        _reels.move_to_end(key)
        while len(_reels) > _REELS:
            _reels.popitem(last=False)
        return _reels[key]


def _forget(table: int) -> None:
    with _reels_lock:
        for key in [key for key in _reels if key[1] == table]:
            _reels.pop(key)


def _size(value: Any) -> int:
    if isinstance(value, dict):
        return sum(map(_size, value.values()))
    return len(value) if isinstance(value, bytes | str) else 0


# ---- types


def _plain(kind: Any) -> Any:
    """The type of the values, without extension types and encodings."""
    import pyarrow as arrow
    import pyarrow.types as types

    while True:
        if isinstance(kind, arrow.BaseExtensionType):
            kind = kind.storage_type
        elif types.is_dictionary(kind) or types.is_run_end_encoded(kind):
            kind = kind.value_type
        else:
            return kind


_BYTES = ("binary", "large_binary", "binary_view", "fixed_size_binary")
_MAYBE_BYTES = (*_BYTES, "null")
"""A field without a value in any row has the type null: a file of the hub with paths only."""

_TEXT = ("string", "large_string", "string_view")


def _is_any(kind: Any, *names: str) -> bool:
    """Whether the values are of one of some types, named as pyarrow's tests are (`is_binary`)."""
    import pyarrow.types as types

    plain = _plain(kind)
    return any(getattr(types, f"is_{name}")(plain) for name in names)


def _child(kind: Any, name: str, *kinds: str) -> str | None:
    """The field of a struct of this name, else the only field of one of these kinds."""
    fields = [kind.field(index) for index in range(kind.num_fields)]
    fitting = [field.name for field in fields if _is_any(field.type, *kinds)]
    return name if name in fitting else fitting[0] if len(fitting) == 1 else None


# ---- names of classes


def _class_names(metadata: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    """Column -> the names of its classes, as Hugging Face's `datasets` keeps them in a file's schema."""
    text = metadata.get(b"huggingface", b"")
    try:
        features = json.loads(text)["info"]["features"] if len(text) <= _MAX_FEATURES_BYTES else {}
        return {str(name): names for name, feature in features.items() if (names := _names_in(feature))}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}


def _names_in(feature: Any) -> list[str] | None:
    if isinstance(feature, list) and len(feature) == 1:
        return _names_in(feature[0])
    if not isinstance(feature, dict):
        return None
    if feature.get("_type") != "ClassLabel":
        return _names_in(feature.get("feature"))
    names = feature.get("names")
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def _named(value: Any, names: Sequence[str]) -> Any:
    """The name of a class; None for -1 and for a number without a name."""
    if isinstance(value, list):
        found = [_named(each, names) for each in value]
        return None if None in found else found
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else None
