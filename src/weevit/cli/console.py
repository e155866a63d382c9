"""Talking to the person: lines on stderr, so that stdout holds answers only; and the count of what was done."""

from __future__ import annotations

import os
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from weevit.results import Result

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


def tell(*words: str) -> None:
    """A line for the person: on stderr, so that stdout holds answers only."""
    print(*words, file=sys.stderr, flush=True)


def is_terminal() -> bool:
    """Whether stderr is a terminal, on which lines may be drawn over."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
