"""Linear heads: regularised logistic regression on standardised embeddings, along a path of strengths.

Letters: n images, D the embedding's width, K classes.

The head of a checkpoint takes raw embeddings, so standardisation is folded in: with the mean m and the standard
deviation s of each of the D numbers, `W ((x - m) / s) + b` is `(W / s) x + (b - W (m / s))`.

A path goes from the strongest regularisation to the weakest, and each head starts from the one before, which takes two
thirds of the time (`python benchmarks/fit.py path`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from weevit.answers.results import Array
from weevit.store.extras import needed

Floats = npt.NDArray[np.float64]

STRENGTHS = tuple(10 ** (power / 2) for power in range(-8, 3))
"""scikit-learn's C, from 0.0001 to 10 in half decades; small means strong regularisation."""

_STEPS = 5000
"""More than any fit but that of noise takes; about 40 are usual."""

_CONSTANT = 1e-7
"""Standard deviation, relative to the embeddings' size, below which a number counts as constant."""

_NEVER = -30.0
"""The logit of a class without training images: practically never answered, and finite."""


_TOLERANCE = 1e-3
"""Of a logit in fp32, where rounding makes 1e-5."""

_BF16 = 2.0**-7
"""Of the sum of the sizes of all products: both factors of each are rounded to 8 bits, and so may be their sum."""


@dataclass(frozen=True)
class Head:
    """A linear head on raw embeddings.

    Attributes:
        weight: (K, D).
        bias: (K).
    """

    weight: Floats
    bias: Floats

    def logits(self, vectors: Array | Floats) -> Floats:
        """(n, D) embeddings -> (n, K)."""
        return np.asarray(vectors, np.float64) @ self.weight.T + self.bias

    def rounding(self, vectors: Array | Floats, precision: str) -> float:
        """How far a logit of these (n, D) embeddings may be from `logits` where a graph in this precision computed it:
        the greatest bound of all."""
        if precision == "fp32":
            return _TOLERANCE
        sizes = np.abs(np.asarray(vectors, np.float64)) @ np.abs(self.weight).T
        return _TOLERANCE + _BF16 * float(sizes.max(initial=0.0))

    def cooled(self, temperature: float) -> Head:
        """The head with logits divided by the temperature."""
        return replace(self, weight=self.weight / temperature, bias=self.bias / temperature)


class Path(Protocol):
    """Heads on one set of images, one strength after another."""

    def fit(self, strength: float) -> Head:
        """The head of this strength, starting from the one before."""
        ...


def path(vectors: Array, targets: npt.NDArray[Any], num_classes: int, balanced: bool = False) -> Path:
    """A path of heads.

    Args:
        vectors: (n, D) embeddings.
        targets: (n) class index, or (n, K) of 0 and 1 for any number of labels.
        num_classes: K; classes that do not occur are never answered.
        balanced: weigh images so that every class counts the same.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    scale = _Scale.of(vectors)
    if targets.ndim == 2:
        return _Labels(scale, vectors, targets, balanced)
    return _Classes(scale, vectors, targets, num_classes, balanced)


@dataclass(frozen=True)
class _Scale:
    """Mean and standard deviation of each of the D numbers."""

    mean: Floats
    std: Floats

    @classmethod
    def of(cls, vectors: Array) -> _Scale:
        exact = np.asarray(vectors, np.float64)
        std = exact.std(axis=0)
        least = _CONSTANT * np.sqrt((exact**2).mean())  # rounding leaves some variance even in equal images
        return cls(exact.mean(axis=0), np.where(std > least, std, 1.0))

    def standardised(self, vectors: Array) -> Floats:
        return (np.asarray(vectors, np.float64) - self.mean) / self.std

    def folded(self, weight: Floats, bias: Floats) -> Head:
        """The head on raw embeddings that equals this one on standardised ones."""
        own = weight / self.std
        return Head(own, bias - own @ self.mean)


class _Classes:
    """One class per image: one softmax over all."""

    def __init__(
        self, scale: _Scale, vectors: Array, targets: npt.NDArray[Any], num_classes: int, balanced: bool
    ) -> None:
        self._scale, self._x, self._y = scale, scale.standardised(vectors), targets
        self._model = _model(balanced)
        self._present = np.unique(targets)
        self._shape = (num_classes, vectors.shape[1])

    def fit(self, strength: float) -> Head:
        weight, bias = np.zeros(self._shape), np.full(self._shape[0], _NEVER)
        if len(self._present) == 1:
            bias[self._present] = 0.0
            return self._scale.folded(weight, bias)
        self._model.set_params(C=strength).fit(self._x, self._y)
        own, start = self._model.coef_, self._model.intercept_
        if len(self._present) == 2:  # one row for the difference of the two
            own, start = np.concatenate([-own, own]) / 2, np.concatenate([-start, start]) / 2
        weight[self._present], bias[self._present] = own, start
        return self._scale.folded(weight, bias)


class _Labels:
    """Any number of labels per image: each against the rest."""

    def __init__(self, scale: _Scale, vectors: Array, targets: npt.NDArray[Any], balanced: bool) -> None:
        self._scale, self._x, self._y = scale, scale.standardised(vectors), targets
        self._models = [_model(balanced) for _ in range(targets.shape[1])]

    def fit(self, strength: float) -> Head:
        weight, bias = np.zeros((len(self._models), self._x.shape[1])), np.zeros(len(self._models))
        for index, model in enumerate(self._models):
            own, count = self._y[:, index], int(self._y[:, index].sum())
            if 0 < count < len(own):
                model.set_params(C=strength).fit(self._x, own)
                weight[index], bias[index] = model.coef_[0], model.intercept_[0]
            else:  # a constant label: the probability by Laplace's rule
                bias[index] = np.log((count + 1) / (len(own) - count + 1))
        return self._scale.folded(weight, bias)


def require_sklearn() -> Any:
    """scikit-learn's logistic regression; MissingExtraError where it is not installed."""
    what = "Heads are fitted with scikit-learn, which is not installed."
    return needed("sklearn.linear_model", "data", what).LogisticRegression


def _model(balanced: bool) -> Any:
    return require_sklearn()(warm_start=True, max_iter=_STEPS, class_weight="balanced" if balanced else None)
