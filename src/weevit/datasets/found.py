"""The images of a folder or table before their classes have indices, and the step from names to indices."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from weevit.datasets.dataset import ALL, ORDER, TEST, TRAIN, VALIDATION, Dataset, Split
from weevit.errors import DatasetError, ImageError, did_you_mean
from weevit.images.source import Source, natural_key, printable
from weevit.text import one_line

SPLITS = {
    **{"train": TRAIN, "training": TRAIN},
    **{"val": VALIDATION, "valid": VALIDATION, "validation": VALIDATION, "dev": VALIDATION},
    **{"test": TEST, "testing": TEST},
}
"""Name of a split in lower case -> the split."""

FILLERS = frozenset(
    (
        *("data", "dataset", "set", "images", "image", "imgs", "img", "pictures", "photos"),
        *("jpg", "jpeg", "png", "raw", "seg", "x", "split", "folder", "files"),
    )
)
"""Words allowed beside a split's name, as in `seg_train`, `test set` and `x_train`; as folders they are hardly
classes."""

SEPARATOR = ";"
"""Between the labels of an image in a cell, of our tables too."""

_SHOWN = 12
_WORD = re.compile("[A-Za-z]+")

Labels = tuple[str, ...]


@dataclass
class Found:
    """Images and the names of their classes.

    Attributes:
        path: the path as it was given.
        rows: split -> each image with its labels.
        unlabelled: (split, image) of each image without a class.
        empty: (split, class) of class folders without an image.
        inner: number of images whose split is a folder in an archive.
        flat: why splits have no classes; empty where they have some.
        unread: rows of tables that could not be read.
        unused: names of columns of tables that were not read -> the tables.
        multi_label: whether an image may have any number of labels.
        notes: the inputs that were left out.
    """

    path: str
    rows: dict[str, list[tuple[Source, Labels]]] = field(default_factory=dict)
    unlabelled: list[tuple[str, Source]] = field(default_factory=list)
    empty: list[tuple[str, str]] = field(default_factory=list)
    inner: int = 0
    flat: str = ""
    unread: list[Source] = field(default_factory=list)
    unused: dict[str, list[str]] = field(default_factory=dict)
    multi_label: bool = False
    notes: list[str] = field(default_factory=list)

    def add(self, split: str, source: Source, labels: Sequence[str] | None) -> None:
        """Add an image; labels None where it has no class."""
        if labels is None:
            self.unlabelled.append((split, source))
        else:
            own = tuple(dict.fromkeys(class_name(label) for label in labels))
            self.rows.setdefault(split, []).append((source, own))

    def classes(self, split: str) -> list[str]:
        """The classes with an image in the split, in natural order."""
        return sorted({label for _, labels in self.rows.get(split, ()) for label in labels}, key=natural_key)

    def all_classes(self) -> list[str]:
        """The classes of all splits, in natural order."""
        return sorted({label for split in self.rows for label in self.classes(split)}, key=natural_key)


def class_name(text: str) -> str:
    """The normalised name of a class: some systems write é as two characters, some as one."""
    return unicodedata.normalize("NFC", printable(text)).strip()


def split_of(name: str) -> str | None:
    """The split that a folder name or a table cell names, in any case; None for no split."""
    words = [_bare(word) for word in _WORD.findall(name.lower())]
    splits = [SPLITS[word] for word in words if word in SPLITS]
    return splits[0] if len(splits) == 1 and all(word in SPLITS or word in FILLERS for word in words) else None


def _bare(word: str) -> str:
    """`trainset` -> `train`."""
    return next((bare for end in ("set", "data") if (bare := word.removesuffix(end)) != word and bare in SPLITS), word)


def split_of_file(name: str) -> str | None:
    """The split that the name of a table or archive names or begins with: `train-00000-of-00002.parquet`."""
    word = _WORD.match(name)
    return split_of(name.partition(".")[0]) or (split_of(word[0]) if word else None)


def assemble(found: Found, classes: Sequence[str] | None = None, allow_missing: bool = False) -> Dataset:
    """Give the classes indices, by name.

    Args:
        found: the images.
        classes: class names in the order of a model; by default the natural order of `train`, or of the only split.
        allow_missing: whether a split may lack classes.

    Raises:
        DatasetError: no images, images without a class, or classes that differ.
    """
    if found.flat:
        raise DatasetError(found.flat)
    _check_labels(found)
    _note_unread(found)
    splits = [name for name in ORDER if name in found.rows]
    if not splits:
        raise DatasetError("\n  ".join([f"{found.path}: no images with classes.", *found.notes]), _LAYOUT)
    names = tuple(found.classes(splits[0]) if classes is None else classes)
    by_name = {class_name(name): index for index, name in enumerate(names)}
    if len(by_name) < len(names):
        twice = next(name for name in names if names.count(name) > 1 or names[by_name[class_name(name)]] != name)
        raise DatasetError(f"Two classes have the name {twice!r}, so that images could belong to either.")
    parted = next((name for name in names if found.multi_label and SEPARATOR in name), None)
    if parted is not None:
        raise DatasetError(
            f"{found.path}: {parted!r} cannot be a label: {SEPARATOR!r} stands between the labels of an image.",
            f"Rename it, with another sign in place of {SEPARATOR!r}.",
        )
    _check_classes(found, by_name, "the model" if classes is not None else splits[0], allow_missing)
    made = {name: _split(found, name, by_name) for name in splits}
    return Dataset(found.path, names, made, found.multi_label, tuple(found.notes))


_LAYOUT = (
    "Give a folder with a folder of images for each class, with or without train/, validation/ and test/ above them; "
    "a table with the columns path and label; or tars whose members have classes, each `1.cls` next to its `1.jpg`."
)


def _note_unread(found: Found) -> None:
    if found.unread:
        shown = "; ".join(why.message for source in found.unread[:3] if isinstance(why := source.value, ImageError))
        more = f"; and {len(found.unread) - 3:,} more" if len(found.unread) > 3 else ""
        found.notes.append(f"rows that could not be read, left out: {shown}{more}")


def _check_labels(found: Found) -> None:
    if not found.unlabelled:
        return
    images = [source for _, source in found.unlabelled[:_SHOWN]]
    reasons = [f": {image.value.message}" if isinstance(image.value, ImageError) else "" for image in images]
    shown = [f"  {one_line(image.name + reason)}" for image, reason in zip(images, reasons, strict=True)]
    total = len(found.unlabelled) + sum(map(len, found.rows.values()))
    message = "\n".join([f"{found.path}: {len(found.unlabelled):,} of {total:,} images have no class:", *shown])
    raise DatasetError(message + _more(len(found.unlabelled)), _LAYOUT)


def _check_classes(found: Found, by_name: Mapping[str, int], origin: str, allow_missing: bool) -> None:
    """Refuse splits with other classes; the message lists missing and extra ones of all splits together."""
    lines: list[str] = []
    extra: list[str] = []
    lacking: list[str] = []
    for split in found.rows:
        there = set(found.classes(split))
        less = [] if allow_missing else [name for name in by_name if name not in there]
        more = [name for name in sorted(there, key=natural_key) if name not in by_name]
        if less or more:
            empty = {name for where, name in found.empty if where == split}
            marked = [f"  - {one_line(name)}{'   (its folder is empty)' if name in empty else ''}" for name in less]
            marked += [f"  + {one_line(name)}" for name in more]
            title = "its images" if split == ALL else split
            lines += [f"{title} ({len(less)} lacking, {len(more)} more):", *marked[:_SHOWN]]
            lines += [_more(len(marked)).strip("\n")] * (len(marked) > _SHOWN)
            extra, lacking = extra + more, lacking + less
    if lines:
        message = "\n".join([f"{found.path} does not have the classes of {origin}.", *lines])
        raise DatasetError(message, _hint(extra, lacking or list(by_name)))


def _more(count: int) -> str:
    return f"\n  ... and {count - _SHOWN:,} more" if count > _SHOWN else ""


def _hint(extra: Sequence[str], known: Sequence[str]) -> str:
    if extra:
        near = did_you_mean(extra[0], known)
        return f"{extra[0]!r}: {near}" if near else "Rename, move or remove the extra classes."
    return (
        "Add images of the missing classes, or remove these elsewhere. With --allow-missing (allow_missing=True), "
        "weevit eval, compare and fit take splits that lack classes: each class keeps its index."
    )


def _split(found: Found, name: str, by_name: Mapping[str, int]) -> Split:
    rows = found.rows[name]
    targets: npt.NDArray[Any]
    if found.multi_label:
        targets = np.zeros((len(rows), len(by_name)), np.uint8)
        for row, (_, labels) in enumerate(rows):
            targets[row, [by_name[label] for label in labels]] = 1
    else:
        targets = np.array([by_name[labels[0]] for _, labels in rows], np.int64)
    return Split(name, tuple(source for source, _ in rows), targets)
