"""Whoever waits for a fit is told how far it is: every image, every candidate, the beginning and the end of writing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

pytest.importorskip("sklearn")
pytest.importorskip("filelock")
pytest.importorskip("jinja2")

from weevit.cli.fit import _stage
from weevit.cli.progress import watching
from weevit.fitting.fit import Stage, fit
from weevit.predict import Predictor


def test_a_fit_says_how_far_it_is(shop: Path, predictor: Predictor, tmp_path: Path) -> None:
    told: list[Stage] = []
    done = fit(shop, tmp_path / "out", predictor, folds=2, cache=tmp_path / "cache", watch=told.append)
    stages = {name: [one for one in told if one.name == name] for name in ("embedding", "choosing", "writing")}
    assert [one.name for one in told] == [name for name, own in stages.items() for _ in own]  # in this order
    images = sum(done.images.values())
    assert [one.done for one in stages["embedding"]][-1] == stages["embedding"][-1].total == images
    assert {one.total for one in stages["embedding"]} == {images}
    chosen = stages["choosing"]
    linear = [one for one in done.candidates if one.kind == "linear"]
    assert [one.done for one in chosen][-1] == chosen[-1].total == len(linear) + 1  # and the nearest neighbours
    for own in (stages["embedding"], chosen):
        assert all(before.done <= after.done for before, after in pairwise(own))
    assert [(one.done, one.total) for one in stages["writing"]] == [(0, 1), (1, 1)]


def test_a_stage_is_shown_with_what_else_there_is_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[int, int, str]] = []

    @contextmanager
    def counted(quiet: bool) -> Iterator[Callable[[int, int, str], None]]:
        del quiet
        yield lambda done, total, words: shown.append((done, total, words))

    monkeypatch.setattr("weevit.cli.progress.counted_progress", counted)
    with watching(quiet=False, words=_stage) as watch:
        watch(Stage("embedding", 1, 2, "3 failed"))
        watch(Stage("writing", 0, 1))
    assert shown == [(1, 2, "embedding: 3 failed"), (0, 1, "writing")]
