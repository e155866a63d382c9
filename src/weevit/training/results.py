"""The results of a run: the best weights as a model, tables, images, and the record of its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from weevit.datasets.dataset import TRAIN, VALIDATION
from weevit.errors import STATUSES
from weevit.nn.save import save as save_module
from weevit.nn.vit import VisionTransformer
from weevit.runs import folder as run_folder
from weevit.runs.saved import Best, Row
from weevit.store.files import replacing_folder
from weevit.store.folder import Failure
from weevit.training.module import preprocessing, rebuild
from weevit.training.plots import CURVES, SAMPLES, draw_curves, draw_samples
from weevit.training.setup import Work
from weevit.training.state import checkpoints, damage, read_weights
from weevit.zoo.decision import Decision


@dataclass(frozen=True)
class Run:
    """The result of a run.

    Attributes:
        folder: folder of the run.
        stopped: `done`, `time budget`, `early stop` or `interrupted`; all but the first can be resumed.
        step, total: updates done, and at the end of the schedule.
        best: the best evaluation; None before the first.
        figures: figures of the last evaluation.
        digest: sha256 over weights, moments, averages, counts and metrics: equal runs have equal ones.
        bad: kind -> number of unreadable images.
        minutes: time of all sittings together.
        metrics: every row.
        worked: whether updates were made in this sitting.
        planned: updates of the schedule by the recipe.
        ends: decisions on the end of the schedule, as in `weevit.training.pace.Pace`.
    """

    folder: Path
    stopped: str
    step: int
    total: int
    best: Best | None
    figures: dict[str, float]
    digest: str
    bad: dict[str, int]
    minutes: float
    metrics: tuple[Mapping[str, float | str], ...] = field(repr=False)
    worked: bool = True
    planned: int = 0
    ends: tuple[tuple[int, int], ...] = field(default=(), repr=False)

    @property
    def model(self) -> Path:
        """The folder of the best weights, in the hub's format."""
        return self.folder / run_folder.MODEL

    def as_json(self) -> dict[str, object]:
        """The end of the run as plain data."""
        names = ("stopped", "step", "total", "figures", "digest", "bad")
        best = vars(self.best) if self.best else None
        return {name: getattr(self, name) for name in names} | {"best": best, "minutes": round(self.minutes, 3)}


def publish(work: Work, path: Path) -> None:
    """Write the best weights, from the checkpoint at `path`, as `model/`: the hub's format with classes."""
    assert work.state.best is not None
    module: VisionTransformer = rebuild(work.facts["model"])
    module.load_state_dict(read_weights(path, work.state.best.weights))
    with run_folder.TRAINING.writing(work.folder), replacing_folder(work.folder / run_folder.MODEL) as tmp:
        several = Decision(multi_label=True) if work.dataset.multi_label else None
        save_module(module, tmp, list(work.dataset.classes), several)


def publish_again(work: Work) -> None:
    """Write `model/` from the best checkpoint of the state: a killed process may have written a later one."""
    best = work.state.best
    path = checkpoints(work.folder / run_folder.STATE).get(best.step) if best else None
    if path is not None and damage(path) is None:
        publish(work, path)


def show_samples(work: Work, images: Tensor) -> None:
    """Write `plots/samples.png`: the first training images as the model sees them."""
    with run_folder.TRAINING.writing(work.folder):
        draw_samples(work.folder / run_folder.PLOTS / SAMPLES, images, preprocessing(work.model))


def show_metrics(work: Work) -> None:
    """Write the tables and the curves of all metrics so far."""
    run_folder.write_metrics(work.folder, work.state.metrics)
    run_folder.TRAINING.write_failures(work.folder, failures(work))
    with run_folder.TRAINING.writing(work.folder):
        draw_curves(work.folder / run_folder.PLOTS / CURVES, work.state.metrics, work.plan.steps_per_epoch)


def failures(work: Work) -> list[Failure]:
    """The unreadable images of both splits; each reason begins with its kind."""
    splits = {TRAIN: work.state.bad, VALIDATION: work.validation.bad}
    return [
        (name, split, STATUSES.get(kind, kind), f"{kind}: {error}")
        for split, bad in splits.items()
        for name, (kind, error) in sorted(bad.items())
    ]


def last_figures(rows: list[Row]) -> dict[str, float]:
    """The figures of the last evaluation; empty before the first."""
    last: Row = next((row for row in reversed(rows) if row["kind"] == "eval"), {})
    return {name: value for name, value in last.items() if name not in ("step", "epoch", "kind", "seen")}


def outcome(work: Work, stopped: str, digest: str, worked: bool = True) -> Run:
    """The result, which is also recorded in `run.json`."""
    state = work.state
    run = Run(
        folder=work.folder,
        stopped=stopped,
        step=state.step,
        total=work.pace.total,
        best=state.best,
        figures=last_figures(state.metrics),
        digest=digest,
        bad=dict(Counter(kind for kind, _ in {**work.validation.bad, **state.bad}.values())),
        minutes=state.clock.seconds / 60,
        metrics=tuple(state.metrics),
        worked=worked,
        planned=work.plan.total,
        ends=tuple(state.ends),
    )
    if work.ranks.first:
        run_folder.write_run(work.folder, {**work.facts, "end": run.as_json()})
    return run
