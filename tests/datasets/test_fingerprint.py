"""A data set's fingerprint changes with everything that a run learns from, and with nothing else."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import labelled
import numpy as np
import pytest

from weevit.datasets.dataset import Dataset, Split
from weevit.datasets.read import read_dataset
from weevit.images.source import Source


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    paths = [labelled.put(tmp_path / f"{place}.png", labelled.png(place)) for place in range(3)]
    sources = tuple(Source(str(path), path) for path in paths)
    split = Split("train", sources, np.array([0, 1, 1]))
    return Dataset(str(tmp_path), ("cat", "dog"), {"train": split})


def test_each_thing_that_matters_changes_it(dataset: Dataset) -> None:
    split = dataset.split("train")
    others = [
        replace(dataset, splits={"train": replace(split, targets=np.array([1, 1, 1]))}),
        replace(dataset, splits={"train": replace(split, targets=np.array([1, 0, 0]))}),
        replace(dataset, classes=("cat", "cow")),
        replace(dataset, splits={"train": split.take([0, 1])}),
        replace(dataset, splits={"train": split.take([0, 2, 1])}),
        replace(dataset, splits={"test": replace(split, name="test")}),
        replace(
            dataset, multi_label=True, splits={"train": replace(split, targets=np.array([[1, 0], [0, 1], [1, 1]]))}
        ),
    ]
    prints = [one.fingerprint() for one in [dataset, *others]]
    assert len(set(prints)) == len(prints)
    assert all(len(one) == 64 for one in prints)


def test_the_order_of_the_classes_alone_does_not(dataset: Dataset) -> None:
    turned = replace(dataset.split("train"), targets=np.array([1, 0, 0]))
    assert replace(dataset, classes=("dog", "cat"), splits={"train": turned}).fingerprint() == dataset.fingerprint()


def test_an_image_in_another_folder_is_of_another_class(tmp_path: Path) -> None:
    labelled.folder(tmp_path / "first", {"cat": 3, "dog": 3})
    before = read_dataset(str(tmp_path / "first")).fingerprint()
    os.rename(tmp_path / "first", tmp_path / "second")  # noqa: PTH104 - moved with its times
    assert read_dataset(str(tmp_path / "second")).fingerprint() == before
    image = next((tmp_path / "second" / "cat").iterdir())
    image.rename(tmp_path / "second" / "dog" / f"moved{image.suffix}")
    assert read_dataset(str(tmp_path / "second")).fingerprint() != before
