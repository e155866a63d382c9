"""What a measurement measures, and what it recommends."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from weevit.engine import bench as module
from weevit.engine.bench import Bench, Speed, bench
from weevit.engine.choice import DEFAULT, WAYS, Way
from weevit.engine.session import Outputs, Request, open_session
from weevit.engine.threads import Threads
from weevit.engine.timing import Ratio, interleaved
from weevit.errors import EngineError
from weevit.zoo.checkpoint import Checkpoint, read_checkpoint

REQUEST = Request(32, 32)
OPENVINO, BF16 = WAYS[1], WAYS[2]


@pytest.fixture(scope="module")
def checkpoint(fake_tiny: Path) -> Checkpoint:
    return read_checkpoint(fake_tiny)


@pytest.fixture(autouse=True)
def _shortly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "interleaved", partial(interleaved, seconds=0))


def measured(checkpoint: Checkpoint) -> Bench:
    return bench(checkpoint, REQUEST, [1, 3], 2, Threads(1, "as asked"))


def test_every_way_that_is_here_with_every_batch(checkpoint: Checkpoint) -> None:
    found = measured(checkpoint)
    there = [way for way in WAYS if way not in found.absent]
    assert [(one.batch, one.way) for one in found.speeds] == [(batch, way) for batch in (1, 3) for way in there]
    assert DEFAULT in there
    for one in found.speeds:
        assert one.images_per_s == pytest.approx(one.batch / one.wall_s)
        if one.way == DEFAULT:
            assert (one.apart, one.wall.median, one.cpu.low, one.cpu.high) == (0, 1, 1, 1)
        elif one.way.precision == "fp32":
            assert one.keeps_its_promise
    assert [bound.batch for bound in found.bounds] == [1, 3]
    # a pixel is counted once: three images take three times as many operations as one
    per_image = [bound.gflops / bound.images_per_s for bound in found.bounds]
    assert per_image[0] == pytest.approx(per_image[1])


class Fails:
    def run(self, pixels: Any, steady: bool = False) -> Outputs:
        raise EngineError("no more memory")


def test_a_way_that_fails_is_told_and_the_default_has_to_work(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "refusal", lambda way: None if way.engine != "torch" else EngineError("no GPU"))
    for broken in ("openvino", "onnxruntime"):

        def opened(*words: Any, broken: str = broken, **more: Any) -> Any:
            return Fails() if words[3] == broken else open_session(*words[:3], cache=False)

        monkeypatch.setattr(module, "open_session", opened)
        if broken == "onnxruntime":
            with pytest.raises(EngineError, match="no more memory"):
                measured(checkpoint)
        else:
            absent = measured(checkpoint).absent
            assert {way.engine: why for way, why in absent.items()} == {"openvino": "no more memory", "torch": "no GPU"}


def speed(way: Way, batch: int, images_per_s: float, won: float = 1.0, apart: float = 0.0) -> Speed:
    ratio = Ratio(images_per_s / 10, 0.5, 9.0, won)
    return Speed(way, batch, images_per_s, 0.1, 0.1, ratio, ratio, apart)


@pytest.mark.parametrize(
    ("speeds", "recommended"),
    [
        ([speed(DEFAULT, 1, 10), speed(DEFAULT, 8, 20)], 1),
        ([speed(DEFAULT, 8, 10), speed(OPENVINO, 8, 11)], 1),
        ([speed(DEFAULT, 8, 10), speed(OPENVINO, 8, 11, won=0.75)], 0),  # by luck
        ([speed(DEFAULT, 8, 10), speed(OPENVINO, 8, 11, apart=1e-3)], 0),  # not the numbers of fp32
        ([speed(DEFAULT, 8, 10), speed(OPENVINO, 8, 11), speed(BF16, 8, 19, apart=1e-2)], 2),
    ],
)
def test_what_is_recommended(speeds: list[Speed], recommended: int) -> None:
    found = Bench("2026-11-28", "AVX2", 8, tuple(speeds), (), {})
    assert found.recommended is speeds[recommended]


def test_how_far_answers_are_apart() -> None:
    answer = {"embedding": np.float32([[9, 9]]), "logits": np.float32([[1, -4.5]])}
    expected = {"embedding": np.float32([[0, 0]]), "logits": np.float32([[1, -5]])}
    assert module._apart(answer, expected) == pytest.approx(0.1)
    assert module._apart({"embedding": answer["embedding"]}, {"embedding": np.float32([[9, 10]])}) == pytest.approx(0.1)
