"""A model that knows colours, and images for it."""

from __future__ import annotations

from pathlib import Path

import colours
import pytest

import weevit
from weevit.predict import Predictor


@pytest.fixture(scope="session")
def colour_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colours.make_model(tmp_path_factory.mktemp("colours") / "model")


@pytest.fixture(scope="session")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same colours in another order, and a head that errs more: two of its classes are exchanged in part."""
    return colours.make_model(tmp_path_factory.mktemp("other") / "model", tuple(colours.COLOURS)[::-1], sharp=1.0)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """43 images of 7 classes: 42 are whole, and 6 of these show another colour than their folder says."""
    return colours.make_images(tmp_path_factory.mktemp("images") / "test")


@pytest.fixture(scope="session")
def predictor(colour_model: Path) -> Predictor:
    return weevit.load(colour_model, threads=1, cache=False)
