"""The index of a server: its model, its current version, and small images of what it holds."""

from __future__ import annotations

import copy
import time
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from threading import Lock

from weevit.answers.results import Array
from weevit.errors import UsageError, WeevitError
from weevit.images.budget import until_cropped
from weevit.images.source import Source, open_image, stamp
from weevit.predict import Predictor
from weevit.reports.thumbnails import jpeg
from weevit.search.index import Hit, Index, open_index
from weevit.text import typed

SIDE = 320
"""Pixels of the longer side of a thumbnail."""

_KEPT = 1024
"""Thumbnails in memory: about 15 MB."""

_LOOK_AGAIN_S = 1.0


class Searcher:
    """Searches an index; threads may share it. A version that a writer has finished is searched within a second or so.

    Args:
        folder: the index.
        named: the models of the server; the first one whose embeddings are those of the index answers.

    Attributes:
        model: name of that model.

    Raises:
        UsageError: no such index, it is empty, or no model has its embedding space.
        MalformedFileError: it is damaged.
    """

    def __init__(self, folder: Path, named: Mapping[str, Predictor]) -> None:
        self._index = open_index(folder)
        if not len(self._index):
            raise UsageError(f"{folder} holds no image yet.", "weevit index PHOTOS -o INDEX")
        self.model = _model_of(self._index, named)
        self._predictor = named[self.model]
        self._lock, self._looked = Lock(), time.monotonic()
        self._thumbnails: OrderedDict[tuple[str, str], bytes] = OrderedDict()

    def current(self) -> Index:
        """The current version of the index; the one before where that cannot be read, or is of another space."""
        with self._lock:
            if time.monotonic() - self._looked > _LOOK_AGAIN_S:
                newer = copy.copy(self._index)
                try:
                    if newer.refresh() and len(newer):
                        newer.space.check(self._predictor)
                        self._index = newer  # as a whole: other threads may be searching the one before
                except (WeevitError, OSError):
                    pass  # the one before is mapped, whatever became of its files
                self._looked = time.monotonic()
            return self._index

    def hits(self, query: Array, k: int) -> list[Hit]:
        """The `k` images nearest to a vector, as many as there are."""
        index = self.current()
        return index.search_vectors(query[None], min(k, len(index)))[0]

    def vectors_of(self, names: list[str]) -> list[Array]:
        """(D) the embeddings of images of the index; UsageError for an id that it does not have."""
        index = self.current()
        found = [(name, index.vector_of(name)) for name in names]
        unknown = [name for name, vector in found if vector is None]
        if unknown:
            raise UsageError(f"The index has no image {unknown[0][:80]!a}.", "Ids are those of search results.")
        return [vector for _, vector in found if vector is not None]

    def thumbnail(self, name: str) -> bytes | None:
        """A small JPEG of an image of the index; None where it has no such id, or the file is not on this machine.

        Raises:
            ImageError: the file cannot be read any more.
        """
        index = self.current()
        if index.vector_of(name) is None:
            return None
        path = index.path_of(name)
        if path is None:
            return None
        key = name, stamp(path)
        with self._lock:
            kept = self._thumbnails.get(key)
        if kept is None:
            with until_cropped():
                kept = jpeg(open_image(Source(name, path), self._predictor.limits, lambda full: (SIDE, SIDE)), SIDE)
            with self._lock:
                self._thumbnails[key] = kept
                while len(self._thumbnails) > _KEPT:
                    self._thumbnails.popitem(last=False)
        return kept


def _model_of(index: Index, named: Mapping[str, Predictor]) -> str:
    refused: UsageError | None = None
    for name, predictor in named.items():
        try:
            index.space.check(predictor)
        except UsageError as error:
            refused = refused or error
            continue
        return name
    maker = index.space.maker
    hint = f"weevit serve {typed(maker.source)} --index {typed(index.folder)}" if maker is not None else ""
    raise UsageError(refused.message if refused is not None else "No model was named.", hint)
