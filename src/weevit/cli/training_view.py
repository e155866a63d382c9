"""The view of a training run: a live table on a terminal, plain lines in a pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from weevit.cli.console import drawing, drawing_console, is_terminal, tell
from weevit.cli.progress import throttle
from weevit.cli.stopping import Stop
from weevit.text import on_screen, span

if TYPE_CHECKING:
    from weevit.training.watch import Progress, Watcher

REDRAWN = 4
"""Frames per second."""


@contextmanager
def watching(quiet: bool, stop: Stop) -> Iterator[Watcher]:
    """The watcher of a run."""
    from weevit.training.watch import Watcher

    heard: dict[str, Any] = {"should_stop": stop.asked, "offer": stop.offer}
    if quiet:
        yield Watcher(**heard)
    elif is_terminal():
        with _table() as (moved, say):
            yield Watcher(moved, say, **heard)
    else:
        yield Watcher(_plain(), lambda text: tell(*text.split("\n")), **heard)


def _plain() -> Callable[[Progress], None]:
    due = throttle()

    def moved(progress: Progress) -> None:
        if progress.doing == "training" and due():
            tell(progress.line())

    return moved


@contextmanager
def _table() -> Iterator[tuple[Callable[[Progress], None], Callable[[str], None]]]:
    """A table that is drawn over; sentences are printed above it."""
    from rich.live import Live
    from rich.text import Text

    with drawing(Live(console=drawing_console(), refresh_per_second=REDRAWN, transient=True)) as live:

        def moved(progress: Progress) -> None:
            live.update(drawn(progress))

        def say(text: str) -> None:
            live.console.print(Text(on_screen(text)))

        yield moved, say


def drawn(progress: Progress) -> Any:
    """The table: progress, quality, speed; 80 columns suffice."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    head = Table.grid(padding=(0, 2))
    head.add_row(ProgressBar(total=max(progress.total, 1), completed=progress.step, width=44), *_head(progress))
    body = Table.grid(padding=(0, 2))
    for row in zip(*cells(progress), strict=True):
        words: list[Text] = []
        for name, value in row:
            words += [Text(name, style="dim"), Text(f"{value:<8}")]
        body.add_row(*words)
    whole = Table.grid()
    whole.add_row(head)
    whole.add_row(body)
    return whole


def _head(progress: Progress) -> tuple[str, ...]:
    left = progress.seconds_left
    share = f"{progress.step / max(progress.total, 1):.0%}"
    words = (share, "" if left is None else f"{span(left)} left", progress.doing)
    return tuple(word for word in words if word not in ("", "training"))


Cell = tuple[str, str]


def cells(progress: Progress) -> tuple[list[Cell], list[Cell], list[Cell]]:
    """Three columns of (name, value): progress, quality, speed."""
    from weevit.training.watch import TITLES, shown

    far = [("epoch", f"{progress.epoch + 1}/{progress.epochs}"), ("step", f"{progress.step:,}/{progress.total:,}")]
    good = [("loss", "" if progress.loss is None else f"{progress.loss:.3f}")]
    good += [(TITLES[name], shown(name, progress.figures[name])) for name in TITLES if name in progress.figures]
    best = progress.best
    fast = [("img/s", f"{progress.images_per_second:.1f}"), ("data wait", f"{progress.data_wait:.0%}")]
    fast += [("best", f"{shown(best.figure, best.value)} at {best.step:,}")] if best else []
    columns = [*far, ("rate", f"{progress.lr:.1e}")], good, fast
    if progress.bad:
        columns[0].append(("unreadable", f"{progress.bad:,}"))
    rows = max(map(len, columns))
    first, second, third = ([*column, *[("", "")] * (rows - len(column))] for column in columns)
    return first, second, third
