"""How far a long command is: a bar on a terminal, one plain line every few seconds in a pipe."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from weevit.cli.console import Tally, is_terminal, tell

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
            yield lambda tally: bar.update(task, description=tally.line(), completed=tally.done + tally.failed.total())
    else:
        yield _plain_lines()


@contextmanager
def _bar() -> Iterator[Any]:
    from rich.console import Console
    from rich.progress import Progress as RichProgress
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with RichProgress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield bar


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
        with _counting_bar() as bar:
            task = bar.add_task("", total=None)
            yield lambda done, total, words: bar.update(task, total=total, completed=done, description=words)
    else:
        yield _counted_lines()


@contextmanager
def _counting_bar() -> Iterator[Any]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn()
    with RichProgress(*columns, console=Console(stderr=True), transient=True) as bar:
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

    def moved(name: str, done: int, total: int) -> None:
        nonlocal bar
        bar = bar or _start_download_bar()  # most of the time the model is in the cache, and nothing has to be drawn
        if name not in tasks:
            tasks[name] = bar.add_task(name, total=total or None)
        bar.update(tasks[name], completed=done, total=total or None)

    try:
        yield moved
    finally:
        if bar is not None:
            bar.stop()


def _start_download_bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as RichProgress

    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    bar = RichProgress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True)
    bar.start()
    return bar


def _plain_download() -> Progress:
    last: dict[str, float] = {}

    def moved(name: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now - last.get(name, 0.0) >= PLAIN_EVERY or (total and done >= total):
            last[name] = now
            share = f" of {total / 1e6:.1f}" if total else ""
            tell(f"downloading {name}: {done / 1e6:.1f}{share} MB")

    return moved
