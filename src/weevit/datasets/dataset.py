"""Images with classes, in splits.

A class is its name. Its index is the one in `Dataset.classes`, which is fixed when the data set is read, stored with
whatever is learned from it, and given to `read_dataset` afterwards: folders are matched to it by name, never by count.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from weevit.errors import DatasetError, did_you_mean
from weevit.images.source import Source

TRAIN, VALIDATION, TEST, ALL = "train", "validation", "test", "all"

ORDER = (TRAIN, VALIDATION, TEST, ALL)
"""Names of splits. `all` is the one split of a data set that has none."""

IntArray = npt.NDArray[np.int64]
Targets = npt.NDArray[np.integer]


@dataclass(frozen=True)
class Split:
    """Some of the images, and what is in them.

    Attributes:
        name: one of `ORDER`.
        sources: the images; broken ones too, which are found when they are opened.
        targets: (n) int64, the index of each one's class; for several labels per image (n, classes) uint8 of 0 and 1.
    """

    name: str
    sources: tuple[Source, ...]
    targets: Targets

    def __len__(self) -> int:
        return len(self.sources)

    def take(self, indices: Sequence[int] | IntArray, name: str | None = None) -> Split:
        """The images at these indices, in this order, under another name if one is given."""
        places = np.asarray(indices, dtype=np.int64)
        return Split(name or self.name, tuple(self.sources[place] for place in places), self.targets[places])


@dataclass(frozen=True)
class Dataset:
    """A data set as it was read: nothing has been opened yet but folders and tables.

    Attributes:
        path: where it was read from, as it was given.
        classes: their names; a target is an index of this list.
        splits: name -> split, in the order of `ORDER`.
        multi_label: whether an image may have any number of labels.
        notes: what was left out and why, in words for people.
    """

    path: str
    classes: tuple[str, ...]
    splits: Mapping[str, Split]
    multi_label: bool = False
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return sum(map(len, self.splits.values()))

    def contents(self) -> str:
        """How many images are in which split, and of which classes, in one line."""
        splits = ", ".join(f"{len(split):,} {name}" for name, split in self.splits.items())
        return f"{splits} · {listed(self.classes)}"

    def split(self, name: str) -> Split:
        """The split of this name; DatasetError where there is none."""
        if name not in self.splits:
            there = ", ".join(self.splits)
            raise DatasetError(f"{self.path} has no split {name!r}; there is {there}.", did_you_mean(name, self.splits))
        return self.splits[name]

    def names_of(self, target: int | Targets) -> tuple[str, ...]:
        """The class names of one target: one name, or for a row of several labels any number."""
        if self.multi_label:
            return tuple(self.classes[place] for place in np.flatnonzero(target))
        return (self.classes[int(target)],)

    def fingerprint(self) -> str:
        """A sha256 that changes when an image, its class or its split does; 64 hex digits.

        Of a file, size and time of modification are looked at, not the bytes. Ids count from the data set's own folder
        on, so that a folder that was moved with its times is the same data set.
        """
        digest = hashlib.sha256()
        for split in self.splits.values():
            for source, target in zip(split.sources, split.targets, strict=True):
                name = source.name.removeprefix(self.path)
                parts = (split.name, name, source.fingerprint(), *self.names_of(target))
                digest.update(("\0".join(parts) + "\n").encode("utf-8", "surrogatepass"))
        return digest.hexdigest()


def listed(classes: Sequence[str], shown: int = 8) -> str:
    """`12 classes: bag, dress, ... and 4 more`: how many, and what they are called."""
    names = ", ".join(name if len(name) <= 40 else f"{name[:40]}..." for name in classes[:shown])
    more = f" and {len(classes) - shown:,} more" if len(classes) > shown else ""
    return f"{len(classes):,} {'class' if len(classes) == 1 else 'classes'}: {names}{more}"
