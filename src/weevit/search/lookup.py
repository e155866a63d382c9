"""From the id of an image to its row in an index, made by one pass over the ids."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from weevit.images.names import id_hash
from weevit.search.scan import Part
from weevit.store.keys import Keys


class Lookup:
    """Finds rows by their ids.

    Args:
        parts: all shards.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        shards = [part.shard for part in parts]
        self._keys = Keys.of_parts([np.fromiter(map(id_hash, own.names()), np.uint64, len(own)) for own in shards])

    def find(self, name: str) -> tuple[Part, int] | None:
        """The shard of an id and its row in it; None where the index has no such id."""
        for at in self._keys.of(id_hash(name)):
            part, row = self._parts[at >> 32], at & 0xFFFFFFFF
            if not part.left[row] and part.shard.name(row) == name:
                return part, row
        return None
