"""Images with classes, in splits.

A class is its name. Its index is that in `Dataset.classes`, which is fixed when the data set is read, stored with a
model that learns from it, and given to `read_dataset` later: folders are matched to it by name, never by order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from weevit.errors import DatasetError, did_you_mean
from weevit.images.source import Source
from weevit.text import some

TRAIN, VALIDATION, TEST, ALL = "train", "validation", "test", "all"

ORDER = (TRAIN, VALIDATION, TEST, ALL)
"""Names of splits. `all` is the one split of a data set without splits."""

IntArray = npt.NDArray[np.int64]
Targets = npt.NDArray[np.integer]


@dataclass(frozen=True)
class Split:
    """Some of the images, with their classes.

    Attributes:
        name: one of `ORDER`.
        sources: the images; a broken one raises when it is opened.
        targets: (n) int64 class indices; for several labels per image (n, classes) uint8 of 0 and 1.
    """

    name: str
    sources: tuple[Source, ...]
    targets: Targets

    def __len__(self) -> int:
        return len(self.sources)

    def take(self, indices: Sequence[int] | IntArray, name: str | None = None) -> Split:
        """The images at these indices, in this order, under another name if one is given."""
        chosen = np.asarray(indices, dtype=np.int64)
        return Split(name or self.name, tuple(self.sources[index] for index in chosen), self.targets[chosen])


@dataclass(frozen=True)
class Dataset:
    """A data set: folders and tables have been read, images have not been opened.

    Attributes:
        path: the path or address as it was given.
        classes: class names; a target is an index of this list.
        splits: name -> split, in the order of `ORDER`.
        multi_label: whether an image may have any number of labels.
        notes: the inputs that were left out and why, for people.
    """

    path: str
    classes: tuple[str, ...]
    splits: Mapping[str, Split]
    multi_label: bool = False
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return sum(map(len, self.splits.values()))

    def contents(self) -> str:
        """The number of images per split, and the classes, in one line."""
        splits = ", ".join(f"{len(split):,} {name}" for name, split in self.splits.items())
        return f"{splits} · {listed(self.classes)}"

    def split(self, name: str) -> Split:
        """The split of this name; DatasetError where there is none."""
        if name not in self.splits:
            there = ", ".join(self.splits)
            raise DatasetError(f"{self.path} has no split {name!r}; there is {there}.", did_you_mean(name, self.splits))
        return self.splits[name]

    def names_of(self, target: int | Targets) -> tuple[str, ...]:
        """The class names of one target: one name, or any number for a row of labels."""
        if self.multi_label:
            return tuple(self.classes[index] for index in np.flatnonzero(target))
        return (self.classes[int(target)],)

    def fingerprint(self, stamps: Iterable[str] | None = None) -> str:
        """A sha256 that changes when an image, its class or its split does; 64 hex digits.

        Names are relative to the data set's folder, so that a folder that was moved is the same data set.

        Args:
            stamps: a text for each image in the order of the splits; by default size and time of modification.
        """
        digest = hashlib.sha256()
        given = None if stamps is None else iter(stamps)
        for split in self.splits.values():
            for source, target in zip(split.sources, split.targets, strict=True):
                name = source.name.removeprefix(self.path)
                stamp = source.fingerprint() if given is None else next(given)
                parts = (split.name, name, stamp, *self.names_of(target))
                digest.update(("\0".join(parts) + "\n").encode("utf-8", "surrogatepass"))
        return digest.hexdigest()


def listed(classes: Sequence[str], shown: int = 8) -> str:
    """`12 classes: bag, dress, ... and 4 more`."""
    names = some([name if len(name) <= 40 else f"{name[:40]}..." for name in classes], shown)
    return f"{len(classes):,} {'class' if len(classes) == 1 else 'classes'}: {names}"


def check_classes(dataset: Dataset) -> None:
    """Refuse classes that no classifier could tell apart, or that no model could name."""
    if not dataset.classes:
        raise DatasetError(f"{dataset.path} has no class: no image has a label.", "Fill in the column of labels.")
    if len(dataset.classes) < 2 and not dataset.multi_label:
        raise DatasetError(
            f"{dataset.path} has one class, {dataset.classes[0]!r}: a classifier tells several apart.",
            "Put images of anything else into a second folder, called other for instance.",
        )
    if not all(name.strip() for name in dataset.classes):
        raise DatasetError(f"{dataset.path}: a class has no name, or one of spaces only.", "Rename its folder.")
