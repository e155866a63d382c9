"""The matrix product that bounds a model in float32: the best of numpy, PyTorch and onnxruntime at the model's shapes.

One library is no bound. Each has kernels of its own and chooses them by the processor: on a machine with AVX-512,
weevit was at 192 % of PyTorch's best product.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

import weevit  # noqa: F401 - before onnxruntime: turns its telemetry off
from weevit.engine.bound import Shape, onnxruntime_product, operands

OVERRIDES = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
"""Variables that make OpenBLAS, and with it numpy, take other kernels or blocks than this processor's best."""

Make = Callable[[Shape, int], Callable[[], object]]
"""A shape and a number of threads -> a function without arguments that computes one product of that shape."""


@dataclass(frozen=True)
class Best:
    """The fastest product: GFLOP/s, whose it was, and at which shape."""

    gflops: float
    library: str
    shape: Shape


def products(shapes: Sequence[Shape], threads: int) -> dict[tuple[str, Shape], Callable[[], object]]:
    """A function for every library and shape, each of which computes one product."""
    return {(library, shape): make(shape, threads) for library, make in LIBRARIES.items() for shape in shapes}


def best_product(seconds: Mapping[tuple[str, Shape], Sequence[float]]) -> Best:
    """The fastest single run of all.

    Args:
        seconds: how long each run of a library's product took, by library and shape.
    """
    return max(
        (Best(shape.gflop / min(taken), library, shape) for (library, shape), taken in seconds.items()),
        key=lambda best: best.gflops,
    )


def by_library(seconds: Mapping[tuple[str, Shape], Sequence[float]]) -> dict[str, Best]:
    """The fastest run of each library."""
    names = dict.fromkeys(library for library, _ in seconds)
    return {name: best_product({key: own for key, own in seconds.items() if key[0] == name}) for name in names}


def plain_environment(environment: Mapping[str, str], threads: int) -> dict[str, str]:
    """The environment in which numpy's product is what this machine can do: no override, and that many threads.

    OpenBLAS reads it once, when it is loaded, so that a process that is told later has to start again.
    """
    kept = {name: value for name, value in environment.items() if name not in OVERRIDES}
    return kept | {"OPENBLAS_NUM_THREADS": str(threads)}


def _numpy(shape: Shape, threads: int) -> Callable[[], object]:
    del threads  # what OPENBLAS_NUM_THREADS was when numpy was imported
    left, right = operands(shape)
    out = np.empty((shape.rows, shape.columns), np.float32)
    return lambda: np.matmul(left, right, out=out)


def _torch(shape: Shape, threads: int) -> Callable[[], object]:
    import torch

    torch.set_num_threads(threads)
    left, right = map(torch.from_numpy, operands(shape))
    out = torch.empty((shape.rows, shape.columns))
    return lambda: torch.mm(left, right, out=out)


LIBRARIES: dict[str, Make] = {"numpy": _numpy, "torch": _torch, "onnxruntime": onnxruntime_product}


def has_plain_environment(threads: int) -> bool:
    """Whether this process was started with `plain_environment`."""
    return plain_environment(os.environ, threads) == dict(os.environ)
