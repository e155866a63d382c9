"""When a run is judged by its validation split, what comes of it, and which evaluation is the best."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping

from weevit.errors import DivergedError, TrainingError
from weevit.store.folder import FAILURES
from weevit.text import typed
from weevit.training import run_folder
from weevit.training.results import failures
from weevit.training.saved import Best
from weevit.training.setup import Work
from weevit.training.state import State
from weevit.training.stopwatch import Stopwatch
from weevit.training.validation import figures, with_prefix
from weevit.training.watch import Watcher, shown

WORTH = 3
"""Images learned from before each that is answered in an evaluation, in a run that has to end in time."""

REMEDY = (
    "A lower optim.lr, a longer schedule.warmup or loop.precision=bf16 or fp32 are the usual remedies, in a new "
    "--output."
)


def is_due(work: Work) -> bool:
    """Whether an evaluation is: at its steps, and at the end of the schedule.

    On the way to the end of a time budget, one must not cost a good part of the training before it.
    """
    state, pace = work.state, work.pace
    if state.step == pace.total or not pace.comes_by(state.step, work.plan.eval_every):
        return state.step == pace.total
    last = next((row["seen"] for row in reversed(state.metrics) if row["kind"] == "eval"), 0)
    return not work.facts.get("in_time") or state.seen - last >= WORTH * _answers(work)


def _answers(work: Work) -> int:
    """Images that are answered in an evaluation, by the weights and by their averages."""
    return len(work.validation.split) * len(work.state.modules())


def still_evaluating(work: Work, clock: Stopwatch, seconds: float) -> float:
    """Seconds of the evaluations that are still to come, each like the last one.

    Before the first one, that of the end alone, at the seconds of an image in training; those on the way are left out
    where they would cost much.
    """
    state, pace = work.state, work.pace
    if not clock.evaluation:
        return _answers(work) * seconds
    times = math.ceil((work.plan.total - pace.place(state.step)) / work.plan.eval_every)
    learned = (pace.total - state.step) * work.recipe.loop.batch_size
    return clock.evaluation * (times if learned >= times * WORTH * _answers(work) else 1)


def evaluated(state: State) -> bool:
    """Whether the weights as they are have been."""
    last = state.metrics[-2:]  # an evaluation stands behind the row of its step
    return any(row["kind"] == "eval" and row["step"] == state.step for row in last)


def evaluation_of(work: Work, clock: Stopwatch, watcher: Watcher) -> dict[str, float]:
    """The figures of the weights and of their averages; empty where it was asked to stop on the way.

    Raises:
        DivergedError: a logit is NaN or infinite.
        TrainingError: too many images cannot be read.
    """
    start = time.perf_counter()
    found: dict[str, float] = {}
    for name, module in work.state.modules().items():
        answers = work.validation.logits(module, work.machine.device, work.machine.autocast, watcher.should_stop)
        if answers is None:
            return {}
        found |= with_prefix(figures(*answers), "" if name == "model" else "ema_")
    refuse_bad(work, work.validation.bad, len(work.validation.split), "validation")
    wrong = [name for name, value in found.items() if not math.isfinite(value)]
    if wrong:
        raise DivergedError(
            f"After step {work.state.step}, the evaluation gives {', '.join(wrong)} that is NaN or infinite.", REMEDY
        )
    clock.evaluated(start)
    return found


def take_best(work: Work, found: dict[str, float]) -> bool:
    """Whether an evaluation is the best so far; then the state says so."""
    weights = "model" if work.state.ema is None else "ema"
    name, best = decides(work), work.state.best
    value = found[name]
    if best is not None and (value >= best.value if name.endswith("loss") else value <= best.value):
        return False
    work.state.best = Best(work.state.step, name, value, weights)
    return True


def decides(work: Work) -> str:
    """The figure by which the best evaluation is chosen: of the averages where there are any."""
    name = work.recipe.loop.best
    if name == "auto":
        name = "map" if work.recipe.data.multi_label else "top1"
    return ("" if work.state.ema is None else "ema_") + ("val_loss" if name == "loss" else name)


def is_stale(work: Work) -> bool:
    """Whether the last `loop.early_stop` evaluations have brought nothing better."""
    patience, best = work.recipe.loop.early_stop, work.state.best
    if patience is None or best is None:
        return False
    since = [row for row in work.state.metrics if row["kind"] == "eval" and row["step"] > best.step]
    return len(since) >= patience


def evaluation_line(work: Work, found: dict[str, float], better: bool) -> str:
    """An evaluation, for people."""
    words = [f"{name} {shown(name, value)}" for name, value in found.items()]
    return (
        f"epoch {work.epoch + 1} · step {work.state.step:,} · {' · '.join(words)}{' · best so far' if better else ''}"
    )


def refuse_bad(work: Work, bad: Mapping[str, tuple[str, str]], total: int, split: str) -> None:
    """Raise a TrainingError that counts the unreadable images by kind, where they exceed the recipe's limit."""
    if len(bad) <= max(1, work.recipe.loop.max_bad * total):  # one image is no share of few
        return
    run_folder.TRAINING.write_failures(work.folder, failures(work))
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in Counter(kind for kind, _ in bad.values()).most_common())
    raise TrainingError(
        f"{len(bad):,} of {total:,} {split} images cannot be read ({kinds}); loop.max_bad is "
        f"{work.recipe.loop.max_bad:g}. {work.folder / FAILURES} lists them.",
        f"weevit resume {typed(work.folder)} loop.max_bad={math.ceil(100 * len(bad) / total) / 100:g}   leaves them "
        "out. Repaired or removed, they are other data: those take another --output.",
    )
