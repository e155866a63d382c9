"""The results of an evaluation: a row per image, figures, and what they were measured with.

Confusion, calibration, coverage and measures per class follow from the rows, whether computed now or read from disk.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NotRequired, TypedDict

import numpy as np

from weevit.answers.tables import BETWEEN
from weevit.evaluation import metrics
from weevit.evaluation.metrics import NO_ANSWER, Bools, Calibration, Coverage, Floats, Ints, PerClass
from weevit.images.source import Source
from weevit.zoo.labels import Label


class ModelFacts(TypedDict):
    """What figures were measured with."""

    name: str
    source: str
    sha256: str
    parameters: int
    preprocessing: Mapping[str, str | float | Sequence[float]]
    engine: str
    precision: NotRequired[str]  # both in no evaluation of an earlier version, which are fp32 on the CPU
    device: NotRequired[str]
    quantization: NotRequired[str]  # in words; only of a quantised model
    threads: int
    unknown_below: float | None
    weevit: str


class DataFacts(TypedDict):
    """What figures were measured on."""

    path: str
    split: str
    fingerprint: str
    notes: list[str]


@dataclass(frozen=True, slots=True)
class Row:
    """The answer to one image, and its judgement.

    Attributes:
        input: name of the image, relative to the data's folder.
        status: `ok`, or one word that says why there is no answer.
        error: the reason in full; None where the status is `ok`.
        class_id: id of the answered class; None without an answer, and for multi-label.
        probability: its probability, rounded to float32.
        unknown: whether the model answers `unknown`: the probability is below the checkpoint's threshold.
        present: for multi-label, ids of the answered labels; else None.
        target: id of the right class; several with `;` between.
        target_probability: probability of the target, or of the likeliest of several, rounded to float32; None for
            multi-label.
        rank: rank of the target, from 1; None for multi-label.
        right: whether the answer is right: the target, one of several, or for multi-label exactly all of them.
    """

    input: str
    status: str = "ok"
    error: str | None = None
    class_id: str | None = None
    probability: float | None = None
    unknown: bool = False
    present: tuple[str, ...] | None = None
    target: str = ""
    target_probability: float | None = None
    rank: int | None = None
    right: bool = False

    @property
    def ok(self) -> bool:
        """Whether there is an answer."""
        return self.status == "ok"

    @property
    def answer(self) -> str | None:
        """The answer as one text, comparable with the target; None without an answer."""
        return self.class_id if self.present is None else BETWEEN.join(self.present)


@dataclass(frozen=True)
class Evaluation:
    """The results of a model on some images.

    Attributes:
        model: name, source, sha256, parameters, preprocessing, engine, precision, device, threads, unknown (threshold,
            or None).
        data: path, split, fingerprint, notes.
        classes: possible answers, in the order of the head.
        multi_label: whether an image may have any number of them.
        rows: a row per image, in the order of the data.
        metrics: name -> value, over the answered images; shares lie in [0, 1], a share of nothing is NaN. `top1_worst`
            and `top5_worst` count images without an answer as wrong.
        average_precision: of each class; multi-label only.
        seconds: time of the pass, decoding included.
        sources: the images, for thumbnails; as many as rows.
    """

    model: ModelFacts
    data: DataFacts
    classes: tuple[Label, ...]
    multi_label: bool
    rows: tuple[Row, ...]
    metrics: Mapping[str, float]
    average_precision: tuple[float, ...] = ()
    seconds: float = float("nan")
    sources: tuple[Source, ...] = field(default=(), repr=False)

    @property
    def failures(self) -> tuple[Row, ...]:
        """The images without an answer."""
        return tuple(row for row in self.rows if not row.ok)

    @property
    def failed(self) -> Counter[str]:
        """Kind -> number of images without an answer."""
        return Counter((row.error or row.status).partition(":")[0] for row in self.failures)

    @property
    def answered(self) -> tuple[Row, ...]:
        """The images with an answer."""
        return tuple(row for row in self.rows if row.ok)

    @property
    def images_per_second(self) -> float:
        """Images per second, from the file to the answer."""
        return len(self.answered) / self.seconds if self.seconds else float("nan")

    @cached_property
    def names(self) -> dict[str, str]:
        """Class id -> its name for people: the first of several synonyms."""
        return {label.id: label.name.partition(",")[0] for label in self.classes}

    @cached_property
    def per_class(self) -> PerClass:
        """Precision, recall, F1 and support of each class, over the answered images."""
        if self.multi_label:
            said = self._flags([row.answer or "" for row in self.answered])
            return metrics.per_label(said, self._flags([row.target for row in self.answered]))
        return metrics.per_class(*self._answers(), len(self.classes))

    @cached_property
    def confusion(self) -> Ints:
        """(K, K) counts: the row is the target, the column the answer."""
        return metrics.confusion(*self._answers(), len(self.classes))

    @cached_property
    def calibration(self) -> Calibration:
        """The answers in bins of confidence."""
        return metrics.calibration(*self._confidence())

    @cached_property
    def coverage(self) -> Coverage:
        """Accuracy over coverage."""
        return metrics.risk_coverage(*self._confidence())

    def confused(self, count: int = 15) -> list[tuple[str, str, int]]:
        """(target, answer, count) of the most frequent mistakes."""
        pairs = Counter((row.target, row.answer or "") for row in self.answered if not row.right)
        return [(target, answer, times) for (target, answer), times in pairs.most_common(count)]

    def worst(self, count: int = 24) -> list[int]:
        """Indices of the wrong answers, the most confident first."""
        wrong = [index for index, row in enumerate(self.rows) if row.ok and not row.right]
        return sorted(wrong, key=lambda index: -(self.rows[index].probability or 0.0))[:count]

    def _answers(self) -> tuple[Ints, Ints]:
        """(n) targets and (n) answers as class indices; where several are right, the answered one is the target."""
        indices = {label.id: index for index, label in enumerate(self.classes)}
        answered = self.answered
        targets = [
            indices[row.answer if row.right and row.answer else _one_of(row.target, indices)] for row in answered
        ]
        answers = [indices.get(row.answer or "", NO_ANSWER) for row in answered]
        return np.array(targets, dtype=np.int64), np.array(answers, dtype=np.int64)

    def _confidence(self) -> tuple[Floats, Bools]:
        answered = self.answered
        sure = np.array([row.probability for row in answered], dtype=np.float64)
        return sure, np.array([row.right for row in answered], dtype=bool)

    def _flags(self, texts: Sequence[str]) -> Floats:
        indices = {label.id: index for index, label in enumerate(self.classes)}
        flags = np.zeros((len(texts), len(self.classes)))
        for row, text in enumerate(texts):
            flags[row, [indices[name] for name in text.split(BETWEEN) if name]] = 1
        return flags


def _one_of(target: str, indices: Mapping[str, int]) -> str:
    return target if target in indices else target.partition(BETWEEN)[0]


@dataclass(frozen=True)
class Comparison:
    """Two models on the same images.

    Attributes:
        first, second: the evaluations.
        indices: indices of the images that both answered, in the rows of either.
        both, only_first, only_second, neither: number of those images that each has right.
        p_value, mid_p: McNemar's test, exact and mid-p: probability of such a difference between equal models.
        low, high: 95 % interval of the difference, by paired bootstrap.
        seed: seed of the bootstrap.
        same_run: whether both were measured in this run, one after the other.
    """

    first: Evaluation
    second: Evaluation
    indices: tuple[int, ...]
    both: int
    only_first: int
    only_second: int
    neither: int
    p_value: float
    mid_p: float
    low: float
    high: float
    seed: int
    same_run: bool

    @property
    def difference(self) -> float:
        """Difference of the accuracies, second minus first, in [-1, 1]."""
        return (self.only_second - self.only_first) / len(self.indices) if self.indices else float("nan")

    def wins(self) -> list[tuple[str, int, int, int]]:
        """(class id, images, right by the first, right by the second); the greatest lead of the second first."""
        rows = [(self.first.rows[index], self.second.rows[index]) for index in self.indices]
        images = Counter(one.target for one, _ in rows)
        first = Counter(one.target for one, _ in rows if one.right)
        second = Counter(other.target for _, other in rows if other.right)
        table = [(name, count, first[name], second[name]) for name, count in images.items()]
        return sorted(table, key=lambda row: row[2] - row[3])

    def only(self, second: bool) -> list[int]:
        """Indices of the images that only one has right, those first on which the other was most confident."""
        right, wrong = (self.second, self.first) if second else (self.first, self.second)
        chosen = [index for index in self.indices if right.rows[index].right and not wrong.rows[index].right]
        return sorted(chosen, key=lambda index: -(wrong.rows[index].probability or 0.0))


@dataclass(frozen=True)
class SetResult:
    """The results of a model on one of the sets.

    Attributes:
        name, title: of the set.
        images: number of images in the whole set.
        evaluation: the evaluation.
        published: published top-1 and top-5 of this weight in percent; None without such figures.
    """

    name: str
    title: str
    images: int
    evaluation: Evaluation
    published: tuple[float, float] | None

    @property
    def whole(self) -> bool:
        """Whether all images of the set are there; otherwise the published figure covers more images."""
        return len(self.evaluation.rows) == self.images

    @property
    def differences(self) -> tuple[float, float] | None:
        """Measured minus published top-1 and top-5, in percentage points."""
        if self.published is None:
            return None
        found = self.evaluation.metrics
        return 100 * found["top1"] - self.published[0], 100 * found["top5"] - self.published[1]


@dataclass(frozen=True)
class SuiteEvaluation:
    """The results of a model on the sets in a folder.

    Attributes:
        model: as in `Evaluation`.
        path: path of the suite.
        sets: in the order of `imagenet.SETS`.
        absent: titles of the sets that are not there.
        notes: remarks on the figures.
    """

    model: ModelFacts
    path: str
    sets: tuple[SetResult, ...]
    absent: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> SetResult:
        """The set of that name."""
        return next(one for one in self.sets if one.name == name)
