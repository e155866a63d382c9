"""Section 2: images per second without learning, weevit's module and timm's in turn, same weights, same settings.

`forward` is the module alone on normalised pixels that lie on the GPU, by the GPU's clock. `host` is the way of a
server: uint8 pixels in pinned memory of the host, sent, normalised, answered, and float32 logits back on the host.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from made import flop, our_model, row, their_model
from record import Section
from timing import clear, compared, compiled_graphs, interleaved, matmul_peak, peak_memory, round_of, synchronize, wall
from torch import Tensor, nn

from weevit.zoo.architectures import Architecture

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}

MODES: dict[str, dict[str, Any] | None] = {
    "eager": None,
    "compiled": {},
    "graphs": {"mode": "reduce-overhead"},
    "autotuned": {"mode": "max-autotune-no-cudagraphs"},
}
"""Name -> arguments of `torch.compile`; `graphs` replays CUDA graphs, which is what small batches need."""

TAKES = {"eager": 6.0, "compiled": 40.0, "graphs": 40.0, "autotuned": 100.0}
"""Seconds that a case takes at most; of what is compiled, longer where one was seen to take longer."""


@dataclass(frozen=True)
class Case:
    """A model in a number format, called in a mode, with a batch; native in size and depth where not said."""

    alias: str
    dtype: str
    mode: str
    batch: int
    depth: int | None = None
    side: int | None = None

    @property
    def name(self) -> str:
        """Of its figure."""
        return f"{self.alias} {self.dtype} {self.mode} {self.batch}"

    @property
    def architecture(self) -> Architecture:
        """The row, or a miniature of it."""
        return row(self.alias, self.depth)

    @property
    def size(self) -> int:
        """Of its images, in pixels."""
        return self.side or self.architecture.img_size


MODELS, OTHERS = ("pwee", "tiny", "little", "mediumd"), ("tiny", "little", "mediumd")


def cases(short: bool) -> list[Case]:
    """What is measured, the most telling first: time may end anywhere."""
    if short:
        few = {("bf16", "compiled", 4), ("bf16", "eager", 1), ("fp16", "eager", 4)}
        return [Case("pwee", *words, depth=1, side=32) for words in sorted(few)]
    return [
        Case("pwee", "bf16", "compiled", 1024),
        *(Case("pwee", "bf16", "eager", batch) for batch in (1024, 64, 1)),
        Case("tiny", "bf16", "compiled", 1024),
        Case("pwee", "bf16", "graphs", 1),
        *(Case(alias, "bf16", "eager", 1024) for alias in OTHERS),
        *(Case(alias, "bf16", "compiled", 1024) for alias in ("little", "mediumd")),
        Case("pwee", "fp16", "compiled", 1024),
        Case("pwee", "bf16", "compiled", 64),
        *(Case(alias, "fp16", "eager", 1024) for alias in MODELS),
        *(Case(alias, "bf16", "eager", batch) for alias in OTHERS for batch in (64, 1)),
        *(Case(alias, "fp16", "compiled", 1024) for alias in OTHERS),
        *(Case(alias, "bf16", "compiled", 64) for alias in OTHERS),
        *(Case(alias, "bf16", "graphs", 1) for alias in OTHERS),
        *(Case(alias, "fp16", "eager", batch) for alias in MODELS for batch in (64, 1)),
        Case("pwee", "bf16", "autotuned", 1024),
    ]


def run(section: Section) -> None:
    if not section.warm:
        section.attempt("matmul peak", 3, lambda: peaks(section))
    longest = dict(TAKES)
    for case in cases(section.short):
        if section.warm and case.mode in ("eager", "autotuned"):
            continue
        began = section.seconds()
        section.attempt(case.name, longest[case.mode], lambda case=case: measure(section, case))
        longest[case.mode] = max(
            longest[case.mode] if case.mode == "eager" else 0.0, 1.2 * (section.seconds() - began), 6.0
        )


def peaks(section: Section) -> None:
    for name in ("bf16", "fp16"):
        section.figure(f"matmul peak {name}", **matmul_peak(DTYPES[name], section.device, section.short))


@lru_cache(maxsize=len(MODELS))
def pair(arch: Architecture, size: int) -> tuple[nn.Module, nn.Module]:
    """weevit's module and timm's, in float32 on the CPU."""
    ours = our_model(arch, size=size)
    return ours, their_model(ours)


class Side:
    """One of the two modules, ready to be called.

    Attributes:
        module: in its number format, on the device.
        compile_s: seconds of its first call, compiled code being made or found in the cache.
    """

    def __init__(self, module: nn.Module, case: Case, images: Tensor, pixels: Tensor) -> None:
        options = MODES[case.mode]
        self.module = module.to(images.device, images.dtype)
        self.forward: Callable[[Tensor], Tensor] = self.module if options is None else torch.compile(module, **options)
        self._images, self._pixels = images, pixels
        self._logits = torch.empty(case.batch, 1000, pin_memory=pixels.is_pinned())
        began = time.perf_counter()
        self.alone()
        synchronize()
        self.compile_s = time.perf_counter() - began

    def alone(self) -> Tensor:
        """Images on the GPU -> logits on the GPU."""
        with torch.inference_mode():
            return self.forward(self._images)

    def from_host(self) -> Tensor:
        """uint8 (B, H, W, 3) on the host -> float32 logits on the host, not waited for."""
        with torch.inference_mode():
            sent = self._pixels.to(self._images.device, non_blocking=True)
            self._logits.copy_(self.forward(normalised(sent, self._images.dtype)), non_blocking=True)
        return self._logits

    def waited(self) -> None:
        """The same, waited for."""
        self.from_host()
        synchronize()


def normalised(pixels: Tensor, dtype: torch.dtype) -> Tensor:
    """uint8 (B, H, W, 3) -> (B, 3, H, W) from -1 to 1, its memory still in the order of pixels."""
    return pixels.permute(0, 3, 1, 2).to(dtype).mul_(1 / 127.5).sub_(1)


def measure(section: Section, case: Case) -> None:
    device, short = section.device, section.short
    clear()
    dice = torch.Generator(device).manual_seed(0)
    shape = (case.batch, case.size, case.size, 3)
    with torch.inference_mode():  # like those from the host in kind and strides: compiled code is made for both at once
        there = torch.randint(0, 256, shape, dtype=torch.uint8, generator=dice, device=device)
        images = normalised(there, DTYPES[case.dtype])
        pixels = there.cpu().pin_memory() if device == "cuda" else there
    modules = zip(("weevit", "timm"), pair(case.architecture, case.size), strict=True)
    sides = {name: Side(deepcopy(module), case, images, pixels) for name, module in modules}
    if section.warm:
        return
    apart = distance(sides["weevit"].alone().clone(), sides["timm"].alone())
    rounds, seconds = (2, 0.005) if short else (5, 0.12)
    taken = interleaved(
        {name: side.alone for name, side in sides.items()}, lambda c, n: round_of(c, n, device), rounds, seconds
    )
    forward = compared(taken, case.batch)
    section.figure(
        case.name,
        apart=apart,
        forward=forward,
        share_of_peak=share_of_peak(section, case, forward),
        compile_s={name: side.compile_s for name, side in sides.items()},
    )
    # A batch of one is waited for, which is its latency; larger ones follow one another without a wait.
    calls = {name: side.waited if case.batch == 1 else side.from_host for name, side in sides.items()}
    host = compared(interleaved(calls, wall, min(rounds, 3), seconds), case.batch)
    with peak_memory(device) as memory:
        sides["weevit"].alone()
    graphs = {} if case.mode == "eager" else {"graphs": compiled_graphs()}
    section.figure(case.name, host=host, activations_gb=memory["above"] / 1e9, **graphs)


def share_of_peak(section: Section, case: Case, forward: dict[str, Any]) -> dict[str, float]:
    """Of the matrix peak in that format, as measured at the start of this section; empty where it was not."""
    peak = section.figures_of("inference").get(f"matmul peak {case.dtype}")
    if peak is None:
        return {}
    operations = flop(case.architecture, 1000, case.size) / 1e12
    return {name: forward[name]["images_per_s"] * operations / peak["tflops"] for name in ("weevit", "timm")}


def distance(a: Tensor, b: Tensor) -> float:
    """How far apart two results are, of the length of the second."""
    a, b = a.double(), b.double()
    return float((a - b).norm() / b.norm())
