"""From logits to probabilities that are right as often as they say, and to the thresholds under which nothing is said.

Temperature scaling: Guo et al., On Calibration of Modern Neural Networks, arXiv:1706.04599.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from weevit.evaluation.metrics import Bools, calibration, sigmoid, softmax
from weevit.fitting.heads import Floats

_COLDEST, _HOTTEST = 1e-4, 1e4
"""A strongly regularised head may be a hundred times less sure than it is right."""

FEWEST = 10
"""Images from which a temperature can be: the standard error of fewer is a guess itself."""

CLEARLY = 2.0
"""Standard errors by which a temperature must lower the loss to be better than none."""

_LIKE = 0.5
"""Nats of likelihood, of all images together: one standard error of a single number."""

_DRAWS = 200

_HAIR = 1 - 1e-4
"""A threshold that is an image's own probability lies a hair below it: else rounding in float32 would decide."""


def temperature(logits: Floats, targets: npt.NDArray[Any]) -> float:
    """What the logits must be divided by, so that the targets are as likely as can be.

    Targets are smoothed as if one image more had been answered wrong (Platt, 1999): otherwise logits that happen to
    be right on all of a few images would be taken for certain.

    Args:
        logits: (n, K) of images that the head was not fitted to.
        targets: (n) class index, or (n, K) of 0 and 1.
    """
    return _coolest(logits, targets)[0]


def clear_temperature(logits: Floats, targets: npt.NDArray[Any]) -> float:
    """A temperature that is clearly better than none on these images; 1, which changes nothing, where there is none.

    The best temperature of few images is mostly their noise. So it must lower the loss by twice the standard error of
    that difference, image by image, and may not make the calibration error greater. Of those that these images cannot
    tell from the best (half a nat of likelihood, which is one standard error), the nearest to 1 is taken: it changes
    least. Of many images that is nearly the best. Tried on other images: `docs/fitting.md`.
    """
    if len(logits) < FEWEST:
        return 1.0
    best, soft = temperature(logits, targets), _smoothed(logits, targets)
    losses = _binary_losses if targets.ndim == 2 else _losses
    before, after = losses(logits, soft), losses(logits / best, soft)
    lower = before - after
    if not lower.mean() > CLEARLY * lower.std(ddof=1) / np.sqrt(len(lower)) or lower.sum() <= _LIKE:
        return 1.0
    found = _nearest_to_none(lambda heat: float(losses(logits / heat, soft).sum()) - float(after.sum()) - _LIKE, best)
    return found if calibration_error(logits / found, targets) <= calibration_error(logits, targets) else 1.0


def _nearest_to_none(excess: Callable[[float], float], best: float) -> float:
    """Between 1, where the excess is above 0, and the best, where it is below: where it is 0."""
    from scipy.optimize import brentq

    return float(np.exp(brentq(lambda power: excess(float(np.exp(power))), 0.0, np.log(best))))


def least_loss(logits: Floats, targets: npt.NDArray[Any]) -> float:
    """The mean log-loss at that temperature, in nats: how much the logits know, however sure they are."""
    return _coolest(logits, targets)[1]


def _coolest(logits: Floats, targets: npt.NDArray[Any]) -> tuple[float, float]:
    """The temperature, and the loss that it gives."""
    from scipy.optimize import minimize_scalar

    soft = _smoothed(logits, targets)
    losses = _binary_losses if targets.ndim == 2 else _losses
    bounds = (np.log(_COLDEST), np.log(_HOTTEST))
    found = minimize_scalar(
        lambda power: float(losses(logits / np.exp(power), soft).mean()), bounds=bounds, method="bounded"
    )
    return float(np.exp(found.x)), float(found.fun)


def _smoothed(logits: Floats, targets: npt.NDArray[Any]) -> Floats:
    truth = targets.astype(np.float64) if targets.ndim == 2 else np.eye(logits.shape[1])[targets]
    share = 1 / (len(logits) + 2)
    return np.asarray(truth * (1 - share) + share * (0.5 if targets.ndim == 2 else 1 / logits.shape[1]))


def _losses(logits: Floats, soft: Floats) -> Floats:
    """(n)"""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(np.log(np.exp(shifted).sum(axis=1)) - (soft * shifted).sum(axis=1))


def _binary_losses(logits: Floats, soft: Floats) -> Floats:
    """(n), mean over labels."""
    return np.asarray((np.logaddexp(0, logits) - soft * logits).mean(axis=1))


def unknown_threshold(logits: Floats, coverage: float) -> float | None:
    """The probability at or above which the best answer of a new image lies with at least this probability.

    Of n images and one more like them, each is as likely as any other to be the k-th least sure of all n + 1. So the
    k-th of the n is undercut by a new one in k of n + 1 cases (split conformal prediction, arXiv:2107.07511).

    Args:
        logits: (n, K), calibrated, of images of known classes that the head was not fitted to.
        coverage: the share that is to keep its class, in (0, 1]; at 1, all of these images do.

    Returns:
        None where so few images can promise nothing: 19 are needed for 95 %, 99 for 99 %.
    """
    rank = int((1 - coverage) * (len(logits) + 1) + 1e-9)
    if not len(logits) or (rank == 0 and coverage < 1):
        return None
    best = np.sort(softmax(logits).max(axis=1))
    return float(best[max(rank, 1) - 1]) * _HAIR


def label_thresholds(logits: Floats, targets: npt.NDArray[Any]) -> tuple[float, ...]:
    """For each label the probability from which saying that it is there gives the best F1.

    The threshold lies half-way between the two neighbouring probabilities; of equally good ones it is the one nearest
    to 0.5. A label that never occurs is never said; of one that occurs once there is nothing to learn, and it is 0.5.
    """
    probabilities = sigmoid(logits)
    return tuple(_best_threshold(probabilities[:, k], targets[:, k]) for k in range(targets.shape[1]))


def _best_threshold(probabilities: Floats, truth: npt.NDArray[Any]) -> float:
    if truth.sum() < 2:
        return 0.5 if truth.any() else 1.0
    order = np.argsort(-probabilities, kind="stable")
    falling, hits = probabilities[order], np.cumsum(truth[order])
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + truth.sum())
    cuts = (falling + np.append(falling[1:], 0.0)) / 2
    f1[np.append(falling[1:] == falling[:-1], False)] = -1  # no cut goes between equals
    best = np.flatnonzero(f1 >= f1.max() - 1e-12)
    return float(np.clip(cuts[best[np.argmin(np.abs(cuts[best] - 0.5))]], 1e-6, 1.0))


def calibration_error(logits: Floats, targets: npt.NDArray[Any]) -> float:
    """ECE of the answers (15 bins); of labels, of all decisions together."""
    return calibration(*_answers(logits, targets)).error


def error_by_chance(logits: Floats, targets: npt.NDArray[Any], seed: int) -> float:
    """The ECE that these probabilities would show on `count` images, on average, if they were exactly right.

    Without it a figure on a few hundred images says little: a bin of ten answers is off by a tenth and more by
    chance alone.
    """
    confidence, _ = _answers(logits, targets)
    rng = np.random.default_rng(seed)
    draws = [calibration(confidence, rng.random(len(confidence)) < confidence).error for _ in range(_DRAWS)]
    return float(np.mean(draws)) if len(confidence) else float("nan")


def _answers(logits: Floats, targets: npt.NDArray[Any]) -> tuple[Floats, Bools]:
    """(answers) how sure they are, and whether they are right."""
    if targets.ndim == 2:
        there = sigmoid(logits).reshape(-1)
        return np.maximum(there, 1 - there), (there >= 0.5) == (targets.reshape(-1) == 1)
    probabilities = softmax(logits)
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == targets
