"""Where 64-bit keys stand in rows on a disk: 16 bytes of memory per row, for millions of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

UInts = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]


def first_8(digests: npt.NDArray[np.uint8]) -> UInts:
    """(n) uint64: the first 8 bytes of each of (n, 8 or more) digests."""
    return np.ascontiguousarray(digests[:, :8]).view("<u8")[:, 0]


class Keys:
    """Keys and their positions.

    Args:
        keys: (n) uint64; a key may stand at several positions.
        positions: (n) int64; by default 0, 1, 2, ...
    """

    def __init__(self, keys: UInts, positions: Ints | None = None) -> None:
        order = np.argsort(keys, kind="stable")
        self._keys = keys[order]
        self._positions = np.asarray(order if positions is None else positions[order], np.int64)

    @classmethod
    def of_parts(cls, parts: Sequence[UInts]) -> Keys:
        """The keys of rows in several parts; a position is the part's number << 32 | the row in it."""
        at = [(number << 32) + np.arange(len(part), dtype=np.int64) for number, part in enumerate(parts)]
        return cls(np.concatenate([np.zeros(0, np.uint64), *parts]), np.concatenate([np.zeros(0, np.int64), *at]))

    def __len__(self) -> int:
        return len(self._keys)

    def of(self, key: int) -> Iterator[int]:
        """The positions of a key, in the order they were given in."""
        find, wanted = self._keys.searchsorted, np.uint64(key)  # numpy's own function takes twice as long to call it
        return iter(self._positions[find(wanted) : find(wanted, "right")].tolist())
