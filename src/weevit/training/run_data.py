"""The data of a run: its splits and their order, and whether it is still what the run was begun with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from weevit.datasets.dataset import Dataset
from weevit.datasets.hashing import contents
from weevit.datasets.read import read_dataset
from weevit.datasets.splitting import with_validation
from weevit.errors import DatasetError
from weevit.training import run_folder
from weevit.training.schema import Recipe

CONTENTS = "contents"
"""The key of `run.json` for the images' bytes, beside the fingerprint of their sizes and times."""


def splits_of(recipe: Recipe) -> Dataset:
    """The data of a recipe, with a validation split."""
    dataset = read_dataset(str(recipe.data.path))
    if dataset.multi_label != recipe.data.multi_label:
        kind = "several labels per image" if dataset.multi_label else "one class per image"
        raise DatasetError(
            f"{dataset.path} has {kind}, and the recipe says data.multi_label={str(recipe.data.multi_label).lower()}.",
            f"data.multi_label={str(dataset.multi_label).lower()}",
        )
    dataset = with_validation(dataset, recipe.data.validation_share, recipe.seed)
    return dataset if recipe.data.hold_out is None else held_out(dataset, recipe.data.hold_out, recipe.seed)


def held_out(dataset: Dataset, share: float, seed: int, hashes: Sequence[str | None] | None = None) -> Dataset:
    """The data with a part of its training split as the validation split; what was the validation split is left out.

    Args:
        dataset: with a training split.
        share: of the training split, as alike to it as can be; copies of an image stay on one side.
        seed: of the draw.
        hashes: the sha256 of the training images, if they are known.
    """
    rest = {name: split for name, split in dataset.splits.items() if name != "validation"}
    return with_validation(replace(dataset, splits=rest), share, seed, hashes)


def in_order(dataset: Dataset, classes: Sequence[str]) -> Dataset:
    """A data set with its classes, whose names do not change, in another order."""
    if dataset.classes == tuple(classes):
        return dataset
    indices = {name: place for place, name in enumerate(classes)}
    moved = np.array([indices[name] for name in dataset.classes])
    back = np.argsort(moved)
    splits = {
        name: replace(split, targets=split.targets[:, back] if dataset.multi_label else moved[split.targets])
        for name, split in dataset.splits.items()
    }
    return replace(dataset, classes=tuple(classes), splits=splits)


def data_facts(dataset: Dataset) -> dict[str, Any]:
    """What `run.json` records of the data."""
    return _facts(dataset) | _contents(dataset)


def _facts(dataset: Dataset) -> dict[str, Any]:
    counts = {name: len(split) for name, split in dataset.splits.items()}
    return {"fingerprint": dataset.fingerprint(), **counts}


def _contents(dataset: Dataset) -> dict[str, str]:
    """What is in the files, as far as it can be had in some seconds: by it, data with other times is known again."""
    digest = contents(dataset)
    return {} if digest is None else {CONTENTS: digest}


def refuse_other_data(
    folder: Path, facts: dict[str, Any], dataset: Dataset, warn: Callable[[str], None]
) -> Iterator[str]:
    """Refuse other data than was recorded; where only times of files differ, their bytes decide. Gives what to say."""
    then, now = dict(facts["data"]), _facts(dataset)
    known = then.pop(CONTENTS, None)
    if now == then:
        return
    found = known
    if now | {"fingerprint": ""} == then | {"fingerprint": ""}:
        found = contents(dataset) if known is not None else None
        if known is not None and known == found:
            yield "the files of the data have other times than when the run was begun, and the same contents"
            return
        if known is None:
            warn(
                "Sizes or times of the data's files are others than when the run was begun, and what is in them was "
                "not recorded then (by an older version, or of more than 4 GB). Unpack them with their times."
            )
    run_folder.refuse_other(folder, facts, {"data": now | ({CONTENTS: found} if known is not None else {})})
