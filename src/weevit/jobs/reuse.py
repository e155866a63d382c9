"""Rows of an earlier run: after a change of the inputs, only new and changed ones are computed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from weevit.answers.columns import Column
from weevit.images.names import id_hash
from weevit.jobs.shards import Row, read_rows, read_table

_KEPT = 3
"""Shards whose rows are kept in memory: moved rows come from a neighbour."""


class OldRows:
    """An index of the rows of some shards: 16 bytes per row in memory, the rows on the disk.

    Args:
        folder: folder of the shards.
        files: names of the shards.
        columns: columns of the job.
        only_ok: leave out rows without an answer, so that they are computed again.
    """

    def __init__(self, folder: Path, files: list[str], columns: Sequence[Column], only_ok: bool = False) -> None:
        self._folder, self._files, self._columns = folder, files, columns
        self._rows: OrderedDict[int, list[Row]] = OrderedDict()
        keys, indices = [], []
        for number, name in enumerate(files):
            table = read_table(folder / name, ["input", "fingerprint", "status"])
            for row, (own, stamp, status) in enumerate(zip(*(c.to_pylist() for c in table.columns), strict=True)):
                if status == "ok" or not only_ok:
                    keys.append(_key(own, stamp))
                    indices.append(number << 32 | row)
        order = np.argsort(np.array(keys, np.uint64), kind="stable")
        self._keys = np.array(keys, np.uint64)[order]
        self._positions = np.array(indices, np.int64)[order]

    def find(self, name: str, fingerprint: str) -> Row | None:
        """The row of this input with this fingerprint, or None."""
        key = np.uint64(_key(name, fingerprint))
        start, end = (int(np.searchsorted(self._keys, key, side)) for side in ("left", "right"))
        for position in self._positions[start:end]:
            row = self._load(int(position) >> 32)[int(position) & 0xFFFFFFFF]
            if (row.input, row.fingerprint) == (name, fingerprint):
                return row
        return None

    def inputs(self) -> Iterator[str]:
        """The inputs of all shards; an input may come more than once."""
        for name in self._files:
            yield from read_table(self._folder / name, ["input"]).column("input").to_pylist()

    def _load(self, number: int) -> list[Row]:
        if number not in self._rows:
            self._rows[number] = read_rows(self._folder / self._files[number], self._columns)
            while len(self._rows) > _KEPT:
                self._rows.popitem(last=False)
        self._rows.move_to_end(number)
        return self._rows[number]


def _key(name: str, fingerprint: str) -> int:
    return id_hash(f"{name}\0{fingerprint}")
