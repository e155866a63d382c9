"""Which images a quantisation is calibrated on, and which it is judged by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from weevit.datasets.dataset import TEST, TRAIN, VALIDATION, Dataset
from weevit.datasets.read import read_dataset
from weevit.engine.ahead import map_ahead
from weevit.engine.session import Pixels
from weevit.errors import DatasetError, ImageError, UsageError
from weevit.evaluation.model import match_classes
from weevit.images.source import Source
from weevit.images.sources import expand
from weevit.predict import Predictor

FEWEST_CALIBRATED, FEWEST_HELD_OUT = 8, 16

Labelled = tuple[Source, int | None]
"""An image, and the index of its class in the model's head where that is known."""


@dataclass(frozen=True)
class Images:
    """Two disjoint sets of images.

    Attributes:
        calibration: for the ranges.
        held_out: for the gate.
        notes: for the user.
    """

    calibration: tuple[Labelled, ...]
    held_out: tuple[Labelled, ...]
    notes: tuple[str, ...]


def choose_images(data: str | Path | Dataset, predictor: Predictor, counts: tuple[int, int], seed: int) -> Images:
    """Draw images to calibrate on and to hold out.

    Where the data has splits, calibration takes from `train`, and the gate from `test`, or else `validation`.

    Args:
        data: images, with or without classes; as for `weevit.evaluate`, or a folder, list, table, pattern of images.
        predictor: of the model; its classes are those that known classes are matched with.
        counts: images to calibrate on, and to hold out at most.
        seed: of the draw.

    Raises:
        UsageError: the model takes other channels than an image has.
        DatasetError: nothing there, or too few images.
    """
    checkpoint = predictor.checkpoint
    if checkpoint.in_chans != 3:
        raise UsageError(
            f"{checkpoint.name} takes {checkpoint.in_chans} channels, and images are read with 3.",
            "--no-data   calibrates on none",
        )
    splits, notes = _read(data, predictor)
    shuffled = {name: _shuffled(own, seed) for name, own in splits.items()}
    judged = next((name for name in (TEST, VALIDATION) if name in shuffled), None)
    if TRAIN in shuffled and judged:
        calibration, held_out = shuffled[TRAIN][: counts[0]], shuffled[judged]
    else:
        together = [one for own in shuffled.values() for one in own]
        count = min(counts[0], len(together) // 2)
        calibration, held_out = together[:count], together[count:]
    if len(calibration) < FEWEST_CALIBRATED or len(held_out) < FEWEST_HELD_OUT:
        raise DatasetError(
            f"{_name(data)} has {len(calibration)} images to calibrate on and {len(held_out)} to hold out; "
            f"{FEWEST_CALIBRATED} and {FEWEST_HELD_OUT} are the fewest.",
            "Give more images of the kind that the model will see, or --no-data.",
        )
    return Images(tuple(calibration), tuple(held_out[: counts[1]]), notes)


def _read(data: str | Path | Dataset, predictor: Predictor) -> tuple[dict[str, list[Labelled]], tuple[str, ...]]:
    """Split -> its images; and why classes are not known, where they are not."""
    try:
        dataset = data if isinstance(data, Dataset) else read_dataset(data, allow_missing=True)
        heads = _heads(dataset, predictor)
    except DatasetError as error:
        sources = list(_plain(data))
        note = f"judged without classes: {error.message.splitlines()[0].rstrip(':.')}."
        return {"all": [(source, None) for source in sources]}, (note,)
    return {
        name: [(source, heads(target)) for source, target in zip(split.sources, split.targets, strict=True)]
        for name, split in dataset.splits.items()
    }, ()


def _heads(dataset: Dataset, predictor: Predictor) -> Callable[[int], int]:
    """Gives the index in the model's head of a class of the data.

    Raises:
        DatasetError: the classes are not those of the model, or an image has several.
    """
    labels = predictor.checkpoint.labels
    if labels is None or dataset.multi_label:
        raise DatasetError("the model has no class names." if labels is None else "images have several labels each.")
    indices = match_classes(dataset.classes, labels, allow_missing=True)
    return lambda target: int(indices[target])


def _plain(data: str | Path | Dataset) -> Iterator[Source]:
    if isinstance(data, Dataset):
        return iter([source for split in data.splits.values() for source in split.sources])
    return iter(expand(data))


def _shuffled(images: Sequence[Labelled], seed: int) -> list[Labelled]:
    order = np.random.default_rng([seed, len(images)]).permutation(len(images))
    return [images[index] for index in order]


def _name(data: str | Path | Dataset) -> str:
    return data.path if isinstance(data, Dataset) else str(data)


def crops(predictor: Predictor, images: Sequence[Labelled]) -> Iterator[tuple[Pixels | None, int | None]]:
    """What the model sees of each image, and its class; None in place of one that cannot be read."""

    def crop(one: Labelled) -> tuple[Pixels | None, int | None]:
        try:
            return predictor.crop(one[0]), one[1]
        except ImageError:
            return None, one[1]

    count = predictor.threads.count
    yield from map_ahead(crop, iter(images), count, 8 * count)
