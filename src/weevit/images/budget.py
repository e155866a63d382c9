"""The memory that all threads together may take to decode large images.

One image at the limit takes half a gigabyte, and 16 threads would take 16 times that at once. An image that needs more
than `FREE` waits for its turn; smaller ones, nearly all that cameras make, never wait.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from weevit.memory import give_back

FREE = 128 << 20
"""Bytes that are lent without waiting: 16 megapixels."""

PER_CORE = 64 << 20
"""Bytes per processor in the total, which is at least one image at the limit."""


class Budget:
    """Bytes that are lent in the order of the requests, so that a large image does not wait for ever."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.reset()

    def reset(self) -> None:
        """Make the total available again: a forked child lacks its parent's threads."""
        self._left = self.total
        self._first = threading.Lock()
        self._changed = threading.Condition()

    @contextmanager
    def lend(self, size: int) -> Iterator[None]:
        """Wait until `size` bytes (at most the total) are available, and hold them."""
        if size <= FREE:
            yield
            return
        size = min(size, self.total)
        with self._first, self._changed:
            self._changed.wait_for(lambda: self._left >= size)
            self._left -= size
        give_back()  # the result of the image before may be free by now
        try:
            yield
        finally:
            give_back()  # otherwise the thread's heap stays as large as its largest image
            with self._changed:
                self._left += size
                self._changed.notify_all()


BUDGET = Budget(max(512 << 20, PER_CORE * (os.cpu_count() or 1)))

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=BUDGET.reset)
