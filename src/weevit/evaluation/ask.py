"""One pass of a model over images whose classes are known: logits go to those who judge them, and are not kept."""

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

_CHUNK = 256
"""Images that are judged together: 1 MB of logits of an ImageNet head."""


@dataclass
class Progress:
    """How far it is.

    Attributes:
        total: images to look at.
        answered: of them, those that were answered.
        failed: kind -> how many were not.
        seconds: since the first was asked for.
    """

    total: int
    answered: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def done(self) -> int:
        """Images that have been looked at."""
        return self.answered + self.failed.total()

    @property
    def speed(self) -> float:
        """Answers per second; NaN before the first."""
        return self.answered / self.seconds if self.answered and self.seconds else float("nan")

    def line(self) -> str:
        """`38.2 images/s · 3 failed (2 truncated, 1 missing)`."""
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in self.failed.most_common())
        speed = f"{self.speed:.1f} images/s" if self.answered else "just begun"
        return f"{speed} · {self.failed.total():,} failed ({kinds})" if kinds else speed


Watcher = Callable[[Progress], None]


class Judge(Protocol):
    """Whoever wants to see the answers."""

    def take(self, places: Ints, logits: Array) -> None:
        """Logits (m, num_classes) of the images at these indices."""
        ...


class OneOf:
    """Judges images that have one right answer: a class, or any of several.

    Args:
        targets: for each image the classes that are right, as indices of `columns`; an image with none is left out.
        columns: the columns of the head that count, where not all do; the others are not answers.
    """

    def __init__(self, targets: Sequence[Sequence[int]], columns: Ints | None = None) -> None:
        self._targets, self._columns = targets, columns
        self._places: list[Ints] = []
        self._judged: list[Judged] = []

    def take(self, places: Ints, logits: Array) -> None:
        """See some answers."""
        counted = np.array([bool(len(self._targets[place])) for place in places], dtype=bool)
        if counted.any():
            scores = logits[counted] if self._columns is None else logits[counted][:, self._columns]
            self._places.append(places[counted])
            self._judged.append(judge_any(scores, [self._targets[place] for place in places[counted]]))

    def verdict(self) -> tuple[Ints, Judged]:
        """Places of the images that were answered, and how."""
        return _places(self._places), joined(self._judged)


class AllOf:
    """Keeps the probability of every label, for images that have any number of them."""

    def __init__(self, num_classes: int) -> None:
        self._places: list[Ints] = []
        self._kept: list[Floats] = [np.zeros((0, num_classes))]

    def take(self, places: Ints, logits: Array) -> None:
        """See some answers."""
        self._places.append(places)
        self._kept.append(sigmoid(logits))

    def verdict(self) -> tuple[Ints, Floats]:
        """Places of the images that were answered, and the (m, num_classes) probabilities."""
        return _places(self._places), np.concatenate(self._kept)


def _places(parts: Sequence[Ints]) -> Ints:
    return np.concatenate([np.zeros(0, np.int64), *parts])


@dataclass(frozen=True)
class Asked:
    """What a pass was like.

    Attributes:
        failures: index -> (status, error) of each image without an answer.
        progress: the counts and the time at its end.
    """

    failures: dict[int, tuple[str, str]]
    progress: Progress


def ask(model: JudgedModel, sources: Sequence[Source], judges: Sequence[Judge], watch: Watcher) -> Asked:
    """Ask for every image once.

    Raises:
        UsageError: the model has no classifier.
        EngineError: the model could not be run.
    """
    asked = Asked({}, Progress(len(sources)))
    with closing(model.answers(sources)) as answers:
        for batch in batches(_counted(answers, asked, watch), _CHUNK):
            places = np.array([place for place, _ in batch], dtype=np.int64)
            logits: Array = np.stack([logits for _, logits in batch])
            for judge in judges:
                judge.take(places, logits)
    return asked


def _counted(answers: Answers, asked: Asked, watch: Watcher) -> Iterator[tuple[int, Array]]:
    """(index, logits) of those that were answered; the others are noted."""
    progress, start = asked.progress, perf_counter()
    watch(progress)
    for place, (status, error, logits) in enumerate(answers):
        progress.seconds = perf_counter() - start
        if logits is None:
            error = error or status
            asked.failures[place] = (status, error)
            progress.failed[error.partition(":")[0]] += 1
        else:
            progress.answered += 1
            yield place, logits
        watch(progress)
