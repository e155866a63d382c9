"""Paired tests of two models on the same images.

Only the images on which exactly one model is right count: `only_first` and `only_second` of them.
"""

from __future__ import annotations

import numpy as np

from weevit.evaluation.metrics import Ints

RESAMPLES = 10_000


def mcnemar(only_first: int, only_second: int) -> tuple[float, float]:
    """McNemar's test: the probability of at least this difference between two equally good models.

    Under that assumption each image that only one has right falls to either side like a coin.

    Returns:
        The exact two-sided binomial p-value, and the mid-p, which counts half of the observed outcome: less
        conservative, and still at its level in practice (Fagerland, Lydersen and Laake 2013). 1 without such images.
    """
    total, fewer = only_first + only_second, min(only_first, only_second)
    if only_first == only_second:
        return 1.0, 1.0
    term = tail = 1
    for index in range(fewer):  # exact integers: rounding only in the last step
        term = term * (total - index) // (index + 1)
        tail += term
    return 2 * tail / (1 << total), (2 * tail - term) / (1 << total)


def bootstrap_difference(counts: tuple[int, int, int], seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile interval of the difference of two accuracies, second minus first, by paired bootstrap.

    An image adds -1, +1 or 0 to the difference. Drawing images with replacement therefore means drawing these three
    counts from a multinomial distribution.

    Args:
        counts: images that only the first has right, only the second, and all others; NaN without any.
        seed: seed of the draws.
    """
    total = sum(counts)
    if not total:
        return float("nan"), float("nan")
    shares = np.array(counts, dtype=np.float64) / total
    drawn: Ints = np.random.default_rng([seed, 0]).multinomial(total, shares, size=RESAMPLES)
    differences = (drawn[:, 1] - drawn[:, 0]) / total
    low, high = np.quantile(differences, [0.025, 0.975])
    return float(low), float(high)
