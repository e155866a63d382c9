"""From logits to probabilities that are right as often as they say, and to the thresholds under which nothing is said.

Temperature scaling: Guo et al., On Calibration of Modern Neural Networks, arXiv:1706.04599.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from weevit.evaluation.metrics import Bools, calibration, sigmoid, softmax
from weevit.fitting.heads import Floats

_COLDEST, _HOTTEST = 1e-4, 1e4
"""A strongly regularised head may be a hundred times less sure than it is right."""

_DRAWS = 200

_HAIR = 1 - 1e-4
"""A threshold that is a picture's own probability lies a hair below it: else rounding in float32 would decide."""


def temperature(logits: Floats, targets: npt.NDArray[Any]) -> float:
    """What the logits must be divided by, so that the targets are as likely as can be.

    Targets are smoothed as if one picture more had been answered wrong (Platt, 1999): otherwise logits that happen to
    be right on all of a few pictures would be taken for certain.

    Args:
        logits: (n, K) of pictures that the head was not fitted to.
        targets: (n) class index, or (n, K) of 0 and 1.
    """
    return _coolest(logits, targets)[0]


def least_loss(logits: Floats, targets: npt.NDArray[Any]) -> float:
    """The mean log-loss at that temperature, in nats: how much the logits know, however sure they are."""
    return _coolest(logits, targets)[1]


def _coolest(logits: Floats, targets: npt.NDArray[Any]) -> tuple[float, float]:
    """The temperature, and the loss that it gives."""
    from scipy.optimize import minimize_scalar

    truth = targets.astype(np.float64) if targets.ndim == 2 else np.eye(logits.shape[1])[targets]
    share = 1 / (len(logits) + 2)
    soft = truth * (1 - share) + share * (0.5 if targets.ndim == 2 else 1 / logits.shape[1])
    loss = _binary_loss if targets.ndim == 2 else _loss
    bounds = (np.log(_COLDEST), np.log(_HOTTEST))
    found = minimize_scalar(lambda power: loss(logits / np.exp(power), soft), bounds=bounds, method="bounded")
    return float(np.exp(found.x)), float(found.fun)


def _loss(logits: Floats, soft: Floats) -> float:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return float((np.log(np.exp(shifted).sum(axis=1)) - (soft * shifted).sum(axis=1)).mean())


def _binary_loss(logits: Floats, soft: Floats) -> float:
    return float((np.logaddexp(0, logits) - soft * logits).mean())


def unknown_threshold(logits: Floats, coverage: float) -> float:
    """The probability at or above which lie the best answers of this share of the pictures, or a little more.

    Args:
        logits: (n, K), calibrated, of pictures of known classes that the head was not fitted to.
        coverage: the share that is to keep its class, in (0, 1].
    """
    best = np.sort(softmax(logits).max(axis=1))
    return float(best[int((1 - coverage) * len(best) + 1e-9)]) * _HAIR


def label_thresholds(logits: Floats, targets: npt.NDArray[Any]) -> tuple[float, ...]:
    """For each label the probability from which saying that it is there gives the best F1.

    The threshold lies half-way between the two neighbouring probabilities; of equally good ones it is the one nearest
    to 0.5. A label that never occurs is never said.
    """
    probabilities = sigmoid(logits)
    return tuple(_best_threshold(probabilities[:, k], targets[:, k]) for k in range(targets.shape[1]))


def _best_threshold(probabilities: Floats, truth: npt.NDArray[Any]) -> float:
    if not truth.any():
        return 1.0
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
    """The ECE that these probabilities would show on so many pictures, on average, if they were exactly right.

    Without it a figure on a few hundred pictures says little: a bin of ten answers is off by a tenth and more by
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
