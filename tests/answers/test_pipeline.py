"""One pipeline per model: asked by many threads, copied, forked, closed; an image waits for no other that may come."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import labelled
import numpy as np
import pytest

import weevit
from weevit import predict
from weevit.answers.pipeline import Pipeline
from weevit.errors import CorruptImageError, UsageError
from weevit.images.source import PAUSE, Source

IMAGES = [labelled.png(40 * number, (64 + number, 64)) for number in range(9)]


@pytest.fixture
def model() -> Iterator[weevit.Predictor]:
    with weevit.load("digits", cache=False, batch_size=4, threads=2) as found:
        yield found


def logits(model: weevit.Predictor, images: list[Any]) -> list[bytes]:
    return [result.logits.tobytes() for result in model.stream(images, outputs=("logits",), steady=True)
            if result.logits is not None]  # fmt: skip


def test_many_threads_get_what_one_gets(model: weevit.Predictor) -> None:
    """16 threads at once, of images and numbers of their own, the first of them before a session is there."""
    cuts = [IMAGES[start:] + IMAGES[:start] for start in range(8)]

    def ask(number: int) -> list[bytes]:
        return logits(model, cuts[number % 8][: 1 + number % 5])

    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(ask, range(48)))
    assert together == [ask(number) for number in range(48)]
    assert all(together)


def test_a_session_is_loaded_once_however_many_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    opened, real = [], predict.open_session

    def slowly(checkpoint: Any, request: Any, **options: Any) -> Any:
        opened.append(request)
        time.sleep(0.2)
        return real(checkpoint, request, **options)

    monkeypatch.setattr(predict, "open_session", slowly)
    model = weevit.load("digits", cache=False)
    with ThreadPoolExecutor(8) as pool:
        assert len({result.top[0].index for result in pool.map(model.classify, [IMAGES[0]] * 8)}) == 1
    assert len(opened) == 1


@pytest.mark.parametrize("copied", [lambda model: pickle.loads(pickle.dumps(model)), copy.deepcopy, copy.copy])
def test_a_copy_answers_as_its_original(model: weevit.Predictor, copied: Any) -> None:
    before = logits(model, IMAGES)
    other = copied(model)
    assert logits(other, IMAGES) == before
    assert (other.threads, other.preprocessing, other.limits) == (model.threads, model.preprocessing, model.limits)


FORKED = """
import os, sys
import numpy as np, weevit
images = [np.full((64, 64, 3), 25 * number, np.uint8) for number in range(9)]
model = weevit.load("digits", threads=2)
other = weevit.load("digits", threads=2, image_size=64)
def answers(): return [result.logits.tobytes() for own in (model, other) for result in own.stream(images, steady=True)]
before, single = answers(), model.classify(images[0])
child = os.fork()
if not child:
    same = answers() == before and model.classify(images[0]).top == single.top
    os._exit(0 if same else 3)
_, status = os.waitpid(child, 0)
assert answers() == before
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_answers_with_a_model_that_was_used() -> None:
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", FORKED], timeout=60, check=False).returncode == 0


FORKED_DESK = """
import os, sys
import numpy as np, weevit
from weevit.answers.desk import Turns
from weevit.images.source import Source
images = [np.full((64, 64, 3), 25 * number, np.uint8) for number in range(9)]
desk = weevit.load("digits", threads=2).desk(Turns(2))
def ask(): return [desk.ask((Source("", image), 1)) for image in images]
def answers(): return [one.result(20).logits.tobytes() for one in ask()]
before = answers()
children = [os.fork(), 0]
if children[0]:
    children[1] = os.fork()
if not all(children):
    os._exit(0 if answers() == before else 3)
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
assert answers() == before
sys.exit(max(codes))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_s15_forked_workers_of_a_server_answer_with_its_warm_model() -> None:
    """As `gunicorn --preload` forks them."""
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", FORKED_DESK], timeout=60, check=False).returncode == 0


def test_a_closed_model_says_so(model: weevit.Predictor) -> None:
    assert model.classify(IMAGES[0]).ok
    threads = {thread.name for thread in threading.enumerate()}
    assert logits(model, IMAGES)
    model.close()
    model.close()
    end = time.monotonic() + 20
    while {thread.name for thread in threading.enumerate()} - threads and time.monotonic() < end:
        time.sleep(0.01)  # those of a session end when it is freed
    assert not {thread.name for thread in threading.enumerate()} - threads
    for ask in (lambda: model.classify(IMAGES[0]), lambda: logits(model, IMAGES), lambda: model.embed(IMAGES)):
        with pytest.raises(UsageError, match="is closed"):
            ask()


def test_a_closed_model_reads_no_input(model: weevit.Predictor) -> None:
    model.close()
    with pytest.raises(UsageError, match="is closed"):
        list(model.stream(pytest.fail("an input was read") for _ in range(3)))


def test_who_is_still_answered_is_told(model: weevit.Predictor) -> None:
    results = model.stream([IMAGES[number % 9] for number in range(40)])
    assert next(results).ok
    model.close()
    with pytest.raises(UsageError, match="is closed"):
        list(results)


# ---- what is answered when


def test_before_a_pause_all_is_answered(model: weevit.Predictor) -> None:
    seen: list[str] = []
    gone: list[int] = []

    def sources() -> Iterator[Source]:
        for number, data in enumerate(IMAGES):
            yield Source(str(number), data)
            if number in (0, 5):
                yield PAUSE
                gone.append(len(seen))

    for result in model.stream(sources()):
        assert result.ok
        seen.append(result.input)
    assert gone == [1, 6]
    assert seen == [str(number) for number in range(9)]


def test_nothing_but_pauses_is_nothing(model: weevit.Predictor) -> None:
    assert list(model.stream([PAUSE])) == list(model.stream([PAUSE, PAUSE, PAUSE])) == []


def test_no_more_is_read_than_two_batches_ahead(model: weevit.Predictor) -> None:
    read: list[int] = []

    def sources() -> Iterator[Source]:
        for number in range(100):
            read.append(number)
            yield Source(str(number), IMAGES[0])

    for place, _ in enumerate(model.stream(sources())):
        assert len(read) <= place + 4 * 4 + 1


def test_a_stream_that_is_left_stops_its_work(model: weevit.Predictor) -> None:
    decoded: list[str] = []

    def decode(source: Source) -> str:
        time.sleep(0.01)
        decoded.append(source.name)
        return source.name

    pipeline = Pipeline(lambda request: pytest.fail("not wanted"), threads=2, batch_size=2)
    with closing(pipeline.map(iter([Source(str(n), b"") for n in range(50)]), decode, list)) as found:
        assert next(found) == ["0", "1"]
    after = len(decoded)
    time.sleep(0.1)
    assert len(decoded) == after < 20
    assert list(pipeline.map(iter([Source("x", b"")] * 3), decode, list)) == [["x", "x"], ["x"]]


def test_errors_come_to_who_asks(model: weevit.Predictor) -> None:
    def broken() -> Iterator[Source]:
        yield from (Source(str(number), IMAGES[0]) for number in range(20))
        raise CorruptImageError("the list is broken")

    results, seen = model.stream(broken()), []
    with pytest.raises(CorruptImageError):
        seen.extend(results)
    assert len(seen) >= 4
    assert np.isfinite(model.embed(IMAGES)).all()
