"""The findings of a check, as typed results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from weevit.images.source import Source


@dataclass(frozen=True)
class CheckedImage:
    """One image of the data set.

    Attributes:
        id: name relative to the data set's folder.
        split: its split.
        labels: its class, or any number of labels.
    """

    id: str
    split: str
    labels: tuple[str, ...]

    @property
    def label(self) -> str:
        """The labels as one text."""
        return ", ".join(self.labels)


@dataclass(frozen=True)
class Broken:
    """An unreadable image.

    Attributes:
        image: the image.
        kind: `truncated`, `corrupt`, `empty`, `missing`, ... as in `weevit.errors`.
        error: the reason in full.
    """

    image: CheckedImage
    kind: str
    error: str


@dataclass(frozen=True)
class Copies:
    """Copies of one image.

    Attributes:
        kind: `exact`: the same bytes; `near`: compressed or scaled again; `mirrored`: near, and left is right.
        members: two or more, in the order of the data set.
        distance: the greatest distance of neighbouring members; 0 for the same bytes.
    """

    kind: str
    members: tuple[CheckedImage, ...]
    distance: float = 0.0

    @property
    def leak(self) -> bool:
        """Whether they are in more than one split, so that a model is evaluated on its training images."""
        return len({image.split for image in self.members}) > 1

    @property
    def conflict(self) -> bool:
        """Whether they have different labels."""
        return len({image.labels for image in self.members}) > 1


@dataclass(frozen=True)
class Alike:
    """Two images that the model can hardly tell apart, though they are no copies: crops, or one thing photographed
    twice.

    Attributes:
        first, second: the images.
        distance: 1 - cosine of their embeddings, each number standardised over the data set.
    """

    first: CheckedImage
    second: CheckedImage
    distance: float


@dataclass(frozen=True)
class Suspect:
    """A label that similar images contradict.

    Attributes:
        image: the image.
        suggestion: the class of the similar images.
        own: probability of its own label, judged by the other images.
        suggested: probability of the suggestion.
    """

    image: CheckedImage
    suggestion: str
    own: float
    suggested: float


@dataclass(frozen=True)
class UnusualImage:
    """A readable image that a person should look at.

    Attributes:
        image: the image.
        kind: `tiny`, `one colour`, `ending` or `no class`.
        detail: the reason in words.
    """

    image: CheckedImage
    kind: str
    detail: str


@dataclass(frozen=True)
class ClassDifference:
    """A split whose classes differ from those of the first split.

    Attributes:
        split: the split.
        missing: classes that it lacks.
        extra: classes that only it has.
    """

    split: str
    missing: tuple[str, ...]
    extra: tuple[str, ...]


@dataclass(frozen=True)
class DataCheck:
    """The contents of a data set, and its faults.

    Attributes:
        path: path of the data set.
        classes: classes, in their order.
        counts: split -> number of images per class, in that order.
        multi_label: whether an image may have any number of labels.
        notes: the inputs that reading left out.
        differences: splits with other classes than the first.
        images: all images.
        sizes: (images, 2) width and height, upright, in pixels; zeros for broken images.
        bytes: size of all files together.
        formats, modes, orientations: number of files of each; see `images.facts.Facts`.
        broken: unreadable images.
        copies: copies; exact ones first, leaks first among them.
        alike: pairs that are hard to tell apart, the nearest first.
        suspects: labels that similar images contradict, the surest first.
        unusual: other images to look at.
        unchecked: the checks that were left out, and why.
        model: name of the model of the embeddings; empty without one.
        seconds: time of the check.
        sources: the images' sources, in the order of `images`.
    """

    path: str
    classes: tuple[str, ...]
    counts: Mapping[str, tuple[int, ...]]
    multi_label: bool
    notes: tuple[str, ...]
    differences: tuple[ClassDifference, ...]
    images: tuple[CheckedImage, ...]
    sizes: npt.NDArray[np.int64]
    bytes: int
    formats: Counter[str]
    modes: Counter[str]
    orientations: Counter[int]
    broken: tuple[Broken, ...] = ()
    copies: tuple[Copies, ...] = ()
    alike: tuple[Alike, ...] = ()
    suspects: tuple[Suspect, ...] = ()
    unusual: tuple[UnusualImage, ...] = ()
    unchecked: tuple[str, ...] = ()
    model: str = ""
    seconds: float = 0.0
    sources: tuple[Source, ...] = field(default=(), repr=False, compare=False)

    @property
    def leaks(self) -> tuple[Copies, ...]:
        """Copies that are in more than one split."""
        return tuple(copies for copies in self.copies if copies.leak)

    @property
    def conflicts(self) -> tuple[Copies, ...]:
        """Copies that have different labels."""
        return tuple(copies for copies in self.copies if copies.conflict)

    @property
    def broken_kinds(self) -> Counter[str]:
        """Kind -> number of broken images."""
        return Counter(broken.kind for broken in self.broken)

    @property
    def imbalance(self) -> float:
        """Images of the largest class over those of the smallest; 1 is balanced."""
        totals = np.sum([*self.counts.values(), (0,) * len(self.classes)], axis=0)
        return float(totals.max() / totals.min()) if len(totals) and totals.min() else float("nan")


def plain(value: Any) -> Any:
    """A result as plain data for JSON: names of fields become keys."""
    if isinstance(value, CheckedImage):
        return {"id": value.id, "split": value.split, "labels": list(value.labels)}
    if isinstance(value, Copies):
        members = [plain(image) for image in value.members]
        flags = {"leak": value.leak, "conflict": value.conflict}
        return {"kind": value.kind, "distance": value.distance, **flags, "members": members}
    if hasattr(value, "__dataclass_fields__"):
        return {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, tuple | list) else value
