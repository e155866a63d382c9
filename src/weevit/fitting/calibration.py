"""Calibrated probabilities from logits, and the thresholds below which nothing is answered.

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
"""Range of temperatures: a strongly regularised head may be a hundred times too uncertain."""

FEWEST = 10
"""Least number of images for a temperature: of fewer, the standard error itself is unknown."""

CLEARLY = 2.0
"""Standard errors by which a temperature must lower the loss."""

_LIKE = 0.5
"""Nats of likelihood, of all images together: one standard error of a single number."""

_DRAWS = 200

_HAIR = 1 - 1e-4
"""Factor of a threshold that equals an image's own probability, so that rounding in float32 does not decide."""


def temperature(logits: Floats, targets: npt.NDArray[Any]) -> float:
    """The divisor of the logits that makes the targets most likely.

    Targets are smoothed as if one more image had been answered wrong (Platt, 1999): otherwise logits that are right on
    all of a few images would be taken for certain.

    Args:
        logits: (n, K) of images that the head was not fitted to.
        targets: (n) class index, or (n, K) of 0 and 1.
    """
    return _coolest(logits, targets)[0]


def clear_temperature(logits: Floats, targets: npt.NDArray[Any]) -> float:
    """A temperature that is clearly better than none on these images; otherwise 1, which changes nothing.

    The best temperature of few images is mostly noise. It must therefore lower the loss by twice the standard error of
    that difference, image by image, and must not raise the calibration error. Of the temperatures that these images
    cannot tell from the best (half a nat of likelihood, one standard error), the nearest to 1 is taken: it changes
    least. Of many images that is nearly the best. Measured on other images: `docs/fitting.md`.
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
    """The zero of the excess between 1, where it is positive, and the best, where it is negative."""
    from scipy.optimize import brentq

    return float(np.exp(brentq(lambda power: excess(float(np.exp(power))), 0.0, np.log(best))))


def least_loss(logits: Floats, targets: npt.NDArray[Any]) -> float:
    """The mean log loss at the best temperature, in nats: a measure independent of calibration."""
    return _coolest(logits, targets)[1]


def _coolest(logits: Floats, targets: npt.NDArray[Any]) -> tuple[float, float]:
    """The best temperature, and its loss."""
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
    """The threshold that the best probability of a new image reaches with probability `coverage`.

    Of n images and one more like them, each is equally likely to be the k-th least confident of all n + 1. A new one is
    therefore below the k-th of the n in k of n + 1 cases (split conformal prediction, arXiv:2107.07511).

    Args:
        logits: (n, K), calibrated, of images of known classes that the head was not fitted to.
        coverage: share of images that keep their class, in (0, 1]; at 1, all of these images do.

    Returns:
        None where too few images promise nothing: 19 are needed for 95 %, 99 for 99 %.
    """
    rank = int((1 - coverage) * (len(logits) + 1) + 1e-9)
    if not len(logits) or (rank == 0 and coverage < 1):
        return None
    best = np.sort(softmax(logits).max(axis=1))
    return float(best[max(rank, 1) - 1]) * _HAIR


def label_thresholds(logits: Floats, targets: npt.NDArray[Any]) -> tuple[float, ...]:
    """For each label the probability from which answering it gives the best F1.

    The threshold lies half-way between two neighbouring probabilities; of equally good ones it is the nearest to 0.5. A
    label that never occurs is never answered; one that occurs once has 0.5.
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
    f1[np.append(falling[1:] == falling[:-1], False)] = -1  # no threshold separates equal scores
    best = np.flatnonzero(f1 >= f1.max() - 1e-12)
    return float(np.clip(cuts[best[np.argmin(np.abs(cuts[best] - 0.5))]], 1e-6, 1.0))


def calibration_error(logits: Floats, targets: npt.NDArray[Any]) -> float:
    """ECE of the answers (15 bins); for labels, of all decisions together."""
    return calibration(*_answers(logits, targets)).error


def error_by_chance(logits: Floats, targets: npt.NDArray[Any], seed: int) -> float:
    """The mean ECE that these probabilities would show on this number of images if they were exactly right.

    It puts a figure on a few hundred images in perspective: a bin of ten answers is off by a tenth or more by chance
        alone.
    """
    confidence, _ = _answers(logits, targets)
    rng = np.random.default_rng(seed)
    draws = [calibration(confidence, rng.random(len(confidence)) < confidence).error for _ in range(_DRAWS)]
    return float(np.mean(draws)) if len(confidence) else float("nan")


def _answers(logits: Floats, targets: npt.NDArray[Any]) -> tuple[Floats, Bools]:
    """(answers) confidences, and whether the answers are right."""
    if targets.ndim == 2:
        there = sigmoid(logits).reshape(-1)
        return np.maximum(there, 1 - there), (there >= 0.5) == (targets.reshape(-1) == 1)
    probabilities = softmax(logits)
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == targets
