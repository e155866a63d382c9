"""An index of images: opened, searched, handed over.

    index = weevit.open_index("photos.idx")
    index.search("query.jpg", k=12)             ids and similarities, the best first
    index.search_class("goldfish")              where the model has a classifier

An open index is one version of it: a writer that adds to it meanwhile changes nothing until `refresh`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import numpy.typing as npt

from weevit.answers.results import Array, unit_length
from weevit.arguments import whole
from weevit.engine.threads import choose_threads
from weevit.errors import ImageError, MalformedFileError, UsageError
from weevit.images.source import Source
from weevit.images.sources import Inputs, expand
from weevit.predict import Predictor
from weevit.search.classes import class_index, scores_of
from weevit.search.lookup import Lookup
from weevit.search.manifest import DATA, INDEX, MANIFEST, Manifest, open_shard, read_manifest
from weevit.search.scan import Best, Part, best, best_by
from weevit.search.space import Space
from weevit.store.folder import refuse_strange
from weevit.store.home import given_path
from weevit.text import typed

if TYPE_CHECKING:
    import os

_UNLIKE = 0.5
"""Weight of the mean of what a result should not be like (Rocchio, 1971: less than that of the other mean)."""

_TRIES = 20
"""Openings of an index that a writer compacts at the same moment."""

Measure = Literal["similarity", "probability"]


class FlatIndex(Protocol):
    """What is used of faiss's indexes."""

    ntotal: int

    def search(self, x: Array, k: int) -> tuple[Array, npt.NDArray[np.int64]]:
        """Products and rows of the k best, for each row of `x`."""
        ...


@dataclass(frozen=True)
class Hit:
    """One image that was found.

    Attributes:
        id: name of the image, as it was given when the index was made.
        score: cosine of its embedding with the query, from -1 to 1; or the probability of a class.
        measure: which of them.
    """

    id: str
    score: float
    measure: Measure = "similarity"

    def to_dict(self) -> dict[str, str | float]:
        """The fields as plain data: `pandas.DataFrame([hit.to_dict() for hit in hits])`."""
        return {"id": self.id, self.measure: self.score}


class Index:
    """An index of images. Open one with `weevit.open_index`, make one with `weevit.index`.

    Attributes:
        folder: where it lies.
        threads: threads that search.
    """

    def __init__(self, folder: Path, threads: int | None = None, model: Predictor | None = None) -> None:
        self.folder, self.threads = folder, choose_threads(threads).count
        if model is not None and not isinstance(model, Predictor):
            raise UsageError(f"model is a loaded model: {model!r:.60} was given.", "model=weevit.load(...)")
        self._model = model
        self._lookup: Lookup | None = None
        self._manifest, self._parts = _opened(folder)
        if model is not None:
            self.space.check(model)

    def __len__(self) -> int:
        return self._manifest.images

    def __repr__(self) -> str:
        return f"Index({str(self.folder)!r}, {len(self):,} images, {self.space.width} numbers each)"

    @property
    def space(self) -> Space:
        """What its vectors mean: model, preprocessing, precision, normalisation."""
        return self._manifest.space

    @property
    def version(self) -> int:
        """Counts the changes of the index."""
        return self._manifest.version

    @cached_property
    def model(self) -> Predictor:
        """The model that made its vectors, loaded when a query needs it.

        Raises:
            UsageError: none is recorded, or the recorded one is of another space now.
            ModelError: it cannot be loaded.
        """
        return self._model or self.space.open()

    def refresh(self) -> bool:
        """Take the current version of the index; returns whether it is another one."""
        if read_manifest(self.folder).version == self.version:
            return False
        self._manifest, self._parts = _opened(self.folder)
        self._lookup = None
        return True

    # ---- what one asks

    def search(self, like: Inputs, k: int = 10, unlike: Inputs | None = None) -> list[Hit]:
        """The images that are most similar to some images.

        Args:
            like: an image, or several; as for `Predictor.classify`. Of several, the mean of their embeddings of length
                1 is searched.
            k: images to find.
            unlike: images that the results should not be like: half of their mean is subtracted.

        Raises:
            UsageError: no image, one that cannot be read, k is larger than the index, or its model is not known.
        """
        query = query_of(self._embed(like, "like"), None if unlike is None else self._embed(unlike, "unlike"))
        return self.search_vectors(query[None], k)[0]

    def search_vectors(self, vectors: Array, k: int = 10) -> list[list[Hit]]:
        """The images whose embeddings have the largest cosines with each vector.

        Args:
            vectors: (m, D) float32 of the index's space.
            k: images to find for each.

        Raises:
            UsageError: another shape, a vector of zeros, or k is larger than the index.
        """
        try:
            with np.errstate(over="ignore"):  # what is infinite then is refused
                queries = np.asarray(vectors, np.float32)
        except (TypeError, ValueError):  # text, complex numbers, rows of different lengths
            raise UsageError("Queries are an array of numbers.", f"Its shape is (m, {self.space.width}).") from None
        if queries.ndim != 2 or queries.shape[1] != self.space.width or not len(queries):
            raise UsageError(
                f"Queries have the shape {queries.shape}; the index has vectors of {self.space.width} numbers.",
                f"Give an array of shape (m, {self.space.width}).",
            )
        if not np.isfinite(queries).all() or not queries.any(axis=1).all():
            raise UsageError("A query has no direction: all its numbers are 0, or some are NaN or infinite.")
        self._check_k(k)
        return [self._hits(found, "similarity") for found in best(self._parts, queries, k, self.threads)]

    def search_class(self, name: str | int, k: int = 10, model: str | Path | Predictor | None = None) -> list[Hit]:
        """The images of which a classifier is surest that they show a class.

        Args:
            name: a class: its name, its id (`n01443537`) or its index.
            k: images to find.
            model: whose classifier: one fitted with `weevit.fit` to the same embeddings, for instance; by default the
                index's own.

        Raises:
            UsageError: no such class, no classifier, another embedding space, or k is larger than the index.
        """
        predictor = self.model if model is None else model
        if not isinstance(predictor, Predictor):
            predictor = self.space.open(predictor)
        self.space.check(predictor)
        if self.space.normalized:
            raise UsageError(
                "A classifier needs embeddings as the model gives them; those of the index were scaled to length 1.",
                "Make the index from images, or from vectors without --normalize.",
            )
        self._check_k(k)
        checkpoint = predictor.checkpoint
        score = scores_of(checkpoint, class_index(checkpoint, name))
        return self._hits(best_by(self._parts, score, k, self.threads), "probability")

    # ---- its images

    def ids(self) -> Iterator[str]:
        """The ids of all images, in the order of the index."""
        for part in self._parts:
            yield from (name for name, left in zip(part.shard.names(), part.left, strict=True) if not left)

    def vectors(self) -> Iterator[npt.NDArray[np.float16]]:
        """The embeddings, in the order of `ids`: (n, D) float16 for each shard."""
        for part in self._parts:
            yield part.shard.vectors[~part.left]

    def keys(self) -> Iterator[npt.NDArray[np.uint8]]:
        """First half of the sha256 of each image's bytes, in the order of `ids`: (n, 16) uint8 for each shard."""
        for part in self._parts:
            yield part.shard.keys[~part.left]

    def vector_of(self, name: str) -> Array | None:
        """(D) float32: the embedding of an image of the index; None where it has no such id.

        The first call reads all ids.
        """
        if self._lookup is None:
            self._lookup = Lookup(self._parts)
        found = self._lookup.find(name)
        return None if found is None else found[0].shard.vectors[found[1]].astype(np.float32)

    def path_of(self, name: str) -> Path | None:
        """The file of an image; None where it is not there, or lies in an archive or at an address."""
        for path in (Path(self._manifest.base, name), Path(name)):  # the second where the folder was moved
            try:
                if path.is_file():
                    return path
            except (OSError, ValueError):
                return None
        return None

    # ---- handed over

    def to_numpy(self) -> tuple[list[str], npt.NDArray[np.float16]]:
        """Ids, and (n, D) float16 embeddings."""
        from weevit.search.handover import to_numpy

        return to_numpy(self)

    def to_parquet(self, path: str | os.PathLike[str]) -> Path:
        """Write a Parquet file with the columns `input` and `embedding` (float16), shard by shard.

        Raises:
            UsageError: a file is there that `to_parquet` did not write, or a folder.
            OutputError: it cannot be written.
            MissingExtraError: pyarrow is not installed.
        """
        from weevit.search.handover import to_parquet

        return to_parquet(self, path)

    def to_faiss(self) -> FlatIndex:
        """A `faiss.IndexFlatIP` of the embeddings with length 1; row i is the i-th of `ids`.

        Raises:
            MissingExtraError: faiss is not installed.
        """
        from weevit.search.handover import to_faiss

        return to_faiss(self)

    def to_lance(self, folder: str | os.PathLike[str], table: str = "images") -> object:
        """A table of a LanceDB database with the columns `id` and `vector` (float16).

        Raises:
            MissingExtraError: lancedb is not installed.
        """
        from weevit.search.handover import to_lance

        return to_lance(self, folder, table)

    # ---- how it is answered

    def _embed(self, images: Inputs, name: str) -> Array:
        """(n, D) the embeddings of the images of a query."""
        sources = list(expand(images))
        if not sources:
            raise UsageError(f"A query needs an image: {name} holds none.", "weevit search INDEX photo.jpg")
        results = list(self.model.stream(sources, outputs=("embedding",)))
        for one in results:
            if not one.ok:
                raise UsageError(f"{one.input} cannot be searched for: {one.error}.", "Give an image that can be read.")
        return np.stack([one.embedding for one in results if one.embedding is not None])

    def _check_k(self, k: int) -> None:
        whole("k", k, 1)
        if not len(self):
            raise UsageError(f"{self.folder} holds no image yet.", "weevit index PHOTOS -o INDEX")
        if k > len(self):
            raise UsageError(f"k is {k:,}, and the index holds {len(self):,} images.", f"-k {len(self)}")

    def _hits(self, found: Best, measure: Measure) -> list[Hit]:
        rows = zip(found.shards.tolist(), found.rows.tolist(), found.scores.tolist(), strict=True)
        return [Hit(self._parts[shard].shard.name(row), score, measure) for shard, row, score in rows]


def query_of(like: Array, unlike: Array | None = None) -> Array:
    """What to search for where there are several images: what they have in common.

    Args:
        like: (n, D) embeddings, of any length.
        unlike: (m, D) embeddings of images that results should not be like.

    Returns:
        (D) float32: the mean of `like` at length 1, less half of the mean of `unlike` at length 1.
    """
    query: Array = unit_length(like).mean(axis=0)
    if unlike is not None and len(unlike):
        query = query - _UNLIKE * unit_length(unlike).mean(axis=0)
    return query


def open_index(folder: str | os.PathLike[str], model: Predictor | None = None, threads: int | None = None) -> Index:
    """Open an index for searching; nothing in it is changed.

    Args:
        folder: made by `weevit.index`.
        model: a loaded model of the index's space; by default the one that is recorded, when a query needs it.
        threads: threads that search; chosen by default.

    Raises:
        UsageError: there is no index, or `model` is of another space.
        MalformedFileError: it is damaged.
    """
    path = given_path("folder", folder)
    if not os.path.isfile(path / MANIFEST):  # noqa: PTH113 - a name may be too long
        what, new = ("is no index", "photos.idx") if os.path.exists(path) else ("is not there", path)  # noqa: PTH110
        raise UsageError(f"{path} {what}.", f"weevit index PHOTOS -o {typed(new)}")
    refuse_strange(path, INDEX)
    return Index(path, threads, model)


def _opened(folder: Path) -> tuple[Manifest, list[Part]]:
    """The current version, mapped. Where a writer deletes a shard between two steps, the next version is there."""
    for _ in range(_TRIES):
        manifest = read_manifest(folder)
        try:
            shards = [(open_shard(folder, line, manifest.space.width), line) for line in manifest.shards]
        except FileNotFoundError as error:
            if read_manifest(folder).version == manifest.version:
                raise MalformedFileError(
                    f"{error.filename} is missing.", "Rerun weevit index: its images are embedded anew."
                ) from None
            continue
        return manifest, [Part(shard, line.left(), line.error) for shard, line in shards]
    raise MalformedFileError(f"{folder / DATA} changes faster than it can be read.", "Try again.")


def image_of(index: Index, name: str) -> Source:
    """The image of an id, to be decoded; one that raises where its file is not there."""
    path = index.path_of(name)
    if path is None:
        return Source(name, ImageError(f"{name}: not a file on this machine"))
    return Source(name, path)
