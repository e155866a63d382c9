"""`weevit.index_vectors`: an index of vectors that exist already.

    vectors.npy      an array (n, D), and beside it vectors.ids.txt with an id per line, as `weevit embed` writes them
    vectors.parquet  a column of ids and one of lists of numbers; a folder of such files, as that of a job

A model may be named as their maker. Then some of the images that are still there are embedded, and must have the
vectors that were brought: a wrong name is an error, and not wrong answers.
"""

from __future__ import annotations

import codecs
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from weevit.answers.results import Array, unit_length
from weevit.errors import UsageError, WeevitError
from weevit.images.files import LocalFile
from weevit.images.lines import lines, open_text
from weevit.images.names import Names
from weevit.images.parquet import pyarrow
from weevit.images.source import Source, printable
from weevit.predict import Predictor, load
from weevit.search.building import Progress, Watcher
from weevit.search.index import Index, open_index
from weevit.search.manifest import INDEX, MANIFEST, Manifest
from weevit.search.shards import KEY_BYTES, STAMP_BYTES, Rows
from weevit.search.space import MAX_WIDTH, Space, space_of
from weevit.search.writing import Writer
from weevit.store.folder import held
from weevit.store.home import given_path
from weevit.store.outputs import local
from weevit.text import some, typed

IDS = (
    "input",
    "id",
    "path",
    "image_path",
    "file",
    "filename",
    "file_name",
    "filepath",
    "file_path",
    "image_id",
    "name",
)
VECTORS = ("embedding", "embeddings", "vector", "vectors", "features")

_AT_ONCE = 1 << 14
_CHECKED = 4
"""Images that are embedded to see whether the vectors are those of the model."""

_SAME = 0.999
"""Least cosine of the vector that was brought and that of the image: float16, and other versions of Pillow."""

Part = tuple[list[str], npt.NDArray[np.floating[Any]]]
"""Ids, and (n, D) vectors."""


def index_vectors(
    vectors: str | os.PathLike[str],
    output: str | os.PathLike[str],
    model: str | Path | Predictor | None = None,
    *,
    ids: str | os.PathLike[str] | None = None,
    watch: Watcher = lambda progress: None,
) -> Index:
    """Make an index of vectors that exist already.

    Args:
        vectors: a `.npy` file, a `.parquet` file, or a folder of Parquet files.
        output: the folder of the index; it must not hold one yet.
        model: the model that made the vectors; without one they are compared among themselves only.
        ids: a file with an id per line, for a `.npy` file; by default `NAME.ids.txt` beside `NAME.npy`.
        watch: told after each block.

    Raises:
        UsageError: no vectors, none of a sound shape, ids that do not fit them, a model that gives other vectors, or a
            folder that holds something.
        OutputError: the folder is in use or cannot be written.
        MissingExtraError: pyarrow or filelock is not installed.
    """
    source, folder = given_path("vectors", vectors), local(output)
    read = _reader(source, None if ids is None else given_path("ids", ids))
    given = model.checkpoint.path if isinstance(model, Predictor) else model
    with held(folder, INDEX, (given, source, ids)):
        if (folder / MANIFEST).exists():
            raise UsageError(f"{folder} holds an index already.", "Choose another --output.")
        predictor = load(model) if model is not None and not isinstance(model, Predictor) else model
        parts = read()
        first = next(parts, None)
        if first is None:
            raise UsageError(f"{source} holds no vectors.", f"weevit embed PHOTOS -o {typed(source)}")
        normalized = _all_of_length_1(first[1])
        space = Space(first[1].shape[1], normalized)
        if predictor is not None:
            space = replace(space_of(predictor), normalized=normalized)
            _check_maker(predictor, first, source)
        writer = Writer(folder, Manifest(space, base=str(Path.cwd())), at_once=True)
        progress, names = Progress(), Names()
        try:
            for part in chain([first], parts):
                _add(writer, names, part, space.width, source)
                progress.copied += len(part[0])
                watch(progress)
            writer.publish()
        except BaseException:
            writer.discard()
            raise
    return open_index(folder, predictor)


def _add(writer: Writer, names: Names, part: Part, width: int, source: Path) -> None:
    ids, vectors = part
    if vectors.shape[1] != width:
        raise UsageError(f"{source} holds vectors of {width} and of {vectors.shape[1]} numbers.", "Index each apart.")
    with np.errstate(over="ignore"):
        narrow = vectors.astype(np.float16)
    bad = np.flatnonzero(~np.isfinite(narrow).all(axis=1))
    if len(bad):
        raise UsageError(
            f"{source}: {len(bad):,} vectors have NaN, infinity or numbers above 65,504: "
            f"{some([ids[row] for row in bad[:4].tolist()], 3)}.",
            "Leave them out, or embed their images again.",
        )
    unique = [own.name for own in names.unique(Source(name, name) for name in ids)]
    keys = [hashlib.sha256(row.tobytes()).digest()[:KEY_BYTES] for row in narrow]
    # Stamps of no file: when the index is brought up to date, images are read.
    stamps = np.zeros((len(unique), STAMP_BYTES), np.uint8)
    writer.add(Rows(unique, np.frombuffer(b"".join(keys), np.uint8).reshape(-1, KEY_BYTES), stamps, narrow))


def _all_of_length_1(vectors: npt.NDArray[np.floating[Any]]) -> bool:
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    own = lengths[lengths > 0]  # zeros stand for an image without a vector, and have no length that tells
    return bool(len(own)) and bool((np.abs(own - 1) < 1e-2).all())


def _check_maker(predictor: Predictor, part: Part, source: Path) -> None:
    """Refuse vectors that the model does not give for their images, as far as these are there."""
    ids, vectors = part
    width = predictor.checkpoint.architecture.embed_dim
    if vectors.shape[1] != width:
        raise UsageError(
            f"{source} holds vectors of {vectors.shape[1]} numbers, and {predictor.checkpoint.name} gives {width}.",
            "Name the model that made them: -m MODEL",
        )
    there = [row for row, name in enumerate(ids) if os.path.isfile(name)]  # noqa: PTH113 - ids of any kind
    chosen = there[:: max(1, len(there) // _CHECKED)][:_CHECKED]
    sources = [Source(ids[row], Path(ids[row])) for row in chosen]
    for row, result in zip(chosen, predictor.stream(sources, outputs=("embedding",)), strict=True):
        if result.embedding is None:
            continue
        both: Array = unit_length(np.stack([vectors[row].astype(np.float32), result.embedding]))
        if float(both[0] @ both[1]) < _SAME:
            raise UsageError(
                f"{source} has another vector for {ids[row]} than {predictor.checkpoint.name} gives: their cosine is "
                f"{float(both[0] @ both[1]):.3f}.",
                "Name the model that made them: -m MODEL; or leave it out.",
            )


# ---- read


def _reader(source: Path, ids: Path | None) -> Callable[[], Iterator[Part]]:
    """A function that reads the vectors; UsageError for what holds none."""
    ending = source.suffix.lower()
    if not source.exists():
        raise UsageError(f"{source} is not there.", "--from vectors.npy, or --from vectors.parquet")
    if source.is_dir() or ending == ".parquet":
        if ids is not None:
            raise UsageError("--ids is for a .npy file; a Parquet file has a column of ids.", "Leave --ids out.")
        files = [source] if source.is_file() else sorted(source.glob("*.parquet")) or sorted(source.glob("*/*.parquet"))
        if not files:
            raise UsageError(f"{source} holds no Parquet files.", "--from vectors.npy, or --from vectors.parquet")
        pyarrow()
        return lambda: (part for file in files for part in _of_parquet(file))
    if ending != ".npy":
        raise UsageError(f"Vectors are in .npy or .parquet files: {str(source)!r} was given.", "--from vectors.npy")
    beside, line = (source.with_suffix(".ids.txt"), _unescaped) if ids is None else (ids, str)
    if not beside.is_file():
        raise UsageError(f"{beside} is not there: it names the image of each vector, one per line.", "--ids FILE")
    return lambda: _of_npy(source, beside, line)


def _of_npy(source: Path, beside: Path, read: Callable[[str], str]) -> Iterator[Part]:
    try:
        every = np.load(source, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise UsageError(f"{source} holds no array of numbers: {error}.", "numpy.save writes one.") from error
    if not isinstance(every, np.ndarray) or every.ndim != 2 or every.dtype.kind != "f" or not _sound(every.shape[1]):
        kind = f"{every.dtype} of shape {every.shape}" if isinstance(every, np.ndarray) else "an archive"
        raise UsageError(f"{source} holds {kind}; expected floating point of shape (n, D).", "numpy.save writes one.")
    with open_text(LocalFile(beside)) as text:
        names = [printable(read(line.rstrip("\r\n"))) if line is not None else "" for line in lines(text)]
    if len(names) != len(every):
        raise UsageError(f"{beside} has {len(names):,} lines for {len(every):,} vectors.", "One id per line.")
    for top in range(0, len(every), _AT_ONCE):
        yield names[top : top + _AT_ONCE], np.array(every[top : top + _AT_ONCE])


def _sound(width: int) -> bool:
    return 1 <= width <= MAX_WIDTH


def _unescaped(line: str) -> str:
    """An id as `weevit embed` wrote it (`text.list_line`)."""
    if "\\" not in line:
        return line
    try:
        return codecs.decode(line.encode("latin-1", "backslashreplace"), "unicode_escape")
    except UnicodeDecodeError:
        return line


def _of_parquet(path: Path) -> Iterator[Part]:
    arrow = pyarrow()
    try:
        file = arrow.parquet.ParquetFile(path)
        schema = file.schema_arrow
        name, vector = _column(path, schema.names, IDS), _column(path, schema.names, VECTORS)
        wanted = [name, vector, *(["status"] if "status" in schema.names else [])]
        for batch in file.iter_batches(batch_size=_AT_ONCE, columns=wanted):
            part = _of_batch(batch, name, vector, path)
            if part[0]:
                yield part
    except WeevitError:
        raise
    except Exception as error:  # pyarrow's errors share no base class but this
        raise UsageError(f"{path} is not a whole Parquet file: {error}.", "") from error


def _column(path: Path, there: Sequence[str], names: Sequence[str]) -> str:
    found = [name for name in names if name in there]
    if not found:
        raise UsageError(
            f"{path} has none of the columns {', '.join(names)}; it has {some(list(there), 8)}.",
            f"Rename a column to {names[0]}.",
        )
    if there.count(found[0]) > 1:
        raise UsageError(f"{path} has {there.count(found[0])} columns called {found[0]}.", "Leave one of them.")
    return found[0]


def _of_batch(batch: Any, name: str, vector: str, path: Path) -> Part:
    """Ids and vectors of the rows that have one."""
    arrow = pyarrow()
    column = batch.column(vector)
    kind = column.type
    if not (arrow.types.is_list(kind) or arrow.types.is_large_list(kind) or arrow.types.is_fixed_size_list(kind)):
        raise UsageError(f"{path}: the column {vector} holds {kind}; expected lists of floating point.", "")
    if not arrow.types.is_floating(kind.value_type):
        raise UsageError(f"{path}: the column {vector} holds lists of {kind.value_type}; expected floating point.", "")
    ok = ~np.asarray(column.is_null())
    if "status" in batch.schema.names:
        ok &= np.array([status == "ok" for status in batch.column("status").to_pylist()], bool)
    kept = np.flatnonzero(ok)
    column = column.take(arrow.array(kept))
    flat = column.flatten()
    width = len(flat) // len(kept) if len(kept) else 0
    lengths = [width] * len(kept) if arrow.types.is_fixed_size_list(kind) else column.value_lengths().to_pylist()
    if flat.null_count or any(length != width for length in lengths) or (len(kept) and not _sound(width)):
        raise UsageError(f"{path}: the lists of the column {vector} differ in length, or have gaps.", "")
    ids = batch.column(name).take(arrow.array(kept)).to_pylist()
    if any(own is None for own in ids):
        raise UsageError(f"{path}: the column {name} lacks the id of a vector.", "Give each vector an id.")
    names = [printable(os.fsdecode(own) if isinstance(own, bytes) else str(own)) for own in ids]
    return names, flat.to_numpy(zero_copy_only=False).reshape(len(kept), max(width, 1))
