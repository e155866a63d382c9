"""From the id of an image to its row in an index: 12 bytes per image, made by one pass over the ids."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from weevit.search.scan import Part


class Lookup:
    """Finds rows by their ids.

    Args:
        parts: all shards.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        self._starts = np.cumsum([0, *(len(part.shard) for part in parts)])
        # Python's hash of a text has a key of its own in each process: nobody can make ids that collide.
        hashes = np.fromiter((hash(name) for part in parts for name in part.shard.names()), np.int64, self._starts[-1])
        self._order = np.argsort(hashes, kind="stable").astype(np.uint32)
        self._hashes = hashes[self._order]

    def find(self, name: str) -> tuple[Part, int] | None:
        """The shard of an id and its row in it; None where the index has no such id."""
        first, end = (int(np.searchsorted(self._hashes, hash(name), side)) for side in ("left", "right"))
        for index in self._order[first:end].tolist():
            shard = int(np.searchsorted(self._starts, index, "right")) - 1
            part, row = self._parts[shard], index - int(self._starts[shard])
            if not part.left[row] and part.shard.name(row) == name:
                return part, row
        return None
