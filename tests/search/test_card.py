"""The card of a model: its figures against scikit-learn's and against counting by hand."""

from __future__ import annotations

import shutil
from pathlib import Path

import labelled
import numpy as np
import pytest
from PIL import Image

import weevit
from weevit.answers.results import unit_length
from weevit.datasets.dataset import Split
from weevit.errors import DatasetError
from weevit.images.sources import expand
from weevit.search import card
from weevit.search.card import measure_search
from weevit.search.embeddings import embed_split


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Patterns in three classes, one image of them twice, one unreadable, and a class of one image."""
    rng = np.random.default_rng(0)
    for name, count in {"a": 9, "b": 6, "c": 5, "alone": 1}.items():
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(count):
            cells = Image.fromarray(rng.integers(0, 256, (5, 5), dtype=np.uint8))
            cells.resize((64, 64), Image.Resampling.NEAREST).save(tmp_path / "data" / name / f"{number}.png")
    shutil.copy(tmp_path / "data/a/0.png", tmp_path / "data/a/copy.png")
    labelled.put(tmp_path / "data/b/broken.png", b"no image")
    return tmp_path / "data"


def test_the_figures_are_scikit_learns(digits: weevit.Predictor, data: Path, tmp_path: Path) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    found = measure_search(data, digits, cache=tmp_path / "cache")
    paths = sorted(path for path in data.glob("*/*.png") if path.name != "broken.png")
    split = Split("all", tuple(expand(paths)), np.zeros(len(paths), np.int64))
    units = unit_length(embed_split(digits, split, tmp_path / "cache").vectors)
    classes = [path.parent.name for path in paths]
    precisions, first = [], []
    for query, path in enumerate(paths):
        others = [at for at, own in enumerate(paths) if own.read_bytes() != path.read_bytes()]
        truth = np.array([classes[at] == classes[query] for at in others])
        if truth.any():
            order = np.argsort(-(units @ units[query])[others], kind="stable")  # copies are equally near
            precisions.append(sklearn.average_precision_score(truth[order], -np.arange(len(order))))
            first.append(int(truth[order].argmax()))
    assert (found.images, found.classes, found.queries, found.failed) == (22, 4, 21, 1)
    assert found.map == pytest.approx(np.mean(precisions), abs=1e-6)
    assert found.recall == {k: pytest.approx(np.mean([one < k for one in first])) for k in card.AT}
    assert found.images_per_s > 0
    assert found.search_ms > 0
    assert found.bytes_per_image > 3 * found.width
    assert found.to_dict()["recall_5"] == found.recall[5]


def test_of_many_images_some_are_searched_for(
    digits: weevit.Predictor, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(card, "MOST", 8)
    one, other = (measure_search(data, digits, seed=3, cache=tmp_path / "cache") for _ in range(2))
    assert one.queries == 8
    assert (one.map, one.recall) == (other.map, other.recall)


def test_without_two_images_of_a_class_nothing_is_to_be_found(digits: weevit.Predictor, tmp_path: Path) -> None:
    labelled.folder(tmp_path / "data", {"a": 1, "b": 1})
    with pytest.raises(DatasetError, match="No class has two different images"):
        measure_search(tmp_path / "data", digits)


def test_without_an_embedding_the_reason_is_told(digits: weevit.Predictor, tmp_path: Path) -> None:
    for name in ("a/0.png", "a/1.png", "b/0.png"):
        labelled.put(tmp_path / "data" / name, b"no image")
    with pytest.raises(DatasetError, match=r"None of the 3 images has an embedding: .*0\.png: not an image: "):
        measure_search(tmp_path / "data", digits)
