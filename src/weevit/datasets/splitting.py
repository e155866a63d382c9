"""Stratified cuts of a split, by draws that anyone can repeat.

A draw is keyed by (seed, image's id), so that neither the order of files nor other images matter. Copies of an image
stay together: a model that learned from one would know the other.

Groups are dealt out by iterative stratification (Sechidis, Tsoumakas, Vlahavas: On the Stratification of Multi-Label
Data, 2011), which for one label per image is the ordinary stratified cut.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from weevit.datasets.dataset import ALL, ORDER, TRAIN, VALIDATION, Dataset, IntArray, Split
from weevit.datasets.hashing import content_hashes
from weevit.errors import DatasetError, UsageError

Counts = npt.NDArray[np.float64]


def with_validation(
    dataset: Dataset, share: float = 0.2, seed: int = 0, hashes: Sequence[str | None] | None = None
) -> Dataset:
    """The data set with a validation split, cut from `train` (or from `all`) where there is none.

    A class with two images or more (copies count once) is in both parts, where each image has one label. A data set
    with a validation split is returned itself.

    Args:
        dataset: the data set.
        share: share of the images, more than 0 and less than 1.
        seed: seed of the draw.
        hashes: sha256 of the images of the split that is cut; by default the files are read. Copies stay on one side.

    Raises:
        UsageError: an invalid share.
        DatasetError: there is only a test split, or too few images.
    """
    if VALIDATION in dataset.splits:
        return dataset
    if not 0 < share < 1:
        raise UsageError(f"The share for validation is more than 0 and less than 1: {share} was given.", "share=0.2")
    base = dataset.splits.get(TRAIN) or dataset.splits.get(ALL)
    if base is None:
        raise DatasetError(f"{dataset.path} has no images to learn from, only the split {', '.join(dataset.splits)}.")
    groups = _grouped(base, seed, content_hashes(base.sources) if hashes is None else hashes)
    part = _deal(_desired(groups, share), np.minimum(groups.counts, 1))[groups.of]
    if min(np.bincount(part, minlength=2)) == 0:
        raise DatasetError(f"{len(base):,} images of {dataset.path} are too few to cut off a share of {share:g}.")
    parts = {
        TRAIN: base.take(np.flatnonzero(part == 0), TRAIN),
        VALIDATION: base.take(np.flatnonzero(part == 1), VALIDATION),
    }
    splits = {name: split for name, split in dataset.splits.items() if name not in (TRAIN, ALL)} | parts
    note = f"validation: {len(parts[VALIDATION]):,} of {len(base):,} images of {base.name}, drawn with seed {seed}"
    ordered = {name: splits[name] for name in ORDER if name in splits}
    return replace(dataset, splits=ordered, notes=(*dataset.notes, note))


def folds(
    split: Split, k: int, seed: int = 0, groups: Sequence[Hashable | None] | None = None
) -> list[tuple[IntArray, IntArray]]:
    """`k` cuts of a split into a part to learn from and a part to judge by; each image is judged once.

    Args:
        split: the split.
        k: 2 or more.
        seed: seed of the draw.
        groups: a value for each image; images with the same value stay together, None is a group of its own.

    Returns:
        `k` pairs (indices to learn from, indices to judge by), in rising order.

    Raises:
        UsageError: k is less than 2.
        DatasetError: fewer groups than folds.
    """
    if k < 2:
        raise UsageError(f"Folds are 2 or more: k={k} was given.", "k=5")
    made = _grouped(split, seed, [None] * len(split) if groups is None else groups)
    if len(made.counts) < k:
        raise DatasetError(f"{len(made.counts):,} different images are too few for {k} folds.")
    desired = np.full((k, made.counts.shape[1]), 1 / k) * made.counts.sum(axis=0)
    part = _deal(desired, made.counts)[made.of]
    return [(np.flatnonzero(part != fold), np.flatnonzero(part == fold)) for fold in range(k)]


@dataclass(frozen=True)
class _Groups:
    """Images that stay together, in the order of the draw.

    Attributes:
        of: (n) the group of each image.
        counts: (groups, labels + 1) images per label; the last column counts all images of a group.
    """

    of: IntArray
    counts: Counts


def _grouped(split: Split, seed: int, values: Sequence[Hashable | None]) -> _Groups:
    keys = _keys(split, seed)
    first: dict[Hashable, str] = {}
    for key, value in zip(keys, values, strict=True):
        if value is not None:
            first[value] = min(key, first.get(value, key))
    own = [key if value is None else first[value] for key, value in zip(keys, values, strict=True)]
    index = {key: number for number, key in enumerate(sorted(set(own)))}
    of = np.array([index[key] for key in own], np.int64)
    labels = int(split.targets.shape[1] if split.targets.ndim == 2 else split.targets.max(initial=-1) + 1)
    counts = np.zeros((len(index), labels + 1))
    if split.targets.ndim == 2:
        np.add.at(counts[:, :-1], of, split.targets)
    else:
        np.add.at(counts, (of, split.targets), 1)
    np.add.at(counts[:, -1], of, 1)
    return _Groups(of, counts)


def _keys(split: Split, seed: int) -> list[str]:
    """A hash of the draw for each image; ids are relative to the folder that all have in common."""
    names = [source.name for source in split.sources]
    before = len(os.path.commonprefix(names).rpartition("/")[0])  # noqa: RUF071 - ids need not be paths
    seen: dict[str, int] = {}
    keys = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1  # a table may list an image twice
        text = f"{seed}\0{name[before:]}\0{seen[name]}"
        keys.append(hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest())
    return keys


def _desired(groups: _Groups, share: float) -> Counts:
    """(2, labels + 1) number of groups per label in both parts; at least one where there are two."""
    total = (groups.counts > 0).sum(axis=0)
    second = np.clip(total * share, np.minimum(1, total - 1), np.maximum(total - 1, 0))
    return np.stack([total - second, second])


def _deal(desired: Counts, counts: Counts) -> IntArray:
    """The part of each group: label by label, the rarest first, to the part that lacks most of it.

    Args:
        desired: (parts, labels + 1) counts wanted in each part.
        counts: (groups, labels + 1) counts of each group.
    """
    desired = desired.astype(np.float64)
    part = np.full(len(counts), -1)
    left = counts[:, :-1].sum(axis=0)
    while (left > 0).any():
        label = int(np.argmin(np.where(left > 0, left, np.inf)))
        for group in np.flatnonzero((counts[:, label] > 0) & (part < 0)):
            part[group] = _neediest(desired, label)
            desired[part[group]] -= counts[group]
            left = left - counts[group, :-1]
        left[label] = 0
    for group in np.flatnonzero(part < 0):  # without any label
        part[group] = int(np.argmax(desired[:, -1]))
        desired[part[group]] -= counts[group]
    return part


def _neediest(desired: Counts, label: int) -> int:
    """The part that lacks most of a label; among equals most images; among those the first."""
    need = desired[:, label]
    equal = np.flatnonzero(need > need.max() - 1e-9)
    return int(equal[np.argmax(desired[equal, -1])])
