"""Random numbers that follow from a key and not from earlier draws.

A key names the draw, such as ("picture", seed, epoch, sample, repeat): any process, thread or order, and any number of
restarts, gives the same numbers.
"""

from __future__ import annotations

import hashlib
import math
import random
from functools import lru_cache
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Key = tuple[int | str, ...]


def keyed(*key: int | str) -> random.Random:
    """A generator for a key. Python promises the same `random()` in every version."""
    return random.Random(_number(key))


def permutation(count: int, *key: int | str) -> npt.NDArray[np.int64]:
    """0 to `count` - 1 in an order given by the key; equal in every version of NumPy."""
    return np.argsort(np.random.Philox(key=_number(key)).random_raw(count), kind="stable")


def noise(shape: tuple[int, ...], *key: int | str) -> npt.NDArray[np.float32]:
    """Standard normal numbers, float32, read-only.

    They are a slice of a million numbers drawn once, from an index given by the key: a twentieth of the time of
        drawing.
    """
    count, start = math.prod(shape), _number(key) % _DRAWN
    found = _drawn()[start : start + count]
    return (found if count <= _DRAWN else np.resize(found, count)).reshape(shape)


_DRAWN = 1 << 20


@lru_cache(maxsize=1)
def _drawn() -> npt.NDArray[np.float32]:
    """Twice `_DRAWN` numbers out of 65,536 quantiles, so that they are equal everywhere."""
    normal = NormalDist()
    upper = np.array([normal.inv_cdf(0.5 + (index + 0.5) / 65536) for index in range(32768)], np.float32)
    quantiles = np.concatenate([-upper[::-1], upper])
    indices = np.random.SFC64(_number(("noise",))).random_raw(_DRAWN // 2).view(np.uint16)
    numbers = quantiles[indices]
    numbers.setflags(write=False)
    return numbers


def _number(key: Key) -> int:
    """128 bits of the key's sha256."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, key)).encode()).digest()[:16], "little")
