"""The embeddings of images: each file is read once, and the model is asked for what is not known by its bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from weevit.answers.known import ask_for
from weevit.answers.results import Array
from weevit.engine.ahead import map_ahead
from weevit.errors import ImageError
from weevit.images.decode import Limits
from weevit.images.source import Source, Stored, read_bytes
from weevit.predict import Predictor
from weevit.search.kept import Kept, default_cache

if TYPE_CHECKING:
    from weevit.datasets.dataset import Split

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


class _Run:
    """One pass over a split."""

    def __init__(self, predictor: Predictor, split: Split, cache: Path | None, watch: Watcher) -> None:
        count, width = len(split.sources), predictor.checkpoint.architecture.embed_dim
        self.predictor, self.sources, self.watch = predictor, split.sources, watch
        self.kept = Kept(predictor, cache)
        self.progress = Progress(count)
        self.vectors = np.zeros((count, width), np.float32)
        self.ok = np.zeros(count, bool)
        self.hashes: list[str | None] = [None] * count
        self.failures: dict[int, tuple[str, str, str]] = {}

    def embed(self, should_stop: Callable[[], bool]) -> None:
        """Look at every image."""
        self.watch(self.progress)
        try:
            embed_each(self.predictor, self.sources, self.kept.get, self._take, should_stop)
        finally:
            self.kept.write()

    def _take(self, found: Found) -> None:
        self.hashes[found.index] = found.digest
        if found.vector is not None:
            self.vectors[found.index], self.ok[found.index] = found.vector, True
        if found.failure is not None:
            self.failures[found.index] = found.failure
            self.progress.failed += 1
        elif found.computed and found.vector is not None:
            self.progress.computed += 1
            self.kept.put(found.digest, found.vector)
        else:
            self.progress.cached += 1
        self.watch(self.progress)

    def finish(self) -> Embedded:
        """What came of it, failures in the order of the split."""
        return Embedded(
            vectors=self.vectors,
            ok=self.ok,
            hashes=tuple(self.hashes),
            failures=tuple(self.failures[index] for index in sorted(self.failures)),
            computed=self.progress.computed,
            cached=self.progress.cached,
            notes=tuple(self.kept.notes),
        )


@dataclass(frozen=True)
class Found:
    """What was found for one image.

    Attributes:
        index: of the image among those that were given.
        digest: sha256 of its encoded bytes, 64 hex digits; None for what could not be read, and for images in memory.
        vector: (embed_dim) float32; None where there is no answer.
        computed: whether the model was asked.
        failure: (id, status, error) where there is no answer.
    """

    index: int
    digest: str | None
    vector: Array | None
    computed: bool = True
    failure: tuple[str, str, str] | None = None


def embed_each(
    predictor: Predictor,
    sources: Iterable[Source],
    known: Callable[[str | None], Array | None],
    take: Callable[[Found], None],
    should_stop: Callable[[], bool],
) -> None:
    """Embed images; each file is read once, and the model is asked for what is not known by its bytes.

    Answers are steady: what is kept must not depend on what stood beside it.

    Args:
        predictor: a loaded model.
        sources: the images; taken a little ahead.
        known: the vector for the sha256 of an image's bytes, or None.
        take: told what was found for each image; known ones come a little earlier than their turn.
        should_stop: asked before and after each.

    Raises:
        KeyboardInterrupt: `should_stop` said so.
    """
    stream = partial(predictor.stream, outputs=("embedding",), steady=True)

    def unknown() -> Generator[tuple[tuple[int, str | None], Source], None, None]:
        read = map_ahead(lambda source: _read(source, predictor.limits), iter(sources), 2, _READ_AHEAD)
        for index, (source, digest) in enumerate(read):
            _stop_if(should_stop)
            vector = known(digest)
            if vector is None:
                yield (index, digest), source
            else:
                take(Found(index, digest, vector, computed=False))

    with closing(ask_for(unknown(), stream)) as answers:
        for (index, digest), result in answers:
            failure = None if result.ok else (result.input, result.status, result.error or result.status)
            take(Found(index, digest, result.embedding, failure=failure))
            _stop_if(should_stop)


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
