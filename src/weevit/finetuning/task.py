"""The input of a fine-tuning: images, published weights, a recipe, and the held-out split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from weevit.datasets.dataset import TRAIN, Dataset, check_classes
from weevit.datasets.read import check_there, read_dataset
from weevit.datasets.splitting import with_validation
from weevit.errors import MalformedFileError, UsageError
from weevit.fitting.results import Fit
from weevit.recipes.recipe import load_recipe, override
from weevit.recipes.schema import Recipe
from weevit.runs.folder import TRAINING
from weevit.training.run_data import held_out
from weevit.zoo.checkpoint import Checkpoint
from weevit.zoo.records import Sha256, Text, items, read_record_file, words
from weevit.zoo.resolve import resolve

FEWEST, MOST = 60, 500
"""Bounds of the held-out split, where the recipe's share would be fewer or more images."""

LARGEST_SHARE = 0.25
"""Largest share of the training split that is held out."""


STARTED = "begun.json"


@dataclass(frozen=True)
class Started:
    """The arguments of a fine-tuning, so that it resumes as it began.

    Attributes:
        model: name or path of the weights.
        sha256: their digest.
        recipe: recipe to begin with.
        overrides: words on top of it.
    """

    model: Text
    sha256: Sha256
    recipe: Text
    overrides: Annotated[tuple[str, ...], items(words(1 << 16), 4096)]

    @classmethod
    def read(cls, folder: Path) -> Started | None:
        """The record of a folder, None for a folder without one; UsageError where it is damaged."""
        path = folder / STARTED
        try:
            return read_record_file(cls, path)
        except FileNotFoundError:
            return None
        except MalformedFileError as error:
            raise UsageError(f"{path} is damaged: {error.message}", "Choose a new --output.") from error

    def write(self, folder: Path) -> None:
        """Record it."""
        TRAINING.write(folder, STARTED, vars(self))

    def refuse_other(self, folder: Path, model: str | Path | None, overrides: Sequence[str]) -> None:
        """Refuse to resume with other weights or overrides, with a UsageError; None keeps the recorded values."""
        if resolve(self.model if model is None else model).sha256 != self.sha256:
            raise UsageError(
                f"{folder} started with the weights of {self.model}; {model or 'the model'} has others now.",
                f"--model {self.model}, or leave it out; or choose a new --output.",
            )
        if overrides and tuple(overrides) != self.overrides:
            raise UsageError(
                f"{folder} started with {' '.join(self.overrides) or 'the recipe as it is'}; "
                f"{' '.join(overrides)} is given now.",
                "Leave that out to resume as it began, or choose a new --output.",
            )


@dataclass(frozen=True)
class Task:
    """A fine-tuning, before anything is measured.

    Attributes:
        recipe: with the model's preprocessing and the data's kind.
        checkpoint: the published weights.
        start: the weights that training starts from: the published ones, with the probe's head if it is better than
            none.
        dataset: with a training and a validation split.
        held: the data set with the held-out split in place of the validation split.
        given: keys of the recipe that the user has set.
        device, threads: as for `weevit.train`.
    """

    recipe: Recipe
    checkpoint: Checkpoint
    start: Checkpoint
    dataset: Dataset
    held: Dataset
    given: frozenset[str]
    device: str = "auto"
    threads: int | None = None

    @classmethod
    def of(cls, data: str | Path, model: str | Path, recipe: str | Path, overrides: Sequence[str]) -> Task:
        """Read data, model and recipe.

        Raises:
            DatasetError, ModelError: the data or the model cannot be read or used.
            RecipeError: the recipe has an invalid value.
        """
        found = load_recipe(recipe, overrides)
        check_there(data)
        checkpoint = resolve(model)
        checkpoint.check_floats()
        read = read_dataset(data)
        check_classes(read)
        given = frozenset(word.partition("=")[0].strip() for word in overrides)
        words = [f"{key}={value}" for key, value in _of(checkpoint, read).items() if key not in given]
        found = override(found, words)
        dataset = with_validation(read, found.data.validation_share, found.seed)
        share = _share(found, len(dataset.split(TRAIN)), given)
        found = override(found, [f"data.hold_out={share}", f"data.path={data}"])
        return cls(found, checkpoint, checkpoint, dataset, held_out(dataset, share, found.seed), given)

    def starting_from(self, probe: Fit) -> Task:
        """Start from the probe's head if it is right more often than the most frequent class."""
        if probe.chosen.score <= _commonest(self.held):
            return self
        recipe = override(self.recipe, [f"model.name={probe.checkpoint.path.parent.absolute()}"])
        return replace(self, recipe=recipe, start=probe.checkpoint)


def _of(checkpoint: Checkpoint, dataset: Dataset) -> dict[str, Any]:
    """The recipe values of the model and the data."""
    spec, several = checkpoint.preprocessing, dataset.multi_label
    local = Path(checkpoint.source).exists()
    return {
        "model.name": str(Path(checkpoint.source).absolute()) if local else checkpoint.source,
        "model.pretrained": "true",
        "model.image_size": spec.height,
        "data.crop_pct": spec.crop_pct,
        "data.crop_mode": spec.crop_mode,
        "data.interpolation": spec.interpolation,
        "data.mean": ",".join(map(str, spec.mean)),
        "data.std": ",".join(map(str, spec.std)),
        "data.multi_label": str(several).lower(),
    } | ({"loss.kind": "bce", "mix.cutmix": 0} if several else {})


def _share(recipe: Recipe, images: int, given: frozenset[str]) -> float:
    """The share of the training split to hold out."""
    share = recipe.data.hold_out or 0.1
    if "data.hold_out" in given:
        return share
    return min(max(share, FEWEST / images), MOST / images, LARGEST_SHARE)


def _commonest(dataset: Dataset) -> float:
    """The accuracy (for labels, the mean average precision) of always answering by class frequency."""
    targets = dataset.split(TRAIN).targets
    counts = targets.mean(axis=0) if targets.ndim == 2 else np.bincount(targets) / len(targets)
    return float(counts.mean() if targets.ndim == 2 else counts.max())
