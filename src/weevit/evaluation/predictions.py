"""The table of an evaluation, `predictions.csv` or `.parquet`: the columns of an answer, and its judgement."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any

from weevit.answers.columns import COMMON, PRESENT, UNKNOWN, Column, ranked_columns
from weevit.answers.results import Prediction
from weevit.answers.tables import BETWEEN, arrow_type, read_csv
from weevit.errors import STATUSES, MalformedFileError
from weevit.evaluation.results import Row
from weevit.images.parquet import pyarrow
from weevit.store.own import read_own
from weevit.zoo.fields import MAX_CLASSES, boolean, whole
from weevit.zoo.labels import Label
from weevit.zoo.records import Flag, Name, Text, either, items, nothing, number, read_record, words

MAX_BYTES = 4 << 30
"""Size of a table of predictions: ten million images."""

JUDGED = (
    Column("target", "string", attrgetter("target")),
    Column("target_probability", "float32", attrgetter("target_probability")),
    Column("rank", "int32", attrgetter("rank")),
    Column("right", "bool", attrgetter("right")),
)


def prediction_columns(classes: Sequence[Label], multi_label: bool, unknown: bool) -> tuple[Column, ...]:
    """The columns of a table: one class per image, or the labels that are present.

    Args:
        classes: classes of the evaluation.
        multi_label: whether an image may have any number of them.
        unknown: whether the model may answer `unknown`.
    """
    asked = COMMON[:3]  # an evaluation keeps no width and height
    if multi_label:
        return (*asked, replace(PRESENT, value=lambda row: row.present and list(row.present)), JUDGED[0], JUDGED[-1])
    names = {label.id: label.name for label in classes}

    def top(row: Row) -> list[Prediction]:
        if row.class_id is None or row.probability is None:
            return []
        return [Prediction(-1, row.class_id, names[row.class_id], row.probability)]

    said = [replace(UNKNOWN, value=lambda row: row.unknown if row.ok else None)] if unknown else []
    return (*asked, *ranked_columns(top, 1)[1:], *said, *JUDGED)


# ---- reading: untrusted files

_text = either(words(1 << 16), nothing)
_texts = either(items(words(1 << 16), MAX_CLASSES), nothing)
_share = number(0, 1.000001)
_STATUSES = {"ok", "error", *STATUSES.values()}


@dataclass(frozen=True)
class _Saved:
    """A row of the table."""

    input: Text
    status: Name
    error: Annotated[str | None, _text]
    target: Annotated[str | None, _text]
    right: Flag
    class_id: Annotated[tuple[str, ...] | None, _texts] = None
    class_name: Annotated[tuple[str, ...] | None, _texts] = None
    probability: Annotated[tuple[float, ...] | None, either(items(_share, 1), nothing)] = None
    unknown: Annotated[bool | None, either(boolean, nothing)] = None
    present: Annotated[tuple[str, ...] | None, _texts] = None
    target_probability: Annotated[float | None, either(_share, nothing)] = None
    rank: Annotated[int | None, either(whole(1, MAX_CLASSES), nothing)] = None


def read_predictions(path: Path, classes: Sequence[Label], multi_label: bool, unknown: bool) -> tuple[Row, ...]:
    """The rows of a table, CSV or Parquet by its ending; arguments as for `prediction_columns`.

    Raises:
        FileNotFoundError: no such file.
        MalformedFileError: a file that weevit does not write, or a class that is not in `classes`.
    """
    content, columns = read_own(path, MAX_BYTES), prediction_columns(classes, multi_label, unknown)
    read = _parquet_rows if path.suffix == ".parquet" else read_csv
    known = {label.id for label in classes}
    return tuple(
        _row(values, known, multi_label, f"{path}, row {number}")
        for number, values in enumerate(read(content, columns, str(path)), 1)
    )


def _row(values: Mapping[str, Any], known: set[str], multi_label: bool, where: str) -> Row:
    saved = read_record(_Saved, values, where)
    target = saved.target or ""
    class_id = saved.class_id[0] if saved.class_id else None
    probability = saved.probability[0] if saved.probability else None
    targets = {target} if target in known else set(filter(None, target.split(BETWEEN)))
    if not {*targets, *filter(None, [class_id]), *(saved.present or ())} <= known:
        raise MalformedFileError(f"{where} names a class that the report does not have.")
    ok = saved.status == "ok"
    if ok and not multi_label and (not target or not class_id or probability is None):
        raise MalformedFileError(f"{where} is answered, and lacks its target, its class_id or its probability.")
    if saved.status not in _STATUSES:
        raise MalformedFileError(
            f"{where}: status is {saved.status!r}; expected one of {', '.join(sorted(_STATUSES))}."
        )
    if ok and saved.rank is not None and saved.right != (saved.rank == 1):
        raise MalformedFileError(f"{where} contradicts itself: right is {int(saved.right)}, rank is {saved.rank}.")
    return Row(
        input=saved.input,
        status=saved.status,
        error=saved.error,
        class_id=class_id,
        probability=probability,
        unknown=bool(saved.unknown),
        present=saved.present or () if ok and multi_label else None,
        target=target,
        target_probability=saved.target_probability,
        rank=saved.rank,
        right=saved.right,
    )


def _parquet_rows(content: bytes, columns: Sequence[Column], where: str) -> Iterator[dict[str, Any]]:
    arrow = pyarrow()
    try:
        file = arrow.parquet.ParquetFile(io.BytesIO(content))
        found = [(field.name, field.type) for field in file.schema_arrow]
        if found != [(column.name, arrow_type(column)) for column in columns]:
            raise MalformedFileError(f"{where} has other columns than {', '.join(column.name for column in columns)}.")
        for batch in file.iter_batches(1024):
            yield from batch.to_pylist()
    except (OSError, ValueError, MemoryError, arrow.ArrowException) as error:
        raise MalformedFileError(f"{where} cannot be read: {error}.") from error
