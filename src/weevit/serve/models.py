"""The models of a server, and the one queue before them."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from weevit.answers.desk import Desk, Turns
from weevit.answers.pipeline import COMPUTING
from weevit.answers.results import Result
from weevit.errors import ImageError, did_you_mean
from weevit.images.source import Source
from weevit.predict import Predictor
from weevit.serve.bounds import Bounds
from weevit.serve.problems import ProblemError, busy, late

Observe = Callable[[str, str, float], None]
"""Told the model, the stage, and its seconds; or the model, `batch`, and its images."""


@dataclass(frozen=True)
class Served:
    """A model under the name that clients use."""

    name: str
    predictor: Predictor
    desk: Desk[tuple[Source, int], Any, Result]


Answers = list[Result | ImageError]


class Models:
    """All models, and the images that wait for them.

    Args:
        named: name -> model; the first answers where a request names none.
        bounds: the queue's.
        observe: told how long each stage took; from any thread.
    """

    def __init__(
        self, named: dict[str, Predictor], bounds: Bounds, observe: Observe = lambda model, stage, value: None
    ) -> None:
        self.turns = Turns(COMPUTING)
        self._bounds = bounds
        self.waiting = 0
        self._pace = _Pace()

        def desk(name: str, predictor: Predictor) -> Desk[tuple[Source, int], Any, Result]:
            return predictor.desk(self.turns, lambda stage, value: observe(name, stage, value))

        self._served = {name: Served(name, model, desk(name, model)) for name, model in named.items()}

    def __iter__(self) -> Iterator[Served]:
        return iter(self._served.values())

    def get(self, name: str | None) -> Served:
        """The model of this name, or the first; ProblemError 404 for another."""
        if name is None:
            return next(iter(self))
        found = self._served.get(name)
        if found is None:
            shown = ", ".join(self._served)
            detail = f"There is no model {name[:80]!a} here; there are {shown}."
            raise ProblemError(404, "unknown_model", detail, did_you_mean(name[:80], self._served))
        return found

    async def answer(self, served: Served, images: Sequence[Source], topk: int = 5) -> Answers:
        """An answer, or the reason for none, to each image; in order.

        Raises:
            ProblemError: the queue is full, or an image was not begun within the deadline (503).
        """
        with self.place(len(images)):
            asked = [served.desk.ask((image, topk)) for image in images]
            answers = [asyncio.wrap_future(future) for future in asked]
            for answer in answers:  # asyncio prints errors that nobody has asked for, with paths of this machine
                answer.add_done_callback(lambda done: done.cancelled() or done.exception())
            try:
                _, waiting = await asyncio.wait(answers, timeout=self._bounds.deadline_s)
                if waiting and any(future.cancel() for future in asked):
                    raise late(self._bounds.deadline_s)
                if waiting:  # those are computed at this moment: to drop them would be to have done it for nothing
                    await asyncio.wait(waiting)
            finally:
                for future in asked:  # of a client that has gone
                    future.cancel()
                self.computed(sum(future.done() and not future.cancelled() for future in asked))
        return [_answer(future) for future in asked]

    def computed(self, count: int) -> None:
        """Count work that was done in a `place`: without, its time would be taken for that of fewer images."""
        self._pace.count(count)

    @contextmanager
    def place(self, count: int) -> Iterator[None]:
        """Places in the queue, held while the block runs; ProblemError 503 where there are none."""
        self.check_place(count)
        self.waiting += count
        self._pace.work()
        try:
            yield
        finally:
            self.waiting -= count
            if not self.waiting:
                self._pace.rest()

    def check_place(self, count: int = 1) -> None:
        """Raise the ProblemError of a full queue, before anything is read for it. An empty one takes any request."""
        if not self.waiting:
            return
        limit, seconds = self._bounds.deadline_s * _HOPE, (self.waiting + count) * self._pace.per_image
        if self.waiting + count > self._bounds.queue:
            why = f"the limit is {self._bounds.queue:,}"
        elif seconds > limit:
            why = f"with this request they take about {seconds:.2g} s, and the limit is {limit:.2g} s"
        else:
            return
        later = max(1, min(60, math.ceil(self.waiting * self._pace.per_image)))
        raise busy(later, f"{self.waiting:,} images wait; {why}.")


_HOPE = 0.8
"""Share of the deadline in which an answer is expected; the rest is for those that take longer than that."""


def _answer(done: Future[Result]) -> Result | ImageError:
    error = done.exception()
    return error if isinstance(error, ImageError) else done.result()


class _Pace:
    """Seconds per answer, of the time in which there was work.

    Attributes:
        per_image: of late; 0.1 s before anything is known.
    """

    def __init__(self) -> None:
        self.per_image = 0.1
        self._since: float | None = None
        self._busy, self._count = 0.0, 0

    def work(self) -> None:
        """There is work."""
        if self._since is None:
            self._since = time.monotonic()

    def rest(self) -> None:
        """There is none any more."""
        self._add()
        self._since = None

    def count(self, answers: int) -> None:
        """Count some."""
        self._count += answers
        self._add()
        if self._busy > 1 and self._count:
            self.per_image = self._busy / self._count
            self._busy, self._count = 0.0, 0

    def _add(self) -> None:
        if self._since is not None:
            now = time.monotonic()
            self._busy, self._since = self._busy + now - self._since, now
