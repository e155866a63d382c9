"""A model whose embeddings tell colours apart, and images to fit a head to."""

from __future__ import annotations

import shutil
from pathlib import Path

import colours
import pytest

import weevit
from weevit.predict import Predictor

CLASSES = ("red", "green", "blue", "pink")


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ViT-Ti with random blocks and a head of seven colours, which a fit replaces."""
    return colours.make_model(tmp_path_factory.mktemp("backbone") / "colours")


@pytest.fixture(scope="session")
def predictor(backbone: Path) -> Predictor:
    return weevit.load(backbone, threads=1, cache=False)


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train, validation and test of four colours: in each the first image of a class is another class's, and one is
    broken."""
    folder = tmp_path_factory.mktemp("data") / "shop"
    for split, count, seed in (("train", 14, 0), ("validation", 6, 100), ("test", 5, 200)):
        colours.make_images(folder / split, count, CLASSES, seed)
    return folder


@pytest.fixture
def own_shop(shop: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(shop, tmp_path / "shop"))
