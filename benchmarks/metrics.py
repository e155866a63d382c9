"""Every measure of `weevit eval` against scikit-learn's, on random and degenerate inputs, in the same run.

    python benchmarks/metrics.py [--cases 2000]

To reach: no difference above 1e-12. Degenerate are, among others: one image, one class, classes that never occur,
equal scores, all right, all wrong, no labels at all. Needs scikit-learn.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator

import numpy as np
import sklearn.metrics as sk
from sklearn.calibration import calibration_curve

from weevit.evaluation import metrics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=2000)
    cases = parser.parse_args().cases
    warnings.simplefilter("ignore")  # scikit-learn warns where weevit defines a value
    greatest: dict[str, float] = {}
    for number in range(cases):
        for name, ours, theirs in (*single(number), *several(number)):
            difference = float(np.abs(np.asarray(ours) - np.asarray(theirs)).max(initial=0.0))
            greatest[name] = max(greatest.get(name, 0.0), np.inf if np.isnan(difference) else difference)
    for name, difference in greatest.items():
        print(f"{name:<28} {difference:.1e}")
    print(f"greatest of all, {cases:,} inputs: {max(greatest.values()):.1e}")


def logits(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Random sizes; every third rounded so that scores are equal, and some of every degenerate kind."""
    rng = np.random.default_rng([1, number])
    n, k = int(rng.integers(1, 80)), int(rng.integers(3, 15))
    scores, targets = rng.normal(0, 3, (n, k)), rng.integers(0, k, n)
    if number % 3 == 0:
        scores = np.round(scores / 3) * 3
    own = np.arange(n)
    degenerate = {
        1: lambda: scores.fill(0.0),
        2: lambda: scores.__setitem__((own, targets), -40.0),
        3: lambda: scores.__setitem__((own, targets), 40.0),
        4: lambda: targets.fill(int(targets[0])),
        5: lambda: targets.__setitem__(slice(None), targets % 2),
    }
    degenerate.get(number % 10, lambda: None)()
    return scores, targets


def single(number: int) -> Iterator[tuple[str, object, object]]:
    """One right class each: (measure, weevit's, scikit-learn's)."""
    scores, targets = logits(number)
    labels = np.arange(scores.shape[1])
    judged, probabilities = metrics.judge(scores, targets), metrics.softmax(scores)
    classes = metrics.per_class(targets, judged.answers, len(labels))
    named = dict(metrics.classification(judged, len(labels)))
    yield "top-1", named["top1"], sk.accuracy_score(targets, scores.argmax(axis=1))
    # of equal scores, scikit-learn takes the last first, and weevit the first: mirrored, they agree
    mirrored = (len(labels) - 1 - targets, scores[:, ::-1])
    yield "top-2", (judged.ranks < 2).mean(), sk.top_k_accuracy_score(*mirrored, k=2, labels=labels)
    yield (
        "confusion",
        metrics.confusion(targets, judged.answers, len(labels)),
        sk.confusion_matrix(targets, judged.answers, labels=labels),
    )
    theirs = sk.precision_recall_fscore_support(targets, judged.answers, labels=labels, zero_division=0)
    for name, values in zip(("precision", "recall", "f1", "support"), theirs, strict=True):
        yield f"{name} of each class", getattr(classes, name), values
    for average in ("macro", "weighted"):
        values = sk.precision_recall_fscore_support(targets, judged.answers, average=average, zero_division=0)
        for name, value in zip(("precision", "recall", "f1"), values, strict=False):
            yield f"{average} {name}", named[f"{average}_{name}"], value
    yield "balanced accuracy", named["balanced_accuracy"], sk.balanced_accuracy_score(targets, judged.answers)
    words = np.array([f"{index:02d}" for index in labels])
    yield "brier", named["brier"], sk.brier_score_loss(words[targets], probabilities, labels=words, scale_by_half=False)
    yield "log loss", named["log_loss"], sk.log_loss(targets, probabilities, labels=labels)
    right, sure = calibration_curve(judged.right, judged.confidence, n_bins=15, pos_label=True)
    bins = metrics.calibration(judged.confidence, judged.right)
    filled = bins.counts > 0
    yield "calibration, accuracy", bins.accuracy[filled], right
    yield "calibration, confidence", bins.confidence[filled], sure
    precision, _, _ = sk.precision_recall_curve(judged.right, judged.confidence)
    curve = metrics.risk_coverage(judged.confidence, judged.right)
    yield "accuracy at each coverage", curve.accuracy, precision[:-1][::-1]


def several(number: int) -> Iterator[tuple[str, object, object]]:
    """Any number of labels each."""
    rng = np.random.default_rng([2, number])
    n, k = int(rng.integers(1, 60)), int(rng.integers(2, 8))
    share = (0.3, 0.3, 0.3, 0.0, 1.0, 0.05)[number % 6]
    targets = (rng.random((n, k)) < share).astype(np.int64)
    scores = np.round(metrics.sigmoid(rng.normal(size=(n, k)) + targets), (1, 16)[number % 2])
    said = (scores >= 0.5).astype(np.int64)
    named = dict(metrics.multi_label(scores, targets))
    each = [sk.average_precision_score(targets[:, index], scores[:, index]) for index in range(k)]
    yield "average precision", metrics.average_precision(scores, targets), each
    values = sk.precision_recall_fscore_support(targets, said, average="micro", zero_division=0)
    for name, value in zip(("precision", "recall", "f1"), values, strict=False):
        yield f"labels, micro {name}", named[f"micro_{name}"], value
    own = sk.precision_recall_fscore_support(targets, said, average="samples", zero_division=0)[2]
    yield "labels, F1 of images", named["samples_f1"], own
    yield "labels, hamming", named["hamming"], sk.hamming_loss(targets, said)
    yield "labels, exact", named["exact"], sk.accuracy_score(targets, said)


if __name__ == "__main__":
    main()
