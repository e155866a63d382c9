"""Fixtures for all rooms: the shared data, a cache of one's own, no network."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # before numpy and torch: a process per core, whose threads wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # by turning in circles, takes three times as long

import browsing
import fakes
import pytest

import weevit

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's `&` has it ignored, by all processes begun here too
    signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED = Path(os.environ.get("WEEVIT_SHARED", Path(__file__).resolve().parents[2] / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared data beside the project; tests that need it skip where it is absent."""
    if not (SHARED / "data").is_dir():
        message = "needs ../shared/data (or WEEVIT_SHARED), which is not there"
        if os.environ.get("WEEVIT_REQUIRE_SHARED"):
            pytest.fail(message)
        pytest.skip(message)
    return SHARED


@pytest.fixture(scope="session")
def photos(shared: Path) -> list[Path]:
    """The 500 ImageNet photos, sorted by name."""
    return sorted((shared / "data" / "imagenet_photos").iterdir())


@pytest.fixture(scope="session")
def vit_tiny(shared: Path) -> Path:
    """The folder of the real ViT-Ti checkpoint."""
    return shared / "data" / "weights" / "vit_tiny_patch16_224.augreg_in21k_ft_in1k"


@pytest.fixture(scope="session")
def fake_tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ViT-Ti folder in the hub's format whose numbers mean nothing: for tests that need a model, not its answers."""
    return fakes.folder(tmp_path_factory.mktemp("models") / fakes.TINY_TAG)


@pytest.fixture(scope="session")
def digits() -> weevit.Predictor:
    """The model that comes with weevit, for 32 x 32 px: for tests that need answers, quickly."""
    return weevit.load("digits", cache=False)


@pytest.fixture(scope="module")
def browser() -> Iterator[browsing.Browser]:
    """Chromium, to look at reports with; tests that need it skip where it is absent (see `browsing.open_browser`).

    For a module at a time: while playwright is open, this thread has an event loop, and other tests want their own.
    """
    with browsing.open_browser() as opened:
        yield opened


@pytest.fixture(autouse=True)
def _alone(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test has a cache of its own and no hub, unless it starts one on loopback."""
    root = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("WEEVIT_CACHE", str(root / "weevit"))
    monkeypatch.setenv("HF_HOME", str(root / "hf"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # the discard port: refused at once
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("WEEVIT_ALLOW_URLS", "")  # not deleted: what a verb sets ends with its test
    monkeypatch.setattr("weevit.store.extras._origin", lambda: None)  # hints as where it was installed by its name


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs the shared data, so that CI can count it."""
    for item in items:
        if {"shared", "photos", "vit_tiny"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("shared")
