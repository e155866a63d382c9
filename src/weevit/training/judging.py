"""Evaluations of a run on its validation split: when they are due, their figures, and the best of them."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from weevit.errors import DivergedError, TrainingError
from weevit.runs import folder as run_folder
from weevit.runs.saved import Best
from weevit.store.folder import FAILURES
from weevit.text import kinds, typed
from weevit.training.results import failures
from weevit.training.setup import Work
from weevit.training.state import State
from weevit.training.stopwatch import Stopwatch
from weevit.training.validation import Answers, figures
from weevit.training.watch import Watcher, shown

WORTH = 3
"""Images trained on per image answered in an evaluation, at least, in a run with a time budget."""

REMEDY = (
    "A lower optim.lr, a longer schedule.warmup or loop.precision=bf16 or fp32 are the usual remedies, in a new "
    "--output."
)


def is_due(work: Work) -> bool:
    """Whether an evaluation is due: at its steps, and at the end of the schedule.

    In a run with a time budget, an evaluation on the way must not cost a large part of the training before it.
    """
    state, pace = work.state, work.pace
    if state.step == pace.total or not pace.comes_by(state.step, work.plan.eval_every):
        return state.step == pace.total
    last = next((row["seen"] for row in reversed(state.metrics) if row["kind"] == "eval"), 0)
    return not work.facts.get("in_time") or state.seen - last >= WORTH * _answers(work)


def _answers(work: Work) -> int:
    """Images answered in an evaluation, by the weights and by their averages."""
    return len(work.validation.split) * len(work.state.modules())


def still_evaluating(work: Work, clock: Stopwatch, seconds: float) -> float:
    """Seconds of the remaining evaluations, each like the last one.

    Before the first one only the last evaluation counts, at the seconds of an image in training. Evaluations on the way
    that would cost much are left out.
    """
    state, pace = work.state, work.pace
    if not clock.evaluation:
        return _answers(work) * seconds
    times = math.ceil((work.plan.total - pace.position(state.step)) / work.plan.eval_every)
    learned = (pace.total - state.step) * work.recipe.loop.batch_size
    return clock.evaluation * (times if learned >= times * WORTH * _answers(work) else 1)


def evaluated(state: State) -> bool:
    """Whether the current weights have been evaluated."""
    last = state.metrics[-2:]  # an evaluation follows the row of its step
    return any(row["kind"] == "eval" and row["step"] == state.step for row in last)


def evaluation_of(work: Work, clock: Stopwatch, watcher: Watcher) -> dict[str, float]:
    """The figures of the weights and of their averages; empty after a request to stop.

    Raises:
        DivergedError: a logit is NaN or infinite.
        TrainingError: too many images are unreadable.
    """
    start, ranks = time.perf_counter(), work.ranks
    found: dict[str, float] = {}
    for name, module in work.state.modules().items():
        answers = work.validation.logits(module, work.machine.device, work.machine.autocast, watcher.should_stop)
        if ranks.any(answers is None):
            return {}
        shares = ranks.to_first((answers, work.validation.bad))  # in order: each image once
        if ranks.first:
            prefix = "" if name == "model" else "ema_"
            found |= {f"{prefix}{figure}": value for figure, value in figures(*_joined(shares)).items()}
            work.validation.bad = {name: why for _, bad in shares for name, why in bad.items()}
    if ranks.first:
        refuse_bad(work, work.validation.bad, len(work.validation.split), "validation")
    found = ranks.from_first(found)
    wrong = [name for name, value in found.items() if not math.isfinite(value)]
    if wrong:
        raise DivergedError(
            f"After step {work.state.step}, the evaluation gives {', '.join(wrong)} that is NaN or infinite.", REMEDY
        )
    clock.evaluated(start)
    return found


def _joined(shares: Sequence[tuple[Answers | None, object]]) -> Answers:
    """The answers of all ranks; one without a readable image has none."""
    read = [answers for answers, _ in shares if answers is not None and len(answers[1])]
    if len(read) == 1:
        return read[0]
    logits, targets = zip(*read, strict=True) if read else ([np.empty((0, 0))], [np.empty(0)])
    return np.concatenate(logits), np.concatenate(targets)


def take_best(work: Work, found: dict[str, float]) -> bool:
    """Record an evaluation if it is the best so far; returns whether it is."""
    weights = "model" if work.state.ema is None else "ema"
    name, best = decides(work), work.state.best
    value = found[name]
    if best is not None and (value >= best.value if name.endswith("loss") else value <= best.value):
        return False
    work.state.best = Best(work.state.step, name, value, weights)
    return True


def decides(work: Work) -> str:
    """The figure that chooses the best evaluation: of the averages where there are any."""
    name = work.recipe.loop.best
    if name == "auto":
        name = "map" if work.recipe.data.multi_label else "top1"
    return ("" if work.state.ema is None else "ema_") + ("val_loss" if name == "loss" else name)


def is_stale(work: Work) -> bool:
    """Whether the last `loop.early_stop` evaluations brought no better one."""
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
    if len(bad) <= max(1, work.recipe.loop.max_bad * total):  # a share of few images may be less than one image
        return
    if work.ranks.first:
        run_folder.TRAINING.write_failures(work.folder, failures(work))
    reasons = kinds(Counter(kind for kind, _ in bad.values()))
    raise TrainingError(
        f"{len(bad):,} of {total:,} {split} images cannot be read ({reasons}); loop.max_bad is "
        f"{work.recipe.loop.max_bad:g}. {work.folder / FAILURES} lists them.",
        f"weevit resume {typed(work.folder)} loop.max_bad={math.ceil(100 * len(bad) / total) / 100:g}   leaves them "
        "out. Repaired or removed, they are other data: those take another --output.",
    )
