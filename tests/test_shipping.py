"""A model sent elsewhere: opened by its file where that is, else by the bytes that came with it."""

from __future__ import annotations

import gc
import pickle
import shutil
from pathlib import Path

import fakes
import labelled
import numpy as np
import pytest

import weevit
from weevit.shipping import ship


@pytest.fixture
def model(tmp_path: Path) -> weevit.Predictor:
    folder = fakes.folder(tmp_path / "models" / fakes.TINY_TAG)
    return weevit.load(folder, image_size=32, cache=False, limits=weevit.Limits(max_pixels=10_000))


def test_on_a_machine_without_the_file(model: weevit.Predictor, tmp_path: Path) -> None:
    images = labelled.noise(tmp_path / "images", 3)
    expected, weights = model.embed(images), model.checkpoint.path.read_bytes()
    shipped = pickle.loads(pickle.dumps(ship(model)))
    assert shipped.open(lambda: pytest.fail("it was read"), threads=1).checkpoint.path == model.checkpoint.path
    shutil.rmtree(tmp_path / "models")
    other = shipped.open(lambda: weights, threads=1)
    assert np.allclose(other.embed(images), expected, atol=1e-6)
    assert (other.threads.count, other.limits, other.preprocessing) == (1, model.limits, model.preprocessing)
    assert (other.checkpoint.name, other.checkpoint.sha256) == (model.checkpoint.name, shipped.sha256)
    path = other.checkpoint.path
    other.close()
    del other
    gc.collect()
    assert not path.exists()


def test_other_bytes_are_refused(model: weevit.Predictor, tmp_path: Path) -> None:
    weights = bytearray(model.checkpoint.path.read_bytes())
    weights[-1] ^= 1
    shipped = ship(model)
    shutil.rmtree(tmp_path / "models")
    with pytest.raises(weevit.CheckpointError, match="changed on their way"):
        shipped.open(lambda: bytes(weights))
