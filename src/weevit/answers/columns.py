"""The columns of an answer: one table of names and types, from which every writer renders.

    input  status  error  width  height   class_index  class_id  class_name  probability   unknown, or present
                                          embedding
                                          block_11 ...                                     a job's or evaluation's own

Parquet has them as they are. JSON lines have the same names, lists as lists, and `schema` first. In CSV the classes
stand side by side, best first (`class_index1,class_id1,class_name1,probability1,class_index2,...`), and the names of
`present` in one cell with `;` between. In text a number has the fewest digits that read back equal. `docs/answers.md`
shows them all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from weevit.answers.results import refuse_not_finite, unit_length
from weevit.zoo.architectures import PATCH

if TYPE_CHECKING:
    import numpy.typing as npt

    from weevit.answers.results import Prediction, Result
    from weevit.zoo.checkpoint import Checkpoint
    from weevit.zoo.weights import Preprocessing

SCHEMA = 2
"""Version of the columns, in JSON lines and in the metadata of Parquet; a change that breaks readers raises it."""

Kind = Literal["string", "bool", "int32", "float32", "float16"]

Form = Literal["one", "ranked", "set", "vector"]


@dataclass(frozen=True)
class Column:
    """One column of a table of answers.

    Attributes:
        name: of the column.
        kind: type of a value, or of each in a list.
        value: what a row (a `Result`, or a row of a job or an evaluation) has for it; None where it has nothing. Lists
            of numbers are arrays of the column's type; a `NotFiniteError` where that is too narrow.
        form: `one` value; a list of values that are `ranked`, best first; a `set` of any number; a `vector`.
        shape: of a row's values, which a list holds flat; `()` for one value and for a set.
    """

    name: str
    kind: Kind
    value: Callable[[Any], Any]
    form: Form = "one"
    shape: tuple[int, ...] = ()

    @property
    def has_arrays(self) -> bool:
        """Whether a row's value is an array."""
        return bool(self.shape) and self.kind != "string"


COMMON = (
    Column("input", "string", attrgetter("input")),
    Column("status", "string", attrgetter("status")),
    Column("error", "string", attrgetter("error")),
    Column("width", "int32", attrgetter("width")),
    Column("height", "int32", attrgetter("height")),
)
"""The first columns of every answer."""

UNKNOWN = Column("unknown", "bool", lambda row: row.unknown if row.top else None)
PRESENT = Column("present", "string", lambda row: None if row.present is None else _ids(row.present), "set")


# ---- the columns of each verb


def class_columns(checkpoint: Checkpoint, topk: int = 5) -> tuple[Column, ...]:
    """The columns of the `topk` most probable classes, and the model's decision: `unknown`, or the `present` labels."""
    decision = checkpoint.decision
    said: tuple[Column, ...] = ()
    if decision and decision.multi_label:
        said = (PRESENT,)
    elif decision and decision.threshold is not None:
        said = (UNKNOWN,)
    return (*ranked_columns(attrgetter("top"), min(topk, checkpoint.num_classes)), *said)


def ranked_columns(top: Callable[[Any], Sequence[Prediction]], count: int) -> tuple[Column, ...]:
    """`class_index`, `class_id`, `class_name`, `probability` of the classes that `top` finds in a row.

    `class_id` is never null: a class of a checkpoint without names is called `class 7`.
    """

    def column(name: str, kind: Kind, values: Callable[[Sequence[Prediction]], Any]) -> Column:
        return Column(name, kind, lambda row: values(own) if (own := top(row)) else None, "ranked", (count,))

    return (
        column("class_index", "int32", lambda own: np.array([one.index for one in own], np.int32)),
        column("class_id", "string", lambda own: _ids(own)),
        column("class_name", "string", lambda own: [one.name for one in own]),
        column("probability", "float32", lambda own: np.array([one.probability for one in own], np.float32)),
    )


def _ids(classes: Sequence[Prediction]) -> list[str]:
    return [one.id or one.name for one in classes]


def embedding_column(checkpoint: Checkpoint, normalize: bool = False, kind: Kind = "float32") -> Column:
    """`embedding`, scaled to unit length if `normalize`."""

    def vector(result: Result) -> npt.NDArray[Any] | None:
        if result.embedding is None:
            return None
        own = unit_length(result.embedding[None])[0] if normalize else result.embedding
        with np.errstate(over="ignore"):  # of float16, above 65,504
            narrow = own.astype(kind, copy=False)
        refuse_not_finite({f"the embedding as {kind}": narrow})
        return narrow

    return Column("embedding", kind, vector, "vector", (checkpoint.architecture.embed_dim,))


def block_columns(checkpoint: Checkpoint, seen: Preprocessing, layers: Sequence[int]) -> tuple[Column, ...]:
    """`block_i` of each layer: (embed_dim, rows, columns) float32, flat."""
    shape = (checkpoint.architecture.embed_dim, seen.height // PATCH, seen.width // PATCH)

    def block(index: int) -> Column:
        return Column(f"block_{index}", "float32", lambda result: result.features.get(index), "vector", shape)

    return tuple(map(block, layers))


def is_vector(name: str) -> bool:
    """Whether the column of this name holds vectors: `embedding`, `block_11`."""
    return name == "embedding" or name.startswith("block_")


_HELD = (*COMMON, *ranked_columns(attrgetter("top"), 0), UNKNOWN, PRESENT)


def as_dict(result: Result) -> dict[str, Any]:
    """`Result.to_dict`."""
    return {column.name: column.value(result) for column in _HELD} | {"embedding": result.embedding}


# ---- rendered


def metadata(columns: Sequence[Column]) -> dict[str, str]:
    """The metadata of a Parquet file: the version of the columns, and the shapes of vectors."""
    shapes = {column.name: list(column.shape) for column in columns if column.form == "vector"}
    return {"weevit.schema": str(SCHEMA), "weevit.shapes": json.dumps(shapes)}


def json_object(row: Any, columns: Sequence[Column]) -> dict[str, Any]:
    """One row as plain data for JSON."""
    return {"schema": SCHEMA} | {column.name: plain(column.value(row), column) for column in columns}


def plain(value: Any, column: Column) -> Any:
    """A value as JSON has it, arrays as lists."""
    if value is None or column.form == "one":
        return _number(value, column.kind)
    return [_number(one, column.kind) for one in (value.ravel() if isinstance(value, np.ndarray) else value)]


def _number(value: Any, kind: Kind) -> Any:
    """A value as Python has it; for a float32 the number with the fewest digits that reads back equal."""
    if value is None or kind in ("string", "bool"):
        return value
    return int(value) if kind == "int32" else float(str(np.dtype(kind).type(value)))
