"""Steady answers come from pairs of images on one thread each: seen by what the engine is handed, not by the bits.

On many machines the bits are equal anyway, and a test that compares them cannot fail.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from weevit.engine import openvino, session
from weevit.engine.choice import Engine
from weevit.engine.session import Request, open_session
from weevit.zoo.checkpoint import Checkpoint, read_checkpoint

REQUEST = Request(32, 32)
PIXELS = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def checkpoint(fake_tiny: Path) -> Checkpoint:
    return read_checkpoint(fake_tiny)


@pytest.fixture(params=["onnxruntime", "openvino"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each that computes on a CPU."""
    pytest.importorskip(request.param)
    return cast(Engine, request.param)


@pytest.fixture
def handed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """(threads that compute it, images) of every batch that an engine is handed."""
    found: list[tuple[int, int]] = []
    real, compiled = session._run_onnxruntime, openvino._Compiled.__call__

    def run(inner: Any, pixels: Any, *more: Any) -> Any:
        found.append((inner.get_session_options().intra_op_num_threads, len(pixels)))
        return real(inner, pixels, *more)

    def call(self: Any, pixels: Any) -> Any:
        threads, streams = map(self._compiled.get_property, ("INFERENCE_NUM_THREADS", "NUM_STREAMS"))
        found.append((threads // streams, len(pixels)))
        return compiled(self, pixels)

    monkeypatch.setattr(session, "_run_onnxruntime", run)
    monkeypatch.setattr(openvino._Compiled, "__call__", call)
    return found


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_a_steady_answer_is_that_of_a_pair(
    checkpoint: Checkpoint, engine: Engine, handed: list[tuple[int, int]], threads: int, count: int
) -> None:
    opened = open_session(checkpoint, REQUEST, threads, engine, cache=False)
    answer = opened.run(PIXELS[:count], steady=True)
    assert handed == [(1, 2)] * ((count + 1) // 2)
    assert {len(values) for values in answer.values()} == {count}


def test_a_steady_answer_stays_one_after_others(
    checkpoint: Checkpoint, engine: Engine, handed: list[tuple[int, int]]
) -> None:
    opened = open_session(checkpoint, REQUEST, 2, engine, cache=False)
    opened.run(PIXELS[:1])
    assert handed == [(2, 1)]  # alone and in a hurry: by all threads together
    opened.run(PIXELS[:1], steady=True)
    assert handed == [(2, 1), (1, 2)]


def test_each_image_has_its_own_answer(checkpoint: Checkpoint, engine: Engine) -> None:
    opened = open_session(checkpoint, REQUEST, 2, engine, cache=False)
    together = opened.run(PIXELS, steady=True)["logits"]
    for place in range(len(PIXELS)):
        alone = opened.run(PIXELS[place : place + 1])["logits"][0]
        np.testing.assert_allclose(together[place], alone, atol=1e-5)
    assert len({row.tobytes() for row in together}) == len(PIXELS)


def test_a_steady_answer_has_the_same_bits_in_every_batch(checkpoint: Checkpoint, engine: Engine) -> None:
    """Alone, among others, reversed, and with another number of threads."""
    one, two = (open_session(checkpoint, REQUEST, threads, engine, cache=False) for threads in (1, 2))
    expected = one.run(PIXELS, steady=True)
    for opened in (one, two):
        alone = [opened.run(PIXELS[place : place + 1], steady=True) for place in range(len(PIXELS))]
        backwards = opened.run(PIXELS[::-1], steady=True)
        for name, values in expected.items():
            assert (opened.run(PIXELS, steady=True)[name] == values).all()
            assert (backwards[name][::-1] == values).all()
            assert (np.concatenate([answer[name] for answer in alone]) == values).all()
