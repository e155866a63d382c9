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
from weevit.zoo.architectures import PATCH, Architecture

OVERRIDES = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
"""Variables that make OpenBLAS, and with it numpy, take other kernels or blocks than this processor's best."""

Make = Callable[["Shape", int], Callable[[], object]]
"""A shape and a number of threads -> a function without arguments that computes one product of that shape."""


@dataclass(frozen=True)
class Shape:
    """A product of (rows, inner) with (inner, columns)."""

    name: str
    rows: int
    inner: int
    columns: int

    @property
    def gflop(self) -> float:
        """10^9 operations, two per multiply-accumulate."""
        return 2 * self.rows * self.inner * self.columns / 1e9

    def __str__(self) -> str:
        return f"{self.name} {self.rows} x {self.inner} x {self.columns}"


@dataclass(frozen=True)
class Best:
    """The fastest product: GFLOP/s, whose it was, and at which shape."""

    gflops: float
    library: str
    shape: Shape


def model_shapes(arch: Architecture, batch: int, grid: tuple[int, int]) -> list[Shape]:
    """The linear layers of one forward pass without the head, whose share is small: one shape of each kind.

    Args:
        arch: the row.
        batch: images in the batch.
        grid: rows and columns of patches.
    """
    patches = grid[0] * grid[1]
    D, H, N = arch.embed_dim, arch.mlp_dim, patches + arch.num_prefix
    return [
        Shape("patches", batch * patches, 3 * PATCH * PATCH, D),
        Shape("qkv", batch * N, D, 3 * D),
        Shape("output", batch * N, D, D),
        Shape("fc1", batch * N, D, H),
        Shape("fc2", batch * N, H, D),
    ]


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


def _operands(shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    left = rng.standard_normal((shape.rows, shape.inner), np.float32)
    return left, rng.standard_normal((shape.inner, shape.columns), np.float32)


def _numpy(shape: Shape, threads: int) -> Callable[[], object]:
    del threads  # what OPENBLAS_NUM_THREADS was when numpy was imported
    left, right = _operands(shape)
    out = np.empty((shape.rows, shape.columns), np.float32)
    return lambda: np.matmul(left, right, out=out)


def _torch(shape: Shape, threads: int) -> Callable[[], object]:
    import torch

    torch.set_num_threads(threads)
    left, right = map(torch.from_numpy, _operands(shape))
    out = torch.empty((shape.rows, shape.columns))
    return lambda: torch.mm(left, right, out=out)


def _onnxruntime(shape: Shape, threads: int) -> Callable[[], object]:
    """The right side is a constant, as a weight is: onnxruntime lays it out once for all calls."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    left, right = _operands(shape)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["left", "right"], ["out"])],
        "product",
        [helper.make_tensor_value_info("left", TensorProto.FLOAT, left.shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, (shape.rows, shape.columns))],
        [numpy_helper.from_array(right, "right")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    # A pool that spins after its product would take the processor from whoever has the next turn.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(["out"], {"left": left})


LIBRARIES: dict[str, Make] = {"numpy": _numpy, "torch": _torch, "onnxruntime": _onnxruntime}


def has_plain_environment(threads: int) -> bool:
    """Whether this process was started with `plain_environment`."""
    return plain_environment(os.environ, threads) == dict(os.environ)
