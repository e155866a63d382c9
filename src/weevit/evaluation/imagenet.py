"""ImageNet's validation set and five harder or fairer test sets: the right answers of each image.

A suite is a folder with any of the sets, under their usual names (`SETS`). Class folders are named by synset, those of
V2 by number. A and R have 200 of the 1,000 classes, and only those count as answers, as in timm. ReaL is `real.json`
beside the validation set: any number of right classes per image. Images without an agreed class are left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

from weevit.datasets.dataset import Dataset, Split
from weevit.datasets.read import read_dataset
from weevit.errors import DatasetError
from weevit.evaluation.evaluate import choose_split
from weevit.evaluation.metrics import Ints
from weevit.evaluation.model import match_classes
from weevit.zoo.labels import Label, imagenet_labels

REAL_FILES = ("real.json", "imagenet_real_labels.json", "real_labels.json")
"""Names of ReaL's labels, in the suite's folder or in one of `_REAL_FOLDERS`; the second is timm's."""

_REAL_FOLDERS = (".", "real", "imagenet-real", "reassessed-imagenet")
_NUMBER = re.compile(r"ILSVRC2012_val_(\d{8})", re.IGNORECASE)
_LARGEST = 64 * 2**20


@dataclass(frozen=True)
class TestSet:
    """One of the sets.

    Attributes:
        name: as in `zoo.weights.TEST_SETS`.
        title: for people.
        folders: names of its folder, separated by blanks; case does not count, and `_` is `-`.
        images: number of images.
        subset: the file with its classes, where it lacks some.
    """

    __test__ = False  # keeps pytest from collecting it

    name: str
    title: str
    folders: str
    images: int
    subset: str = ""


_VAL = "val validation imagenet imagenet-val ilsvrc2012-img-val"
_V2 = "imagenetv2-matched-frequency-format-val imagenetv2-matched-frequency imagenetv2 imagenet-v2 v2"

# fmt: off
SETS: tuple[TestSet, ...] = (
    #       name               title                                folders                   images  classes
    TestSet("imagenet",        "ImageNet validation",               _VAL,                     50_000),
    TestSet("imagenet-real",   "ReaL labels of the validation set", "",                       46_837),
    TestSet("imagenetv2",      "ImageNet-V2, matched frequency",    _V2,                      10_000),
    TestSet("imagenet-a",      "ImageNet-A, natural adversaries",   "imagenet-a a",           7_500,  "imagenet_a.txt"),
    TestSet("imagenet-r",      "ImageNet-R, renditions",            "imagenet-r r",           30_000, "imagenet_r.txt"),
    TestSet("imagenet-sketch", "ImageNet-Sketch",                   "imagenet-sketch sketch", 50_889),
)
# fmt: on

VALIDATION, REAL = "imagenet", "imagenet-real"


@dataclass(frozen=True)
class Truth:
    """The right answers of a set's images.

    Attributes:
        name: name of the set.
        labels: the classes that count as answers.
        columns: their indices in the head; None for all.
        targets: for each image the indices of `labels` that are right; an image with none is left out.
    """

    name: str
    labels: tuple[Label, ...]
    columns: Ints | None
    targets: Sequence[tuple[int, ...]]


@dataclass(frozen=True)
class Material:
    """A set on the disk.

    Attributes:
        dataset: the data set.
        part: its images.
        truths: the answers of the set, and, of the validation set, also ReaL's.
        notes: remarks for people.
    """

    dataset: Dataset
    part: Split
    truths: list[Truth]
    notes: list[str] = field(default_factory=list)


def find_sets(folder: Path) -> dict[TestSet, Path]:
    """The sets that have a folder here; DatasetError where there are none."""
    try:
        inside = {item.name.lower().replace("_", "-"): item for item in sorted(folder.iterdir()) if item.is_dir()}
    except OSError as error:
        raise DatasetError(f"{folder} cannot be read: {error.strerror or error}.", "--suite FOLDER") from error
    found = {one: next((inside[name] for name in one.folders.split() if name in inside), None) for one in SETS}
    there = {one: path for one, path in found.items() if path is not None}
    if not there:
        names = "\n".join(f"  {one.title}: {', '.join(one.folders.split())}" for one in SETS if one.folders)
        raise DatasetError(f"{folder} holds none of the sets. Their folders may be called:\n{names}", "--suite FOLDER")
    return there


def read_set(one: TestSet, path: Path, suite: Path, labels: Sequence[Label]) -> Material:
    """A set's images and their right classes in a model's head; DatasetError where the classes do not fit."""
    dataset = read_dataset(path, allow_missing=True)
    part = choose_split(dataset, None)
    columns = _columns(one, labels)
    own = tuple(labels[int(column)] for column in columns)
    indices = match_classes([_synset(name) for name in dataset.classes], own, allow_missing=True)
    targets = [(int(indices[target]),) for target in part.targets]
    everything = len(own) == len(labels)
    material = Material(dataset, part, [Truth(one.name, own, None if everything else columns, targets)])
    if one.name == VALIDATION:
        _add_real(material, suite, labels)
    return material


def _columns(one: TestSet, labels: Sequence[Label]) -> Ints:
    """The indices of the set's classes in a head, in ImageNet's order."""
    indices = {label.id: index for index, label in enumerate(labels)}
    wanted = _subset(one.subset) if one.subset else _synsets()
    lacking = [synset for synset in wanted if synset not in indices]
    if lacking and (one.subset or len(lacking) == len(wanted)):
        raise DatasetError(
            f"The model lacks {len(lacking)} of the {len(wanted)} classes of {one.title}, for instance {lacking[0]}.",
            "weevit eval MODEL DATA   evaluates models with classes of their own",
        )
    # On the whole set, a head with further classes keeps them as possible answers.
    chosen = [indices[synset] for synset in wanted] if one.subset else range(len(labels))
    return np.array(chosen, dtype=np.int64)


@cache
def _synsets() -> tuple[str, ...]:
    """The synsets of the 1,000 classes, in their order."""
    return tuple(label.id for label in imagenet_labels(1000) or ())


@cache
def _subset(name: str) -> tuple[str, ...]:
    """The synsets in a list of this package, in ImageNet's order."""
    lines = (Path(__file__).parent / name).read_text(encoding="utf-8").splitlines()
    return tuple(" ".join(line for line in lines if not line.startswith("#")).split())


def _synset(name: str) -> str:
    """The synset of a class folder: its name, or for V2 the class of this number."""
    return _synsets()[int(name)] if name.isdecimal() and int(name) < len(_synsets()) else name


# ---- ReaL


def _add_real(material: Material, suite: Path, labels: Sequence[Label]) -> None:
    """Add ReaL's labels of the validation set, if there are any for its images."""
    file = next(
        (suite / top / name for top in _REAL_FOLDERS for name in REAL_FILES if (suite / top / name).is_file()), None
    )
    if file is None:
        return
    right = _read_real(file)
    numbers = [_number(source.name) for source in material.part.sources]
    if not all(number is not None and 1 <= number <= len(right) for number in numbers):
        material.notes.append(
            f"ReaL was left out: it knows images by their number, and not all in {material.dataset.path} are called "
            "ILSVRC2012_val_00000001.JPEG and so on."
        )
        return
    indices = {label.id: index for index, label in enumerate(labels)}
    heads = [indices.get(synset, -1) for synset in _synsets()]
    targets = [tuple(heads[index] for index in right[number - 1]) for number in numbers if number is not None]
    material.truths.append(Truth(REAL, tuple(labels), None, targets))


def _number(name: str) -> int | None:
    found = _NUMBER.search(name.replace("\\", "/").rpartition("/")[2])
    return int(found[1]) if found else None


def _read_real(file: Path) -> list[list[int]]:
    """The right classes of each validation image, by its number; DatasetError where the file is not ReaL's."""
    try:
        if file.stat().st_size > _LARGEST:
            raise ValueError("it is too large")
        content = json.loads(file.read_bytes())
        if not isinstance(content, list) or not all(map(_is_classes, content)):
            raise ValueError("not a list with a list of class numbers for each image")
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(
            f"{file} is not ReaL's list of labels: {error}.", f"Fetch it again, or move {file} away."
        ) from error
    return content


def _is_classes(one: object) -> bool:
    return isinstance(one, list) and all(type(index) is int and 0 <= index < len(_synsets()) for index in one)
