"""A few images are computed by all threads together, unless another batch is computed at that moment."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from weevit.engine.pairs import InPairs, Run
from weevit.engine.protocol import Outputs, Pixels


def test_a_few_images_beside_another_batch_take_one_thread() -> None:
    calls: list[tuple[int, int]] = []
    entered, go = threading.Event(), threading.Event()

    def opens(threads: int, at_once: int) -> Run:
        del at_once

        def run(pixels: Pixels) -> Outputs:
            calls.append((threads, len(pixels)))
            if pixels[0, 0, 0, 0] == 1:
                entered.set()
                assert go.wait(10)
            return {"embedding": np.zeros((len(pixels), 1), np.float32)}

        return run

    def images(count: int, value: int = 0) -> Pixels:
        return np.full((count, 2, 2, 3), value, np.uint8)

    session = InPairs(opens, threads=4)
    session.run(images(1))
    held = threading.Thread(target=session.run, args=(images(1, 1),))
    held.start()
    assert entered.wait(10)
    session.run(images(2))  # one pair: half of the threads would be idle
    session.run(images(3))
    go.set()
    held.join(10)
    session.run(images(3))
    assert calls[:3] == [(4, 1), (4, 1), (4, 2)]
    assert sorted(calls[3:5]) == [(1, 1), (1, 2)]
    assert calls[5:] == [(4, 3)]


@pytest.mark.parametrize(
    ("count", "threads", "most", "expected"),
    [
        (8, 2, 1, [2, 2, 2, 2]),
        (8, 2, 2, [4, 4]),
        (4, 2, 2, [2, 2]),
        (5, 2, 2, [4, 1]),
        (12, 2, 2, [4, 4, 2, 2]),
        (2, 2, 2, [2]),
        (7, 1, 2, [4, 3]),
        (8, 16, 2, [2, 2, 2, 2]),
    ],
)
def test_a_thread_is_given_several_pairs_where_no_other_is_left_without(
    count: int, threads: int, most: int, expected: list[int]
) -> None:
    def opens(threads: int, at_once: int) -> Run:
        del threads, at_once
        return lambda pixels: {"embedding": pixels[:, 0, 0]}

    session = InPairs(opens, threads, most)
    pixels = np.arange(count * 3, dtype=np.uint8).reshape(count, 1, 1, 3)
    assert [len(own) for own in session._shares(pixels)] == expected
    assert (session.run(pixels, steady=True)["embedding"] == pixels[:, 0, 0]).all()
