"""Talking to the person: answers on stdout, everything else on stderr, and nothing on either that a terminal obeys.

`say` and `tell` are the one way out: each argument is a line, and a name cannot make two of it. Behind them stands a
net for whatever others print (warnings, tracebacks, libraries): in `screened`, both streams spell out what is no text.
Displays that are drawn over need the terminal itself, which is `terminal()`; what they show goes through `one_line`.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, cast

from weevit.text import json_line, on_screen, one_line

if TYPE_CHECKING:
    from rich.console import Console

    from weevit.answers.results import Result

EXIT_NOTHING, EXIT_SOME_FAILED = 1, 3


@dataclass
class Tally:
    """How many inputs had an answer, and why the others had none."""

    done: int = 0
    failed: Counter[str] = field(default_factory=Counter)

    def add(self, result: Result) -> None:
        """Count one input."""
        if result.ok:
            self.done += 1
        else:
            self.failed[(result.error or result.status).partition(":")[0]] += 1

    def exit_code(self, strict: bool) -> int:
        """0 at least one answer; 1 none; 3 some failed and --strict."""
        if not self.done:
            return EXIT_NOTHING
        return EXIT_SOME_FAILED if strict and self.failed else 0

    def line(self) -> str:
        """`12 done · 3 failed (2 truncated, 1 missing)`."""
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.failed.most_common())
        return f"{self.done} done" + (f" · {self.failed.total()} failed ({kinds})" if kinds else "")


def say(*lines: str) -> None:
    """Lines of an answer, on stdout; each argument is one."""
    _print(sys.stdout, lines)


def say_json(values: dict[str, Any]) -> None:
    """An object of an answer, on stdout, as one line."""
    say(json_line(values))


def tell(*lines: str) -> None:
    """Lines for the person, on stderr, so that stdout holds answers only; each argument is one."""
    _print(sys.stderr, lines)


def _print(stream: IO[str], lines: tuple[str, ...]) -> None:
    text = "".join(f"{one_line(line)}\n" for line in lines)
    stream.write(_encodable(text, stream))
    stream.flush()


def _encodable(text: str, stream: IO[str]) -> str:
    """The text with `\\u2588` for what the stream's encoding lacks, as under LANG=C."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


class _Screen:
    """A text stream that spells out what a terminal would obey, and is the stream behind it in all else."""

    def __init__(self, stream: IO[str]) -> None:
        self._behind = stream

    def write(self, text: str) -> int:
        """Write it; returns the length of what was given."""
        self._behind.write(_encodable(on_screen(text), self._behind))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write one after another."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._behind, name)


@contextmanager
def screened() -> Iterator[None]:
    """While the block runs, whatever anybody prints is text. May be nested: rich puts streams of its own in front."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(Any, stream if stream is None else _Screen(stream)) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def terminal() -> IO[str]:
    """Stderr as it is, for what draws: colours and moves of the cursor are escape sequences too."""
    stream: Any = sys.stderr
    while isinstance(stream, _Screen):
        stream = stream._behind
    return cast(IO[str], stream)


@contextmanager
def drawing(display: Any) -> Iterator[Any]:
    """Show a display of rich's; what is printed meanwhile stands above it."""
    with display, screened():
        yield display


def drawing_console() -> Console:
    """What such a display draws on."""
    from rich.console import Console

    return Console(file=terminal())


def is_terminal() -> bool:
    """Whether stderr is a terminal, on which lines may be drawn over."""
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
