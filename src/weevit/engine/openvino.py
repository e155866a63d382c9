"""OpenVINO on the CPU, from standard operators only; the one engine that computes in bf16 there."""

from __future__ import annotations

from functools import cache
from threading import Lock
from typing import Any, Literal

import numpy as np

from weevit.engine.pairs import InPairs, Run
from weevit.engine.protocol import Outputs, Pixels
from weevit.errors import EngineError
from weevit.store.extras import missing

_HINTS = {"fp32": "f32", "bf16": "bf16"}
"""OpenVINO's own choice would be bf16 where the processor has it, 0.1 off in the logits: it is always told."""

PAIRS = 2
"""Of images in one product: 4 to 10 % faster than one in bf16 and int8, and no slower in fp32 (`docs/lab-notes.md`)."""


def open_openvino(model: bytes, threads: int, precision: Literal["fp32", "bf16"] = "fp32") -> InPairs:
    """A session of a graph in the standard spelling.

    Args:
        model: the ONNX file.
        threads: to compute with.
        precision: of the matrix products; for bf16 the processor has to multiply it (`weevit.engine.choice`).

    Raises:
        MissingExtraError: OpenVINO is not installed.
    """
    import onnx

    try:
        _core()
    except ImportError as error:
        raise missing("openvino", "The engine 'openvino' is not installed.") from error
    # OpenVINO keeps the order of the outputs, but may call them by another name that the same value has.
    names = [output.name for output in onnx.load_model_from_string(model).graph.output]

    def opens(threads: int, at_once: int) -> Run:
        settings = {
            "INFERENCE_NUM_THREADS": threads * at_once,
            "NUM_STREAMS": at_once,
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
        }
        try:
            return _Compiled(_core().compile_model(_core().read_model(model), "CPU", settings), names)
        except Exception as error:  # OpenVINO's errors share no base class but this
            raise EngineError(f"OpenVINO could not load the graph: {error}") from error

    return InPairs(opens, threads, PAIRS)


_LOADING = Lock()


def _core() -> Any:
    with _LOADING:
        return _loaded()


@cache
def _loaded() -> Any:
    """OpenVINO itself, once and for good: with several streams it puts a handler in the place of Python's for
    Ctrl-C; when the last of it is gone its library is unloaded, and an interrupt ends in memory that is no more."""
    import openvino

    # The first array of a process makes OpenVINO look numpy up, under a lock of C++ that waits for Python's. Two
    # threads that get there together wait for each other for ever, one in 15 times, and Ctrl-C with them.
    openvino.Tensor(np.zeros(1, np.uint8)).data.sum()
    return openvino.Core()


class _Compiled:
    """A compiled model that is called has one request for all threads, which overwrite each other's answers: each run
    takes a request of its own, and with it a stream that is idle."""

    def __init__(self, compiled: Any, names: list[str]) -> None:
        self._compiled, self._names = compiled, names
        self._idle: list[Any] = []

    def __call__(self, pixels: Pixels) -> Outputs:
        try:
            request = self._request()
            values = request.infer(pixels)  # copies, so that the request can be used again
            self._idle.append(request)
        except Exception as error:
            raise EngineError(f"OpenVINO could not run a batch of shape {pixels.shape}: {error}") from error
        return {name: np.asarray(values[index]) for index, name in enumerate(self._names)}

    def _request(self) -> Any:
        try:
            return self._idle.pop()
        except IndexError:
            return self._compiled.create_infer_request()
