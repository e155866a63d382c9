"""What a check finds, as typed results."""

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
        id: its name from the data set's folder on.
        split: where it is.
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
    """An image that cannot be read.

    Attributes:
        image: which.
        kind: `truncated`, `corrupt`, `empty`, `missing`, ... as in `weevit.errors`.
        error: the reason in full.
    """

    image: CheckedImage
    kind: str
    error: str


KINDS = EXACT, NEAR, MIRRORED = "exact", "near", "mirrored"


@dataclass(frozen=True)
class Copies:
    """Images that are the same one.

    Attributes:
        kind: `exact`: the same bytes; `near`: compressed or scaled anew; `mirrored`: so, and left is right.
        members: two or more, in the order of the data set.
        distance: how far the two are apart that are least alike among neighbours; 0 where the bytes are the same.
    """

    kind: str
    members: tuple[CheckedImage, ...]
    distance: float = 0.0

    @property
    def leak(self) -> bool:
        """Whether they are in more than one split: what is judged by was learned."""
        return len({image.split for image in self.members}) > 1

    @property
    def conflict(self) -> bool:
        """Whether they have different labels."""
        return len({image.labels for image in self.members}) > 1


@dataclass(frozen=True)
class Alike:
    """Two images that the model can hardly tell apart, though they are not copies: crops, or one thing taken twice.

    Attributes:
        first, second: which.
        distance: 1 - cosine of their embeddings, each number of which is scaled over the data set.
    """

    first: CheckedImage
    second: CheckedImage
    distance: float


@dataclass(frozen=True)
class Suspect:
    """A label that images like this one deny.

    Attributes:
        image: which.
        suggestion: the class that they have.
        own: probability of its own label, judged by the other images.
        suggested: probability of the suggestion.
    """

    image: CheckedImage
    suggestion: str
    own: float
    suggested: float


@dataclass(frozen=True)
class UnusualImage:
    """An image that can be read, but should be looked at.

    Attributes:
        image: which.
        kind: `tiny`, `one colour`, `ending` or `no class`.
        detail: in words.
    """

    image: CheckedImage
    kind: str
    detail: str


@dataclass(frozen=True)
class ClassDifference:
    """A split that does not have the classes of the first one.

    Attributes:
        split: which.
        missing: classes that it lacks.
        extra: classes that only it has.
    """

    split: str
    missing: tuple[str, ...]
    extra: tuple[str, ...]


@dataclass(frozen=True)
class DataCheck:
    """What is in a data set and what is wrong with it.

    Attributes:
        path: of the data set.
        classes: in the order that they have.
        counts: split -> how many images of each class, in that order.
        multi_label: whether an image may have any number of labels.
        notes: what was left out when it was read.
        differences: splits that lack classes or have more.
        images: all of them.
        sizes: (images, 2) width and height, upright, in pixels; zeros where it is broken.
        bytes: of all files together.
        formats, modes, orientations: how many files are of each; see `images.facts.Facts`.
        broken: images that cannot be read.
        copies: images that are the same; exact ones first, leaks first among them.
        alike: pairs that the model can hardly tell apart, the nearest first.
        suspects: labels that are denied by images like theirs, the surest first.
        unusual: what else should be looked at.
        unchecked: what was not looked at, and why.
        model: name of the model whose embeddings were used; empty where none was.
        seconds: that it took.
        sources: where the images are, in the order of `images`.
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
        """How many images are broken in which way."""
        return Counter(broken.kind for broken in self.broken)

    @property
    def imbalance(self) -> float:
        """How many times as many images the largest class has as the smallest; 1 is balanced."""
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
