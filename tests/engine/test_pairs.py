"""Steady answers come from pairs of images on one thread each: seen by what the engine is handed, not by the bits.

On many machines the bits are equal anyway, and a test that compares them cannot fail.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from weevit.engine import session
from weevit.engine.session import Request, open_session
from weevit.zoo.checkpoint import Checkpoint, read_checkpoint

REQUEST = Request(32, 32)
PIXELS = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def checkpoint(fake_tiny: Path) -> Checkpoint:
    return read_checkpoint(fake_tiny)


@pytest.fixture
def handed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """(threads of the session, images) of every batch that onnxruntime is handed."""
    found: list[tuple[int, int]] = []
    real = session._run_onnxruntime

    def run(inner: Any, pixels: Any, *more: Any) -> Any:
        found.append((inner.get_session_options().intra_op_num_threads, len(pixels)))
        return real(inner, pixels, *more)

    monkeypatch.setattr(session, "_run_onnxruntime", run)
    return found


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_a_steady_answer_is_that_of_a_pair(
    checkpoint: Checkpoint, handed: list[tuple[int, int]], threads: int, count: int
) -> None:
    opened = open_session(checkpoint, REQUEST, threads, cache=False)
    answer = opened.run(PIXELS[:count], steady=True)
    assert handed == [(1, 2)] * ((count + 1) // 2)
    assert {len(values) for values in answer.values()} == {count}


def test_a_steady_answer_stays_one_after_others(checkpoint: Checkpoint, handed: list[tuple[int, int]]) -> None:
    opened = open_session(checkpoint, REQUEST, 4, cache=False)
    opened.run(PIXELS[:1])
    assert handed == [(4, 1)]  # alone and in a hurry: by all threads together
    opened.run(PIXELS[:1], steady=True)
    assert handed == [(4, 1), (1, 2)]


def test_each_image_has_its_own_answer(checkpoint: Checkpoint) -> None:
    opened = open_session(checkpoint, REQUEST, 2, cache=False)
    together = opened.run(PIXELS, steady=True)["logits"]
    for place in range(len(PIXELS)):
        alone = opened.run(PIXELS[place : place + 1])["logits"][0]
        np.testing.assert_allclose(together[place], alone, atol=1e-5)
    assert len({row.tobytes() for row in together}) == len(PIXELS)
