"""Answers as files: written beside their place, and moved there when they are whole."""

from __future__ import annotations

import csv
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from weevit.cli.answers import failed_object, json_line
from weevit.errors import MissingExtraError, OutputError

if TYPE_CHECKING:
    from weevit.predict import Result


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that appears under its name only when it is complete and on the disk.

    Raises:
        OutputError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    unfinished: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.absolute().parent, prefix=f".{path.name}.", delete=False) as file:
            unfinished = Path(file.name)
            yield file
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        unfinished.chmod(0o666 & ~mask)  # a temporary file is private; an answer has the usual rights
        unfinished.replace(path)
        unfinished = None
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {error.strerror or error}.", "Free some room or choose another --output."
        ) from error
    finally:
        if unfinished is not None:
            unfinished.unlink(missing_ok=True)


def classify_object(result: Result) -> dict[str, Any]:
    """One classified input as plain data."""
    top = [
        {"index": p.index, "synset": p.id, "name": p.name, "probability": round(p.probability, 6)} for p in result.top
    ]
    return failed_object(result) | {"top": top}


def write_jsonl(path: Path, results: Iterable[Result], topk: int) -> None:
    """One JSON object a line, as `--json` prints."""
    del topk
    with whole_file(path) as file:
        for result in results:
            file.write(json_line(classify_object(result)).encode() + b"\n")


def write_csv(path: Path, results: Iterable[Result], topk: int) -> None:
    """One row an input: input, status, error, width, height, then index, synset, name, probability of each class."""
    with whole_file(path) as file:
        text = _Text(file)
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_columns(topk))
        for result in results:
            writer.writerow(_row(result, topk))


def write_parquet(path: Path, results: Iterable[Result], topk: int) -> None:
    """The same table as `write_csv`, typed."""
    arrow, parquet = _pyarrow()
    columns = _columns(topk)
    rows = [_row(result, topk) for result in results]
    table = arrow.table({name: [row[i] for row in rows] for i, name in enumerate(columns)})
    with whole_file(path) as file:
        parquet.write_table(table, file)


def _columns(topk: int) -> list[str]:
    classes = [f"{part}{rank}" for rank in range(1, topk + 1) for part in ("index", "synset", "name", "probability")]
    return ["input", "status", "error", "width", "height", *classes]


def _row(result: Result, topk: int) -> list[Any]:
    row: list[Any] = [result.input, result.status, result.error, result.width, result.height]
    for prediction in result.top:
        row += [prediction.index, prediction.id, prediction.name, round(prediction.probability, 6)]
    return row + [None] * (5 + 4 * topk - len(row))


def write_embeddings_npy(path: Path, results: Sequence[Result]) -> list[Path]:
    """`vectors.npy` with a row for each answered input, and `vectors.ids.txt` with their names, line by line."""
    answered = [result for result in results if result.embedding is not None]
    ids = path.with_suffix(".ids.txt")
    with whole_file(path) as file:
        np.save(file, np.stack([result.embedding for result in answered if result.embedding is not None]))
    with whole_file(ids) as file:
        file.writelines(f"{_one_line(result.input)}\n".encode() for result in answered)
    return [path, ids]


def write_embeddings_parquet(path: Path, results: Sequence[Result]) -> list[Path]:
    """One row an input: input, status, error, width, height, embedding (fixed-size list of float32; null if failed)."""
    arrow, parquet = _pyarrow()
    width = next(len(result.embedding) for result in results if result.embedding is not None)
    vectors = [None if result.embedding is None else result.embedding.tolist() for result in results]
    table = arrow.table(
        {
            "input": [result.input for result in results],
            "status": [result.status for result in results],
            "error": [result.error for result in results],
            "width": [result.width for result in results],
            "height": [result.height for result in results],
            "embedding": arrow.array(vectors, type=arrow.list_(arrow.float32(), width)),
        }
    )
    with whole_file(path) as file:
        parquet.write_table(table, file)
    return [path]


def write_features_npz(path: Path, results: Sequence[Result]) -> dict[str, tuple[int, ...]]:
    """`block_i` for each layer and `inputs` with the names of the answered pictures; returns the shapes."""
    answered = [result for result in results if result.ok]
    arrays: dict[str, Any] = {}
    for index in answered[0].features:
        stacked = np.stack([result.features[index] for result in answered])
        arrays[f"block_{index}"] = stacked[0] if len(results) == 1 else stacked
    shapes = {name: array.shape for name, array in arrays.items()}
    with whole_file(path) as file:
        np.savez(file, **arrays, inputs=np.array([result.input for result in answered]))
    return shapes


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("Parquet files need pyarrow, which is not installed.", 'pip install "weevit[data]"') from error
    return pyarrow, pyarrow.parquet


def _one_line(name: str) -> str:
    """A file name may hold a line break; a line of a list may not."""
    return name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")


class _Text:
    """What `csv` writes to: text in, UTF-8 out."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, text: str) -> int:
        return self._file.write(text.encode("utf-8"))


WRITERS: dict[str, Callable[[Path, Iterable[Any], int], None]] = {
    ".csv": write_csv,
    ".jsonl": write_jsonl,
    ".parquet": write_parquet,
}
"""Ending of `classify --output` -> writer."""

EMBEDDING_WRITERS: dict[str, Callable[[Path, Sequence[Any]], list[Path]]] = {
    ".npy": write_embeddings_npy,
    ".parquet": write_embeddings_parquet,
}
"""Ending of `embed --output` -> writer; returns the files it wrote."""
