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
    """Standard normal numbers, float32; one of 65,536 quantiles each, which is fast, and the same everywhere."""
    count = math.prod(shape)
    places = np.random.SFC64(_number(key)).random_raw(-(-count // 4)).view(np.uint16)[:count]
    return _quantiles()[places].reshape(shape)


@lru_cache(maxsize=1)
def _quantiles() -> npt.NDArray[np.float32]:
    normal = NormalDist()
    upper = np.array([normal.inv_cdf(0.5 + (place + 0.5) / 65536) for place in range(32768)], np.float32)
    return np.concatenate([-upper[::-1], upper])


def _number(key: Key) -> int:
    """128 bits."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, key)).encode()).digest()[:16], "little")
