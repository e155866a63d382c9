"""Measures of a classifier: pure functions of arrays, numpy alone.

Letters: n images, K classes. Where scikit-learn has the same measure the value is equal (tests compare to 1e-12).
Where it warns or refuses (no images, absent classes, no answers) the value is defined here: a share of nothing is NaN,
the precision of a class that was never answered and the recall of one that never occurs are 0, and averages over
classes cover those that occur, as a target or as an answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

BINS = 15
"""Bins of equal width for the calibration error, as in Guo et al., arXiv:1706.04599."""

Z95 = 1.959963984540054
"""Half width of a 95 % interval of the normal distribution."""

NO_ANSWER = -1
"""The class index of an image without an answer, or with the answer `unknown`: wrong, and no other class's mistake."""


def softmax(logits: npt.ArrayLike) -> Floats:
    """(n, K) logits -> (n, K) probabilities, each row adding up to 1."""
    scores = np.asarray(logits, dtype=np.float64)
    powers: Floats = np.exp(scores - scores.max(axis=1, keepdims=True, initial=-np.inf))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def sigmoid(logits: npt.ArrayLike) -> Floats:
    """(n, K) logits -> (n, K) probabilities, each by itself."""
    scores = np.asarray(logits, dtype=np.float64)
    small = np.exp(-np.abs(scores))
    return np.asarray(np.where(scores >= 0, 1.0, small) / (1.0 + small))


@dataclass(frozen=True)
class Judged:
    """Answers compared with the truth: the input of all measures below, of a size that does not grow with K.

    Attributes:
        targets: (n) class index; where several are right (ReaL), the likeliest of them.
        answers: (n) class index of the highest probability; the first among equals.
        confidence: (n) that probability.
        ranks: (n) number of classes before the target; 0 is right. Equal ones come in the order of the head.
        likelihood: (n) probability of the target.
        squares: (n) sum over classes of the squared error of the probability: Brier's score of one image, 0 to 2.
    """

    targets: Ints
    answers: Ints
    confidence: Floats
    ranks: Ints
    likelihood: Floats
    squares: Floats

    def __len__(self) -> int:
        """Number of images."""
        return len(self.targets)

    @property
    def right(self) -> Bools:
        """(n) whether the answer is the target."""
        return np.equal(self.ranks, 0)

    def take(self, which: Bools | Ints) -> Judged:
        """Some of the images."""
        fields = (getattr(self, name)[which] for name in self.__dataclass_fields__)
        return Judged(*fields)


def judge(logits: npt.ArrayLike, targets: npt.ArrayLike) -> Judged:
    """Judge (n, K) logits (or logarithms of probabilities) by (n) class indices."""
    scores, truth = np.asarray(logits, dtype=np.float64), np.asarray(targets, dtype=np.int64).reshape(-1)
    rows = np.arange(len(truth))
    own = scores[rows, truth][:, None]
    before = np.arange(scores.shape[1]) < truth[:, None]
    ranks = ((scores > own) | ((scores == own) & before)).sum(axis=1)
    answers = scores.argmax(axis=1).astype(np.int64) if len(truth) else np.zeros(0, np.int64)
    probabilities = softmax(scores)
    errors = probabilities.copy()
    errors[rows, truth] -= 1.0
    confidence, likelihood = probabilities[rows, answers], probabilities[rows, truth]
    return Judged(truth, answers, confidence, ranks, likelihood, (errors**2).sum(axis=1))


def judge_any(logits: npt.ArrayLike, targets: Sequence[Sequence[int]]) -> Judged:
    """Judge answers where any of several classes is right; the target is the likeliest of them."""
    scores = np.asarray(logits, dtype=np.float64)
    likeliest = [max(sorted(own), key=row.__getitem__) for row, own in zip(scores, targets, strict=True)]
    return judge(scores, likeliest)


def joined(parts: Sequence[Judged]) -> Judged:
    """Batches joined into one; empty without a batch."""
    if not parts:
        return judge(np.zeros((0, 1)), [])
    return Judged(*(np.concatenate([getattr(part, name) for part in parts]) for name in Judged.__dataclass_fields__))


# ---- accuracy


def wilson(right: int, total: int, z: float = Z95) -> tuple[float, float]:
    """Wilson's interval of a share, by default at 95 %; (0, 1) where nothing was tried.

    Honest at the ends too: 20 of 20 is at least 84 %. (Wilson 1927; Brown, Cai and DasGupta 2001.)
    """
    if not total:
        return 0.0, 1.0
    share, room = right / total, z * z / total
    middle = (share + room / 2) / (1 + room)
    reach = z * np.sqrt(share * (1 - share) / total + room / (4 * total)) / (1 + room)
    low, high = float(middle - reach), float(middle + reach)
    return (0.0 if right == 0 else low), (1.0 if right == total else high)


def mean(values: npt.ArrayLike) -> float:
    """The mean; NaN without values."""
    array = np.asarray(values, dtype=np.float64)
    return float(array.mean()) if array.size else float("nan")


def accuracy(judged: Judged, num_classes: int) -> Iterator[tuple[str, float]]:
    """`top1` and `top5` with their intervals; no top5 where it is always 1."""
    for k in (1, 5):
        if k == 1 or num_classes > k:
            hits = int((judged.ranks < k).sum())
            low, high = wilson(hits, len(judged))
            yield f"top{k}", hits / len(judged) if len(judged) else float("nan")
            yield f"top{k}_low", low
            yield f"top{k}_high", high


# ---- per class


@dataclass(frozen=True)
class PerClass:
    """Measures of each class.

    Attributes:
        precision, recall, f1: (K), in [0, 1].
        support: (K) images of the class.
        answered: (K) images with this answer.
    """

    precision: Floats
    recall: Floats
    f1: Floats
    support: Ints
    answered: Ints

    @property
    def present(self) -> Bools:
        """(K) whether the class occurs, as a target or as an answer."""
        return (self.support > 0) | (self.answered > 0)


def confusion(targets: npt.ArrayLike, answers: npt.ArrayLike, num_classes: int) -> Ints:
    """(K, K) counts: the row is the target, the column the answer. Images without an answer are in none."""
    truth, said = np.asarray(targets, np.int64).reshape(-1), np.asarray(answers, np.int64).reshape(-1)
    known = said >= 0
    cells = np.bincount(truth[known] * num_classes + said[known], minlength=num_classes**2)
    return cells.reshape(num_classes, num_classes).astype(np.int64)


def per_class(targets: npt.ArrayLike, answers: npt.ArrayLike, num_classes: int) -> PerClass:
    """Precision, recall, F1 and support of every class; unanswered images count for the support alone."""
    truth, said = np.asarray(targets, np.int64).reshape(-1), np.asarray(answers, np.int64).reshape(-1)
    support = np.bincount(truth, minlength=num_classes).astype(np.int64)
    answered = np.bincount(said[said >= 0], minlength=num_classes).astype(np.int64)
    hits = np.bincount(truth[truth == said], minlength=num_classes).astype(np.float64)
    return _measures(hits, support, answered)


def _measures(hits: Floats, support: Ints, answered: Ints) -> PerClass:
    precision, recall = share(hits, answered), share(hits, support)
    return PerClass(precision, recall, share(2 * hits, support + answered), support, answered)


def share(part: Floats | Ints, whole: Floats | Ints) -> Floats:
    """part / whole, 0 where the whole is 0."""
    zeros = np.zeros(np.shape(whole), np.float64)
    return np.divide(part, whole, out=zeros, where=np.asarray(whole) != 0)


def class_averages(classes: PerClass) -> Iterator[tuple[str, float]]:
    """Macro averages, in which every occurring class counts the same, and averages weighted by support."""
    for name in ("precision", "recall", "f1"):
        values = getattr(classes, name)
        yield f"macro_{name}", mean(values[classes.present])
        total = classes.support.sum()
        yield f"weighted_{name}", float((values * classes.support).sum() / total) if total else float("nan")


# ---- calibration


@dataclass(frozen=True)
class Calibration:
    """Answers in bins of confidence.

    Attributes:
        edges: (bins + 1); a bin includes its upper edge.
        confidence, accuracy: (bins) mean probability of the answer, share of right answers; NaN in an empty bin.
        counts: (bins) number of answers.
    """

    edges: Floats
    confidence: Floats
    accuracy: Floats
    counts: Ints

    @property
    def error(self) -> float:
        """ECE: the mean gap between confidence and accuracy, weighted by counts; NaN without images."""
        filled = self.counts > 0
        gaps = np.abs(self.accuracy[filled] - self.confidence[filled])
        return float((gaps * self.counts[filled]).sum() / self.counts.sum()) if filled.any() else float("nan")


def calibration(confidence: Floats, right: Bools, bins: int = BINS) -> Calibration:
    """Put (n) answers into bins of equal width by confidence."""
    edges = np.linspace(0.0, 1.0, bins + 1)
    bins_of = np.searchsorted(edges[1:-1], confidence)
    counts = np.bincount(bins_of, minlength=bins).astype(np.int64)
    with np.errstate(invalid="ignore"):
        sure = np.bincount(bins_of, weights=confidence, minlength=bins) / counts
        hits = np.bincount(bins_of, weights=right.astype(np.float64), minlength=bins) / counts
    return Calibration(edges, sure, hits, counts)


def log_loss(judged: Judged) -> float:
    """Mean of -log(probability of the target), in nats; probabilities are clipped to 2.2e-16 from 0 and 1."""
    tiny = np.finfo(np.float64).eps
    return mean(-np.log(np.clip(judged.likelihood, tiny, 1 - tiny)))


def confidence_measures(judged: Judged) -> Iterator[tuple[str, float]]:
    """`ece` (15 bins), `brier` (0 to 2), `log_loss` and `aurc`, the area under the risk-coverage curve."""
    yield "ece", calibration(judged.confidence, judged.right).error
    yield "brier", mean(judged.squares)
    yield "log_loss", log_loss(judged)
    yield "aurc", risk_coverage(judged.confidence, judged.right).area


@dataclass(frozen=True)
class Coverage:
    """Accuracy where only answers from a confidence on are given.

    Attributes:
        thresholds: (m) confidences, falling; each value that occurs.
        coverage: (m) share of images that are answered, rising to 1.
        accuracy: (m) share of right answers among those.
    """

    thresholds: Floats
    coverage: Floats
    accuracy: Floats

    @property
    def area(self) -> float:
        """Mean share of wrong answers over all coverages (AURC); lower is better, NaN without images."""
        if not len(self.coverage):
            return float("nan")
        return float((np.diff(self.coverage, prepend=0.0) * (1 - self.accuracy)).sum())


def risk_coverage(confidence: Floats, right: Bools) -> Coverage:
    """Accuracy at every coverage, the most confident answers first; equally confident ones together."""
    order = np.argsort(-confidence, kind="stable")
    falling, hits = confidence[order], np.cumsum(right[order])
    last = np.flatnonzero(np.append(falling[1:] != falling[:-1], True)) if len(falling) else np.zeros(0, np.int64)
    counts = last + 1
    return Coverage(falling[last], counts / max(len(falling), 1), hits[last] / counts)


def classification(judged: Judged, num_classes: int) -> Iterator[tuple[str, float]]:
    """All single figures above, as (name, value).

    `balanced_accuracy` is the mean recall of the classes with images; `macro_recall` covers classes that were only
    answered, too.
    """
    yield from accuracy(judged, num_classes)
    classes = per_class(judged.targets, judged.answers, num_classes)
    yield "balanced_accuracy", mean(classes.recall[classes.support > 0])
    yield from class_averages(classes)
    yield from confidence_measures(judged)


# ---- multilabel


def average_precision(scores: Floats, targets: npt.ArrayLike) -> Floats:
    """(K) area under each class's precision-recall curve, of (n, K) scores and 0/1 targets; 0 if absent."""
    truth = np.asarray(targets, dtype=np.float64)
    return np.array([_average_precision(scores[:, k], truth[:, k]) for k in range(truth.shape[1])])


def _average_precision(scores: Floats, truth: Floats) -> float:
    total = truth.sum()
    if not total:
        return 0.0
    order = np.argsort(-scores, kind="stable")
    falling, hits = scores[order], np.cumsum(truth[order])
    last = np.flatnonzero(np.append(falling[1:] != falling[:-1], True))
    steps = np.diff(hits[last] / total, prepend=0.0)
    return float((steps * hits[last] / (last + 1)).sum())


def per_label(probabilities: Floats, targets: npt.ArrayLike, thresholds: npt.ArrayLike = 0.5) -> PerClass:
    """Precision, recall and F1 of each label, answered from its threshold on (one for all, or K)."""
    truth = np.asarray(targets, dtype=bool)
    said = probabilities >= np.asarray(thresholds, dtype=np.float64)
    hits = (truth & said).sum(axis=0).astype(np.float64)
    return _measures(hits, truth.sum(axis=0).astype(np.int64), said.sum(axis=0).astype(np.int64))


def multi_label(
    probabilities: Floats, targets: npt.ArrayLike, thresholds: npt.ArrayLike = 0.5
) -> Iterator[tuple[str, float]]:
    """Measures of (n, K) probabilities against (n, K) labels, as (name, value).

    `map` is the mean average precision of the labels that occur; `micro_` counts all decisions together, `macro_`
    averages labels that occur or were answered, `samples_f1` averages images; `exact` is the share of images with
    every label right, `hamming` the share of wrong decisions.
    """
    truth = np.asarray(targets, dtype=bool).reshape(probabilities.shape)
    said = probabilities >= np.asarray(thresholds, dtype=np.float64)
    there = truth.any(axis=0)
    yield "map", mean(average_precision(probabilities[:, there], truth[:, there]))
    hits, said_at_all, there_at_all = (truth & said).sum(), said.sum(), truth.sum()
    yield "micro_precision", _of(hits, said_at_all, len(truth))
    yield "micro_recall", _of(hits, there_at_all, len(truth))
    yield "micro_f1", _of(2 * hits, said_at_all + there_at_all, len(truth))
    yield from class_averages(per_label(probabilities, truth, thresholds))
    own = share(2.0 * (truth & said).sum(axis=1), truth.sum(axis=1) + said.sum(axis=1))
    yield "samples_f1", mean(own)
    yield "exact", mean((truth == said).all(axis=1))
    yield "hamming", mean(truth != said)


def _of(part: int, whole: int, images: int) -> float:
    if not images:
        return float("nan")
    return float(part / whole) if whole else 0.0
