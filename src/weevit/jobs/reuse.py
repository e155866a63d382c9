"""Rows of an earlier run: after a change of the inputs, only new and changed ones are computed."""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt

from weevit.answers.columns import Column
from weevit.images.names import id_hash
from weevit.jobs.shards import Row, read_rows, read_table
from weevit.store.keys import Keys
from weevit.store.place import Place

_KEPT = 3
"""Shards whose rows are kept in memory: moved rows come from a neighbour."""

_BATCH = 1 << 18
"""Names compared at a time."""


class OldRows:
    """An index of the rows of some shards: 16 bytes per row in memory, the rows on the disk.

    Args:
        place: the job's folder.
        files: names of the shards.
        columns: columns of the job.
        only_ok: leave out rows without an answer, so that they are computed again.
    """

    def __init__(self, place: Place, files: list[str], columns: Sequence[Column], only_ok: bool = False) -> None:
        self._place, self._files, self._columns = place, files, columns
        self._rows: OrderedDict[int, list[Row]] = OrderedDict()
        keys, indices = array("Q"), array("q")
        for number, name in enumerate(files):
            table = read_table(place, name, ["input", "fingerprint", "status"])
            for row, (own, stamp, status) in enumerate(zip(*(c.to_pylist() for c in table.columns), strict=True)):
                if status == "ok" or not only_ok:
                    keys.append(_key(own, stamp))
                    indices.append(number << 32 | row)
        self._keys = Keys(np.frombuffer(keys, np.uint64), np.frombuffer(indices, np.int64))

    def find(self, name: str, fingerprint: str) -> Row | None:
        """The row of this input with this fingerprint, or None."""
        for position in self._keys.of(_key(name, fingerprint)):
            row = self._load(position >> 32)[position & 0xFFFFFFFF]
            if (row.input, row.fingerprint) == (name, fingerprint):
                return row
        return None

    def inputs(self) -> Iterator[str]:
        """The inputs of all shards; an input may come more than once."""
        for name in self._files:
            yield from read_table(self._place, name, ["input"]).column("input").to_pylist()

    def vanished(self, current: Iterable[str]) -> list[str]:
        """The inputs of these shards that are not among the current names, sorted."""
        own = np.unique(np.fromiter(map(id_hash, self.inputs()), np.uint64))  # of one row at least
        gone = np.ones(len(own), bool)
        for at in _among(own, current):
            gone[at] = False
        lost = set(own[gone].tolist())
        return sorted({name for name in self.inputs() if id_hash(name) in lost})

    def _load(self, number: int) -> list[Row]:
        if number not in self._rows:
            self._rows[number] = read_rows(self._place, self._files[number], self._columns)
            while len(self._rows) > _KEPT:
                self._rows.popitem(last=False)
        self._rows.move_to_end(number)
        return self._rows[number]


def lost(place: Place, files: Iterable[str], current: Iterable[str]) -> int:
    """The number of answers in some shards, where none is of a current name; else 0."""
    tables = (read_table(place, name, ["input", "status"]) for name in files)
    rows = (row for table in tables for row in zip(*(column.to_pylist() for column in table.columns), strict=True))
    own = np.unique(np.fromiter((id_hash(name) for name, status in rows if status == "ok"), np.uint64))
    return 0 if len(own) == 0 or any(len(at) for at in _among(own, current)) else len(own)


def _among(own: npt.NDArray[np.uint64], names: Iterable[str]) -> Iterator[npt.NDArray[np.int64]]:
    """Where the hashes of names are in a sorted array, batch by batch."""
    rest = iter(names)
    while batch := [id_hash(name) for name in islice(rest, _BATCH)]:
        keys = np.array(batch, np.uint64)
        at = np.minimum(np.searchsorted(own, keys), len(own) - 1)
        yield at[own[at] == keys]


def _key(name: str, fingerprint: str) -> int:
    return id_hash(f"{name}\0{fingerprint}")
