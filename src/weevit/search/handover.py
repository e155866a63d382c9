"""An index handed over to what others search with."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from weevit.answers.columns import metadata
from weevit.answers.results import unit_length
from weevit.errors import MissingExtraError
from weevit.images.parquet import pyarrow
from weevit.store.files import write_whole
from weevit.store.outputs import check_file, local

if TYPE_CHECKING:
    from weevit.search.index import FlatIndex, Index

_ROWS = 1 << 14

_COLUMNS = ("input", "embedding")


def to_numpy(index: Index) -> tuple[list[str], npt.NDArray[np.float16]]:
    """`Index.to_numpy`."""
    none = np.zeros((0, index.space.width), np.float16)
    return list(index.ids()), np.concatenate([none, *index.vectors()])


def to_parquet(index: Index, path: str | os.PathLike[str]) -> Path:
    """`Index.to_parquet`."""
    arrow = pyarrow()
    width = index.space.width
    maker = index.space.maker
    said = metadata(()) | {
        "weevit.model": maker.name if maker else "",
        "weevit.checkpoint_sha256": maker.checkpoint if maker else "",
        "weevit.precision": maker.precision if maker else "",
        "weevit.normalized": "true" if index.space.normalized else "false",
    }
    kinds = arrow.string(), arrow.list_(arrow.float16(), width)
    schema = arrow.schema(list(zip(_COLUMNS, kinds, strict=True)), metadata=said)

    def write(file: Any) -> None:
        with arrow.parquet.ParquetWriter(file, schema) as writer:
            for names, vectors in _batches(index):
                flat = arrow.array(vectors.reshape(-1), arrow.float16())
                columns = [arrow.array(names, arrow.string()), arrow.FixedSizeListArray.from_arrays(flat, width)]
                writer.write_table(arrow.table(columns, schema=schema))

    target = local(path)
    check_file(target, _is_ours, "table of an index", ())
    return write_whole(target, write)


def _is_ours(path: Path) -> bool:
    """Whether `to_parquet` wrote a file."""
    try:
        schema = pyarrow().parquet.read_schema(path)
    except Exception:  # pyarrow's errors share no base class but this
        return False
    return schema.names == list(_COLUMNS) and b"weevit.normalized" in (schema.metadata or {})


def to_faiss(index: Index) -> FlatIndex:
    """`Index.to_faiss`."""
    faiss = _of_others("faiss", "faiss-cpu")
    made = faiss.IndexFlatIP(index.space.width)
    for _, vectors in _batches(index):
        made.add(unit_length(vectors.astype(np.float32)))
    found: FlatIndex = made
    return found


def to_lance(index: Index, folder: str | os.PathLike[str], table: str) -> object:
    """`Index.to_lance`."""
    lancedb = _of_others("lancedb", "lancedb")
    arrow = pyarrow()
    width = index.space.width
    schema = arrow.schema([("id", arrow.string()), ("vector", arrow.list_(arrow.float16(), width))])

    def batches() -> Iterator[Any]:
        for names, vectors in _batches(index):
            flat = arrow.array(vectors.reshape(-1), arrow.float16())
            columns = [arrow.array(names, arrow.string()), arrow.FixedSizeListArray.from_arrays(flat, width)]
            yield arrow.RecordBatch.from_arrays(columns, schema=schema)

    return lancedb.connect(os.fspath(folder)).create_table(table, batches(), schema=schema)


def _of_others(module: str, package: str) -> Any:
    """A library that an index is handed to; it is no part of weevit."""
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(f"{package} is not installed.", f"pip install {package}") from error


def _batches(index: Index) -> Iterator[tuple[list[str], npt.NDArray[np.float16]]]:
    """Ids and vectors, some thousand at a time."""
    names = index.ids()
    for vectors in index.vectors():
        for top in range(0, len(vectors), _ROWS):
            block = vectors[top : top + _ROWS]
            yield [next(names) for _ in range(len(block))], block
