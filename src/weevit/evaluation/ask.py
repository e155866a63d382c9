"""One pass of a model over images with known classes: logits are judged batch by batch and not kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from time import perf_counter
from typing import Protocol

import numpy as np

from weevit.answers.results import Array
from weevit.engine.ahead import batches
from weevit.evaluation.metrics import Floats, Ints, Judged, joined, judge_any, sigmoid
from weevit.evaluation.model import Answers, JudgedModel
from weevit.images.source import Source
from weevit.text import kinds

_CHUNK = 256
"""Images judged together: 1 MB of logits of an ImageNet head."""


@dataclass
class Progress:
    """The progress of a pass.

    Attributes:
        total: number of images.
        answered: images with an answer.
        failed: kind -> images without one.
        seconds: time since the start.
    """

    total: int
    answered: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def done(self) -> int:
        """Images that have been asked for."""
        return self.answered + self.failed.total()

    @property
    def speed(self) -> float:
        """Answers per second; NaN before the first."""
        return self.answered / self.seconds if self.answered and self.seconds else float("nan")

    def line(self) -> str:
        """`38.2 images/s · 3 failed (2 truncated, 1 missing)`."""
        speed = f"{self.speed:.1f} images/s" if self.answered else "just started"
        return f"{speed} · {self.failed.total():,} failed ({kinds(self.failed)})" if self.failed else speed


Watcher = Callable[[Progress], None]


class Judge(Protocol):
    """Judges the answers of a pass."""

    def take(self, indices: Ints, logits: Array) -> None:
        """Logits (m, num_classes) of the images at these indices."""
        ...


class OneOf:
    """Judges images with one right answer: a class, or any of several.

    Args:
        targets: the right classes of each image, as indices of `columns`; an image with none is left out.
        columns: the columns of the head that count; None for all.
    """

    def __init__(self, targets: Sequence[Sequence[int]], columns: Ints | None = None) -> None:
        self._targets, self._columns = targets, columns
        self._indices: list[Ints] = [np.zeros(0, np.int64)]
        self._judged: list[Judged] = []

    def take(self, indices: Ints, logits: Array) -> None:
        """Judge some answers."""
        counted = np.array([bool(len(self._targets[index])) for index in indices], dtype=bool)
        if counted.any():
            scores = logits[counted] if self._columns is None else logits[counted][:, self._columns]
            self._indices.append(indices[counted])
            self._judged.append(judge_any(scores, [self._targets[index] for index in indices[counted]]))

    def verdict(self) -> tuple[Ints, Judged]:
        """Indices of the images that were answered, and their judged answers."""
        return np.concatenate(self._indices), joined(self._judged)


class AllOf:
    """Keeps the probability of every label, for images with any number of labels."""

    def __init__(self, num_classes: int) -> None:
        self._indices: list[Ints] = [np.zeros(0, np.int64)]
        self._kept: list[Floats] = [np.zeros((0, num_classes))]

    def take(self, indices: Ints, logits: Array) -> None:
        """Keep the probabilities of some answers."""
        self._indices.append(indices)
        self._kept.append(sigmoid(logits))

    def verdict(self) -> tuple[Ints, Floats]:
        """Indices of the images that were answered, and the (m, num_classes) probabilities."""
        return np.concatenate(self._indices), np.concatenate(self._kept)


@dataclass(frozen=True)
class Asked:
    """The failures and the progress of a pass.

    Attributes:
        failures: index -> (status, error) of each image without an answer.
        progress: counts and time at the end.
    """

    failures: dict[int, tuple[str, str]]
    progress: Progress


def ask(model: JudgedModel, sources: Sequence[Source], judges: Sequence[Judge], watch: Watcher) -> Asked:
    """Ask for every image once; UsageError for a model without classifier, EngineError where it cannot be run."""
    asked = Asked({}, Progress(len(sources)))
    with closing(model.answers(sources)) as answers:
        for batch in batches(_counted(answers, asked, watch), _CHUNK):
            indices = np.array([index for index, _ in batch], dtype=np.int64)
            logits: Array = np.stack([logits for _, logits in batch])
            for judge in judges:
                judge.take(indices, logits)
    return asked


def _counted(answers: Answers, asked: Asked, watch: Watcher) -> Iterator[tuple[int, Array]]:
    """(index, logits) of the answered images; the failures of the others are noted."""
    progress, start = asked.progress, perf_counter()
    watch(progress)
    for index, (status, error, logits) in enumerate(answers):
        progress.seconds = perf_counter() - start
        if logits is None:
            error = error or status
            asked.failures[index] = (status, error)
            progress.failed[error.partition(":")[0]] += 1
        else:
            progress.answered += 1
            yield index, logits
        watch(progress)
