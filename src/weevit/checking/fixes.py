"""The list of fixes: images to remove and images to look at. Nothing is removed here."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from weevit.checking.results import CheckedImage, Copies, DataCheck
from weevit.duplicates.copies import EXACT

REMOVE, LOOK = "remove", "look"

_KEPT_FIRST = ("test", "validation", "train", "all")
"""The copy in the first of these splits is kept: the split that judges models stays unchanged."""


@dataclass(frozen=True)
class Fix:
    """One row of the list.

    Attributes:
        path: path of the image, relative to the data set's folder.
        split, label: its split and class.
        reason: the fault: `broken: truncated`, `exact copy`, `label`, ...
        other: the image that it is compared with, if any.
        suggestion: `remove`, or `look` and what for.
    """

    path: str
    split: str
    label: str
    reason: str
    other: str
    suggestion: str


def fixes(check: DataCheck) -> list[Fix]:
    """A row per finding, the surest first; an image to be removed is named once."""
    rows: list[Fix] = []
    removed: set[str] = set()
    for fix in _all(check):
        if fix.path not in removed:
            rows.append(fix)
        if fix.suggestion == REMOVE:
            removed.add(fix.path)
    return rows


def _all(check: DataCheck) -> Iterator[Fix]:
    for broken in check.broken:
        yield _fix(broken.image, f"broken: {broken.kind}", "", REMOVE)
    files = {
        image: source.value
        for image, source in zip(check.images, check.sources, strict=False)
        if isinstance(source.value, str | Path)
    }
    for copies in check.copies:
        yield from _copies(copies, files)
    for suspect in check.suspects:
        times = f"{suspect.suggested / max(suspect.own, 1e-6):,.0f} times"
        yield _fix(suspect.image, "label", "", f"{LOOK}: {suspect.suggestion} is {times} as probable")
    for pair in check.alike:
        across = "; in two splits" if pair.first.split != pair.second.split else ""
        yield _fix(pair.second, "alike", pair.first.id, f"{LOOK}: a crop, or the same thing twice{across}")
    for unusual in check.unusual:
        yield _fix(unusual.image, unusual.kind, "", f"{LOOK}: {unusual.detail}")


Files = Mapping[CheckedImage, str | Path]


def _copies(copies: Copies, files: Files) -> Iterator[Fix]:
    kept = min(copies.members, key=lambda image: (_KEPT_FIRST.index(image.split), _is_link(image, files)))
    for image in copies.members:
        if image is kept:
            continue
        leak = image.split != kept.split
        reason = f"{copies.kind} copy" + (" in another split" if leak else "")
        if image.labels != kept.labels:
            yield _fix(image, f"{reason}, of another class", kept.id, f"{LOOK}: {image.label} or {kept.label}?")
        elif not _is_link(image, files) and _is_one_file(image, kept, files):
            yield _fix(image, reason, kept.id, f"{LOOK}: both names are of this file")
        else:
            yield _fix(image, reason, kept.id, REMOVE if leak or copies.kind == EXACT else LOOK)


def _is_link(image: CheckedImage, files: Files) -> bool:
    return image in files and os.path.islink(files[image])  # noqa: PTH114 - text or a path


def _is_one_file(image: CheckedImage, other: CheckedImage, files: Files) -> bool:
    """Whether one name leads to the file of the other, so that a removal takes both."""
    there = image in files and other in files
    return there and os.path.realpath(files[image]) == os.path.realpath(files[other])


def _fix(image: CheckedImage, reason: str, other: str, suggestion: str) -> Fix:
    return Fix(image.id, image.split, image.label, reason, other, suggestion)
