"""The settings of a fit, and its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from weevit.arguments import MAX_SEED, flag, is_number, one_of, whole
from weevit.errors import UsageError
from weevit.evaluation.results import Evaluation
from weevit.fitting.search import Candidate
from weevit.zoo.checkpoint import Checkpoint

CHOICES = {"class_weights": ("none", "balanced"), "calibrate": ("folds", "validation")}


@dataclass(frozen=True)
class Settings:
    """The settings of a fit; see `weevit.fit`."""

    folds: int = 5
    seed: int = 0
    class_weights: str = "none"
    coverage: float = 0.95
    validation_share: float = 0.2
    calibrate: str = "folds"
    allow_missing: bool = False

    def check(self) -> None:
        """Refuse invalid settings, with a UsageError."""
        whole("folds", self.folds, 2, hint="The default is 5.")
        whole("seed", self.seed, 0, MAX_SEED)
        flag("allow_missing", self.allow_missing)
        if not (is_number(self.coverage) and 0 < self.coverage <= 1):
            raise UsageError(
                f"The coverage is a share above 0 and up to 1: {self.coverage!r:.60} was given.",
                "0.95 lets one in twenty images of known classes be called unknown.",
            )
        if not (is_number(self.validation_share) and 0 < self.validation_share < 1):
            raise UsageError(
                f"The share for validation is more than 0 and less than 1: {self.validation_share!r:.60} was given.",
                "The default is 0.2.",
            )
        for name, allowed in CHOICES.items():
            one_of("--" + name.replace("_", "-"), getattr(self, name), allowed)


@dataclass(frozen=True)
class Calibration:
    """The calibration of a head, and its errors.

    Attributes:
        by: `folds`: from the training images, each judged by a head that did not see it; or `validation`.
        temperature: the divisor of the logits.
        temperatures: the temperatures by `folds` and by `validation`; 1 where none is clearly better.
        errors: ECE. `before` and `after`: on the validation images, without and with the temperature; `with_folds` and
            `with_validation`: with each of the two; `by_chance`: what exactly right probabilities would show on this
            number of images; `out_of_fold`: on the training images, after, each judged by a head that did not see it;
            `out_of_fold_by_chance`. NaN where nothing could be judged.
    """

    by: str
    temperature: float
    temperatures: Mapping[str, float]
    errors: Mapping[str, float]


@dataclass(frozen=True)
class Fit:
    """A fitted head, and its quality.

    Attributes:
        folder: folder of the run; a model wherever weevit takes one.
        checkpoint: the backbone with the head, as in `model/`.
        base: full name of the backbone's model.
        settings: the settings.
        measure: the measure that compared candidates.
        candidates: every candidate.
        chosen: the chosen head.
        neighbours: the best nearest-neighbour candidate, None without.
        neighbours_better: whether that is clearly better than the head.
        calibration: temperature and calibration errors.
        evaluations: `validation`, and `test` where there is one: of images that chose nothing (but temperature and
            threshold, where the settings calibrate by the validation images).
        images: split -> number of images.
        validation_cut: whether the validation split was cut from the training images.
        failures: (split, id, status, error) of images without an answer.
        computed, cached: embeddings that were computed, and that were cached.
        difference: greatest difference of a logit between the fitted head and the checkpoint as read back and run.
        seconds: time of `embed`, `search`, `fit`, `write`, `total`.
        notes: notes for people.
    """

    folder: Path
    checkpoint: Checkpoint
    base: str
    settings: Settings
    measure: str
    candidates: tuple[Candidate, ...] = field(repr=False)
    chosen: Candidate = field(repr=False)
    neighbours: Candidate | None = field(repr=False)
    neighbours_better: bool
    calibration: Calibration
    evaluations: Mapping[str, Evaluation] = field(repr=False)
    images: Mapping[str, int]
    validation_cut: bool
    failures: tuple[tuple[str, str, str, str], ...]
    computed: int
    cached: int
    difference: float
    seconds: Mapping[str, float]
    notes: tuple[str, ...]

    @property
    def metrics(self) -> Mapping[str, float]:
        """Metrics of the validation images."""
        return self.evaluations["validation"].metrics

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the head."""
        return tuple(label.id for label in self.checkpoint.labels or ())

    def as_json(self) -> dict[str, object]:
        """Everything but the single images, as plain data."""
        return {
            "base": self.base,
            "classes": list(self.classes),
            "settings": vars(self.settings),
            "measure": self.measure,
            "chosen": _plain(self.chosen),
            "neighbours": _plain(self.neighbours) if self.neighbours else None,
            "neighbours_better": self.neighbours_better,
            "decision": self.checkpoint.decision.as_json() if self.checkpoint.decision else None,
            "calibration": vars(self.calibration),
            "metrics": {name: dict(one.metrics) for name, one in self.evaluations.items()},
            "images": dict(self.images),
            "validation_cut": self.validation_cut,
            "failures": len(self.failures),
            "embeddings": {"computed": self.computed, "cached": self.cached},
            "logits_difference": self.difference,
            "seconds": dict(self.seconds),
            "notes": list(self.notes),
            "candidates": [_plain(one) for one in self.candidates],
        }


def _plain(candidate: Candidate) -> dict[str, object]:
    return {"name": candidate.name, "kind": candidate.kind, **candidate.settings, "score": candidate.score}
