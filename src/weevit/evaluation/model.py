"""The model that is evaluated: its answers, its facts, and the match of its classes with those of the data.

The answers come from a `Predictor`, or from logits that are known already.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from weevit._version import __version__
from weevit.answers.results import Array
from weevit.datasets.found import class_name
from weevit.errors import DatasetError, UsageError, did_you_mean
from weevit.evaluation.metrics import Bools, Floats, Ints
from weevit.evaluation.results import ModelFacts
from weevit.images.source import Source
from weevit.predict import Predictor, load
from weevit.text import signed
from weevit.zoo.checkpoint import Checkpoint
from weevit.zoo.counts import count
from weevit.zoo.labels import Label

_SHOWN = 20
"""Classes that an error lists by name."""


Answers: TypeAlias = Generator[tuple[str, str | None, Array | None], None, None]
"""For each image its status, the error or None, and (num_classes) float32 logits or None."""


@dataclass(frozen=True)
class JudgedModel:
    """A model with a classifier, as an evaluation uses it.

    Attributes:
        checkpoint: its classes, and the rule from logits to an answer.
        facts: what its figures are measured with.
        answers: takes images, and yields an answer for each, in order.
    """

    checkpoint: Checkpoint
    facts: ModelFacts
    answers: Callable[[Sequence[Source]], Answers]


def judged(model: str | Path | Predictor | JudgedModel) -> JudgedModel:
    """The model to evaluate; names and folders are loaded. Answers do not depend on the batch size."""
    if isinstance(model, JudgedModel):
        return model
    predictor = model if isinstance(model, Predictor) else load(model)

    def answers(sources: Sequence[Source]) -> Answers:
        with closing(predictor.stream(tuple(sources), outputs=("logits",), topk=1, steady=True)) as results:
            for result in results:
                yield result.status, result.error, result.logits

    return JudgedModel(predictor.checkpoint, describe(predictor), answers)


def known(predictor: Predictor, logits: Floats, ok: Bools, failures: Sequence[tuple[str, str, str]]) -> JudgedModel:
    """A model whose answers to the images of one split are known: nothing is computed.

    Args:
        predictor: the model.
        logits: (n, num_classes) of all images; rows without an answer are ignored.
        ok: (n) whether there is an answer.
        failures: (id, status, error) of each image without one, in order.
    """

    def answers(sources: Sequence[Source]) -> Answers:
        reasons = iter(failures)
        for _, answered, row in zip(sources, ok, logits.astype(np.float32), strict=True):
            if answered:
                yield "ok", None, row
            else:
                _, status, error = next(reasons)
                yield status, error, None

    return JudgedModel(predictor.checkpoint, describe(predictor), answers)


def labels_of(checkpoint: Checkpoint) -> tuple[Label, ...]:
    """The classes of a model, in the order of its head; UsageError where it has no classifier or no class names."""
    if not checkpoint.num_classes:
        raise UsageError(
            f"{checkpoint.name} has no classifier (num_classes is 0), so there is nothing to evaluate.",
            "weevit fit DATA   puts one on it",
        )
    if checkpoint.labels is None:
        raise UsageError(
            f"{checkpoint.name} names none of its {checkpoint.num_classes:,} classes; the data's classes are "
            "matched by name.",
            "Write them into its config.json, in the order of the head: label_names.",
        )
    return checkpoint.labels


def describe(predictor: Predictor) -> ModelFacts:
    """The model and engine that a figure was measured with, as plain data."""
    checkpoint = predictor.checkpoint
    facts: ModelFacts = {
        "name": checkpoint.name,
        "source": checkpoint.source,
        "sha256": checkpoint.sha256,
        "parameters": count(checkpoint.architecture, checkpoint.num_classes, checkpoint.grid).params,
        "preprocessing": json.loads(
            json.dumps(asdict(predictor.preprocessing))
        ),  # as it is read back: lists, not tuples
        "engine": predictor.engine,
        "precision": predictor.precision,
        "device": predictor.device,
        "threads": predictor.threads.count,
        "unknown_below": unknown_below(checkpoint),
        "weevit": __version__,
    }
    if checkpoint.quantization is not None:
        facts["quantization"] = str(checkpoint.quantization)
    return facts


def unknown_below(checkpoint: Checkpoint) -> float | None:
    """The probability below which the model's answer is `unknown`; None where it always names a class."""
    return checkpoint.decision.threshold if checkpoint.decision else None


def match_classes(names: Sequence[str], labels: Sequence[Label], allow_missing: bool) -> Ints:
    """The index in the head of each class of the data: by its id, else by its name for people.

    Raises:
        DatasetError: a class that the model lacks, two classes that are the same one, or, unless allowed, classes of
            the model that the data lacks; the message lists them.
    """
    known = {class_name(label.name): index for index, label in enumerate(labels)}
    known |= {class_name(label.id): index for index, label in enumerate(labels)}
    extra = [name for name in names if name not in known]
    indices = [known[name] for name in names if name in known]
    there = set(indices)
    missing = [label.id for index, label in enumerate(labels) if index not in there]
    if extra or (missing and not allow_missing):
        raise _misfit(extra, missing, [label.id for label in labels])
    if len(there) < len(indices):
        twice = sorted(name for name in names if indices.count(known[name]) > 1)
        raise DatasetError(f"Several classes of the data are one class of the model: {', '.join(twice)}.")
    return np.array(indices, dtype=np.int64)


def _misfit(extra: Sequence[str], missing: Sequence[str], allowed: Sequence[str]) -> DatasetError:
    lines = ["The classes of the data are not those of the model (+ only in the data, - only in the model):"]
    lines += [*signed("+", extra, _SHOWN), *signed("-", missing, _SHOWN)]
    if extra:
        return DatasetError("\n".join(lines), did_you_mean(extra[0], allowed))
    return DatasetError("\n".join(lines), "--allow-missing (allow_missing=True)   measures the classes that are there")
