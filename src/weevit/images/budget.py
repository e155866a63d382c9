"""The memory that the large images of all threads may take together.

One image at the limit takes half a gigabyte, and 16 threads would take 16 times that at once. An image that needs more
than `FREE` borrows what it needs, in the order of the requests, so that the largest is not passed by for ever. What it
borrows is held until it is cropped, where a block of `until_cropped` says so, since the decoded image lives that long.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from weevit.memory import give_back

FREE = 16 << 20
"""Bytes that an image takes without borrowing: 2 megapixels."""

LARGE = 128 << 20
"""Bytes from which memory is returned to the system afterwards, which takes a thread 1 or 2 ms: 16 megapixels."""

PER_CORE = 128 << 20
"""Bytes per processor in the total, which is at least one image at the limit."""


class FullError(Exception):
    """The memory is lent to others, and this thread does not wait for it.

    Args:
        size: bytes to ask `Budget.ask` for.
    """

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


class Lease:
    """Bytes that are held until they are returned, once."""

    def __init__(self, budget: Budget, size: int, era: int) -> None:
        self.size, self._budget, self._era, self._held = size, budget, era, True

    def give_back(self) -> None:
        """Return the bytes; whoever waits for them goes on in this thread."""
        if self._held:
            self._held = False
            if self.size > LARGE:
                give_back()  # otherwise the thread's heap stays as large as its largest image
            self._budget.put_back(self.size, self._era)


Granted = Callable[[Lease], None]


class Budget:
    """Bytes that are lent in the order of the requests.

    Args:
        total: how many.
    """

    def __init__(self, total: int) -> None:
        self.total, self._era = total, 0
        self.reset()

    def reset(self) -> None:
        """Make the total available again: a forked child lacks its parent's threads."""
        self.left = self.total
        self._era += 1
        self._lock = threading.Lock()
        self._waiting: deque[tuple[int, Granted]] = deque()

    @contextmanager
    def lend(self, size: int) -> Iterator[None]:
        """Hold `size` bytes (at most the total): until the block ends, or that of `until_cropped` around it.

        Raises:
            FullError: they are not available, and the block around it does not wait.
        """
        if size <= FREE:
            yield
            return
        block = _thread.block
        if block is not None:
            block.borrow(self, min(size, self.total))
            yield
            return
        lease = self.take(size)
        try:
            yield
        finally:
            lease.give_back()

    def take(self, size: int) -> Lease:
        """Wait for `size` bytes, at most the total."""
        found: list[Lease] = []
        came = threading.Event()

        def granted(lease: Lease) -> None:
            found.append(lease)
            came.set()

        self.ask(size, granted)
        came.wait()
        if size > LARGE:
            give_back()  # the result of the image before may be free by now
        return found[0]

    def take_now(self, size: int) -> Lease | None:
        """As `take`, but None where that would have to wait."""
        size = min(size, self.total)
        with self._lock:
            if self._waiting or self.left < size:
                return None
            self.left -= size
            return Lease(self, size, self._era)

    def ask(self, size: int, granted: Granted) -> None:
        """Have `granted` called with a lease when its turn comes: at once, or by the thread that returns memory."""
        with self._lock:
            self._waiting.append((min(size, self.total), granted))
        self._grant()

    def put_back(self, size: int, era: int) -> None:
        """Return bytes; of a lease only."""
        with self._lock:
            if era != self._era:  # of the parent of this process
                return
            self.left += size
        self._grant()

    def _grant(self) -> None:
        while True:
            with self._lock:
                if not self._waiting or self._waiting[0][0] > self.left:
                    return
                size, granted = self._waiting.popleft()
                self.left -= size
                lease = Lease(self, size, self._era)
            granted(lease)


@dataclass
class _Block:
    waits: bool
    lease: Lease | None

    def borrow(self, budget: Budget, size: int) -> None:
        if self.lease is not None:
            if self.lease.size >= size:
                return
            self.lease.give_back()  # of the image before
            self.lease = None
        self.lease = budget.take(size) if self.waits else budget.take_now(size)
        if self.lease is None:
            raise FullError(size)


class _Thread(threading.local):
    block: _Block | None = None


_thread = _Thread()


@contextmanager
def until_cropped(waits: bool = True, lease: Lease | None = None) -> Iterator[None]:
    """Hold what an image borrows until this block ends; a block within another one adds nothing.

    Args:
        waits: for memory that is lent to others; otherwise decoding raises a FullError.
        lease: of this image, from `Budget.ask`.
    """
    if _thread.block is not None:
        yield
        return
    _thread.block = block = _Block(waits, lease)
    try:
        yield
    finally:
        _thread.block = None
        if block.lease is not None:
            block.lease.give_back()


BUDGET = Budget(max(512 << 20, PER_CORE * (os.cpu_count() or 1)))

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=BUDGET.reset)
