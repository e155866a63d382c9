"""How few images of a class are too few: one rule for `fit` and `finetune`."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from weevit.datasets.dataset import TRAIN, Dataset
from weevit.errors import DatasetError

FEWEST = 2
"""Different images of a class to learn from: one to learn it by, and one to judge what was learned."""

_NAMED = 10
_LONGEST = 60


def check_floor(
    dataset: Dataset, indices: Sequence[int] | None = None, distinct: Sequence[Hashable | None] | None = None
) -> None:
    """Refuse a class of which too few images are left to learn from. Data with several labels per image has no floor.

    Args:
        dataset: with a training split.
        indices: the images of that split that count, as those that could be read; all where None.
        distinct: a value for each of them; images with the same one are copies, and count once. None is one by itself.

    Raises:
        DatasetError: the message names the classes, and how many images each of them has.
    """
    if dataset.multi_label:
        return
    targets = dataset.split(TRAIN).targets if indices is None else dataset.split(TRAIN).targets[np.asarray(indices)]
    values = [None] * len(targets) if distinct is None else distinct
    keys = [place if value is None else value for place, value in enumerate(values)]
    pairs = {(int(target), key) for target, key in zip(targets, keys, strict=True)}
    counts = np.bincount([target for target, _ in pairs], minlength=len(dataset.classes))
    few = np.flatnonzero(counts < FEWEST)
    if len(few):
        named = ", ".join(f"{dataset.classes[place][:_LONGEST]} ({counts[place]})" for place in few[:_NAMED])
        more = f" and {len(few) - _NAMED:,} more" if len(few) > _NAMED else ""
        raise DatasetError(
            f"{len(few):,} of {len(dataset.classes):,} classes have fewer than {FEWEST} different images to learn from "
            f"(what validation and test hold is not counted): {named}{more}.",
            "Add images of them, or take their folders away. weevit fit --allow-missing takes them as they are.",
        )
