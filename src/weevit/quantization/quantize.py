"""`weevit.quantize`: an int8 model that keeps its promise, or none.

images ── calibration ── ranges and weights ── a checkpoint, set aside ── the gate ── a folder, or why there is none
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from weevit.datasets.dataset import Dataset
from weevit.datasets.read import check_there
from weevit.engine.ahead import batches
from weevit.engine.machine import cpu
from weevit.engine.session import Pixels, refuse_overflow
from weevit.errors import DatasetError
from weevit.predict import Predictor, load
from weevit.quantization.choose import Model, Tensors, quantized
from weevit.quantization.gate import TIMED, agree, noise, race
from weevit.quantization.images import (
    FEWEST_CALIBRATED,
    FEWEST_HELD_OUT,
    Images,
    Labelled,
    choose_images,
    crops,
)
from weevit.quantization.observe import Observed, observe
from weevit.quantization.page import write_quantization
from weevit.quantization.results import Gate, Quantized, Settings, misses
from weevit.reports.page import require_jinja
from weevit.store.files import replacing_folder
from weevit.store.folder import Kind, held
from weevit.store.outputs import local
from weevit.text import one_line
from weevit.zoo.checkpoint import Checkpoint, read_checkpoint
from weevit.zoo.quantized import Quantization
from weevit.zoo.writing import write_checkpoint

MODEL = "model"
QUANTIZATION = Kind("quantized model", "report.json", ("weevit.quantization",), dict.fromkeys(("", MODEL), ("*",)))

Watcher = Callable[[int, int, str], None]
"""Told of the images that are done, of their number, and of the stage in words."""

_BATCH = 8


def quantize(
    model: str | Path | Predictor,
    data: str | Path | Dataset | None,
    output: str | Path,
    *,
    images: int = 128,
    held_out: int = 1000,
    bits: int | None = None,
    max_drop: float = 0.5,
    min_agreement: float = 96.0,
    min_speedup: float = 1.2,
    seed: int = 0,
    watch: Watcher = lambda done, total, stage: None,
) -> Quantized:
    """Make an int8 model, measure it against the original, and write it if it passes.

    Args:
        model: as for `weevit.load`, or what that returned, in float32.
        data: images of the kind that the model will see; with classes as for `weevit.evaluate`, or without. None gives
            each row of activations a range of its own: slower, with no calibration, and measured for speed only.
        output: a folder for `model/`, `report.html` and `report.json`.
        images: to calibrate on.
        held_out: images that the gate uses, at most.
        bits: of the weights: 8, or 7 for a file that also goes to processors without VNNI; by default what is exact
            and fast on this one.
        max_drop: percentage points of top-1 accuracy that may be lost, where classes are known.
        min_agreement: percentage of images to which both models have to give the same class.
        min_speedup: how many times less processor time it has to take.
        seed: of the draw of images.
        watch: told how far it is.

    Returns:
        What was measured; `passed` says whether the model was written.

    Raises:
        UsageError: an invalid setting, one that this processor does not compute exactly with the model's engine, a
            model that is quantised already, or a folder that holds something else.
        DatasetError: nothing there, or too few images.
        MissingExtraError: jinja2 or filelock is not installed.
        OutputError: the folder cannot be written.
    """
    settings = Settings(images, held_out, bits, seed, Gate(max_drop, min_agreement, min_speedup))
    settings.check()
    require_jinja()
    if data is not None:
        check_there(data)
    output = local(output)
    with held(output, QUANTIZATION, (model.checkpoint.path if isinstance(model, Predictor) else model, data)):
        predictor = model if isinstance(model, Predictor) else load(model)
        return _Run(predictor, output, settings, watch).quantize(data)


class _NotPassed(Exception):  # noqa: N818 - not an error: it ends the writing of what the gate refuses
    def __init__(self, found: Quantized) -> None:
        self.found = found


class _Run:
    """One quantisation; each step keeps what the next ones need."""

    def __init__(self, predictor: Predictor, folder: Path, settings: Settings, watch: Watcher) -> None:
        self.predictor, self.folder, self.settings, self.watch = predictor, folder, settings, watch
        self.left_out = 0

    def quantize(self, data: str | Path | Dataset | None) -> Quantized:
        """All of it, one step after another."""
        start = time.monotonic()
        predictor, counts = self.predictor, (self.settings.images, self.settings.held_out)
        predictor.checkpoint.check_floats()
        refuse_overflow(f"int8 {predictor.checkpoint.name}", self.settings.bits, predictor.engine)
        # ---- integers
        images = None if data is None else choose_images(data, predictor, counts, self.settings.seed)
        observed = None if images is None else self._observe(images.calibration)
        self.watch(0, 1, "choosing ranges")
        tensors, how = quantized_tensors(predictor, observed, self.settings.bits)
        try:
            with QUANTIZATION.writing(self.folder), replacing_folder(self.folder / MODEL) as stage:
                # ---- the gate
                second = answering_like(predictor, write_quantized(stage, predictor, tensors, how))
                found = self._judge(second, images, start)
                if not found.passed:
                    raise _NotPassed(found)
        except _NotPassed as refused:
            return refused.found
        # ---- the report
        found = replace(found, checkpoint=read_checkpoint(self.folder / MODEL))
        try:
            write_quantization(found, predictor.checkpoint)
        except BaseException:
            shutil.rmtree(self.folder / MODEL, ignore_errors=True)  # without its figures nobody could judge it
            raise
        return found

    def _observe(self, images: Sequence[Labelled]) -> Observed:
        seen = (pixels for pixels, _ in self._crops("calibrating", images))
        observed = observe(self.predictor, (np.stack(some) for some in batches(seen, _BATCH)))
        self._check_enough(observed.images, FEWEST_CALIBRATED)
        return observed

    def _crops(self, stage: str, images: Sequence[Labelled]) -> Iterator[tuple[Pixels, int | None]]:
        """The images that can be read, as the model sees them."""
        for number, (pixels, target) in enumerate(crops(self.predictor, images)):
            self.watch(number, len(images), stage)
            if pixels is not None:
                yield pixels, target
            else:
                self.left_out += 1

    def _check_enough(self, count: int, fewest: int) -> None:
        if count < fewest:
            raise DatasetError(
                f"{count} images could be read, {self.left_out} could not; {fewest} are the fewest.",
                "weevit data check   lists what cannot be read",
            )

    def _judge(self, second: Predictor, images: Images | None, start: float) -> Quantized:
        """Measure the model that was set aside."""
        first, settings, agreement = self.predictor, self.settings, None
        if images is None:
            timed = noise(first)
        else:
            kept: list[Pixels] = []
            agreement = agree(first, second, _keeping(self._crops("comparing", images.held_out), kept))
            self._check_enough(agreement.images, FEWEST_HELD_OUT)
            timed = np.stack(kept)
        self.watch(0, 1, "measuring speed")
        speed = race(first, second, timed)
        assert second.checkpoint.quantization is not None
        return Quantized(
            folder=self.folder,
            checkpoint=None,
            original=first.checkpoint.name,
            quantization=second.checkpoint.quantization,
            settings=settings,
            agreement=agreement,
            speed=speed,
            size=(first.checkpoint.path.stat().st_size, second.checkpoint.path.stat().st_size),
            processor=cpu().name,
            engine=first.engine,
            left_out=self.left_out,
            failed=tuple(misses(settings.gate, agreement, speed)),
            notes=() if images is None else images.notes,
            seconds=time.monotonic() - start,
        )


def _keeping(images: Iterator[tuple[Pixels, int | None]], kept: list[Pixels]) -> Iterator[tuple[Pixels, int | None]]:
    """Pass images on, and keep the first ones for the race."""
    for pixels, target in images:
        kept += [pixels] if len(kept) < TIMED else []
        yield pixels, target


def quantized_tensors(
    predictor: Predictor, observed: Observed | None, bits: int | None = None
) -> tuple[Tensors, Quantization]:
    """The tensors of a model in int8, and how they became so.

    Args:
        predictor: of the model in float32.
        observed: what calibration saw; None gives each row of activations a range of its own.
        bits: of the weights; by default 8 where this processor's integer products are exact, else 7.
    """
    checkpoint = predictor.checkpoint
    chosen: Literal[7, 8] = 8 if bits == 8 or (bits is None and cpu().vnni) else 7
    how = Quantization(
        "rows" if observed is None else "static", chosen, checkpoint.sha256, 0 if observed is None else observed.images
    )
    model = Model(checkpoint.architecture, checkpoint.floats(), checkpoint.preprocessing)
    return quantized(model, chosen, observed), how


def write_quantized(folder: Path, predictor: Predictor, tensors: Tensors, how: Quantization) -> Checkpoint:
    """Write a quantised checkpoint with the classes, the licence and the decision of the original.

    Args:
        folder: for the checkpoint.
        predictor: of the original; the model that is written has its image size.
        tensors, how: as `quantized_tensors` gives them.

    Raises:
        OutputError: the disk is full or the folder cannot be written.
    """
    base = predictor.checkpoint
    about = {"description": f"{one_line(base.name)} in {how}."} | ({"license": base.license} if base.license else {})
    grid = None if base.architecture.position == "rope" else base.grid
    own = (base.architecture, tensors, predictor.preprocessing, base.labels, about, base.decision, grid)
    return write_checkpoint(folder, *own, quantization=how)


def answering_like(predictor: Predictor, checkpoint: Checkpoint) -> Predictor:
    """Another model, with a predictor's image size, threads, engine, precision, device and limits."""
    spec = predictor.preprocessing
    return Predictor(
        checkpoint,
        image_size=(spec.height, spec.width),
        threads=predictor.threads.count,
        engine=predictor.engine,
        precision=predictor.precision,
        device=predictor.device,
        limits=predictor.limits,
    )
