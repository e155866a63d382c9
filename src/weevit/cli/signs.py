"""How each verb recognises a file that it wrote: a file without this sign is not replaced."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from weevit.store.outputs import Sign, first_line

SOFTWARE = "Software"
"""Key of the text in a PNG that names its program."""


def answers_csv(path: Path) -> bool:
    """Whether `classify` wrote it."""
    return first_line(path).split(",")[:6] == [*_start(), "class_index1"]


def answers_jsonl(path: Path) -> bool:
    """Whether `classify` wrote it."""
    try:
        line = json.loads(first_line(path))
        return {"schema", "input", "status", "error"} <= set(line)
    except (ValueError, TypeError, RecursionError):
        return False


def answers_parquet(path: Path) -> bool:
    """Whether `classify` wrote it."""
    return _columns(path)[:6] == [*_start(), "class_index"]


def embeddings_parquet(path: Path) -> bool:
    """Whether `embed` wrote it."""
    return _columns(path) == [*_start(), "embedding"]


def _start() -> list[str]:
    """The first columns of every table of answers."""
    from weevit.answers.columns import COMMON

    return [column.name for column in COMMON]


def _columns(path: Path) -> list[str]:
    from weevit.images.parquet import pyarrow

    try:
        return list(pyarrow().parquet.read_schema(path).names)
    except Exception:  # pyarrow's errors share no base class but this
        return []


def embeddings_npy(path: Path) -> bool:
    """Whether `embed` wrote the array, or the names beside it: as many names as vectors."""
    import numpy as np

    array, ids = path.with_name(path.name.removesuffix(".ids.txt").removesuffix(".npy") + ".npy"), names_of(path)
    try:
        with array.open("rb") as file, ids.open("rb") as lines:
            first = np.lib.format.read_magic(file) == (1, 0)
            header = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
            shape, _, dtype = header(file)
            count = sum(1 for _ in lines)
    except (OSError, ValueError, EOFError):
        return False
    return bool(len(shape) == 2 and dtype == np.float32 and shape[0] == count)


def names_of(path: Path) -> Path:
    """`vectors.npy` -> `vectors.ids.txt`, the file beside it."""
    return path if path.name.endswith(".ids.txt") else path.with_suffix(".ids.txt")


def maps_npz(path: Path) -> bool:
    """Whether `features` wrote it."""
    try:
        with zipfile.ZipFile(path) as file:
            names = set(file.namelist())
    except (OSError, ValueError, zipfile.BadZipFile):
        return False
    return "inputs.npy" in names and all(name.startswith("block_") for name in names - {"inputs.npy"})


def image_by(verb: str) -> Sign:
    """A function that recognises the images of a verb."""

    def drew(path: Path) -> bool:
        from PIL import Image

        try:
            with Image.open(path, formats=["PNG"]) as image:
                return bool(image.info.get(SOFTWARE) == f"weevit {verb}")
        except Exception:  # the error is not weevit's
            return False

    return drew


def save_image(image: Any, file: Any, verb: str) -> None:
    """Write a PNG with the name of its verb."""
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    text.add_text(SOFTWARE, f"weevit {verb}")
    image.save(file, "PNG", pnginfo=text)


Signs = Mapping[str, Sign]
"""Ending of an output -> whether the verb wrote the file that is there."""

CLASSIFY: Signs = {".csv": answers_csv, ".jsonl": answers_jsonl, ".parquet": answers_parquet}
EMBED: Signs = {".npy": embeddings_npy, ".parquet": embeddings_parquet}
FEATURES: Signs = {".npz": maps_npz}
PCA: Signs = {".png": image_by("features")}
EXPLAIN: Signs = {".png": image_by("explain")}
