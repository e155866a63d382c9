"""The gate: a quantised model against the one it was made of, on images that calibration did not see."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from statistics import median

import numpy as np

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
    """Compare two models' answers to the same images; a batch of them is held at a time.

    Args:
        first, second: the original, and the quantised model.
        images: (height, width, channels) uint8, as both see it, and the index of its class in the head, None where
            that is not known.

    Raises:
        DatasetError: there is no image.
        InputsFailedError: an answer is NaN or infinite.
    """
    parts: tuple[list[dict[str, Array]], list[dict[str, Array]]] = [], []
    targets: list[int | None] = []
    for some in batches(images, TIMED):
        pixels = np.stack([own for own, _ in some])
        targets += [target for _, target in some]
        for own, predictor in zip(parts, (first, second), strict=True):
            own.append(predictor.forward(pixels))
    if not targets:
        raise DatasetError("None of the held-out images can be read.", "weevit data check   lists why")
    one, other = ({name: np.concatenate([part[name] for part in own]) for name in own[0]} for own in parts)
    cosine = (unit_length(one["embedding"]) * unit_length(other["embedding"])).sum(axis=1)
    cosines = float(cosine.mean()), float(cosine.min())
    if "logits" not in one:
        nothing = float("nan")
        return Agreement(len(targets), None, nothing, nothing, nothing, nothing, *cosines)
    difference = np.abs(one["logits"].astype(np.float64) - other["logits"])
    answers = one["logits"].argmax(axis=1), other["logits"].argmax(axis=1)
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
        float(difference.max()),
        *cosines,
        labelled=int(labelled.sum()),
        right=(int(rights[0].sum()), int(rights[1].sum())),
        p_value=mcnemar(only_first, only_second)[0],
    )


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
