"""Answers as files: written beside their place, and moved there when they are whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from weevit.cli.answers import failed_object
from weevit.images.parquet import pyarrow
from weevit.store.files import write_whole
from weevit.text import csv_row, json_line, list_line

if TYPE_CHECKING:
    from weevit.answers.results import Result
    from weevit.zoo.checkpoint import Checkpoint


def classify_object(result: Result) -> dict[str, Any]:
    """One classified input as plain data."""
    top = [
        {"index": p.index, "synset": p.id, "name": p.name, "probability": round(p.probability, 6)} for p in result.top
    ]
    said: dict[str, Any] = {"top": top, "unknown": result.unknown}
    if result.present is not None:
        said["present"] = [p.id or p.name for p in result.present]
    return failed_object(result) | said


@dataclass(frozen=True)
class Columns:
    """The columns of a table of classified inputs.

    Attributes:
        topk: how many classes have theirs.
        said: the model's own: `unknown` or `present`, or none.
    """

    topk: int
    said: tuple[str, ...] = ()

    def names(self) -> list[str]:
        """input, status, error, width, height, then index, synset, name, probability of each class, then `said`."""
        parts = ("index", "synset", "name", "probability")
        classes = [f"{part}{rank}" for rank in range(1, self.topk + 1) for part in parts]
        return ["input", "status", "error", "width", "height", *classes, *self.said]

    def row(self, result: Result) -> list[Any]:
        """The values of one input; None where there is none."""
        row: list[Any] = [result.input, result.status, result.error, result.width, result.height]
        for prediction in result.top:
            row += [prediction.index, prediction.id, prediction.name, round(prediction.probability, 6)]
        row += [None] * (5 + 4 * self.topk - len(row))
        present = None if result.present is None else ";".join(p.id or p.name for p in result.present)
        own = {"unknown": result.unknown, "present": present}
        return row + [own[name] if result.ok else None for name in self.said]


def table_columns(checkpoint: Checkpoint, topk: int) -> Columns:
    """The columns for the answers of a model."""
    decision = checkpoint.decision
    said: tuple[str, ...] = ()
    if decision and decision.multi_label:
        said = ("present",)
    elif decision and decision.threshold is not None:
        said = ("unknown",)
    return Columns(min(topk, checkpoint.num_classes), said)


def write_jsonl(path: Path, results: Iterable[Result], columns: Columns) -> None:
    """One JSON object per line, as `--json` prints."""
    del columns
    lines = (json_line(classify_object(result)).encode() + b"\n" for result in results)
    write_whole(path, lambda file: file.writelines(lines))


def write_csv(path: Path, results: Iterable[Result], columns: Columns) -> None:
    """One row per input."""

    def write(file: IO[bytes]) -> None:
        file.write(csv_row(columns.names()).encode())
        for result in results:
            cells = (str(cell) if isinstance(cell, bool) else cell for cell in columns.row(result))
            file.write(csv_row(cells).encode("utf-8", "backslashreplace"))

    write_whole(path, write)


def write_parquet(path: Path, results: Iterable[Result], columns: Columns) -> None:
    """Write the table of `write_csv`, typed."""
    arrow = pyarrow()
    rows = [columns.row(result) for result in results]
    table = arrow.table({name: [row[i] for row in rows] for i, name in enumerate(columns.names())})
    write_whole(path, lambda file: arrow.parquet.write_table(table, file))


def write_embeddings_npy(path: Path, results: Sequence[Result]) -> list[Path]:
    """`vectors.npy` with a row for each answered input, and `vectors.ids.txt` with their names, line by line."""
    answered = [result for result in results if result.embedding is not None]
    ids = path.with_suffix(".ids.txt")
    vectors = np.stack([result.embedding for result in answered if result.embedding is not None])
    names = [f"{list_line(result.input)}\n".encode() for result in answered]
    write_whole(path, lambda file: np.save(file, vectors))
    write_whole(ids, lambda file: file.writelines(names))
    return [path, ids]


def write_embeddings_parquet(path: Path, results: Sequence[Result]) -> list[Path]:
    """One row per input: input, status, error, width, height, embedding (list of float32; null if failed)."""
    from weevit.jobs.shards import vector_array

    arrow = pyarrow()
    table = arrow.table(
        {
            "input": [result.input for result in results],
            "status": [result.status for result in results],
            "error": [result.error for result in results],
            "width": [result.width for result in results],
            "height": [result.height for result in results],
            "embedding": vector_array([result.embedding for result in results], "float32"),
        }
    )
    write_whole(path, lambda file: arrow.parquet.write_table(table, file))
    return [path]


def write_features_npz(path: Path, results: Sequence[Result]) -> dict[str, tuple[int, ...]]:
    """`block_i` for each layer and `inputs` with the names of the answered images; returns the shapes."""
    answered = [result for result in results if result.ok]
    arrays: dict[str, Any] = {}
    for index in answered[0].features:
        stacked = np.stack([result.features[index] for result in answered])
        arrays[f"block_{index}"] = stacked[0] if len(results) == 1 else stacked
    shapes = {name: array.shape for name, array in arrays.items()}
    names = np.array([result.input for result in answered])
    write_whole(path, lambda file: np.savez(file, **arrays, inputs=names))
    return shapes


WRITERS: dict[str, Callable[[Path, Iterable[Any], Columns], None]] = {
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
