"""What one sees of a training run: a live table on a terminal, plain lines in a pipe."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from weevit.cli.console import is_terminal, tell
from weevit.cli.progress import PLAIN_EVERY
from weevit.cli.stopping import Stop

if TYPE_CHECKING:
    from weevit.training.watch import Progress, Watcher

REDRAWN = 4
"""Times a second that the table is drawn."""


@contextmanager
def watching(quiet: bool, stop: Stop) -> Iterator[Watcher]:
    """Gives the watcher of a run."""
    from weevit.training.watch import Watcher

    heard: dict[str, Any] = {"should_stop": stop.asked, "offer": stop.offer}
    if quiet:
        yield Watcher(**heard)
    elif is_terminal():
        with _table() as (moved, say):
            yield Watcher(moved, say, **heard)
    else:
        yield Watcher(_plain(), tell, **heard)


def _plain() -> Callable[[Progress], None]:
    last = time.monotonic()

    def moved(progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= PLAIN_EVERY and progress.doing == "training":
            last = now
            tell(progress.line())

    return moved


@contextmanager
def _table() -> Iterator[tuple[Callable[[Progress], None], Callable[[str], None]]]:
    """A table that is drawn over; sentences are printed above it."""
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True)
    with Live(console=console, refresh_per_second=REDRAWN, transient=True) as live:

        def moved(progress: Progress) -> None:
            live.update(drawn(progress))

        def say(text: str) -> None:
            live.console.print(text, highlight=False, markup=False)

        yield moved, say


def drawn(progress: Progress) -> Any:
    """The table: how far, how good, how fast."""
    from rich import box
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="dim")
    cells = columns(progress)
    for name in cells:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_row(*cells.values())
    bar = ProgressBar(total=max(progress.total, 1), completed=progress.step, width=60)
    return Group(bar, table)


def columns(progress: Progress) -> dict[str, str]:
    """Header -> cell."""
    from weevit.training.watch import TITLES, shown, span

    left = progress.seconds_left
    cells = {
        "epoch": f"{progress.epoch + 1}/{progress.epochs}",
        "step": f"{progress.step:,}/{progress.total:,}",
        "loss": "" if progress.loss is None else f"{progress.loss:.3f}",
    }
    cells |= {TITLES[name]: shown(name, progress.figures[name]) for name in TITLES if name in progress.figures}
    cells |= {"best": f"{progress.best.value:.4f} at {progress.best.step:,}"} if progress.best else {}
    cells |= {
        "rate": f"{progress.lr:.1e}",
        "img/s": f"{progress.images_per_second:.1f}",
        "data wait": f"{progress.data_wait:.0%}",
        "left": "" if left is None else span(left),
    }
    cells |= {"unreadable": f"{progress.bad:,}"} if progress.bad else {}
    return cells | {"": "" if progress.doing == "training" else progress.doing}
