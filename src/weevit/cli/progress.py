"""How far a long command is: a bar on a terminal, one plain line every few seconds in a pipe."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from weevit.cli.console import Tally, drawing, drawing_console, is_terminal, tell
from weevit.text import one_line

if TYPE_CHECKING:
    from weevit.zoo.hub import Progress

PLAIN_EVERY = 5.0
"""Seconds between two lines in a pipe."""


@contextmanager
def images_progress(quiet: bool) -> Iterator[Callable[[Tally], None] | None]:
    """Gives a function that is told the tally after each input."""
    if quiet:
        yield None
    elif is_terminal():
        with _bar() as bar:
            task = bar.add_task("", total=None)
            yield lambda tally: bar.update(
                task, description=one_line(tally.line()), completed=tally.done + tally.failed.total()
            )
    else:
        yield _plain_lines()


@contextmanager
def _bar() -> Iterator[Any]:
    from rich.progress import Progress as RichProgress
    from rich.progress import SpinnerColumn, TimeElapsedColumn

    columns = SpinnerColumn(), words_column(), TimeElapsedColumn()
    with drawing(RichProgress(*columns, console=drawing_console(), transient=True)) as bar:
        yield bar


def words_column() -> Any:
    """The words of a bar, as they stand: without it, rich would take `[red]` in a name for a colour."""
    from rich.progress import TextColumn

    return TextColumn("{task.description}", markup=False)


def _plain_lines() -> Callable[[Tally], None]:
    start = last = time.monotonic()

    def moved(tally: Tally) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= PLAIN_EVERY:
            last = now
            total = tally.done + tally.failed.total()
            tell(f"{tally.line()} · {total / (now - start):.1f} images/s")

    return moved


@contextmanager
def counted_progress(quiet: bool) -> Iterator[Callable[[int, int, str], None]]:
    """Gives a function that is told how many of how many are done, and what else there is to say."""
    if quiet:
        yield lambda done, total, words: None
    elif is_terminal():
        with counting_bar() as bar:
            task = bar.add_task("", total=None)
            yield lambda done, total, words: bar.update(task, total=total, completed=done, description=one_line(words))
    else:
        yield _counted_lines()


@contextmanager
def counting_bar() -> Iterator[Any]:
    """A bar of how many of how many are done."""
    from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = BarColumn(), MofNCompleteColumn(), words_column(), TimeRemainingColumn()
    with drawing(RichProgress(*columns, console=drawing_console(), transient=True)) as bar:
        yield bar


def _counted_lines() -> Callable[[int, int, str], None]:
    last = time.monotonic()

    def moved(done: int, total: int, words: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= PLAIN_EVERY:
            last = now
            tell(f"{done:,} of {total:,} · {words}")

    return moved


@contextmanager
def download_progress(quiet: bool) -> Iterator[Progress | None]:
    """Gives a function that is told a file's name, bytes done and bytes in all."""
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
            nonlocal bar  # most of the time the model is in the cache, and nothing has to be drawn
            bar = bar or drawn.enter_context(drawing(_download_display()))
            if name not in tasks:
                tasks[name] = bar.add_task(one_line(name), total=total or None)
            bar.update(tasks[name], completed=done, total=total or None)

        yield moved


def _download_display() -> Any:
    from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as RichProgress

    columns = words_column(), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    return RichProgress(*columns, console=drawing_console(), transient=True)


def _plain_download() -> Progress:
    last: dict[str, float] = {}

    def moved(name: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now - last.get(name, 0.0) >= PLAIN_EVERY or (total and done >= total):
            last[name] = now
            share = f" of {total / 1e6:.1f}" if total else ""
            tell(f"downloading {name}: {done / 1e6:.1f}{share} MB")

    return moved
