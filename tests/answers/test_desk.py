"""One image at a time from many threads: batches form under load, models take turns, nothing waits for company."""

from __future__ import annotations

import gc
import io
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import weevit
from weevit.answers.desk import Desk, Turns
from weevit.errors import DecodeError
from weevit.images.budget import BUDGET
from weevit.images.source import Source


@pytest.fixture
def pools() -> Iterator[SimpleNamespace]:
    with ThreadPoolExecutor(2) as decoding, ThreadPoolExecutor(2) as computing:
        yield SimpleNamespace(decoding=decoding, computing=computing)


class Held:
    """A computation that waits until it is let go, and remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go, self.entered = threading.Event(), threading.Semaphore(0)

    def __call__(self, batch: list[int]) -> list[int]:
        self.batches.append(batch)
        self.entered.release()
        assert self.go.wait(10)
        return [10 * number for number in batch]


def decode(number: int) -> int:
    if number < 0:
        raise DecodeError("no image")
    return number


def test_one_alone_is_computed_at_once(pools: SimpleNamespace) -> None:
    held = Held()
    held.go.set()
    assert Desk(pools, decode, held, 8, Turns(1)).ask(3).result(5) == 30
    assert held.batches == [[3]]


def test_an_image_that_fails_is_freed_with_its_answer(pools: SimpleNamespace) -> None:
    """Not when the collector comes by: until then a server would hold the bodies of all that it refused."""

    class Item:
        def decode(self) -> int:
            try:
                raise ValueError("a library's")
            except ValueError as error:
                raise DecodeError("no image") from error

    gc.collect()
    gc.disable()
    try:
        item = Item()
        there = weakref.ref(item)
        answer = Desk(pools, Item.decode, Held(), 8, Turns(1)).ask(item)
        error = answer.exception(5)
        assert isinstance(error, DecodeError)
        assert isinstance(error.__cause__, ValueError)
        pools.decoding.submit(len, "").result()  # the thread has let go of its last task
        pools.decoding.submit(len, "").result()
        del item, answer
        assert there() is None
    finally:
        gc.enable()


def test_batches_fill_while_others_are_computed_and_are_even(pools: SimpleNamespace) -> None:
    held, seen = Held(), []
    desk = Desk(pools, decode, held, 4, Turns(1), lambda stage, value: seen.append(stage))
    futures = [desk.ask(0)]
    assert held.entered.acquire(timeout=5)
    futures += [desk.ask(number) for number in range(1, 8)]
    while seen.count("decode") < 8:
        time.sleep(0.001)
    held.go.set()
    assert sorted(future.result(5) for future in futures) == [10 * number for number in range(8)]
    assert [len(batch) for batch in held.batches] == [1, 4, 2, 1]
    assert seen.count("batch") == 4
    assert seen.count("wait") == 8


def test_a_broken_one_fails_alone_and_before_its_turn(pools: SimpleNamespace) -> None:
    held = Held()
    desk = Desk(pools, decode, held, 4, Turns(1))
    first = desk.ask(0)
    assert held.entered.acquire(timeout=5)
    with pytest.raises(DecodeError):
        desk.ask(-1).result(5)  # while the only turn is taken
    held.go.set()
    assert first.result(5) == 0


def test_an_error_of_a_batch_is_told_to_each(pools: SimpleNamespace) -> None:
    def fails(batch: list[int]) -> list[int]:
        raise MemoryError("too much")

    desk = Desk(pools, decode, fails, 4, Turns(1))
    for future in [desk.ask(0), desk.ask(1)]:
        with pytest.raises(MemoryError):
            future.result(5)


def test_what_is_cancelled_is_not_computed(pools: SimpleNamespace) -> None:
    held, decoded = Held(), threading.Semaphore(0)
    desk = Desk(pools, decode, held, 4, Turns(1), lambda stage, value: stage == "decode" and decoded.release())
    first = desk.ask(0)
    assert held.entered.acquire(timeout=5)
    second, third = desk.ask(1), desk.ask(2)
    assert all(decoded.acquire(timeout=5) for _ in range(3))
    assert second.cancel()
    held.go.set()
    assert (first.result(5), third.result(5)) == (0, 20)
    assert held.batches == [[0], [2]]
    with pytest.raises(CancelledError):
        second.result(5)


def test_models_take_turns_whatever_one_has_to_do() -> None:
    """One with a hundred images waiting delays another by the turns that are begun, not by its hundred."""
    order: list[str] = []
    turns, blocked = Turns(1), threading.Event()

    def compute(name: str) -> Callable[[list[int]], list[int]]:
        def run(batch: list[int]) -> list[int]:
            blocked.wait(10)
            order.append(name)
            return batch

        return run

    with (
        ThreadPoolExecutor(2) as d1,
        ThreadPoolExecutor(2) as c1,
        ThreadPoolExecutor(2) as d2,
        ThreadPoolExecutor(2) as c2,
    ):
        busy = Desk(SimpleNamespace(decoding=d1, computing=c1), decode, compute("busy"), 2, turns)  # type: ignore[arg-type]
        calm = Desk(SimpleNamespace(decoding=d2, computing=c2), decode, compute("calm"), 2, turns)  # type: ignore[arg-type]
        futures: list[Future[int]] = [busy.ask(number) for number in range(100)]
        while not turns._waiting:
            time.sleep(0.001)
        futures.append(calm.ask(1))
        while len(turns._waiting) < 2:
            time.sleep(0.001)
        blocked.set()
        for future in futures:
            future.result(10)
    assert order.index("calm") <= 2
    assert len(order) >= 51


def test_the_answer_of_a_model_is_the_same_alone_and_in_company(digits: weevit.Predictor) -> None:
    """To the last bit, on processors where onnxruntime cuts one image's rows as it cuts those of two."""
    images = np.random.default_rng(0).integers(0, 256, (64, 40, 48, 3), dtype=np.uint8)
    desk = digits.desk(Turns(2))
    alone = [desk.ask((Source("", image), 3)).result(30) for image in images[:16]]
    futures = [desk.ask((Source("", image), 3)) for image in images]
    together = [future.result(30) for future in futures]
    for one, other in zip(alone, together, strict=False):
        assert one.logits is not None
        assert other.logits is not None
        assert one.logits.tobytes() == other.logits.tobytes()
        assert one.top == other.top
    assert (together[0].width, together[0].height, len(together[0].top)) == (48, 40, 3)


def test_a_desk_says_why_there_is_no_image(digits: weevit.Predictor) -> None:
    with pytest.raises(weevit.ImageError):
        digits.desk(Turns(2)).ask((Source("", b"GIF89a"), 1)).result(30)


def test_a_large_image_waits_for_memory_without_a_thread(digits: weevit.Predictor) -> None:
    """Small ones are answered meanwhile, whoever gives up costs nothing, and all memory comes back."""
    file = io.BytesIO()
    Image.new("RGB", (2000, 1500), (90, 60, 30)).save(file, "JPEG")
    large, small = Source("", file.getvalue()), Source("", np.zeros((40, 48, 3), np.uint8))
    desk = digits.desk(Turns(2))
    expected = desk.ask((large, 1)).result(30)
    held = BUDGET.take(BUDGET.total)
    waiting = [desk.ask((large, 1)) for _ in range(6)]  # more than there are threads
    assert all(desk.ask((small, 1)).result(30).ok for _ in range(3))
    assert not any(future.done() for future in waiting)
    assert waiting[0].cancel()
    held.give_back()
    for future in waiting[1:]:
        logits = future.result(30).logits
        assert logits is not None
        assert expected.logits is not None
        assert logits.tobytes() == expected.logits.tobytes()
    assert BUDGET.left == BUDGET.total
