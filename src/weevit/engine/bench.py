"""How fast a model is here: every engine, precision and device of this machine in turn, and which to take.

Random pixels and whole sessions: what is timed is what `Predictor` waits for once images are decoded.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from weevit.engine.bound import Shape, model_shapes, onnxruntime_product
from weevit.engine.choice import DEFAULT, WAYS, Way, refusal
from weevit.engine.machine import cpu
from weevit.engine.protocol import Outputs, Pixels, Request, Session
from weevit.engine.session import open_session
from weevit.engine.threads import Threads
from weevit.engine.timing import Ratio, Taken, interleaved
from weevit.errors import WeevitError
from weevit.zoo.architectures import PATCH
from weevit.zoo.checkpoint import Checkpoint
from weevit.zoo.counts import count

EQUAL = 1e-5
"""Of the greatest magnitude: how far the answers of another engine in fp32 may be from onnxruntime's."""

ROUNDED = 0.3
"""The same for an int8 model, where a number between two steps may be rounded to either."""

SURE = 7 / 8
"""The share of rounds in which another way has to be faster than the default to be recommended."""


@dataclass(frozen=True)
class Speed:
    """One way with one batch size.

    Attributes:
        way: engine, precision and device.
        batch: images per batch.
        images_per_s: by the median of the wall seconds.
        wall_s, cpu_s: seconds per batch, medians.
        wall, cpu: how many times faster than onnxruntime in fp32, by either clock.
        apart: greatest difference of an answer from onnxruntime's, of the greatest magnitude.
        allowed: of it, without bf16.
    """

    way: Way
    batch: int
    images_per_s: float
    wall_s: float
    cpu_s: float
    wall: Ratio
    cpu: Ratio
    apart: float
    allowed: float = EQUAL

    @property
    def keeps_its_promise(self) -> bool:
        """Whether fp32 has the numbers of fp32; bf16 promises none, and is called bf16."""
        return self.way.precision != "fp32" or self.apart <= self.allowed


@dataclass(frozen=True)
class Bound:
    """The fastest matrix product of one batch size, in fp32 by onnxruntime with as many threads.

    Attributes:
        batch: images per batch.
        gflops: 10^9 operations per second.
        shape: of that product.
        images_per_s: of a model that were nothing but such products.
    """

    batch: int
    gflops: float
    shape: str
    images_per_s: float


@dataclass(frozen=True)
class Bench:
    """What was measured, and on what.

    Attributes:
        date: of the measurement, as YYYY-MM-DD.
        instruction_set: of the processor.
        rounds: turns of each way.
        speeds: by batch size, then in the order of the ways.
        bounds: one per batch size.
        absent: ways that cannot be had here, or failed -> why.
        numbers: what is computed without bf16: `fp32`, or `int8` of a quantised model.
    """

    date: str
    instruction_set: str
    rounds: int
    speeds: tuple[Speed, ...]
    bounds: tuple[Bound, ...]
    absent: dict[Way, str]
    numbers: str = "fp32"

    @property
    def recommended(self) -> Speed:
        """The most images per second among what keeps its promise; the default unless another is faster for sure."""
        sure = [one for one in self.speeds if one.way == DEFAULT or (one.keeps_its_promise and one.wall.won >= SURE)]
        return max(sure, key=lambda one: one.images_per_s)


def bench(checkpoint: Checkpoint, request: Request, batches: Sequence[int], rounds: int, threads: Threads) -> Bench:
    """Measure every way that this machine has.

    Args:
        checkpoint: what is run.
        request: image size.
        batches: images per batch, each measured on its own.
        rounds: turns of each way per batch size.
        threads: to compute with.

    Raises:
        EngineError: onnxruntime could not load or run the model.
    """
    sessions, absent = _sessions(checkpoint, request, threads.count)
    shape = (max(batches), request.height, request.width, checkpoint.in_chans)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    allowed, numbers = (EQUAL, "fp32") if checkpoint.quantization is None else (ROUNDED, "int8")
    speeds: list[Speed] = []
    bounds: list[Bound] = []
    for batch in batches:
        own = pixels[:batch]
        answers = {way: _answered(way, session, own, absent) for way, session in sessions.items()}
        there = {way: answer for way, answer in answers.items() if answer is not None}
        shapes = model_shapes(checkpoint.architecture, batch, _grid(request))
        calls: dict[Way | Shape, Callable[[], object]] = {way: partial(sessions[way].run, own) for way in there}
        for product in shapes:
            calls[product] = onnxruntime_product(product, threads.count)
        taken = interleaved(calls, rounds)
        speeds += [
            replace(_speed(way, batch, taken, _apart(answer, there[DEFAULT])), allowed=allowed)
            for way, answer in there.items()
        ]
        bounds.append(_bound(batch, {product: taken[product] for product in shapes}, checkpoint, request))
    date = time.strftime("%Y-%m-%d")
    return Bench(date, cpu().name, rounds, tuple(speeds), tuple(bounds), absent, numbers)


def _sessions(checkpoint: Checkpoint, request: Request, threads: int) -> tuple[dict[Way, Session], dict[Way, str]]:
    found: dict[Way, Session] = {}
    absent: dict[Way, str] = {}
    for way in WAYS:
        refused = refusal(way)
        try:
            if refused is not None:
                raise refused
            opened = partial(open_session, checkpoint, request, threads, way.engine)
            found[way] = opened(precision=way.precision)
        except WeevitError as error:
            if way == DEFAULT:
                raise
            absent[way] = error.message
    return found, absent


def _answered(way: Way, session: Session, pixels: Pixels, absent: dict[Way, str]) -> Outputs | None:
    """The answer of a way; None where it fails, which is told like what is not there."""
    try:
        return session.run(pixels)
    except WeevitError as error:
        if way == DEFAULT:
            raise
        absent[way] = error.message
        return None


def _speed(way: Way, batch: int, taken: dict[Way | Shape, Taken], apart: float) -> Speed:
    own, base = taken[way], taken[DEFAULT]
    wall_s, cpu_s = statistics.median(own.wall), statistics.median(own.cpu)
    wall, cpu_ratio = Ratio.of(own.wall, base.wall), Ratio.of(own.cpu, base.cpu)
    return Speed(way, batch, batch / wall_s, wall_s, cpu_s, wall, cpu_ratio, apart)


def _bound(batch: int, taken: dict[Shape, Taken], checkpoint: Checkpoint, request: Request) -> Bound:
    gflops, shape = max((shape.gflop / min(own.wall), str(shape)) for shape, own in taken.items())
    counts = count(checkpoint.architecture, checkpoint.num_classes, _grid(request))
    gflop = 2 * (counts.linear_macs + counts.attention_macs) / 1e9
    return Bound(batch, gflops, shape, gflops / gflop)


def _apart(answer: Outputs, expected: Outputs) -> float:
    name = "logits" if "logits" in expected else "embedding"
    greatest = max(float(np.abs(expected[name]).max()), 1e-30)
    return float(np.abs(answer[name] - expected[name]).max()) / greatest


def _grid(request: Request) -> tuple[int, int]:
    return request.height // PATCH, request.width // PATCH
