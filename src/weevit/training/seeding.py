"""Random numbers that follow from a key and from nothing that was drawn before.

A key names what is drawn, such as ("picture", seed, epoch, sample, repeat): whoever draws it, in which process, thread
or order, and after how many restarts, gets the same numbers.
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
    """A generator of its own for a key. Python promises that `random()` stays as it is in every version."""
    return random.Random(_number(key))


def permutation(count: int, *key: int | str) -> npt.NDArray[np.int64]:
    """0 to `count` - 1 in an order that the key decides; the same with every version of NumPy."""
    return np.argsort(np.random.Philox(key=_number(key)).random_raw(count), kind="stable")


def noise(shape: tuple[int, ...], *key: int | str) -> npt.NDArray[np.float32]:
    """Standard normal numbers, float32, that may not be written to.

    They are read out of a million that are drawn once, from an index that the key decides, which takes a twentieth of
    the time of drawing them.
    """
    count, start = math.prod(shape), _number(key) % _DRAWN
    found = _drawn()[start : start + count]
    return (found if count <= _DRAWN else np.resize(found, count)).reshape(shape)


_DRAWN = 1 << 20


@lru_cache(maxsize=1)
def _drawn() -> npt.NDArray[np.float32]:
    """Twice `_DRAWN` numbers: one of 65,536 quantiles each, so that they are the same everywhere."""
    normal = NormalDist()
    upper = np.array([normal.inv_cdf(0.5 + (place + 0.5) / 65536) for place in range(32768)], np.float32)
    quantiles = np.concatenate([-upper[::-1], upper])
    indices = np.random.SFC64(_number(("noise",))).random_raw(_DRAWN // 2).view(np.uint16)
    numbers = quantiles[indices]
    numbers.setflags(write=False)
    return numbers


def _number(key: Key) -> int:
    """128 bits."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, key)).encode()).digest()[:16], "little")
