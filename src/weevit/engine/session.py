"""Running a graph: onnxruntime by default, OpenVINO where it is installed and asked for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from weevit._version import __version__
from weevit.engine.cache import GraphCache
from weevit.errors import EngineError, OutputError, UsageError, did_you_mean
from weevit.memory import give_back
from weevit.store.cache import tell_unkept
from weevit.store.extras import missing
from weevit.zoo.checkpoint import Checkpoint

Engine = Literal["onnxruntime", "openvino"]
ENGINES: tuple[Engine, ...] = ("onnxruntime", "openvino")

Pixels = npt.NDArray[np.uint8]
Outputs = dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Request:
    """Which graph is wanted; the fields are those of `weevit.graph.vit.GraphOptions`, but cost no import of onnx."""

    height: int
    width: int
    features: tuple[int, ...] = ()
    attention: tuple[int, ...] = ()


def block_indices(layers: Sequence[int] | None, depth: int) -> tuple[int, ...]:
    """Blocks as indices from 0, each once, in order; None means the last.

    Raises:
        UsageError: there is no such block.
    """
    wanted = (depth - 1,) if layers is None else tuple(layers)
    wrong = [layer for layer in wanted if not -depth <= layer < depth]
    if wrong:
        raise UsageError(
            f"The blocks are 0 to {depth - 1} (or -{depth} to -1 from the end); there is no block {wrong[0]}.",
            f"The last one is {depth - 1}.",
        )
    return tuple(sorted({layer % depth for layer in wanted}))


class Session(Protocol):
    """A loaded graph."""

    def run(self, pixels: Pixels, steady: bool = False) -> Outputs:
        """One batch, (B, height, width, 3) uint8 -> output name -> float32 array with B rows. Threads may share it.

        Args:
            pixels: the batch.
            steady: with onnxruntime, an image's answer is then the same to the last bit whatever else is in the batch
                and however many threads there are; a batch of an odd size costs one image more.

        Raises:
            EngineError: the engine gave up; the message has its words.
        """
        ...


def open_session(
    checkpoint: Checkpoint, request: Request, threads: int, engine: Engine = "onnxruntime", cache: bool = True
) -> Session:
    """Load the graph of a checkpoint, from the cache or built anew.

    Args:
        checkpoint: what to run.
        request: image size and taps.
        threads: to compute with.
        engine: `onnxruntime` or `openvino`.
        cache: keep the built graph on disk (onnxruntime only).

    Raises:
        UsageError: an unknown engine, or a size or block that the architecture does not have.
        MissingExtraError: OpenVINO is not installed.
        EngineError: the engine refused the graph.
    """
    if engine not in ENGINES:
        raise UsageError(f"No engine {engine!r}; there are {', '.join(ENGINES)}.", did_you_mean(engine, ENGINES))
    if engine == "openvino":
        return _OpenVino(_build(checkpoint, request, "standard"), threads)
    return _OnnxRuntime.load(checkpoint, request, threads, cache)


def graph_key(checkpoint: Checkpoint, request: Request) -> str:
    """What a built graph depends on, as one hash: tensors, row, normalisation, request, and both programs' versions."""
    import onnxruntime

    parts = {
        "checkpoint": checkpoint.sha256,
        "architecture": asdict(checkpoint.architecture),
        "grid": checkpoint.grid,
        "mean": checkpoint.preprocessing.mean,
        "std": checkpoint.preprocessing.std,
        "request": asdict(request),
        "weevit": __version__,
        "onnxruntime": onnxruntime.__version__,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:40]


def _build(checkpoint: Checkpoint, request: Request, spelling: Literal["fused", "standard"]) -> bytes:
    from weevit.graph.vit import GraphOptions, build_graph  # onnx costs 0.2 s, which a cached graph does not need

    options = GraphOptions(**asdict(request), spelling=spelling)
    # Weights that overflow where they are folded give answers that are not finite, and those have a status.
    with np.errstate(over="ignore", invalid="ignore"):
        model = build_graph(
            checkpoint.architecture, checkpoint.tensors(), checkpoint.preprocessing, checkpoint.grid, options
        )
    return bytes(model.SerializeToString())


class _OnnxRuntime:
    """onnxruntime on the CPU, in one of two ways, each loaded when it is first wanted.

    A batch smaller than the number of threads is computed by all of them together: the answer comes soonest. A larger
    one is cut into pairs of images, and each thread computes pairs of its own: 5 to 10 % more images per second, since
    threads need not wait for each other and a pair's activations fit into a core's cache (`docs/lab-notes.md`).

    The two ways differ in the last bit (2e-8 with pwee): a matmul of one image's rows is cut in another way than that
    of two. Within a pair it does not matter which image stands where, so a steady answer is that of a pair.
    """

    def __init__(self, model: bytes | Path, threads: int) -> None:
        self._model = model
        self._threads = threads
        self._together: Any = None
        self._apart: Any = None
        self._pool: ThreadPoolExecutor | None = None
        self._loading = Lock()

    @classmethod
    def load(cls, checkpoint: Checkpoint, request: Request, threads: int, cache: bool) -> _OnnxRuntime:
        """From the cache where it is there and sound; else built, and kept for the next time."""
        if not cache:
            return cls(_build(checkpoint, request, "fused"), threads)
        graphs, key = GraphCache(), graph_key(checkpoint, request)
        found = graphs.get(key)
        if found is not None:
            return cls(found, threads)
        model = _build(checkpoint, request, "fused")
        try:
            return cls(graphs.put(key, lambda path: _onnxruntime_session(model, 1, save_to=path)), threads)
        except (OutputError, EngineError) as error:  # a full or read-only disk costs speed, not the answer
            tell_unkept("built graphs", error.message)
            return cls(model, threads)

    def run(self, pixels: Pixels, steady: bool = False) -> Outputs:
        if steady:
            odd = len(pixels) % 2
            answers = self._in_pairs(np.concatenate([pixels, pixels[-1:]]) if odd else pixels)
            return {name: values[: len(pixels)] for name, values in answers.items()}
        if (len(pixels) < self._threads and self._apart is None) or self._threads == 1:
            with self._loading:
                self._together = self._together or _onnxruntime_session(self._model, self._threads)
            return _run_onnxruntime(self._together, pixels)
        return self._in_pairs(pixels)

    def _in_pairs(self, pixels: Pixels) -> Outputs:
        with self._loading:
            if self._apart is None or self._pool is None:
                self._apart = _onnxruntime_session(self._model, 1)
                give_back()  # many images may follow, and what loading left over would lie beside theirs
                self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="weevit-compute")
        pairs = [pixels[start : start + 2] for start in range(0, len(pixels), 2)]
        answers = list(self._pool.map(lambda pair: _run_onnxruntime(self._apart, pair), pairs))
        return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}


def _onnxruntime_session(model: bytes | Path, threads: int, save_to: Path | None = None) -> Any:
    """Load a graph: one that was optimised when it was cached from its file, any other from its bytes."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Threads spin while a batch is computed, which is 7 to 20 % faster, and not between batches, where they would
    # take the processors from the threads that decode the next one.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 3  # errors come as exceptions; warnings are about our own names for constants
    level = onnxruntime.GraphOptimizationLevel
    # One level below all: what comes out depends on the operators, not on the machine that ran it.
    cached = isinstance(model, Path)
    options.graph_optimization_level = level.ORT_DISABLE_ALL if cached else level.ORT_ENABLE_EXTENDED
    if save_to is not None:
        options.optimized_model_filepath = str(save_to)
    source: Any = str(model) if cached else model
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base class but this
        raise EngineError(f"onnxruntime could not load the graph: {error}") from error


def _run_onnxruntime(session: Any, pixels: Pixels) -> Outputs:
    names = [output.name for output in session.get_outputs()]
    try:
        values = session.run(names, {"pixels": pixels})
    except Exception as error:
        raise EngineError(f"onnxruntime could not run a batch of shape {pixels.shape}: {error}") from error
    return dict(zip(names, values, strict=True))


class _OpenVino:
    """OpenVINO on the CPU, from standard operators only.

    A compiled model that is called has one request for all threads, which overwrite each other's answers: each run
    takes a request of its own.
    """

    def __init__(self, model: bytes, threads: int) -> None:
        import onnx

        try:
            import openvino
        except ImportError as error:
            raise missing("openvino", "The engine 'openvino' is not installed.") from error
        try:
            core = openvino.Core()
            settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
            self._compiled = core.compile_model(core.read_model(model), "CPU", settings)
        except Exception as error:  # as above: no common base
            raise EngineError(f"OpenVINO could not load the graph: {error}") from error
        # OpenVINO keeps the order of the outputs, but may call them by another name that the same value has.
        self._idle: list[Any] = []
        self._names = [output.name for output in onnx.load_model_from_string(model).graph.output]

    def run(self, pixels: Pixels, steady: bool = False) -> Outputs:
        del steady  # nothing is known of how OpenVINO cuts its work
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
