"""What is chosen, and from what: cross-validation as scikit-learn does it, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, balanced_accuracy_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from weevit.datasets.dataset import Split
from weevit.datasets.splitting import folds
from weevit.evaluation.metrics import softmax
from weevit.fitting import neighbours
from weevit.fitting.calibration import least_loss
from weevit.fitting.heads import STRENGTHS
from weevit.fitting.search import Folds, Images, final, search
from weevit.images.source import Source

WIDTH = 8


def clouds(count: int = 240, classes: int = 3, seed: int = 0) -> Images:
    rng = np.random.default_rng(seed)
    targets = np.where(rng.random(count) < 0.5, 0, rng.integers(0, classes, count))
    vectors = rng.normal(0, 1, (classes, WIDTH))[targets] + rng.normal(0, 1.3, (count, WIDTH))
    return Images(vectors.astype(np.float32), targets, classes)


def cut(images: Images, k: int = 4) -> Folds:
    sources = tuple(Source(f"{i}.png", Path(f"{i}.png")) for i in range(len(images.targets)))
    return folds(Split("train", sources, images.targets), k)


@pytest.mark.parametrize("balanced", [False, True])
def test_scores_are_those_of_scikit_learn(balanced: bool) -> None:
    images = clouds()
    images = Images(images.vectors, images.targets, images.num_classes, balanced)
    found = search(images, cut(images))
    weight = "balanced" if balanced else None
    x = images.vectors.astype(np.float64)
    tried = [one for one in found.candidates if one.kind == "linear"]
    assert [one.settings["strength"] for one in tried] == list(STRENGTHS[: len(tried)])
    for one in tried:
        inner = LogisticRegression(C=one.settings["strength"], tol=1e-6, max_iter=9999, class_weight=weight)
        said = cross_val_predict(make_pipeline(StandardScaler(), inner), x, images.targets, cv=cut(images))
        right = said == images.targets
        assert (right != one.right).sum() <= 1  # a image on the border
        expected = balanced_accuracy_score(images.targets, said) if balanced else right.mean()
        assert one.score == pytest.approx(expected, abs=0.02)
    assert found.measure == ("balanced accuracy" if balanced else "accuracy")


def test_of_equals_the_one_that_knows_most_is_chosen() -> None:
    """Where many strengths are right on every image, the strongest of them would know little of how sure it is."""
    rng = np.random.default_rng(0)
    targets = np.arange(90) % 3
    vectors = np.eye(3, WIDTH)[targets] * 9 + rng.normal(0, 1, (90, WIDTH))
    images = Images(vectors.astype(np.float32), targets, 3)
    found = search(images, cut(images))
    perfect = [one.settings["strength"] for one in found.candidates if one.kind == "linear" and one.right.all()]
    assert len(perfect) > 4
    losses = []
    for strength in perfect:
        logits = np.zeros((90, 3))
        for learn, judge in cut(images):
            own = Images(images.vectors[learn], targets[learn], 3)
            logits[judge] = final(own, strength).logits(images.vectors[judge])
        losses.append(least_loss(logits, targets))
    assert losses[perfect.index(found.linear.settings["strength"])] < min(losses) + 1e-3
    assert max(losses) > min(losses) + 1e-3


def test_the_best_is_chosen() -> None:
    images = clouds()
    found = search(images, cut(images))
    tried = [one for one in found.candidates if one.kind == "linear"]
    best = max(one.score for one in tried)
    assert found.linear.score == pytest.approx(best, abs=1e-9)
    others = [one for one in found.candidates if one.kind == "neighbours"]
    assert found.neighbours is not None
    assert found.neighbours.score == max(one.score for one in others)
    assert not found.clear
    assert (found.logits.argmax(axis=1) == images.targets).mean() == pytest.approx(best, abs=0.01)


def test_the_same_on_any_number_of_threads() -> None:
    images = clouds()
    one, four = (search(images, cut(images), threads) for threads in (1, 4))
    assert [c.score for c in one.candidates] == [c.score for c in four.candidates]
    assert one.logits.tobytes() == four.logits.tobytes()


def test_weak_regularisation_that_is_clearly_worse_is_not_followed() -> None:
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, 300)
    vectors = rng.normal(0, 1, (300, 200)) + 0.25 * targets[:, None]
    found = search(Images(vectors.astype(np.float32), targets, 2), cut(Images(vectors, targets, 2)))
    tried = [one for one in found.candidates if one.kind == "linear"]
    assert len(tried) < len(STRENGTHS)
    assert tried[-1].score < found.linear.score - 0.02


def test_neighbours_that_are_clearly_better_are_told() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(0, 1, (300, 2))
    targets = (points[:, 0] * points[:, 1] > 0).astype(np.int64)  # which no line cuts
    images = Images(points.astype(np.float32), targets, 2)
    found = search(images, cut(images))
    assert found.clear
    assert found.neighbours is not None
    assert found.neighbours.score > 0.9 > found.linear.score


def test_labels_are_compared_by_mean_average_precision() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(0, 1, (200, WIDTH)).astype(np.float32)
    targets = (vectors @ rng.normal(0, 1, (WIDTH, 4)) + rng.normal(0, 1, (200, 4)) > 0.8).astype(np.uint8)
    targets[:, 3] = 0  # never there, and in no mean
    images = Images(vectors, targets, 4)
    found = search(images, cut(images))
    expected = average_precision_score(targets[:, :3], found.logits[:, :3], average="macro")
    assert found.linear.score == pytest.approx(expected, abs=5e-3)
    assert found.measure == "mean average precision"
    assert found.linear.score > 0.7


def test_a_class_that_some_folds_lack() -> None:
    images = clouds()
    targets = images.targets.copy()
    targets[7] = 3  # its only image
    lonely = Images(images.vectors, targets, 4)
    found = search(lonely, cut(lonely))
    assert np.isfinite(found.logits).all()
    assert found.logits[7].argmax() != 3
    assert softmax(final(lonely, found.linear.settings["strength"]).logits(lonely.vectors))[7].argmax() in range(4)


def test_many_images_are_not_compared_with_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "MOST", 100)
    images = clouds()
    found = search(images, cut(images))
    assert found.neighbours is None
    assert not found.clear
    assert "more than 100 images" in found.notes[0]
