"""How few images of a class are too few: one rule for `fit` and `finetune`."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from weevit.datasets.dataset import TRAIN, Dataset
from weevit.errors import DatasetError
from weevit.text import some

FEWEST = 2
"""Different images per class: one to learn from, and one to judge by."""

_NAMED = 10
_LONGEST = 60


def check_floor(
    dataset: Dataset, indices: Sequence[int] | None = None, distinct: Sequence[Hashable | None] | None = None
) -> None:
    """Refuse a class with fewer than `FEWEST` images to learn from. Data with several labels per image has no such
    limit.

    Args:
        dataset: data with a training split.
        indices: the images of that split that count, such as the readable ones; None for all.
        distinct: a value for each of them; images with the same value are copies, and count once. None is unique.

    Raises:
        DatasetError: the message names the classes, and the number of images of each.
    """
    if dataset.multi_label:
        return
    targets = dataset.split(TRAIN).targets if indices is None else dataset.split(TRAIN).targets[np.asarray(indices)]
    values = [None] * len(targets) if distinct is None else distinct
    keys = [index if value is None else value for index, value in enumerate(values)]
    pairs = {(int(target), key) for target, key in zip(targets, keys, strict=True)}
    counts = np.bincount([target for target, _ in pairs], minlength=len(dataset.classes))
    few = np.flatnonzero(counts < FEWEST)
    if len(few):
        named = some([f"{dataset.classes[index][:_LONGEST]} ({counts[index]})" for index in few], _NAMED)
        raise DatasetError(
            f"{len(few):,} of {len(dataset.classes):,} classes have fewer than {FEWEST} different images to learn from "
            f"(images of validation and test do not count): {named}.",
            "Add images of them, or take their folders away. weevit fit --allow-missing takes them as they are.",
        )
