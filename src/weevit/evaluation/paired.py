"""Is one of two models better, or was it luck? Tests on the same images.

Only images on which one is right and the other wrong tell anything: `only_first` and `only_second` of them.
"""

from __future__ import annotations

import numpy as np

from weevit.evaluation.metrics import Ints

RESAMPLES = 10_000


def mcnemar(only_first: int, only_second: int) -> tuple[float, float]:
    """McNemar's test: how likely a difference at least this large is if both models are equally good.

    Under that assumption each of the images that tell them apart falls to either side like a coin.

    Returns:
        The exact two-sided binomial p-value, and the mid-p, which counts the observed outcome itself by half: less
        conservative, and still at its level in practice (Fagerland, Lydersen and Laake 2013). 1 where nothing tells
        them apart.
    """
    total, fewer = only_first + only_second, min(only_first, only_second)
    if only_first == only_second:
        return 1.0, 1.0
    term = tail = 1
    for index in range(fewer):  # whole numbers, however long: no rounding before the last step
        term = term * (total - index) // (index + 1)
        tail += term
    return 2 * tail / (1 << total), (2 * tail - term) / (1 << total)


def bootstrap_difference(
    counts: tuple[int, int, int], seed: int = 0, resamples: int = RESAMPLES, level: float = 0.95
) -> tuple[float, float]:
    """Interval of the difference of two shares of right answers, second minus first, drawing images in pairs.

    An image adds -1, +1 or 0 to the difference, so to draw images with replacement is to draw these three counts
    from a multinomial distribution.

    Args:
        counts: images that only the first has right, only the second, and all others.
        seed: of the draws.
        resamples: how many.
        level: of the percentile interval.

    Returns:
        Its ends; NaN without images.
    """
    total = sum(counts)
    if not total:
        return float("nan"), float("nan")
    shares = np.array(counts, dtype=np.float64) / total
    drawn: Ints = np.random.default_rng([seed, 0]).multinomial(total, shares, size=resamples)
    differences = (drawn[:, 1] - drawn[:, 0]) / total
    low, high = np.quantile(differences, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
