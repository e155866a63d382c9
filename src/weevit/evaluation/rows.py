"""From judged answers to rows and figures: a row per image, with or without an answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from weevit.answers.tables import BETWEEN
from weevit.evaluation import metrics
from weevit.evaluation.ask import Asked
from weevit.evaluation.metrics import Floats, Ints, Judged
from weevit.evaluation.results import Row
from weevit.zoo.labels import Label


def rows_of(
    ids: Sequence[str],
    targets: Sequence[Sequence[int]],
    labels: Sequence[Label],
    verdict: tuple[Ints, Judged],
    asked: Asked,
    unknown: float | None = None,
) -> list[Row]:
    """A row for each image with a target, in order; `targets` and answers are indices of `labels`.

    Below the probability `unknown` the answer is `unknown`.
    """
    judged = {int(image): at for at, image in enumerate(verdict[0])}
    rows = []
    for image, (name, own) in enumerate(zip(ids, targets, strict=True)):
        target = BETWEEN.join(labels[index].id for index in own)
        if image in judged:
            rows.append(_judged_row(Row(name, target=target), labels, verdict[1], judged[image], unknown))
        elif len(own):
            rows.append(Row(name, *asked.failures[image], target=target))
    return rows


def _judged_row(row: Row, labels: Sequence[Label], judged: Judged, at: int, unknown: float | None) -> Row:
    return replace(
        row,
        class_id=labels[int(judged.answers[at])].id,
        probability=float(np.float32(judged.confidence[at])),
        unknown=unknown is not None and bool(judged.confidence[at] < unknown),
        target_probability=float(np.float32(judged.likelihood[at])),
        rank=int(judged.ranks[at]) + 1,
        right=bool(judged.ranks[at] == 0),
    )


def label_rows(
    ids: Sequence[str], targets: Ints, labels: Sequence[Label], said: tuple[Ints, Floats], asked: Asked
) -> list[Row]:
    """A row for each image with (n, K) labels; answers are (m, K) labels of the images at (m) indices."""
    answered = {int(image): at for at, image in enumerate(said[0])}
    rows = []
    for image, (name, own) in enumerate(zip(ids, targets, strict=True)):
        target = _ids(own, labels)
        row = Row(name, target=BETWEEN.join(target))
        if image in answered:
            present = _ids(said[1][answered[image]], labels)
            rows.append(replace(row, present=present, right=present == target))
        else:
            status, error = asked.failures[image]
            rows.append(replace(row, status=status, error=error))
    return rows


def _ids(flags: Ints | Floats, labels: Sequence[Label]) -> tuple[str, ...]:
    return tuple(labels[int(index)].id for index in np.flatnonzero(flags))


def figures_of(judged: Judged, num_classes: int, unknown: float | None = None) -> Iterator[tuple[str, float]]:
    """Every figure of answers with one right class each, as (name, value).

    With a threshold for `unknown`, `known` is the share of images that get a class, `known_top1` the accuracy on those.
    """
    yield from metrics.classification(judged, num_classes)
    if unknown is not None:
        known = judged.confidence >= unknown
        yield "known", metrics.mean(known)
        yield "known_top1", metrics.mean(judged.right[known])


def all_figures(judged: Judged, num_classes: int, images: int, unknown: float | None) -> dict[str, float]:
    """`figures_of` the answers, and `top1_worst` and `top5_worst`: images without an answer counted as wrong."""
    hits = {f"top{k}_worst": int((judged.ranks < k).sum()) for k in (1, 5) if k == 1 or num_classes > k}
    worst = {name: hit / images if images else float("nan") for name, hit in hits.items()}
    return dict(figures_of(judged, num_classes, unknown)) | worst
