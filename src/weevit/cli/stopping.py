"""Requests to stop: SIGTERM from a cluster, Ctrl-C from a person. The state is saved first, within seconds."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from weevit.cli.app import EXIT_INTERRUPTED
from weevit.cli.console import is_terminal, tell, terminal

EXIT_TERMINATED = 128 + signal.SIGTERM

PATIENCE = 4.0
"""Seconds that the current step may take to end; clusters give 30 in all, some 10."""


class Stop:
    """A request to stop, and the emergency save if the work does not react.

    Python handles a signal between two of its own steps; a backward pass on a CPU can take longer than one may wait. A
    second thread therefore listens too, through a socket that the operating system's handler writes to; after
    `PATIENCE` it saves the run and ends the process.
    """

    def __init__(self) -> None:
        self.number = 0
        self._over = threading.Event()
        self._save: Callable[[], object] | None = None

    def asked(self) -> bool:
        """Whether to stop."""
        return self.number != 0

    def offer(self, save: Callable[[], object]) -> None:
        """Set the function that saves from another thread."""
        self._save = save

    @property
    def exit_code(self) -> int:
        """143 after SIGTERM, 130 after Ctrl-C."""
        return EXIT_TERMINATED if self.number == signal.SIGTERM else EXIT_INTERRUPTED

    def heard(self, number: int, frame: FrameType | None) -> None:
        """The signal's handler. A second Ctrl-C stops at once; a second SIGTERM has no effect."""
        del frame
        if number == signal.SIGINT and self.number == signal.SIGINT:
            raise KeyboardInterrupt
        if not self.number:
            self.number = number
            more = " Ctrl-C again stops at once." if number == signal.SIGINT else ""
            tell("", f"Saving where it is, then stopping.{more}")

    def listen(self, wakes: socket.socket) -> None:
        """The second thread: wait for a signal, then for the work, then save in its place."""
        while True:
            data = wakes.recv(1)
            if not data:
                return
            if data[0] in (signal.SIGTERM, signal.SIGINT):
                break
        if self._over.wait(PATIENCE):
            return
        self.number = self.number or data[0]
        if self._save is not None:
            try:
                self._save()
                tell("The step in work took too long: saved as it was before it.")
            except Exception as error:
                tell(*f"weevit: {error}".split("\n"))
        if is_terminal():
            terminal().write("\x1b[?25h")  # the live view hides the cursor
        terminal().flush()
        os._exit(self.exit_code)

    def over(self) -> None:
        """The work has ended by itself."""
        self._over.set()


@contextmanager
def stopping() -> Iterator[Stop]:
    """Yields a `Stop` that handles SIGTERM and Ctrl-C while the block runs."""
    stop = Stop()
    ours, wakes = socket.socketpair()
    ours.setblocking(False)
    thread = threading.Thread(target=stop.listen, args=(wakes,), name="weevit-stop", daemon=True)
    thread.start()
    before = {number: signal.signal(number, stop.heard) for number in (signal.SIGTERM, signal.SIGINT)}
    fd = signal.set_wakeup_fd(ours.fileno(), warn_on_full_buffer=False)
    try:
        yield stop
    finally:
        stop.over()
        signal.set_wakeup_fd(fd)
        for number, handler in before.items():
            signal.signal(number, handler)
        ours.close()
        thread.join(1)
        wakes.close()
