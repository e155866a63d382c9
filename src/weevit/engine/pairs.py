"""Batches on a CPU: few images by all threads together, many in pairs by one thread each."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Protocol

import numpy as np

from weevit.engine.protocol import Outputs, Pixels
from weevit.memory import give_back

Run = Callable[[Pixels], Outputs]
"""Answers a batch; threads may share it."""


class Opens(Protocol):
    """Loads a graph."""

    def __call__(self, threads: int, at_once: int) -> Run:
        """What answers batches, `at_once` of them at a time, each with that many threads."""
        ...


class InPairs:
    """A session in one of two ways, each loaded when it is first wanted.

    A batch smaller than the number of threads is computed by all of them together: the answer comes soonest. A larger
    one is cut into pairs of images, and each thread computes pairs of its own: 5 to 10 % more images per second, since
    threads need not wait for each other and a pair's activations fit into a core's cache (`docs/lab-notes.md`). So is a
    small one beside another batch, where half of the threads are enough for its pairs: a quarter less processor time
    per image in a server with four images at a time on two cores. An engine that is faster with more rows is given
    several pairs at once.

    On the processors measured both ways give the same bits (`tests/engine/test_session.py`). It is not onnxruntime's
    promise: a steady answer is always that of a pair, within which it does not matter which image stands where.

    Args:
        opens: loads the graph.
        threads: to compute with.
        most: pairs that one thread computes together, where that leaves no other thread without one.
    """

    def __init__(self, opens: Opens, threads: int, most: int = 1) -> None:
        self._opens, self._threads, self._most = opens, threads, most
        self._together: Run | None = None
        self._apart: tuple[Run, ThreadPoolExecutor] | None = None
        self._loading = Lock()
        self._running = 0

    def run(self, pixels: Pixels, steady: bool = False) -> Outputs:
        """As `Session.run`."""
        if steady:
            odd = len(pixels) % 2
            answers = self._in_pairs(np.concatenate([pixels, pixels[-1:]]) if odd else pixels)
            return {name: values[: len(pixels)] for name, values in answers.items()}
        with self._loading:
            self._running += 1
            beside = self._running > 1 and 2 * -(-len(pixels) // 2) >= self._threads
        try:
            few = len(pixels) < self._threads and (self._apart is None or self._together is not None) and not beside
            if few or self._threads == 1:
                with self._loading:
                    self._together = self._together or self._opens(self._threads, 1)
                return self._together(pixels)
            return self._in_pairs(pixels)
        finally:
            with self._loading:
                self._running -= 1

    def _in_pairs(self, pixels: Pixels) -> Outputs:
        with self._loading:
            if self._apart is None:
                run = self._opens(1, self._threads)
                give_back()  # many images may follow, and what loading left over would lie beside theirs
                self._apart = run, ThreadPoolExecutor(self._threads, thread_name_prefix="weevit-compute")
            run, pool = self._apart
        answers = list(pool.map(run, self._shares(pixels)))
        return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}

    def _shares(self, pixels: Pixels) -> list[Pixels]:
        """Pairs, in as many rounds as `most` makes necessary, and in each as many shares as there are threads."""
        pairs = -(-len(pixels) // 2)
        rounds = -(-pairs // (self._threads * self._most))
        shares = np.array_split(np.arange(pairs), rounds * self._threads)
        return [pixels[2 * own[0] : 2 * own[-1] + 2] for own in shares if len(own)]
