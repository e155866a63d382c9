"""The pipeline of a model, which lives as long as the model: threads that decode, batches, sessions.

sources ── decode (a thread per core) ── batches ── compute (two at a time) ── answers, in the order given

Any number of threads may use it at once. A forked process and a copy get their own threads and sessions.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import chain, islice
from threading import Lock
from typing import Any, Final, TypeVar
from weakref import WeakSet

from weevit.answers.desk import Desk, Observer, Turns
from weevit.engine.session import Request, Session
from weevit.errors import ImageError, UsageError
from weevit.images.source import PAUSE, Source

Decoded = TypeVar("Decoded")
Answered = TypeVar("Answered")
Item = TypeVar("Item")
Made = TypeVar("Made")

COMPUTING: Final = 2
"""Batches at a time: where one has too few images for all threads, the next one uses them."""


class Pipeline:
    """Threads and sessions of one model.

    Args:
        open_session: loads the graph for a request; can be pickled.
        threads: threads that decode.
        batch_size: images per batch.
    """

    def __init__(self, open_session: Callable[[Request], Session], threads: int, batch_size: int) -> None:
        self._open, self._threads, self._batch_size = open_session, threads, batch_size
        self._renew()
        _living.add(self)

    def _renew(self) -> None:
        self._lock = Lock()
        self._sessions: dict[Request, Session] = {}
        self.decoding = ThreadPoolExecutor(self._threads, "weevit-decode")  # threads begin with the first image
        self.computing = ThreadPoolExecutor(COMPUTING, "weevit-batch")
        self._closed = False

    def __reduce__(self) -> tuple[type[Pipeline], tuple[Callable[[Request], Session], int, int]]:
        """A copy opens its own sessions."""
        return Pipeline, (self._open, self._threads, self._batch_size)

    def after_fork(self) -> None:
        """Start again in a forked process, which lacks its parent's threads."""
        _of_the_parent.append(self._sessions)
        self._renew()

    def session(self, request: Request) -> Session:
        """The session for a request, loaded once; UsageError for a closed pipeline, EngineError if it cannot load."""
        with self._lock:
            self._refuse_closed()
            if request not in self._sessions:
                self._sessions[request] = self._open(request)
            return self._sessions[request]

    def map(
        self,
        sources: Iterator[Source],
        decode: Callable[[Source], Decoded],
        compute: Callable[[list[Decoded]], Answered],
    ) -> Generator[Answered, None, None]:
        """Decode each source, and compute batches of the results; in order, at most two batches ahead.

        At a `PAUSE` among the sources, everything before it is answered, in a smaller batch if need be. A closed
        pipeline raises a UsageError.
        """
        self._refuse_closed()
        decoding: deque[Future[Decoded]] = deque()
        computing: deque[Future[Answered]] = deque()

        def begin_batch() -> None:
            count = min(self._batch_size, len(decoding))
            batch = [decoding.popleft().result() for _ in range(count)]
            computing.append(self._submit(self.computing, compute, batch))

        def the_rest() -> Iterator[Answered]:
            while decoding:
                begin_batch()
                if len(computing) >= COMPUTING:
                    yield computing.popleft().result()
            while computing:
                yield computing.popleft().result()

        try:
            first = list(islice(sources, 2))
            if len(first) == 1 and first[0] is not PAUSE:  # nothing to overlap with
                yield compute([decode(first[0])])
                return
            for source in chain(first, sources):
                if source is PAUSE:
                    yield from the_rest()
                    continue
                decoding.append(self._decoded(decode, source))
                if len(decoding) >= 2 * self._batch_size:
                    begin_batch()
                    if len(computing) >= COMPUTING:
                        yield computing.popleft().result()
            yield from the_rest()
        finally:
            left: list[Future[Any]] = [*decoding, *computing]
            wait([future for future in left if not future.cancel()])

    def desk(
        self,
        decode: Callable[[Item], Decoded],
        compute: Callable[[list[Decoded]], list[Answered]],
        turns: Turns,
        observe: Observer,
    ) -> Desk[Item, Decoded, Answered]:
        """A desk with the threads and the batch size of this pipeline; the arguments are those of `Desk`."""
        return Desk(self, decode, compute, self._batch_size, turns, observe)

    def _decoded(self, decode: Callable[[Source], Decoded], source: Source) -> Future[Decoded]:
        if not isinstance(source.value, ImageError):
            return self._submit(self.decoding, decode, source)
        done: Future[Decoded] = Future()  # of a row that cannot be read: a thread would take longer than the answer
        done.set_result(decode(source))
        return done

    def _submit(self, pool: ThreadPoolExecutor, function: Callable[[Item], Made], item: Item) -> Future[Made]:
        try:
            return pool.submit(function, item)
        except RuntimeError:  # another thread closed it meanwhile
            self._refuse_closed()
            raise

    def close(self) -> None:
        """End the threads and free the sessions; running computations finish."""
        with self._lock:
            self._closed = True
            self._sessions.clear()
        self.decoding.shutdown()
        self.computing.shutdown()

    def _refuse_closed(self) -> None:
        if self._closed:
            raise UsageError("This model is closed.", "Load it again: weevit.load(...)")


_living: WeakSet[Pipeline] = WeakSet()

_of_the_parent: list[dict[Request, Session]] = []
"""Sessions whose threads a fork has left behind: freeing one would wait for them for ever."""


def _after_fork() -> None:
    for pipeline in list(_living):
        pipeline.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
