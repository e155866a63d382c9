"""The linear head that fine-tuning starts from and is held against, and the choice between it and the fine-tuned model.

The folder of a fine-tuning:
    begun.json     the arguments
    probe/         the linear head, as `weevit fit` writes it
    tuned/         the run, as `weevit train` writes it
    blend/         the fine-tuned model: weights on the way from the head to what training ended with
    model/         the better of the two, in the hub's format
    whole/         if that is the head: as it was fitted again, to all training images
    comparison/    both on the validation split, as `weevit compare` writes it
    report.html    what came of it, for people
    evaluation.html, report.json, ...   the better one on the validation split, as `weevit eval` writes it
    failures.csv   images that cannot be read, where there are any
    finetune.json  the plan, the figures and the choice; written last
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal

import numpy.typing as npt

from weevit.answers.results import Array
from weevit.datasets.dataset import TRAIN, VALIDATION, Dataset
from weevit.errors import DatasetError, TrainingError
from weevit.evaluation.compare import compare_evaluations, comparison_json, write_comparison
from weevit.evaluation.evaluate import evaluate
from weevit.evaluation.model import known
from weevit.evaluation.results import Comparison, Evaluation
from weevit.evaluation.saved import OURS as EVALUATION
from weevit.evaluation.saved import REPORT_HTML
from weevit.finetuning.blending import blend
from weevit.finetuning.planning import Plan
from weevit.finetuning.task import STARTED, Task
from weevit.fitting import calibration
from weevit.fitting.fit import Stage, fit
from weevit.fitting.heads import Floats, Head
from weevit.fitting.results import Fit
from weevit.predict import Predictor
from weevit.runs import folder as run_folder
from weevit.search import embeddings
from weevit.search.embeddings import embed_split
from weevit.store.folder import FAILURES, LOCK, Kind
from weevit.text import span
from weevit.training.loop import INTERRUPTED
from weevit.training.pages import EVALUATION_PAGE, write_evaluated
from weevit.training.results import Run
from weevit.training.watch import Progress, Watcher
from weevit.zoo.checkpoint import Checkpoint, read_checkpoint
from weevit.zoo.decision import Decision
from weevit.zoo.writing import write_checkpoint

PROBE, TUNED, BLEND, MODEL, WHOLE, COMPARISON = "probe", "tuned", "blend", "model", "whole", "comparison"
RECORD = "finetune.json"
SCHEMA = "weevit.finetune/1"
_FILES = (PROBE, TUNED, BLEND, MODEL, WHOLE, COMPARISON, RECORD, STARTED, FAILURES, EVALUATION_PAGE, *EVALUATION, LOCK)
FINETUNE = Kind(
    name="fine-tuning",
    record=STARTED,
    schemas=(),
    files={"": _FILES},
    resumed=True,
    done=RECORD,
    next="weevit classify IMAGE --model {0}",
    again="Free some room, or make it writable, and rerun the command to resume.",
)

_WIDTH, _NAMES = 80, 12
"""Columns of the printed text, and of the names in front."""

COVERAGE = 0.95
"""Share of images of known classes that keep their class, the others being called unknown; as in `fit`."""

RULE = (
    "the fine-tuned model if it is better than the probe on the held-out split, or as good with a lower "
    "log loss; else the probe"
)


Failure = tuple[str, str, str, str]


@dataclass(frozen=True)
class FineTuned:
    """What came of a fine-tuning.

    Attributes:
        folder: of it; a model wherever weevit takes one.
        chosen: `tuned` or `probe`, by `RULE`; empty where it was stopped before, `probe` where there is no run.
        measure: what they are judged by: `top1`, or `map` for labels.
        held_out: `probe` and `tuned` -> that figure, on the held-out split.
        blend: share of the way from the probe to what training ended with -> log loss on the held-out split; the
            fine-tuned model is the one with the least. Empty where training did not start from the probe.
        head: the probe on the validation split.
        comparison: the probe (first) and the fine-tuned model (second) on the validation split, which chose nothing;
            neither saw the held-out split. None where it was stopped before, or there is no run.
        probe: the linear head.
        run: the training run; None where no time was left for one, or it diverged.
        diverged: at which step, by which images; empty where it did not.
        failures: (split, id, status, error) of images that cannot be read, and are left out.
        plan: as it was made.
        minutes: that all of it took, in this sitting.
        budget: minutes that it might have taken; None for as long as it takes.
    """

    folder: Path
    chosen: Literal["tuned", "probe", ""]
    measure: str
    held_out: dict[str, float]
    head: Evaluation
    comparison: Comparison | None
    probe: Fit
    run: Run | None
    failures: tuple[Failure, ...] = ()
    diverged: str = ""
    blend: dict[float, float] = field(default_factory=dict)
    plan: Plan | None = None
    minutes: float = 0.0
    budget: float | None = None

    @property
    def model(self) -> Path:
        """The folder of the better model, in the hub's format."""
        return self.folder / MODEL

    @property
    def validation(self) -> dict[str, float]:
        """`probe` and `tuned` -> the figure on the validation split; empty after a stop before the end."""
        if not self.chosen:
            return {}
        sides = {PROBE: self.head} | ({TUNED: self.comparison.second} if self.comparison else {})
        return {name: side.metrics[self.measure] for name, side in sides.items()}

    def written(self) -> FineTuned:
        """Write the record if the fine-tuning is done; returns itself."""
        if self.chosen:
            FINETUNE.write(self.folder, RECORD, self.as_json())
        return self

    def lines(self) -> list[str]:
        """The result, for people."""
        if not self.chosen:
            assert self.run is not None
            return [f"stopped     after {self.run.step:,} of {self.run.total:,} updates: nothing was chosen yet"]
        told = {"kept": self.verdict(), "validation": self._judged()}
        if self.blend:
            share, loss = min(self.blend.items(), key=itemgetter(1))
            told["blend"] = f"{share:g} of the way from the head: held-out log loss {loss:.3f}, " + (
                f"{self.blend[1.0]:.3f} at its end"
            )
        if self.diverged:
            told["diverged"] = self.diverged
        if self.failures:
            told["left out"] = f"{len(self.failures):,} images that cannot be read; {FAILURES} lists them"
        told["time"] = span(60 * self.minutes) + (f" of {self.budget:g} min" if self.budget else "")
        indent = " " * _NAMES
        lines = [
            line
            for name, text in told.items()
            for line in textwrap.wrap(
                f"{name:<{_NAMES}}{text}", _WIDTH, subsequent_indent=indent, break_on_hyphens=False
            )
        ]
        return [*lines, f"model       {self.model}", f"page        {self.folder / REPORT_HTML}"]

    def verdict(self) -> str:
        """Which of the two is kept, and why."""
        if self.run is None:
            return f"the linear head: {'training diverged' if self.diverged else 'no time was left for training'}"
        name = "mean average precision" if self.measure == "map" else "right"
        of = f"{len(self.probe.evaluations[VALIDATION].rows):,} held-out images"
        tuned, head = (f"{100 * self.held_out[one]:.1f} %" for one in (TUNED, PROBE))
        if self.chosen == PROBE:
            return f"the linear head: fine-tuning did not beat it on {of} ({tuned} {name}, the head {head})"
        even = self.held_out[TUNED] == self.held_out[PROBE]
        other = "as has the linear head, with a higher log loss" if even else f"the linear head {head}"
        return f"the fine-tuned model: {tuned} {name} on {of}, {other}"

    def _judged(self) -> str:
        """The figures on the validation split, which chose nothing."""
        name = "mean average precision" if self.measure == "map" else "right"
        shown = {one: f"{100 * value:.1f} %" for one, value in self.validation.items()}
        compared = self.comparison
        if compared is None:
            return f"the head {shown[PROBE]} {name} of {len(self.head.rows):,} images"
        text = f"fine-tuned {shown[TUNED]}, the head {shown[PROBE]} {name} of {len(compared.indices):,} images"
        if self.measure == "map":
            return text
        return (
            f"{text}: a difference of {100 * compared.difference:+.1f} points ({100 * compared.low:+.1f} to "
            f"{100 * compared.high:+.1f}; McNemar, p = {compared.p_value:.2g})"
        )

    def as_json(self) -> dict[str, object]:
        """Everything but the single images, as plain data."""
        compared = comparison_json(self.comparison) if self.comparison else {}
        return {
            "schema": SCHEMA,
            "folder": str(self.folder),
            "chosen": self.chosen or None,
            "rule": RULE,
            "measure": self.measure,
            "held_out": self.held_out,
            "blend": {str(share): loss for share, loss in self.blend.items() if math.isfinite(loss)},
            "validation": self.validation,
            "only_probe_right": compared.get("only_first"),
            "only_tuned_right": compared.get("only_second"),
            "p_value": compared.get("p_value"),
            "probe": {"chosen": self.probe.chosen.name, "cross_validation": self.probe.chosen.score},
            "run": {name: getattr(self.run, name) for name in ("stopped", "step", "total")} if self.run else None,
            "diverged": self.diverged or None,
            "failures": len(self.failures),
            "plan": self.plan.as_json() if self.plan else None,
            "minutes": round(self.minutes, 3),
            "budget_minutes": self.budget,
        }


# ---- the head


def fit_probe(task: Task, data: Dataset, folder: Path, watcher: Watcher) -> Fit:
    """Fit a linear head to a training split, as `weevit fit` does, into `folder`; known embeddings are not computed.

    Raises:
        KeyboardInterrupt: the watcher stopped it; embeddings are kept.
    """

    def watch(stage: Stage) -> None:
        watcher.moved(Progress(stage.done, stage.total, max(stage.total, 1), doing=stage.name))

    predictor = Predictor(task.checkpoint, threads=task.threads)
    return fit(data, folder, predictor, seed=task.recipe.seed, watch=watch, should_stop=watcher.should_stop)


def judge_probe(task: Task, folder: Path, probe: Fit, watcher: Watcher) -> FineTuned:
    """Evaluate the head on the validation split, and list the unreadable images.

    Raises:
        DatasetError: no validation image can be read.
        TrainingError: more training images are unreadable than the recipe allows.
    """
    measure = "map" if task.dataset.multi_label else "top1"
    head = _ask(task, task.checkpoint, probe.checkpoint, task.dataset, watcher).evaluation
    lost = tuple((VALIDATION, row.input, row.status, row.error or "") for row in head.rows if not row.ok)
    failures = (*((TRAIN, *one[1:]) for one in probe.failures), *lost)
    if failures:
        FINETUNE.write_failures(folder, ((name, split, status, error) for split, name, status, error in failures))
        watcher.say(f"{len(failures):,} images cannot be read and are left out: {folder / FAILURES} lists them")
    _refuse_bad(task, folder, len(probe.failures))
    return FineTuned(folder, "", measure, {PROBE: probe.metrics[measure]}, head, None, probe, None, failures)


def _refuse_bad(task: Task, folder: Path, bad: int) -> None:
    total, share = len(task.dataset.split(TRAIN)), task.recipe.loop.max_bad
    if bad > max(1, share * total):
        enough = math.ceil(100 * bad / total) / 100
        raise TrainingError(
            f"{bad:,} of {total:,} training images cannot be read; loop.max_bad is {share:g}. {folder / FAILURES} "
            "lists them.",
            f"Repair or remove them, or add loop.max_bad={enough:g}; then rerun the command to resume.",
        )


# ---- the choice


def choose(task: Task, found: FineTuned, run: Run | None, watcher: Watcher) -> FineTuned:
    """Blend, choose and calibrate by the held-out split; judge both models by the validation split.

    Args:
        task: the fine-tuning.
        found: result of `judge_probe`.
        run: the run that started from the probe's training images; None without one.
        watcher: told the progress.
    """
    folder, probe, measure = found.folder, found.probe, found.measure
    if run is not None and run.stopped == INTERRUPTED:
        return replace(found, run=run)
    if run is None or run.best is None:  # the time was up before an update
        _keep_head(task, folder, watcher)
        return replace(found, chosen="probe")
    found = replace(found, run=run)
    tuned = read_checkpoint(run.model)
    if run_folder.read_run(run.folder)["weights"].get("sha256") == probe.checkpoint.sha256:
        tuned, losses = blend(task, probe.checkpoint, tuned, task.held.split(VALIDATION), folder / BLEND, watcher)
        found = replace(found, blend=losses)
    held = _ask(task, tuned, tuned, task.held, watcher)
    scores = found.held_out | {TUNED: held.evaluation.metrics[measure]}
    chosen = better(scores, {PROBE: _log_loss(probe.metrics), TUNED: _log_loss(held.evaluation.metrics)})
    if chosen == TUNED:
        final = _calibrated(tuned, held, folder / MODEL)
        second = _ask(task, tuned, final, task.dataset, watcher).evaluation
        write_evaluated(second, folder)
    else:
        second = _ask(task, tuned, tuned, task.dataset, watcher).evaluation
        _keep_head(task, folder, watcher)
    comparison = compare_evaluations(found.head, second)
    write_comparison(comparison, folder / COMPARISON)
    return replace(found, chosen=chosen, held_out=scores, comparison=comparison)


def _keep_head(task: Task, folder: Path, watcher: Watcher) -> None:
    """Write the head as the model, fitted again to all training images."""
    watcher.say("the head is fitted again, with the held-out split")
    whole = fit_probe(task, task.dataset, folder / WHOLE, watcher)
    _write(whole.checkpoint, whole.checkpoint.floats(), whole.checkpoint.decision, folder / MODEL)
    write_evaluated(whole.evaluations[VALIDATION], folder)


def better(scores: Mapping[str, float], losses: Mapping[str, float]) -> Literal["tuned", "probe"]:
    """`RULE`, by the figures and the log losses on the held-out split."""
    even = scores[TUNED] == scores[PROBE] and losses[TUNED] < losses[PROBE]
    return "tuned" if scores[TUNED] > scores[PROBE] or even else "probe"


def _log_loss(metrics: Mapping[str, float]) -> float:
    return metrics.get("log_loss", math.inf)  # a multilabel set has none


@dataclass(frozen=True)
class _Answers:
    """A model's answers to the validation split of some data: logits and targets of the readable images."""

    evaluation: Evaluation
    logits: Floats
    targets: npt.NDArray[Any]


def _ask(task: Task, backbone: Checkpoint, model: Checkpoint, data: Dataset, watcher: Watcher) -> _Answers:
    """The answers of a model, from the embeddings of a checkpoint that differs from it in the head at most.

    Embeddings are kept by checkpoint, so that no image is embedded twice.
    """
    predictor, split = Predictor(backbone, threads=task.threads), data.split(VALIDATION)

    def moved(progress: embeddings.Progress) -> None:
        watcher.moved(Progress(progress.done, progress.total, max(progress.total, 1), doing="evaluating"))

    embedded = embed_split(predictor, split, watch=moved)
    if not embedded.ok.any():
        raise DatasetError(f"None of the {len(split):,} validation images can be read.", "weevit data check")
    tensors = model.floats()
    logits = Head(tensors["head.weight"], tensors["head.bias"]).logits(embedded.vectors)
    judged = known(Predictor(model, threads=task.threads), logits, embedded.ok, embedded.failures)
    evaluation = replace(evaluate(judged, data, split=VALIDATION, allow_missing=True), seconds=float("nan"))
    return _Answers(evaluation, logits[embedded.ok], split.targets[embedded.ok])


def _calibrated(tuned: Checkpoint, answers: _Answers, folder: Path) -> Checkpoint:
    """Write the fine-tuned model with its temperature in the head, and its threshold for `unknown`."""
    heat = calibration.temperature(answers.logits, answers.targets)
    cooled = answers.logits / heat
    if answers.targets.ndim == 2:
        thresholds = calibration.label_thresholds(cooled, answers.targets)
        decision = Decision(multi_label=True, label_thresholds=thresholds, temperature=heat)
    else:
        threshold = calibration.unknown_threshold(cooled, COVERAGE)
        decision = Decision(threshold, None if threshold is None else COVERAGE, temperature=heat)
    tensors = tuned.floats()
    head = {name: tensors[name] / heat for name in ("head.weight", "head.bias")}
    return _write(tuned, tensors | head, decision, folder)


def _write(checkpoint: Checkpoint, tensors: dict[str, Array], decision: Decision | None, folder: Path) -> Checkpoint:
    about = {"license": checkpoint.license} if checkpoint.license else {}
    return write_checkpoint(
        folder, checkpoint.architecture, tensors, checkpoint.preprocessing, checkpoint.labels, about, decision
    )
