"""Loading a model into the engine that was chosen: onnxruntime, OpenVINO or PyTorch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from weevit._version import __version__
from weevit.arguments import wholes
from weevit.engine.cache import GraphCache
from weevit.engine.choice import DEFAULT, Engine, Precision, check
from weevit.engine.machine import cpu
from weevit.engine.openvino import open_openvino
from weevit.engine.pairs import InPairs, Run
from weevit.engine.protocol import Outputs, Pixels, Request, Session
from weevit.errors import EngineError, OutputError, UsageError
from weevit.store.cache import tell_unkept
from weevit.zoo.checkpoint import Checkpoint

__all__ = [
    "Outputs",
    "Pixels",
    "Request",
    "Session",
    "bits_of",
    "block_indices",
    "graph_key",
    "open_session",
    "refuse_overflow",
]


def block_indices(layers: Sequence[int] | None, depth: int) -> tuple[int, ...]:
    """Blocks as indices from 0, each once, in order; None means the last.

    Raises:
        UsageError: there is no such block, or no list of any.
    """
    wanted = (depth - 1,) if layers is None else wholes("layers", layers)
    wrong = [layer for layer in wanted if not -depth <= layer < depth]
    if wrong:
        raise UsageError(
            f"The blocks are 0 to {depth - 1} (or -{depth} to -1 from the end); there is no block {wrong[0]}.",
            f"The last one is {depth - 1}.",
        )
    return tuple(sorted({layer % depth for layer in wanted}))


def open_session(
    checkpoint: Checkpoint,
    request: Request,
    threads: int,
    engine: Engine = DEFAULT.engine,
    cache: bool = True,
    precision: Precision = DEFAULT.precision,
) -> Session:
    """Load the graph of a checkpoint, from the cache or built anew.

    Args:
        checkpoint: what to run.
        request: image size and taps.
        threads: to compute with.
        engine: one of `weevit.engine.choice.ENGINES`; each computes on one kind of device.
        cache: keep the built graph on disk (onnxruntime only).
        precision: `fp32` or `bf16`. `weevit.engine.choice.choose` says what this machine has.

    Raises:
        UsageError: an unknown engine, one that does not compute in this precision, or a size or block that the
            architecture does not have.
        MissingExtraError: the engine is not installed.
        EngineError: the engine refused the graph.
    """
    check(engine, precision)
    refuse_overflow(checkpoint.name, bits_of(checkpoint), engine)
    if engine == "openvino":
        return open_openvino(_build(checkpoint, request, "standard"), threads, precision)
    if engine == "torch":
        from weevit.engine.torch import TorchSession  # PyTorch is an extra, and takes 1 to 2 s

        return TorchSession(checkpoint, request, precision)
    return _onnxruntime(checkpoint, request, threads, cache)


GRAPH = 2
"""Raised when another graph is built for the same request: a cached one is then not the right one."""


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
        "graph": GRAPH,
        "onnxruntime": onnxruntime.__version__,
        "exact": needs_exact(checkpoint),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:40]


def _build(checkpoint: Checkpoint, request: Request, spelling: Literal["fused", "standard"]) -> bytes:
    from weevit.graph.vit import GraphOptions, build_graph  # onnx costs 0.2 s, which a cached graph does not need

    options = GraphOptions(**asdict(request), spelling=spelling, exact=needs_exact(checkpoint))
    # Weights that overflow where they are folded give answers that are not finite, and those have a status.
    with np.errstate(over="ignore", invalid="ignore"):
        model = build_graph(
            checkpoint.architecture, checkpoint.tensors(), checkpoint.preprocessing, checkpoint.grid, options
        )
    return bytes(model.SerializeToString())


def _onnxruntime(checkpoint: Checkpoint, request: Request, threads: int, cache: bool) -> InPairs:
    model = _cached(checkpoint, request) if cache else _build(checkpoint, request, "fused")
    exact = needs_exact(checkpoint)

    def opens(threads: int, at_once: int) -> Run:
        del at_once  # threads may share a session
        return partial(_run_onnxruntime, _onnxruntime_session(model, threads, exact))

    return InPairs(opens, threads)


def refuse_overflow(name: str, bits: int | None, engine: Engine) -> None:
    """Refuse an engine that has no exact integer products on this processor, where a model needs them.

    Args:
        name: of the model.
        bits: of its weights; None where it is not quantised.
        engine: that is to compute it.

    Raises:
        UsageError: it is OpenVINO, and the model is such one.
    """
    if engine == "openvino" and overflows(bits):
        raise UsageError(
            f"OpenVINO's integer products overflow on this processor ({cpu().name}) with the 8-bit weights of {name}.",
            "--engine onnxruntime   has exact ones; weevit quantize --bits 7   makes a model for both",
        )


def overflows(bits: int | None) -> bool:
    """Whether integer products would overflow here: 8-bit weights, and a processor that adds them up in 16 bits."""
    return bits == 8 and not cpu().vnni


def bits_of(checkpoint: Checkpoint) -> int | None:
    """Bits of the weights; None where it is not quantised."""
    return None if checkpoint.quantization is None else checkpoint.quantization.bits


def needs_exact(checkpoint: Checkpoint) -> bool:
    """Whether a model needs integer products that the fastest kernels here do not have."""
    return overflows(bits_of(checkpoint))


def _cached(checkpoint: Checkpoint, request: Request) -> Path | bytes:
    """From the cache where it is there and sound; else built, and kept for the next time."""
    graphs, key = GraphCache(), graph_key(checkpoint, request)
    found = graphs.get(key)
    if found is not None:
        return found
    model = _build(checkpoint, request, "fused")
    try:
        return graphs.put(key, lambda path: _onnxruntime_session(model, 1, needs_exact(checkpoint), save_to=path))
    except (OutputError, EngineError) as error:  # a full or read-only disk costs speed, not the answer
        tell_unkept("built graphs", error.message)
        return model


def _onnxruntime_session(model: bytes | Path, threads: int, exact: bool = False, save_to: Path | None = None) -> Any:
    """Load a graph: one that was optimised when it was cached from its file, any other from its bytes.

    Args:
        model: its file or its bytes.
        threads: to compute with.
        exact: whether integer products take the slower kernels that do not overflow on AVX2.
        save_to: where to write the optimised graph.

    Raises:
        EngineError: onnxruntime does not take the graph.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Threads spin while a batch is computed, which is 7 to 20 % faster, and not between batches, where they would
    # take the processors from the threads that decode the next one.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if exact:
        options.add_session_config_entry("session.x64quantprecision", "1")
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
