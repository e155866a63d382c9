"""The data of a run: its splits and their order, and the check that it is unchanged."""

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
from weevit.recipes.schema import Recipe
from weevit.runs import folder as run_folder

CONTENTS = "contents"
"""The key of `run.json` for the digest of the images' bytes."""


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


def held_out(dataset: Dataset, share: float, seed: int) -> Dataset:
    """The data with a held-out share of its training split in place of the validation split."""
    rest = {name: split for name, split in dataset.splits.items() if name != "validation"}
    return with_validation(replace(dataset, splits=rest), share, seed)


def in_order(dataset: Dataset, classes: Sequence[str]) -> Dataset:
    """A data set with its classes in another order."""
    if dataset.classes == tuple(classes):
        return dataset
    indices = {name: index for index, name in enumerate(classes)}
    moved = np.array([indices[name] for name in dataset.classes])
    back = np.argsort(moved)
    splits = {
        name: replace(split, targets=split.targets[:, back] if dataset.multi_label else moved[split.targets])
        for name, split in dataset.splits.items()
    }
    return replace(dataset, classes=tuple(classes), splits=splits)


def data_facts(dataset: Dataset) -> dict[str, Any]:
    """The record of the data in `run.json`."""
    return _facts(dataset) | _contents(dataset)


def _facts(dataset: Dataset) -> dict[str, Any]:
    counts = {name: len(split) for name, split in dataset.splits.items()}
    return {"fingerprint": dataset.fingerprint(), **counts}


def _contents(dataset: Dataset) -> dict[str, str]:
    """The digest of the files' bytes, if small enough: it recognises data with other times."""
    digest = contents(dataset)
    return {} if digest is None else {CONTENTS: digest}


def refuse_other_data(
    folder: Path, facts: dict[str, Any], dataset: Dataset, warn: Callable[[str], None]
) -> Iterator[str]:
    """Refuse data that differs from the record; where only times differ, the bytes decide. Yields notes."""
    then, now = dict(facts["data"]), _facts(dataset)
    known = then.pop(CONTENTS, None)
    if now == then:
        return
    found = known
    if now | {"fingerprint": ""} == then | {"fingerprint": ""}:
        found = contents(dataset) if known is not None else None
        if known is not None and known == found:
            yield "the times of the data's files changed since the run began, their contents did not"
            return
        if known is None:
            warn(
                "Sizes or times of the data's files changed since the run began, and their contents were "
                "not recorded then (by an older version, or of more than 4 GB). Unpack them with their times."
            )
    run_folder.refuse_other(folder, facts, {"data": now | ({CONTENTS: found} if known is not None else {})})
