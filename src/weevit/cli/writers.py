"""Answers as files, in the columns of `answers`; each appears when it is whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from weevit.answers.columns import Column, json_object
from weevit.answers.tables import arrow_table, csv_lines
from weevit.images.parquet import pyarrow
from weevit.store.files import write_whole
from weevit.text import json_line, list_line

if TYPE_CHECKING:
    from weevit.answers.results import Result


def write_jsonl(path: Path, results: Iterable[Result], columns: Sequence[Column]) -> list[Path]:
    """One JSON object per line, as `--json` prints."""
    lines = (json_line(json_object(result, columns)).encode() + b"\n" for result in results)
    return [write_whole(path, lambda file: file.writelines(lines))]


def write_csv(path: Path, results: Iterable[Result], columns: Sequence[Column]) -> list[Path]:
    """One row per input, without lists."""
    return [write_whole(path, lambda file: file.writelines(csv_lines(results, columns)))]


def write_parquet(path: Path, results: Iterable[Result], columns: Sequence[Column]) -> list[Path]:
    """One row per input, with lists."""
    table = arrow_table(results, columns)
    return [write_whole(path, lambda file: pyarrow().parquet.write_table(table, file))]


def write_npy(path: Path, results: Iterable[Result], columns: Sequence[Column]) -> list[Path]:
    """`vectors.npy` with a row per answered input, and `vectors.ids.txt` with their names, line by line."""
    rows = [(result.input, columns[-1].value(result)) for result in results if result.ok]
    vectors = np.stack([vector for _, vector in rows])
    names = [f"{list_line(name)}\n".encode() for name, _ in rows]
    ids = path.with_suffix(".ids.txt")
    return [
        write_whole(path, lambda file: np.save(file, vectors)),
        write_whole(ids, lambda file: file.writelines(names)),
    ]


def write_features_npz(path: Path, results: Sequence[Result]) -> dict[str, tuple[int, ...]]:
    """`block_i` per layer and `inputs` with the names of the answered images; returns the shapes."""
    answered = [result for result in results if result.ok]
    arrays: dict[str, Any] = {}
    for index in answered[0].features:
        stacked = np.stack([result.features[index] for result in answered])
        arrays[f"block_{index}"] = stacked[0] if len(results) == 1 else stacked
    shapes = {name: array.shape for name, array in arrays.items()}
    names = np.array([result.input for result in answered])
    write_whole(path, lambda file: np.savez(file, **arrays, inputs=names))
    return shapes


WRITERS: dict[str, Callable[[Path, Iterable[Result], Sequence[Column]], list[Path]]] = {
    ".csv": write_csv,
    ".jsonl": write_jsonl,
    ".parquet": write_parquet,
    ".npy": write_npy,
}
"""Ending of `--output` -> writer, which returns the files that it wrote."""
