"""The progress of a long command: a bar on a terminal, one plain line every few seconds in a pipe."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from weevit.cli.console import Tally, drawing, drawing_console, is_terminal, tell
from weevit.text import one_line

if TYPE_CHECKING:
    from weevit.zoo.hub import Progress

PLAIN_EVERY = 5.0
"""Seconds between two lines in a pipe."""


@contextmanager
def images_progress(quiet: bool) -> Iterator[Callable[[Tally], None] | None]:
    """A function that takes the tally after each input."""
    if quiet:
        yield None
    elif is_terminal():
        from rich.progress import SpinnerColumn, TimeElapsedColumn

        with _bar(SpinnerColumn(), words_column(), TimeElapsedColumn()) as bar:
            task = bar.add_task("", total=None)
            yield lambda tally: bar.update(
                task, description=one_line(tally.line()), completed=tally.done + tally.failed.total()
            )
    else:
        yield _plain_lines()


def _bar(*columns: Any) -> AbstractContextManager[Any]:
    """A display of rich with these columns."""
    from rich.progress import Progress as RichProgress

    return drawing(RichProgress(*columns, console=drawing_console(), transient=True))


def words_column() -> Any:
    """The text of a bar, without markup: rich would take `[red]` in a name for a colour."""
    from rich.progress import TextColumn

    return TextColumn("{task.description}", markup=False)


def throttle() -> Callable[[], bool]:
    """A function that is true at most once in `PLAIN_EVERY` seconds."""
    last = time.monotonic()

    def due() -> bool:
        nonlocal last
        now = time.monotonic()
        if now - last < PLAIN_EVERY:
            return False
        last = now
        return True

    return due


def _plain_lines() -> Callable[[Tally], None]:
    start, due = time.monotonic(), throttle()

    def moved(tally: Tally) -> None:
        if due():
            total = tally.done + tally.failed.total()
            tell(f"{tally.line()} · {total / (time.monotonic() - start):.1f} images/s")

    return moved


@contextmanager
def counted_progress(quiet: bool) -> Iterator[Callable[[int, int, str], None]]:
    """A function that takes the number done, the total, and further words."""
    if quiet:
        yield lambda done, total, words: None
    elif is_terminal():
        from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn

        with _bar(BarColumn(), MofNCompleteColumn(), words_column(), TimeRemainingColumn()) as bar:
            task = bar.add_task("", total=None)
            yield lambda done, total, words: bar.update(task, total=total, completed=done, description=one_line(words))
    else:
        due = throttle()
        yield lambda done, total, words: tell(f"{done:,} of {total:,} · {words}") if due() else None


class Counted(Protocol):
    """The progress of a verb."""

    @property
    def done(self) -> int:
        """Finished items."""
        ...

    @property
    def total(self) -> int:
        """All items."""
        ...


Step = TypeVar("Step", bound=Counted)


@contextmanager
def watching(quiet: bool, words: Callable[[Step], str]) -> Iterator[Callable[[Step], None]]:
    """A function that takes the progress of a verb, described by `words`."""
    with counted_progress(quiet) as moved:
        yield lambda step: moved(step.done, step.total, words(step))


@contextmanager
def download_progress(quiet: bool) -> Iterator[Progress | None]:
    """A function that takes a file's name, bytes done and bytes in all."""
    if quiet:
        yield None
    elif is_terminal():
        with _download_bar() as moved:
            yield moved
    else:
        yield _plain_download()


@contextmanager
def _download_bar() -> Iterator[Progress]:
    bar: Any = None
    tasks: dict[str, Any] = {}
    with ExitStack() as drawn:

        def moved(name: str, done: int, total: int) -> None:
            nonlocal bar  # the model is usually in the cache: no bar
            bar = bar or drawn.enter_context(_download_display())
            if name not in tasks:
                tasks[name] = bar.add_task(one_line(name), total=total or None)
            bar.update(tasks[name], completed=done, total=total or None)

        yield moved


def _download_display() -> AbstractContextManager[Any]:
    from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn, TransferSpeedColumn

    return _bar(words_column(), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())


def _plain_download() -> Progress:
    last: dict[str, float] = {}

    def moved(name: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now - last.get(name, 0.0) >= PLAIN_EVERY or (total and done >= total):
            last[name] = now
            share = f" of {total / 1e6:.1f}" if total else ""
            tell(f"downloading {name}: {done / 1e6:.1f}{share} MB")

    return moved
