"""What bounds a model in fp32 on a CPU: onnxruntime's own matrix product at the model's shapes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from weevit.zoo.architectures import PATCH, Architecture

Operands = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


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


def operands(shape: Shape) -> Operands:
    """Two random matrices of a shape, the same ones each time."""
    rng = np.random.default_rng(0)
    left = rng.standard_normal((shape.rows, shape.inner), np.float32)
    return left, rng.standard_normal((shape.inner, shape.columns), np.float32)


def onnxruntime_product(shape: Shape, threads: int) -> Callable[[], object]:
    """One product by onnxruntime. The right side is a constant, as a weight is: it is laid out once for all calls.

    Args:
        shape: of the product.
        threads: to compute with.
    """
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    left, right = operands(shape)
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
