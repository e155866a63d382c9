"""The gate: a quantised model against the one it was made of, on images that calibration did not see."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from statistics import median
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from weevit.answers.results import Array, unit_length
from weevit.engine.ahead import batches
from weevit.engine.session import Pixels
from weevit.engine.timing import Ratio, interleaved
from weevit.errors import DatasetError
from weevit.evaluation.metrics import wilson
from weevit.evaluation.paired import mcnemar
from weevit.predict import Predictor
from weevit.quantization.results import Agreement, Speed

ROUNDS, TIMED = 8, 16
"""Rounds, and images per round, by which speed is measured."""


def agree(first: Predictor, second: Predictor, images: Iterable[tuple[Pixels, int | None]]) -> Agreement:
    """Compare two models' answers to the same images; of each a few numbers are kept.

    Args:
        first, second: the original, and the quantised model.
        images: (height, width, channels) uint8, as both see it, and the index of its class in the head, None where
            that is not known.

    Raises:
        DatasetError: there is no image.
        InputsFailedError: an answer is NaN or infinite.
    """
    parts: list[_Compared] = []
    targets: list[int | None] = []
    for some in batches(images, TIMED):
        pixels = np.stack([own for own, _ in some])
        targets += [target for _, target in some]
        parts.append(_compared(first.forward(pixels), second.forward(pixels)))
    if not targets:
        raise DatasetError("None of the held-out images can be read.", "weevit data check   lists why")
    cosine, difference, largest, *answers = map(np.concatenate, zip(*parts, strict=True))
    cosines = float(cosine.mean()), float(cosine.min())
    if not len(difference):
        nothing = float("nan")
        return Agreement(len(targets), None, nothing, nothing, nothing, nothing, *cosines)
    same = int((answers[0] == answers[1]).sum())
    labelled = np.array([target is not None for target in targets])
    truth = np.array([-1 if target is None else target for target in targets])
    rights = [(own == truth)[labelled] for own in answers]
    only_first, only_second = (int((a & ~b).sum()) for a, b in (rights, rights[::-1]))
    return Agreement(
        len(targets),
        same,
        *wilson(same, len(targets)),
        float(difference.mean()),
        float(largest.max()),
        *cosines,
        labelled=int(labelled.sum()),
        right=(int(rights[0].sum()), int(rights[1].sum())),
        p_value=mcnemar(only_first, only_second)[0],
    )


class _Compared(NamedTuple):
    """Two models' answers to a batch, a number for each image; all but the first are empty without a classifier."""

    cosine: Array
    difference: npt.NDArray[np.float64]
    largest: npt.NDArray[np.float64]
    first: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]


def _compared(one: Mapping[str, Array], other: Mapping[str, Array]) -> _Compared:
    cosine = (unit_length(one["embedding"]) * unit_length(other["embedding"])).sum(axis=1)
    logits = (one["logits"], other["logits"]) if "logits" in one else (np.zeros((0, 1), np.float32),) * 2
    difference = np.abs(logits[0].astype(np.float64) - logits[1])
    first, second = (own.argmax(axis=1) for own in logits)
    return _Compared(cosine, difference.mean(axis=1), difference.max(axis=1), first, second)


def race(first: Predictor, second: Predictor, pixels: Pixels, rounds: int = ROUNDS) -> Speed:
    """Measure two models in turns on the same images.

    Args:
        first, second: the original, and the quantised model.
        pixels: (B, height, width, channels) uint8; every round asks both for all of them.
        rounds: how many.
    """
    taken = interleaved({own: partial(own.forward, pixels) for own in (first, second)}, rounds)
    one, other = taken[first], taken[second]
    return Speed(
        rounds=rounds,
        cpu=(median(one.cpu) / len(pixels), median(other.cpu) / len(pixels)),
        wall=(median(one.wall) / len(pixels), median(other.wall) / len(pixels)),
        ratio=Ratio.of(other.cpu, one.cpu),
    )


def noise(predictor: Predictor) -> Pixels:
    """Images of noise, for a race where there are no others: (16, height, width, channels) uint8."""
    spec = predictor.preprocessing
    shape = (TIMED, spec.height, spec.width, predictor.checkpoint.in_chans)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
