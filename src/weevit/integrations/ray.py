"""`Embedder` and `Classifier`: a model as a function of batches, for `ray.data.Dataset.map_batches` and its like.

    ray.data.read_parquet("s3://bucket/photos").map_batches(
        Embedder, fn_constructor_args=("tiny",), compute=ray.data.ActorPoolStrategy(size=4), num_cpus=2, batch_size=64
    )

An object holds arguments only, and its model is loaded where it is first called: it can be pickled, and a worker loads
a model once, however many objects arrive.
Nothing here imports Ray, so that Spark and Daft take the same class; `docs/scale.md` shows each.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
from PIL.Image import Image

from weevit.answers.columns import COMMON, Column, class_columns, embedding_column
from weevit.answers.results import Result
from weevit.answers.tables import arrow_table
from weevit.arguments import flag
from weevit.errors import ImageError, MissingImageError, UnreadableImageError, UsageError
from weevit.images.files import listed
from weevit.images.source import Source
from weevit.images.values import hubs_image
from weevit.predict import Output, Predictor, load

if TYPE_CHECKING:
    from pyarrow import Table

IMAGES = ("bytes", "image", "path")
"""Columns of images that are found by themselves, and their order: encoded bytes, pixels or structs, paths or
addresses."""

Batch = Mapping[str, npt.NDArray[Any]]

AnyBatch = TypeVar("AnyBatch", "Table", Batch)


_opened: dict[str, Predictor] = {}
"""The models of this process, by their arguments."""

_lock = Lock()


class _Model:
    """What both have in common; see `Embedder`."""

    _outputs: tuple[Output, ...] = ()

    def __init__(self, model: str, image: str | None, id: str, arguments: dict[str, Any]) -> None:
        self._name, self._image, self._id, self._arguments = model, image, id, arguments

    @property
    def model(self) -> Predictor:
        """The model, loaded once per process, with as many threads as Ray gives this worker CPUs."""
        arguments = {"threads": _cpus_of_ray(), **self._arguments}
        key = repr((self._name, sorted(arguments.items())))
        with _lock:
            if key not in _opened:
                _opened[key] = load(self._name, **arguments)
            return _opened[key]

    def __call__(self, batch: AnyBatch) -> AnyBatch:
        """The batch with the columns of the answers behind its own.

        Args:
            batch: a `pyarrow.Table` (`batch_format="pyarrow"`), or a dict of numpy arrays, one row per image.

        Returns:
            The same kind of batch, with `status`, `error`, `width`, `height` and the answer's columns. A row without an
            answer has nulls in a table; in a dict, which has none, NaN, -1 and empty text.

        Raises:
            UsageError: no column of images, or one of the name of an answer's; another kind of batch.
        """
        names, values = _columns(batch)
        image = self._image or next((name for name in IMAGES if name in names), None)
        if image is None or image not in names:
            raise UsageError(
                f"The batch has no column {self._image or ' or '.join(IMAGES)!r}; its columns are {', '.join(names)}.",
                f"{type(self).__name__}(..., image={names[0]!r})" if names else "",
            )
        ids = values(self._id) if self._id in names else None
        for own in self._answer_columns():
            if own.name in names:
                raise UsageError(
                    f"The batch has a column {own.name!r} already, which is one of the answers.",
                    "Rename or drop it first.",
                )
        results = list(self._results(values(image), ids))
        if not isinstance(batch, Mapping):
            return _appended(batch, results, self._answer_columns())
        return {**batch, **{own.name: _array(results, own) for own in self._answer_columns()}}

    def _answer_columns(self) -> tuple[Column, ...]:
        return (*COMMON[1:], *self._columns())

    def _columns(self) -> tuple[Column, ...]:
        raise NotImplementedError

    def _results(self, images: Iterable[Any], ids: Iterable[Any] | None = None) -> Iterator[Result]:
        names = map(str, ids) if ids is not None else _numbered()
        sources = (_source(name, value) for name, value in zip(names, images, strict=False))
        return self.model.stream(sources, self._outputs, topk=self._topk(), steady=True)

    def _topk(self) -> int:
        return 1


class Embedder(_Model):
    """Embeddings of batches of images.

    Args:
        model: as for `weevit.load`: an alias, a full timm tag, a folder that every worker sees.
        normalize: scale each vector to length 1.
        image: column of the images: encoded bytes, (H, W, 3) uint8 arrays, the hub's structs of bytes and path, or
            paths and addresses; by default `bytes`, else `image`, else `path`.
        id: column of the names in error messages, where there is one; rows keep all their columns.
        arguments: further arguments of `weevit.load`: `image_size`, `threads`, `device`, `precision`, ...
    """

    _outputs = ("embedding",)

    def __init__(
        self, model: str, normalize: bool = False, image: str | None = None, id: str = "id", **arguments: object
    ) -> None:
        super().__init__(model, image, id, arguments)
        self._normalize = flag("normalize", normalize)

    def _columns(self) -> tuple[Column, ...]:
        return (embedding_column(self.model.checkpoint, self._normalize),)

    def vectors(self, images: Iterable[Any]) -> npt.NDArray[np.float32]:
        """Embeddings alone, for functions of one column (Spark's `predict_batch_udf`, Daft's `udf`).

        Args:
            images: encoded bytes, uint8 arrays, paths or addresses.

        Returns:
            (number of images, embed_dim) float32; NaN in the rows without an answer.
        """
        found: npt.NDArray[np.float32] = _array(list(self._results(images)), self._columns()[0])
        return found


class Classifier(_Model):
    """The most probable classes of batches of images.

    Args:
        model, image, id, arguments: as for `Embedder`.
        topk: number of classes.
    """

    _outputs = ("logits",)

    def __init__(
        self, model: str, topk: int = 5, image: str | None = None, id: str = "id", **arguments: object
    ) -> None:
        super().__init__(model, image, id, arguments)
        self._count = topk

    def _columns(self) -> tuple[Column, ...]:
        return class_columns(self.model.checkpoint, self._count)

    def _topk(self) -> int:
        return self._count

    def labels(self, images: Iterable[Any]) -> npt.NDArray[np.object_]:
        """The id of the most probable class, for functions of one column; None in the rows without an answer."""
        results = self._results(images)
        return np.array([result.top[0].id or result.top[0].name if result.top else None for result in results], object)


def _columns(batch: Any) -> tuple[list[str], Callable[[str], Iterable[Any]]]:
    """The names of a batch's columns, and a function that gives the values of one."""
    if isinstance(batch, Mapping):
        return list(batch), lambda name: batch[name]
    if not hasattr(batch, "column_names"):
        raise UsageError(
            f"A batch is a pyarrow.Table or a dict of arrays: something of type {type(batch).__name__} was given.",
            'batch_format="pyarrow"',
        )
    return list(batch.column_names), lambda name: (value.as_py() for value in batch.column(name))


def _numbered() -> Iterator[str]:
    number = 0
    while True:
        yield f"row {number}"
        number += 1


def _source(name: str, value: Any) -> Source:
    """An image of a row; a value of another kind, and none at all, is that row's failure alone."""
    try:
        if isinstance(value, str):  # as in a table: an address is fetched where WEEVIT_ALLOW_URLS says so
            return Source(name, listed(value, Path()))
        if isinstance(value, Mapping) and any(own is not None for own in value.values()):
            return replace(hubs_image(value, 0), name=name)
    except ImageError as error:
        return Source(name, error)
    except UsageError as error:
        return Source(name, UnreadableImageError(f"{name}: {error.message}"))
    if isinstance(value, os.PathLike):
        return Source(name, Path(value))
    if isinstance(value, np.ndarray) and value.dtype != np.uint8:
        return Source(name, UnreadableImageError(f"{name}: an array of {value.dtype}, where an image is one of uint8"))
    if isinstance(value, bytes | bytearray | memoryview | np.ndarray | Image):
        return Source(name, value)
    if value is None or isinstance(value, Mapping) or value != value:  # NaN is pandas' sign for none
        return Source(name, MissingImageError(f"{name}: no image in this row"))
    return Source(name, UnreadableImageError(f"{name}: a value of type {type(value).__name__} is not an image"))


def _appended(table: Any, results: Sequence[Result], columns: Sequence[Column]) -> Any:
    answers = arrow_table(list(results), list(columns), {})
    for field in answers.schema:
        table = table.append_column(field, answers.column(field.name))
    return table


_ABSENT = {"int32": -1, "float32": np.nan, "float16": np.nan, "string": "", "bool": False}


def _array(results: Sequence[Result], column: Column) -> Any:
    """A column of the answers as an array."""
    values = [column.value(result) for result in results]
    kind = object if column.kind == "string" else np.dtype(column.kind)
    if column.form == "set":
        return np.array([None if value is None else ";".join(value) for value in values], object)
    empty = np.full(column.shape, _ABSENT[column.kind], kind)
    return np.array([empty if value is None else value for value in values], kind).reshape(-1, *column.shape)


def _cpus_of_ray() -> int | None:
    """The CPUs that Ray gives this worker; None outside of one, or for a fraction."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return None
    context = ray.get_runtime_context()
    if context.worker.mode != 1:  # ray.WORKER_MODE: the driver has all CPUs
        return None
    return int(context.get_assigned_resources().get("CPU", 0)) or None
