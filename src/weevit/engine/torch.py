"""PyTorch on a GPU: the module of `weevit.nn`, compiled, in batches of a few fixed sizes.

uint8 pixels (pinned) ── copied over ── normalised ── module in bf16 ── fp32 answers (pinned)

A matrix product of another height may be cut in another way and differ in the last bits, so that a batch is filled up
with black images to one of a few sizes, and a steady answer is always that of one size: whatever its neighbours are.
Each size has a CUDA graph of its own, which takes the place of hundreds of calls from Python.

No GPU has run this module yet: its arithmetic is tested on the CPU, where there are no graphs and no pinned memory.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from weevit.engine.protocol import Outputs, Pixels, Request
from weevit.errors import EngineError, UsageError
from weevit.nn.create import from_checkpoint
from weevit.nn.vit import VisionTransformer
from weevit.zoo.checkpoint import Checkpoint

SIZES = (1, 8, 64, 256)
"""Images per batch that is computed; a batch of another size is cut and filled up."""

STEADY = 64
"""The one size of a steady answer."""

COMPILED = 64
"""The smallest size that is compiled: a few images would wait longer for the compiler than for their answers."""

_WARM_UP = 3
"""Calls before a graph is captured, as PyTorch's documentation has it: libraries choose and load their kernels."""

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

Program = Callable[[Tensor], tuple[Tensor, ...]]
"""uint8 pixels (B, height, width, channels) on the device -> outputs in fp32 on the device, a row for each image."""


@cache
def no_cuda() -> str:
    """Why PyTorch cannot use a GPU; empty where it can."""
    if torch.cuda.is_available():
        return ""
    return "PyTorch finds no CUDA device" if torch.version.cuda else "the installed PyTorch was built without CUDA"


class Answers(nn.Module):
    """Pixels to everything that a request wants, from the module's own methods.

    Args:
        model: the module, of the size of the pixels.
        request: which blocks are wanted.
        checkpoint: whose mean and standard deviation its pixels have.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, model: VisionTransformer, request: Request, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.model = model
        self.blocks = list(request.features)
        spec = checkpoint.preprocessing
        mean, std = (torch.tensor(values, dtype=torch.float32) for values in (spec.mean, spec.std))
        self.register_buffer("scale", 1 / (255 * std))
        self.register_buffer("shift", -mean / std)
        self.names = ("embedding", *(("logits",) if model.num_classes else ()), *(f"block_{i}" for i in self.blocks))

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """[B, height, width, channels] uint8 -> fp32 outputs in the order of `names`."""
        x = pixels.float() * self.scale + self.shift
        # Channels stay innermost in memory, as the files have them: convolutions in bf16 are fastest so.
        x = x.permute(0, 3, 1, 2).to(self.model.patch_embed.proj.weight.dtype)
        taps: list[Tensor] = []
        if self.blocks:
            found: Any = self.model.forward_intermediates(x, self.blocks, return_prefix_tokens=True, output_fmt="NLC")
            tokens, pairs = found
            taps = [torch.cat([prefix, patches], dim=1) for patches, prefix in pairs]  # [B, N, D]
        else:
            tokens = self.model.forward_features(x)
        embedding = self.model.forward_head(tokens, pre_logits=True)
        logits = [self.model.head(embedding)] if self.model.num_classes else []
        return tuple(output.float() for output in (embedding, *logits, *taps))


@dataclass(frozen=True)
class _Begun:
    """A batch on its way: `sent` is read, and `answers` are written, until the stream has come to `done`."""

    sent: Tensor
    answers: list[Tensor]
    done: torch.cuda.Event | None
    count: int

    def finish(self) -> list[npt.NDArray[np.float32]]:
        """Wait for the answers of the images that were asked for."""
        if self.done is not None:
            self.done.synchronize()
        return [answer[: self.count].numpy() for answer in self.answers]


class TorchSession:
    """A module on a device. Threads may share it: one puts work before the GPU while others copy theirs.

    Args:
        checkpoint: what to run.
        request: image size and blocks.
        precision: `bf16`, or `fp32` without TF32.
        device: `cuda`; `cpu` in tests.
        compiles: use `torch.compile`, where it works.

    Raises:
        UsageError: attention maps, which fused attention never makes.
        EngineError: the module could not be put on the device.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        request: Request,
        precision: str = "bf16",
        device: str = "cuda",
        compiles: bool = True,
    ) -> None:
        if request.attention:
            raise UsageError("The engine torch gives no attention maps.", "--device cpu   gives them")
        model = from_checkpoint(checkpoint, {"img_size": (request.height, request.width)}).eval()
        self._device, self._compiles = torch.device(device), compiles
        self._shape = (request.height, request.width, checkpoint.in_chans)
        with _told("load the module"):
            own = model.to(self._device, DTYPES[precision]).to(memory_format=torch.channels_last)
            self._module = Answers(own, request, checkpoint).to(self._device).requires_grad_(False)
        self._programs: dict[int, Program] = {}
        self._lock = Lock()
        self._on_gpu = self._device.type == "cuda"
        # Of its own, so that pixels are copied over while the batch before them is computed.
        self._copying = torch.cuda.Stream() if self._on_gpu else None

    def run(self, pixels: Pixels, steady: bool = False) -> Outputs:
        """As `Session.run`."""
        if pixels.shape[1:] != self._shape:
            raise EngineError(
                f"PyTorch could not run a batch of shape {pixels.shape}: images are {self._shape} in this session."
            )
        with _told(f"run a batch of shape {pixels.shape}"):
            parts, start = [], 0
            for size in [STEADY] * -(-len(pixels) // STEADY) if steady else cut(len(pixels)):
                parts.append(self._begin(pixels[start : start + size], size))
                start += size
            answers = [part.finish() for part in parts]
        return {
            name: np.concatenate([answer[index] for answer in answers]) for index, name in enumerate(self._module.names)
        }

    def _begin(self, pixels: Pixels, size: int) -> _Begun:
        """Put a batch before the device, filled up to that size."""
        sent = torch.zeros((size, *self._shape), dtype=torch.uint8, pin_memory=self._on_gpu)
        sent[: len(pixels)] = torch.from_numpy(np.ascontiguousarray(pixels))
        done = torch.cuda.Event() if self._on_gpu else None
        with self._lock, torch.inference_mode(), _no_tf32():
            program = self._program(size)
            outputs = program(self._copied(sent))
            answers = [_received(output, self._on_gpu) for output in outputs]
            if done is not None:
                done.record()
        return _Begun(sent, answers, done, len(pixels))

    def _copied(self, sent: Tensor) -> Tensor:
        """Pixels on the device, which this thread's stream waits for."""
        if self._copying is None:
            return sent.to(self._device)
        with torch.cuda.stream(self._copying):
            there = sent.to(self._device, non_blocking=True)
        computing = torch.cuda.current_stream()
        computing.wait_stream(self._copying)
        there.record_stream(computing)  # its memory is not given to the next copy before it was read
        return there

    def _program(self, size: int) -> Program:
        if size not in self._programs:
            example = torch.zeros((size, *self._shape), dtype=torch.uint8, device=self._device)
            program = self._compiled(example) if self._compiles and size >= COMPILED else self._module
            self._programs[size] = _captured(program, example) if self._on_gpu else program
        return self._programs[size]

    def _compiled(self, example: Tensor) -> Program:
        """The module compiled for this size, or as it is where that fails: slower, with the same answers."""
        try:
            program: Program = torch.compile(self._module, dynamic=False)
            program(example)
        except Exception as error:  # compilers, drivers and headers fail in ways of their own
            self._compiles = False
            _note("is not compiled, and is slower", error)
            return self._module
        return program


def cut(count: int) -> Iterator[int]:
    """The sizes of `SIZES` that hold so many images: one for all where it is filled at least by half, else the largest
    that is filled, and so on. A few images are worth no second call.

    Args:
        count: images, at least one.
    """
    while count > 0:
        enough = next((size for size in SIZES if size >= count), SIZES[-1])
        size = enough if enough <= max(2 * count, SIZES[1]) else max(size for size in SIZES if size <= count)
        yield size
        count -= size


def _captured(program: Program, example: Tensor) -> Program:
    """The program as a CUDA graph; as it is where it cannot be captured."""
    sent = example.clone()
    try:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                program(sent)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # Other threads may allocate meanwhile: only this one's calls belong to the graph.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            outputs = program(sent)
    except RuntimeError as error:
        _note("runs without a CUDA graph, and is slower", error)
        return program

    def replay(pixels: Tensor) -> tuple[Tensor, ...]:
        sent.copy_(pixels)
        graph.replay()
        return outputs  # copied from before the next replay: both are on one stream

    return replay


def _received(output: Tensor, pinned: bool) -> Tensor:
    """A copy on the host, which on a GPU is whole once the stream has come to it."""
    return torch.empty(output.shape, dtype=output.dtype, pin_memory=pinned).copy_(output, non_blocking=True)


def _no_tf32() -> AbstractContextManager[None]:
    """fp32 that is fp32: PyTorch lets convolutions round to TF32's 10 bits unless it is told not to."""
    cudnn = torch.backends.cudnn
    if not cudnn.is_available():
        return nullcontext()
    return cudnn.flags(enabled=cudnn.enabled, allow_tf32=False)


@contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # out of memory, a driver's, CUDA in a forked process
        raise EngineError(f"PyTorch could not {what}: {error}") from error


def _note(what: str, error: Exception) -> None:
    first = str(error).strip().partition("\n")[0] or type(error).__name__
    logging.getLogger("weevit").warning("note: the model %s: %s", what, first)
