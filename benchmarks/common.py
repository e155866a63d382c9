"""What the benchmarks share: interleaved runs, medians, ratios, and where the shared data is."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("WEEVIT_SHARED", ROOT.parent / "shared"))
PWEE = "vit_pwee_patch16_reg1_gap_256"


def shared(*parts: str) -> Path:
    """A path in the shared data; ends the program with a plain message where it is not there."""
    path = SHARED.joinpath("data", *parts)
    if not path.exists():
        sys.exit(f"needs {path}: set WEEVIT_SHARED to the folder of shared data")
    return path


def vit_tiny() -> Path:
    """The real ViT-Ti checkpoint."""
    return shared("weights", "vit_tiny_patch16_224.augreg_in21k_ft_in1k")


def photos(count: int = 500) -> list[Path]:
    """The first so many of the shared photos."""
    return sorted(shared("imagenet_photos").iterdir())[:count]


def random_checkpoint(architecture: str = PWEE, num_classes: int = 1000) -> Path:
    """A folder with random tensors of that architecture: as fast or slow as the published ones, and no download."""
    from weevit.zoo.architectures import get_architecture
    from weevit.zoo.layout import tensor_shapes
    from weevit.zoo.weights import HALF, Preprocessing
    from weevit.zoo.writing import write_checkpoint

    arch = get_architecture(architecture)
    folder = Path(tempfile.gettempdir()) / f"weevit-benchmark-{architecture}-{num_classes}"
    if not (folder / "weevit-manifest.json").exists():
        rng = np.random.default_rng(0)
        shapes = tensor_shapes(arch, num_classes)
        tensors = {name: rng.standard_normal(shape, np.float32) * np.float32(0.02) for name, shape in shapes.items()}
        spec = Preprocessing(arch.img_size, arch.img_size, 0.95, "center", "bicubic", *HALF)
        write_checkpoint(folder, arch, tensors, spec)
    return folder


def instruction_set(root: Path = Path("/")) -> str:
    """The vectors that the processor computes with, and its extensions; else the kind of processor.

    A figure without it cannot be compared: with AVX-512 the same number of cores does twice the work.

    Args:
        root: where `/proc` is; another folder in tests.
    """
    from weevit.engine.machine import cpu

    return cpu(root).name


@dataclass
class Run:
    """One finished process: wall seconds, peak memory in MB, what it printed."""

    seconds: float
    peak_mb: float
    out: str


def run_process(words: Sequence[object], **environment: str) -> Run:
    """Run a command to its end; the operating system's own accounting of its memory (largest single process)."""
    start = time.perf_counter()
    with subprocess.Popen(
        [str(word) for word in words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | environment
    ) as process:
        assert process.stdout is not None
        out = process.stdout.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            assert process.stderr is not None
            sys.exit(f"{words} failed:\n{process.stderr.read().decode()}")
    return Run(seconds, usage.ru_maxrss / 1024, out)


def interleave(runs: int, **functions: Callable[[], float]) -> dict[str, list[float]]:
    """Call each in turn, A B A B ..., once uncounted; each returns its own seconds."""
    taken: dict[str, list[float]] = {name: [] for name in functions}
    for counted in range(-1, runs):
        for name, function in functions.items():
            seconds = function()
            if counted >= 0:
                taken[name].append(seconds)
    return taken


def timed(function: Callable[[], object]) -> Callable[[], float]:
    """The same function, returning how long it took."""

    def run() -> float:
        start = time.perf_counter()
        function()
        return time.perf_counter() - start

    return run


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """How many times faster we are, pair by pair: median, and the range."""
    pairs = sorted(their / our for our, their in zip(ours, theirs, strict=True))
    return f"{statistics.median(pairs):.2f}x (pairs {pairs[0]:.2f} to {pairs[-1]:.2f})"
