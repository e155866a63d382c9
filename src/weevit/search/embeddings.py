"""The embeddings of a data set, computed once: kept on disk by what was looked at and by what looked.

A row is found by the sha256 of an image's encoded bytes, a folder of rows by everything else that an embedding
depends on: weights, architecture, preprocessing, engine, precision, device, version. So an image that is renamed,
copied or put into another split is known, and one that is changed is not.

Rows lie in files named after the sha256 of their folder's name and their own content. Each is written whole or not at
all, so that an interrupted run keeps what it computed and two processes cannot spoil each other's files; and each is
checked against its name before a row of it is used. A damaged one is deleted, and its rows are computed anew. All
folders together have a limit: what was not used for longest goes first.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from weevit._version import __version__
from weevit.answers.known import ask_for
from weevit.answers.results import Array, Result
from weevit.engine.ahead import map_ahead
from weevit.engine.choice import DEFAULT
from weevit.errors import ImageError, MalformedFileError
from weevit.images.decode import Limits
from weevit.images.source import Source, Stored, read_bytes
from weevit.predict import Predictor
from weevit.store.cache import cache_folder, evict, is_ours, make_own
from weevit.store.files import replace_file
from weevit.store.own import read_own

if TYPE_CHECKING:
    from weevit.datasets.dataset import Split

SCHEMA = "weevit.embeddings/2"

MAX_FILE_BYTES = 1 << 30
"""Ten times `ROWS_A_FILE` of the widest embedding in float64."""

SECONDS_A_FILE = 15.0
"""What a killed run loses at most; one that is interrupted or fails loses nothing."""

ROWS_A_FILE = 4096

DEFAULT_LIMIT = 4 * 1024**3
"""Bytes of all that is kept; the folder in use stays even if it alone has more."""

_OWN = "[0-9a-f]" * 40
"""The names of our own folders: whatever else lies beside them is not ours to delete."""

_READ_AHEAD = 64
"""Images whose bytes wait to be looked up."""


@dataclass(frozen=True)
class Embedded:
    """The embeddings of a split.

    Attributes:
        vectors: (n, embed_dim) float32, as `Predictor.embed` gives them; zeros where there is no answer.
        ok: (n) bool: whether there is one.
        hashes: sha256 of each image's encoded bytes, 64 hex digits; None for what could not be read, and for images
            in memory.
        failures: (id, status, error) of each image without an answer.
        computed: how many the model was asked for.
        cached: how many were there.
        notes: what became of the cache, if anything did.
    """

    vectors: Array
    ok: npt.NDArray[np.bool_]
    hashes: tuple[str | None, ...]
    failures: tuple[tuple[str, str, str], ...]
    computed: int
    cached: int
    notes: tuple[str, ...] = ()


@dataclass
class Progress:
    """How far it is.

    Attributes:
        total: images in the split.
        cached: of them, those whose embedding was there.
        computed: of them, those that the model was asked for.
        failed: of them, those without an answer.
    """

    total: int
    cached: int = 0
    computed: int = 0
    failed: int = 0

    @property
    def done(self) -> int:
        """Images that have been looked at."""
        return self.cached + self.computed + self.failed


Watcher = Callable[[Progress], None]


def embed_split(
    predictor: Predictor,
    split: Split,
    cache: Path | None = None,
    watch: Watcher = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Embedded:
    """The embedding of every image of a split; each file is read once, and the model asked for what is new.

    Args:
        predictor: a loaded model.
        split: what to embed.
        cache: the folder of all caches of embeddings; by default `embeddings` under weevit's cache (`WEEVIT_CACHE`).
        watch: told after each image.
        should_stop: asked before and after each.

    Raises:
        KeyboardInterrupt: `should_stop` said so. As after Ctrl-C, what was computed is kept, and the next call resumes.
        EngineError: the model could not be run.
    """
    run = _Run(predictor, split, cache or default_cache(), watch)
    run.embed(should_stop)
    return run.finish()


def default_cache() -> Path | None:
    """`embeddings` under weevit's cache; None where there is no home folder for one."""
    folder = cache_folder()
    return folder / "embeddings" if folder else None


class _Run:
    """One pass over a split."""

    def __init__(self, predictor: Predictor, split: Split, cache: Path | None, watch: Watcher) -> None:
        count, width = len(split.sources), predictor.checkpoint.architecture.embed_dim
        self.predictor, self.sources, self.watch = predictor, split.sources, watch
        self.rows = _Rows(cache / _key(predictor) if cache else None, width)
        self.progress = Progress(count)
        self.vectors = np.zeros((count, width), np.float32)
        self.ok = np.zeros(count, bool)
        self.hashes: list[str | None] = [None] * count
        self.failures: dict[int, tuple[str, str, str]] = {}

    def embed(self, should_stop: Callable[[], bool]) -> None:
        """Look at every image. Answers are steady: what is kept must not depend on what stood beside it."""
        stream = partial(self.predictor.stream, outputs=("embedding",), steady=True)
        self.watch(self.progress)
        try:
            with closing(ask_for(self._unknown(should_stop), stream)) as answers:
                for index, result in answers:
                    self._add(index, result)
                    self.watch(self.progress)
                    _stop_if(should_stop)
        finally:
            self.rows.write()

    def _unknown(self, should_stop: Callable[[], bool]) -> Generator[tuple[int, Source], None, None]:
        """Indices and sources of the images that are not in the cache, by their bytes."""
        read = map_ahead(lambda source: _read(source, self.predictor.limits), iter(self.sources), 2, _READ_AHEAD)
        for index, (source, digest) in enumerate(read):
            _stop_if(should_stop)
            self.hashes[index] = digest
            vector = self.rows.get(digest)
            if vector is None:
                yield index, source
            else:
                self.vectors[index], self.ok[index] = vector, True
                self.progress.cached += 1
                self.watch(self.progress)

    def _add(self, index: int, result: Result) -> None:
        if result.embedding is None:
            self.failures[index] = (result.input, result.status, result.error or result.status)
            self.progress.failed += 1
            return
        self.vectors[index], self.ok[index] = result.embedding, True
        self.progress.computed += 1
        self.rows.put(self.hashes[index], result.embedding)

    def finish(self) -> Embedded:
        """What came of it, failures in the order of the split."""
        return Embedded(
            vectors=self.vectors,
            ok=self.ok,
            hashes=tuple(self.hashes),
            failures=tuple(self.failures[index] for index in sorted(self.failures)),
            computed=self.progress.computed,
            cached=self.progress.cached,
            notes=tuple(self.rows.notes),
        )


class _Rows:
    """The rows of one folder: those that were there, and those that are new."""

    def __init__(self, folder: Path | None, width: int) -> None:
        self.folder = folder
        self.kind = np.dtype([("hash", "u1", (32,)), ("vector", "<f4", (width,))])
        self.notes: list[str] = []
        self._known: dict[bytes, Array] = {}
        self._new: dict[bytes, Array] = {}
        self._written = time.monotonic()
        if folder is None:
            self._note("embeddings are not kept: there is no home folder; WEEVIT_CACHE names another")
        else:
            self._load(folder)

    def get(self, digest: str | None) -> Array | None:
        """The embedding of the image with this sha256; None where there is none."""
        return self._known.get(bytes.fromhex(digest)) if digest else None

    def put(self, digest: str | None, vector: Array) -> None:
        """Keep an embedding; it is on the disk some seconds later, or after `write`."""
        if digest is None:
            return
        key = bytes.fromhex(digest)
        self._known[key] = self._new[key] = vector
        if len(self._new) >= ROWS_A_FILE or time.monotonic() - self._written > SECONDS_A_FILE:
            self.write()

    def write(self) -> None:
        """Put what is new on the disk. A full or read-only one costs time later, not the answer."""
        self._written = time.monotonic()
        new, self._new = self._new, {}
        if not new or self.folder is None:
            return
        rows = np.zeros(len(new), self.kind)
        rows["hash"] = np.frombuffer(b"".join(new), np.uint8).reshape(-1, 32)
        rows["vector"] = np.stack(list(new.values()))
        buffer = io.BytesIO()
        np.save(buffer, rows)
        content = buffer.getvalue()
        try:
            make_own(self.folder.parent)
            make_own(self.folder)
            replace_file(self.folder / f"{_digest(self.folder, content)}.npy", lambda tmp: tmp.write_bytes(content))
            evict(kept(self.folder.parent), DEFAULT_LIMIT, self.folder, _remove)
        except OSError as error:
            self._note(f"embeddings could not be kept in {self.folder}: {error.strerror or error}")

    def _load(self, folder: Path) -> None:
        with contextlib.suppress(OSError):
            os.utime(folder)  # the time of last use, for eviction
        for path in sorted(folder.glob("*.npy")):
            rows = self._sound(path)
            if rows is None:
                self._note("damaged files of kept embeddings were deleted; their rows are computed anew")
                with contextlib.suppress(OSError):
                    path.unlink()
                continue
            rows = rows[np.isfinite(rows["vector"]).all(axis=1)]  # others mean nothing, and are computed anew
            self._known.update(zip(map(bytes, rows["hash"]), rows["vector"], strict=True))

    def _sound(self, path: Path) -> npt.NDArray[np.void] | None:
        """The rows of a file; None if its content is not what its name says, or another user's."""
        try:
            content = read_own(path, MAX_FILE_BYTES)
            if not (is_ours(path.parent) and is_ours(path)) or _digest(path.parent, content) != path.stem:
                return None
            rows: npt.NDArray[np.void] = np.load(io.BytesIO(content), allow_pickle=False)
        except (OSError, ValueError, MalformedFileError):
            return None
        return rows if rows.dtype == self.kind and rows.ndim == 1 and np.isfinite(rows["vector"]).all() else None

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def _digest(folder: Path, content: bytes) -> str:
    """Of a file's place and content: the same rows in another model's folder have another."""
    return hashlib.sha256(f"{folder.name}\n".encode() + content).hexdigest()


def kept(cache: Path | None = None) -> list[tuple[Path, int]]:
    """(folder, bytes) of everything that is kept, the least recently used first; arguments as for `embed_split`."""
    found = []
    top = cache or default_cache()
    for folder in top.glob(_OWN) if top else ():
        with contextlib.suppress(OSError):  # of another process, which may delete what it lists
            size = sum(path.stat().st_size for path in folder.glob("*.npy"))
            found.append((folder.stat().st_mtime, folder, size))
    return [(folder, size) for _, folder, size in sorted(found)]


def _remove(folder: Path) -> None:
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def _stop_if(should_stop: Callable[[], bool]) -> None:
    if should_stop():
        raise KeyboardInterrupt


def _read(source: Source, limits: Limits) -> tuple[Source, str | None]:
    """The source with its bytes in place of its path, and their sha256. Errors wait until the source is opened."""
    value = source.value
    if isinstance(value, str | Path | Stored):
        try:
            value = read_bytes(value, limits)
        except ImageError as error:
            return Source(source.name, error), None
    if not isinstance(value, bytes | bytearray | memoryview):
        return source, None
    return Source(source.name, value), hashlib.sha256(value).hexdigest()


def _not_default(predictor: Predictor) -> dict[str, str]:
    """Precision and device where they are not the default: those of earlier versions were, and keep their key."""
    own = {"precision": predictor.precision, "device": predictor.device}
    return {name: value for name, value in own.items() if value != getattr(DEFAULT, name)}


def _key(predictor: Predictor) -> str:
    """Everything but the image that an embedding depends on, as one hash.

    The weights alone would not do: where the last norm stands and how tokens are pooled is written in `config.json`.
    """
    checkpoint = predictor.checkpoint
    parts = {
        "schema": SCHEMA,
        "checkpoint": checkpoint.sha256,
        "architecture": asdict(checkpoint.architecture),
        "grid": checkpoint.grid,
        "preprocessing": predictor.pixels_depend_on(),
        "engine": predictor.engine,
        **_not_default(predictor),
        "weevit": __version__,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:40]
