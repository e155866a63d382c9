"""Requests to stop: SIGTERM from a cluster, Ctrl-C from a person, SIGHUP from a terminal that was closed.

The state is saved first, within seconds. However the work then ends, its exit code is that of the signal, and its last
words say what goes on with it.
"""

from __future__ import annotations

import os
import signal
import socket
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from weevit.cli.app import EXIT_INTERRUPTED
from weevit.cli.console import is_terminal, tell, terminal
from weevit.errors import WeevitError

EXIT_TERMINATED = 128 + signal.SIGTERM

_HANGUP: int | None = getattr(signal, "SIGHUP", None)
"""Windows has none."""

_SIGNALS = tuple(number for number in (signal.SIGTERM, signal.SIGINT, _HANGUP) if number)

PATIENCE = 4.0
"""Seconds that the current step may take to end; clusters give 30 in all, some 10."""


class Stop:
    """A request to stop, and the emergency save if the work does not react.

    Python handles a signal between two of its own steps; a backward pass on a CPU can take longer than one may wait. A
    second thread therefore listens too, through a socket that the operating system's handler writes to; after
    `PATIENCE` it saves the run and ends the process.
    """

    def __init__(self, following: Callable[[], str]) -> None:
        self.number = 0
        self._following = following
        self.before: dict[int, Any] = {}
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
        """143 after SIGTERM, 129 after SIGHUP, 130 after Ctrl-C."""
        return 128 + self.number if self.number else EXIT_INTERRUPTED

    def heard(self, number: int, frame: FrameType | None) -> None:
        """The signal's handler. A second Ctrl-C stops at once; a second SIGTERM has no effect."""
        del frame
        if number == _HANGUP:
            _terminal_has_gone()
        if number == signal.SIGINT and self.number == signal.SIGINT:
            raise KeyboardInterrupt
        if not self.number:
            self.number = number
            more = " Ctrl-C again stops at once." if number == signal.SIGINT else ""
            _tell_if_there("", f"Saving where it is, then stopping.{more}")

    def listen(self, wakes: socket.socket) -> None:
        """The second thread: wait for a signal, then for the work, then save in its place."""
        while True:
            data = wakes.recv(1)
            if not data:
                return
            if data[0] in self.before:
                break
        if self._over.wait(PATIENCE):
            return
        self.number = self.number or data[0]
        if self._save is not None:
            try:
                self._save()
                _tell_if_there("The step in work took too long: saved as it was before it.")
            except Exception as error:
                _tell_if_there(*f"weevit: {error}".split("\n"))
        self.last_words()
        with suppress(OSError):
            if is_terminal():
                terminal().write("\x1b[?25h")  # the live view hides the cursor
            terminal().flush()
        os._exit(self.exit_code)

    def last_words(self) -> None:
        """Say what goes on with the work, which has no result that would say it."""
        _tell_if_there(self._following())

    def over(self) -> None:
        """The work has ended by itself."""
        self._over.set()


def _tell_if_there(*lines: str) -> None:
    """`tell`, unless nobody is there: neither a stop nor its exit code depends on it. The first rank speaks."""
    if os.environ.get("RANK", "0") == "0":
        with suppress(OSError):
            tell(*lines)


def _terminal_has_gone() -> None:
    """What is said to the terminal from now on is said to nobody, and is no error."""
    nobody = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        with suppress(OSError):
            if stat.S_ISCHR(os.fstat(stream).st_mode):
                os.dup2(nobody, stream)


@contextmanager
def stopping(following: Callable[[], str]) -> Iterator[Stop]:
    """Yields a `Stop` that handles SIGTERM, Ctrl-C and SIGHUP while the block runs.

    An error that is no `WeevitError` and follows such a request comes from it, since a signal reaches compilers and
    workers too. The process then ends as for the request.

    Args:
        following: the last line for the user where the work ends without a result.
    """
    stop = Stop(following)
    ours, wakes = socket.socketpair()
    ours.setblocking(False)
    thread = threading.Thread(target=stop.listen, args=(wakes,), name="weevit-stop", daemon=True)
    for one in _SIGNALS:
        if one != _HANGUP or signal.getsignal(one) != signal.SIG_IGN:  # nohup ignores it
            stop.before[one] = signal.signal(one, stop.heard)
    fd = signal.set_wakeup_fd(ours.fileno(), warn_on_full_buffer=False)
    thread.start()
    try:
        yield stop
    except (Exception, KeyboardInterrupt) as error:
        if isinstance(error, WeevitError) or not stop.asked():
            raise
        stop.last_words()
        sys.exit(stop.exit_code)
    finally:
        stop.over()
        signal.set_wakeup_fd(fd)
        for number, handler in stop.before.items():
            signal.signal(number, handler)
        ours.close()
        thread.join(1)
        wakes.close()
