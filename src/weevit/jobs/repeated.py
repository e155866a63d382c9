"""Which of any number of keys come more than once, in memory that does not grow with their number.

    keys ── sorted runs in a temporary file, 8 bytes per key ── compared range by range

Every run notes where each of 256 ranges of keys begins in it, so that a range of all runs is read without the rest.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from tempfile import TemporaryFile

import numpy as np
import numpy.typing as npt

_RUN = 1 << 19
"""Keys in memory: 4 MiB."""

_RANGES = 256
_EDGES = np.arange(1, _RANGES, dtype=np.uint64) << np.uint64(56)


class Repeated:
    """Keys of 64 bits, and the question which of them came more than once.

    Args:
        run: keys in memory at a time.
    """

    def __init__(self, run: int = _RUN) -> None:
        self._run = run
        self._keys = array("Q")
        self._file = TemporaryFile()  # noqa: SIM115 - closed by `close`
        self._starts: list[npt.NDArray[np.int64]] = []
        self._written = 0

    def close(self) -> None:
        """Delete the temporary file."""
        self._file.close()

    def add(self, key: int) -> None:
        """Add a key."""
        self._keys.append(key)
        if len(self._keys) >= self._run:
            self._end_run()

    def _end_run(self) -> None:
        run = np.sort(np.frombuffer(self._keys, np.uint64))
        inner = np.searchsorted(run, _EDGES)
        self._starts.append(self._written + np.concatenate(([0], inner, [len(run)])))
        self._file.seek(8 * self._written)
        self._file.write(run.tobytes())
        self._written += len(run)
        self._keys = array("Q")

    def _range(self, number: int) -> npt.NDArray[np.uint64]:
        """The keys of one range, sorted."""
        found = []
        for starts in self._starts:
            first, after = (8 * int(starts[at]) for at in (number, number + 1))
            self._file.seek(first)
            found.append(np.frombuffer(self._file.read(after - first), np.uint64))
        return np.sort(np.concatenate(found)) if found else np.zeros(0, np.uint64)

    def found(self) -> set[int]:
        """The keys that came more than once."""
        self._end_run()
        several: set[int] = set()
        for number in range(_RANGES):
            keys = self._range(number)
            several.update(keys[1:][keys[1:] == keys[:-1]].tolist())
        return several

    def among(self, keys: Iterable[int]) -> set[int]:
        """Those of the given keys that were added before `found` was called."""
        by_range: dict[int, list[int]] = {}
        for key in keys:
            by_range.setdefault(key >> 56, []).append(key)
        there: set[int] = set()
        for number, own in by_range.items():
            wanted = np.array(own, np.uint64)
            there.update(wanted[np.isin(wanted, self._range(number))].tolist())
        return there
