"""What a run tells its watcher: figures for a table or a line; the command line draws them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from weevit.text import span

if TYPE_CHECKING:
    from weevit.runs.saved import Best


@dataclass
class Progress:
    """The progress of a run.

    Attributes:
        step, total: updates done, and planned.
        steps_per_epoch: updates in one pass over the training split.
        loss: mean since the last row of metrics; None before the first.
        lr: rate of the last update, for groups without a scale.
        images_per_second: since the last row.
        data_wait: share of that time in which the model waited for data.
        seconds_left: until the last planned update at the speed so far, or until the time budget ends.
        figures: of the last evaluation: `top1`, `ema_top1`, ...
        best: the best evaluation so far.
        doing: `training`, `evaluating`, `saving`.
        bad: unreadable images so far.
    """

    step: int = 0
    total: int = 0
    steps_per_epoch: int = 1
    loss: float | None = None
    lr: float = 0.0
    images_per_second: float = 0.0
    data_wait: float = 0.0
    seconds_left: float | None = None
    figures: dict[str, float] = field(default_factory=dict)
    best: Best | None = None
    doing: str = "training"
    bad: int = 0

    @property
    def epoch(self) -> int:
        """The epoch that the last update belongs to, from 0."""
        return max(0, self.step - 1) // self.steps_per_epoch

    @property
    def epochs(self) -> int:
        """Number of epochs, rounded up."""
        return -(-self.total // self.steps_per_epoch)

    def line(self) -> str:
        """`epoch 7/20 · step 412/1,180 · loss 1.234 · top-1 71.20 % · lr 2.0e-04 · 38 img/s · 9 min left`."""
        words = [f"epoch {self.epoch + 1}/{self.epochs}", f"step {self.step:,}/{self.total:,}"]
        words += [] if self.loss is None else [f"loss {self.loss:.3f}"]
        words += [f"{TITLES[name]} {shown(name, self.figures[name])}" for name in TITLES if name in self.figures]
        words += [f"lr {self.lr:.1e}", f"{self.images_per_second:.1f} img/s"]
        words += [f"data wait {self.data_wait:.0%}"] if self.data_wait >= 0.05 else []
        words += [f"{self.bad:,} unreadable"] if self.bad else []
        words += [] if self.seconds_left is None else [f"{span(self.seconds_left)} left"]
        return " · ".join(words)


TITLES = {"top1": "top-1", "ema_top1": "ema top-1", "map": "mAP", "ema_map": "ema mAP"}

SHARES = ("top1", "top5", "map")
"""Figures that are shares, shown in percent."""


def shown(name: str, value: float) -> str:
    """A figure for people: `71.20 %`, or `1.234`."""
    return f"{100 * value:.2f} %" if name.removeprefix("ema_") in SHARES else f"{value:.3f}"


@dataclass(frozen=True)
class Watcher:
    """Watches a run; each function does nothing by default.

    Attributes:
        moved: called after every update, evaluation and checkpoint.
        say: called with a sentence for people, which `log.txt` gets too.
        should_stop: asked between updates and in evaluations; if true, the run saves its state and ends.
        offer: given a function that saves the last whole update from another thread, where an update takes too long.
    """

    moved: Callable[[Progress], None] = lambda progress: None
    say: Callable[[str], None] = lambda text: None
    should_stop: Callable[[], bool] = lambda: False
    offer: Callable[[Callable[[], object]], None] = lambda save: None
