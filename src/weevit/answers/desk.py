"""Images asked about one at a time, by any number of threads: batches form by themselves while others are computed.

ask ── decode (threads) ── ready ── a turn ── a batch of all that is ready by then ── compute ── an answer each

An image that comes alone is computed at once: nothing waits for company. Under load images become ready while the
batches before them are computed, and each turn takes as many as there are. Several models share their turns.

A large image waits until the memory that it takes is free. No thread waits with it: small ones are decoded meanwhile.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Lock
from typing import Generic, Protocol, TypeVar

from weevit.errors import ImageError
from weevit.images.budget import BUDGET, FullError, Lease, until_cropped

Item = TypeVar("Item")
Decoded = TypeVar("Decoded")
Answered = TypeVar("Answered")

Observer = Callable[[str, float], None]
"""Told the seconds of a stage (`decode`, `wait`, `compute`), or the images of a `batch`; from any thread."""


class Turns:
    """Batches of several models, a few at a time, in the order in which they asked for their turns.

    A model asks for its next turn after its last one: so models with work take turns, however much of it one has.

    Args:
        at_once: turns at a time.
    """

    def __init__(self, at_once: int) -> None:
        self._free = at_once
        self._waiting: deque[Event] = deque()
        self._lock = Lock()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a turn, and hold it."""
        granted = Event()
        with self._lock:
            if self._free:
                self._free -= 1
                granted.set()
            else:
                self._waiting.append(granted)
        granted.wait()
        try:
            yield
        finally:
            with self._lock:
                if self._waiting:
                    self._waiting.popleft().set()
                else:
                    self._free += 1


class Pools(Protocol):
    """The threads of a pipeline."""

    @property
    def decoding(self) -> Executor:
        """Threads that decode."""
        ...

    @property
    def computing(self) -> Executor:
        """Threads that compute batches."""
        ...


@dataclass(frozen=True)
class _Ready(Generic[Decoded, Answered]):
    """A decoded image that waits for its batch."""

    decoded: Decoded
    answer: Future[Answered]
    since: float


class Desk(Generic[Item, Decoded, Answered]):
    """Where images are handed in one by one.

    Args:
        pools: the threads of the model.
        decode: prepares one item; an exception of it is the item's answer.
        compute: answers a batch, in order; an exception of it is the answer of each.
        batch_size: images per batch at most.
        turns: shared by all models that compute on the same processors.
        observe: told how long each stage took.
    """

    def __init__(
        self,
        pools: Pools,
        decode: Callable[[Item], Decoded],
        compute: Callable[[list[Decoded]], Sequence[Answered]],
        batch_size: int,
        turns: Turns,
        observe: Observer = lambda stage, value: None,
    ) -> None:
        self._pools, self._decode, self._compute = pools, decode, compute
        self._batch_size, self._turns, self._observe = batch_size, turns, observe
        self._ready: deque[_Ready[Decoded, Answered]] = deque()
        self._lock = Lock()

    def ask(self, item: Item) -> Future[Answered]:
        """Hand an image in; its answer comes in the future. One that is cancelled before its turn costs nothing."""
        answer: Future[Answered] = Future()
        self._pools.decoding.submit(self._prepare, item, answer, None)
        return answer

    def _prepare(self, item: Item, answer: Future[Answered], lease: Lease | None) -> None:
        if answer.cancelled():
            if lease is not None:
                lease.give_back()
            return
        start = time.perf_counter()
        try:
            with until_cropped(waits=False, lease=lease):
                decoded = self._decode(item)
        except FullError as full:
            BUDGET.ask(full.size, lambda lent: self._prepare_later(item, answer, lent))
            return
        except BaseException as error:  # whoever asked is told, whatever it is
            _settle(answer, error=error)
            return
        now = time.perf_counter()
        self._observe("decode", now - start)
        with self._lock:
            self._ready.append(_Ready(decoded, answer, now))
        self._pools.computing.submit(self._answer_batch)

    def _prepare_later(self, item: Item, answer: Future[Answered], lease: Lease) -> None:
        try:
            self._pools.decoding.submit(self._prepare, item, answer, lease)
        except RuntimeError as error:  # closed meanwhile, and this is a thread of another image
            lease.give_back()
            _settle(answer, error=error)

    def _answer_batch(self) -> None:
        """Answer what is ready; one call for each image, so that none stays behind: most find nothing to do."""
        if not self._ready:
            return
        with self._turns.turn():
            batch = self._take()
            if not batch:
                return
            start = time.perf_counter()
            for one in batch:
                self._observe("wait", start - one.since)
            try:
                answers = self._compute([one.decoded for one in batch])
            except BaseException as error:  # as above
                for one in batch:
                    one.answer.set_exception(error)
                return
            self._observe("compute", time.perf_counter() - start)
            self._observe("batch", len(batch))
        for one, own in zip(batch, answers, strict=True):
            one.answer.set_result(own)

    def _take(self) -> list[_Ready[Decoded, Answered]]:
        """As many as a batch holds, and an even number if more than one: threads compute pairs of images."""
        with self._lock:
            count = min(self._batch_size, len(self._ready))
            if count > 1 and count % 2:
                count -= 1
            taken = [self._ready.popleft() for _ in range(count)]
        return [one for one in taken if one.answer.set_running_or_notify_cancel()]


def _settle(answer: Future[Answered], error: BaseException) -> None:
    if answer.set_running_or_notify_cancel():
        answer.set_exception(_without_frames(error) if isinstance(error, ImageError) else error)


def _without_frames(error: ImageError) -> ImageError:
    """The error without the frames that raised it. They hold the image and the future of this very error: such a
    circle would stay in memory until the collector comes by."""
    one: BaseException | None = error
    while one is not None:
        one.__traceback__, one = None, one.__context__
    return error
