"""Output to the user: answers on stdout, everything else on stderr, and no control sequences on either.

`say` and `tell` are the only way out: each argument is a line, and a name cannot make two of it. Everything that others
print (warnings, tracebacks, libraries) is escaped too: in `screened`, both streams spell out control characters.
Displays that are drawn over need the terminal itself, which is `terminal()`; their texts go through `one_line`.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, cast

from weevit.text import json_line, kinds, on_screen, one_line

if TYPE_CHECKING:
    from rich.console import Console

    from weevit.answers.results import Result

EXIT_NOTHING, EXIT_SOME_FAILED = 1, 3


@dataclass
class Tally:
    """The number of answered inputs, and of failures by kind."""

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
        failed = f" · {self.failed.total()} failed ({kinds(self.failed)})" if self.failed else ""
        return f"{self.done} done{failed}"


def say(*lines: str) -> None:
    """Print lines of an answer to stdout; each argument is one."""
    _print(sys.stdout, lines)


def say_json(values: dict[str, Any]) -> None:
    """Print an object of an answer to stdout, as one line."""
    say(json_line(values))


def tell(*lines: str) -> None:
    """Print lines for the user to stderr; each argument is one."""
    _print(sys.stderr, lines)


def _print(stream: IO[str], lines: tuple[str, ...]) -> None:
    text = "".join(f"{one_line(line)}\n" for line in lines)
    stream.write(_encodable(text, stream))
    stream.flush()


def _encodable(text: str, stream: IO[str]) -> str:
    """The text with `\\u2588` for characters that the stream's encoding lacks, as under LANG=C."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


class _Screen:
    """A text stream that escapes control characters, and passes everything else on."""

    def __init__(self, stream: IO[str]) -> None:
        self._behind = stream

    def write(self, text: str) -> int:
        """Write the text; returns its length."""
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
    """While the block runs, everything printed is escaped. May be nested: rich puts its own streams in front."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(Any, stream if stream is None else _Screen(stream)) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def terminal() -> IO[str]:
    """Stderr itself, for displays: colours and moves of the cursor are escape sequences too."""
    stream: Any = sys.stderr
    while isinstance(stream, _Screen):
        stream = stream._behind
    return cast(IO[str], stream)


@contextmanager
def drawing(display: Any) -> Iterator[Any]:
    """Show a display of rich; other output appears above it."""
    with display, screened():
        yield display


def drawing_console() -> Console:
    """The console of such a display."""
    from rich.console import Console

    return Console(file=terminal())


def is_terminal() -> bool:
    """Whether stderr is a terminal that can be drawn over."""
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
