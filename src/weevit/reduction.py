"""The effect of decoding JPEGs at a reduced scale, measured on some of your images."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
import numpy.typing as npt

from weevit.answers.results import unit_length
from weevit.engine.ahead import map_ahead
from weevit.errors import ImageError, InputsFailedError, UsageError
from weevit.images.decode import is_reduced
from weevit.images.preprocess import preprocess
from weevit.images.source import Source, open_image
from weevit.images.sources import Inputs, expand
from weevit.predict import Predictor

AMONG = 256
"""Inputs opened, at most."""


@dataclass(frozen=True)
class Reduction:
    """Images decoded at a reduced scale, compared with the same images decoded whole.

    Attributes:
        looked_at: opened inputs.
        reduced: images that are decoded smaller; all other figures are about these.
        mean_difference: of the model's input, in grey levels (of 255).
        greatest_difference: of one value.
        cosine: the least between the two embeddings of an image; 1 where nothing was reduced.
        same_top1: images with the same most probable class; None where the model has no classes.
        speedup: of reading, decoding, resizing and cropping, per image on one core.
    """

    looked_at: int
    reduced: int = 0
    mean_difference: float = 0.0
    greatest_difference: int = 0
    cosine: float = 1.0
    same_top1: int | None = None
    speedup: float = 1.0

    def __str__(self) -> str:
        if not self.reduced:
            return f"reduced JPEGs: none is decoded smaller (inputs looked at: {self.looked_at:,})"
        same = "" if self.same_top1 is None else f"top-1 the same for {self.same_top1}; "
        return (
            f"reduced JPEGs, measured on {self.reduced} of the first {self.looked_at:,} inputs: pixels differ by "
            f"{self.mean_difference:.1f} of 255 on average, by {self.greatest_difference} at most; {same}cosine of the "
            f"embeddings {self.cosine:.4f} or more; made ready {self.speedup:.1f} times faster"
        )


def measure_reduction(predictor: Predictor, inputs: Inputs, sample: int = 32) -> Reduction:
    """Compare answers to JPEGs decoded at a reduced scale with those to the whole images.

    Args:
        predictor: loaded with `reduced_jpeg=True`.
        inputs: as for `Predictor.stream`. At most the first 256 are opened, until `sample` of them were decoded
            smaller; inputs without an answer are skipped.
        sample: number of images to compare.

    Raises:
        UsageError: the predictor does not reduce, or the sample is empty.
    """
    if not predictor.reduced_jpeg:
        raise UsageError("This predictor decodes every JPEG whole.", "weevit.load(..., reduced_jpeg=True)")
    if sample < 1:
        raise UsageError(f"A sample has at least one image: {sample} was given.", "The default is 32.")
    looked_at, pairs, threads = 0, [], predictor.threads.count
    with closing(map_ahead(partial(_pair, predictor), islice(expand(inputs), AMONG), threads, 2 * threads)) as found:
        for pair in found:
            looked_at += 1
            pairs += [pair] if pair else []
            if len(pairs) == sample:
                break
    return _compare(predictor, looked_at, pairs) if pairs else Reduction(looked_at)


@dataclass(frozen=True)
class _Pair:
    """One image, both ways: (height, width, 3) uint8, and the seconds of each."""

    small: npt.NDArray[np.uint8]
    whole: npt.NDArray[np.uint8]
    seconds: tuple[float, float]


def _pair(predictor: Predictor, source: Source) -> _Pair | None:
    """None for an image that is not reduced, or an input without one."""
    try:
        start = time.perf_counter()
        image = predictor.open(source)
        if not is_reduced(image):
            return None
        small = preprocess(image, predictor.preprocessing)
        middle = time.perf_counter()
        whole = preprocess(open_image(source, predictor.limits), predictor.preprocessing)
    except ImageError:
        return None
    return _Pair(small, whole, (middle - start, time.perf_counter() - middle))


def _compare(predictor: Predictor, looked_at: int, pairs: list[_Pair]) -> Reduction:
    small, whole = np.stack([pair.small for pair in pairs]), np.stack([pair.whole for pair in pairs])
    difference = np.abs(small.astype(np.int16) - whole)
    try:
        answers = predictor.forward(small), predictor.forward(whole)
    except InputsFailedError as error:  # a row without an answer is skipped, like such an input
        failed = {name for name, _ in error.failures}
        left = [pair for row, pair in enumerate(pairs) if f"row {row}" not in failed]
        return _compare(predictor, looked_at, left) if left else Reduction(looked_at)
    first, second = (unit_length(own["embedding"]) for own in answers)
    classes = [own["logits"].argmax(1) for own in answers if "logits" in own]
    seconds = np.array([pair.seconds for pair in pairs]).sum(0)
    return Reduction(
        looked_at=looked_at,
        reduced=len(pairs),
        mean_difference=float(difference.mean()),
        greatest_difference=int(difference.max()),
        cosine=float((first * second).sum(1).min()),
        same_top1=int((classes[0] == classes[1]).sum()) if classes else None,
        speedup=float(seconds[1] / seconds[0]),
    )
