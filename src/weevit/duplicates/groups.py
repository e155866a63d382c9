"""Duplicates, as typed results and as the record of their folder.

A group begins with the image that is kept: the whole one rather than a part of it, then the one with the most pixels,
then the most bytes, then the oldest file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from weevit.zoo.fields import whole
from weevit.zoo.records import MAX_COUNT, Count, Name, Number, Seconds, Sha256, Text, items, record, table, words

CERTAIN = EXACT, NEAR, MIRRORED, CROPPED = "exact", "near", "mirrored", "cropped"
"""Kinds of copies, from the same bytes to a part of the image."""

TO_LOOK_AT = TIME, LOOKS, ALIKE = "same time", "same look", "alike"
"""Kinds of moments: taken within seconds; alike as thumbnails, but not the same pixels; nearest by their embeddings."""

MOST = 1 << 24
"""Images of a record at most."""


@dataclass(frozen=True)
class Place:
    """A file that may be moved: a plain one, below one of the folders that were looked through, not behind a link.

    Attributes:
        root: index of the folder in `Duplicates.roots`.
        path: path below it, with `/`.
        modified: time of modification, in nanoseconds since 1970.
    """

    root: Count
    path: Annotated[str, words()]
    modified: Annotated[int, whole(-(1 << 63), 1 << 63)]


@dataclass(frozen=True)
class DuplicateImage:
    """One image of a group.

    Attributes:
        id: name of the input.
        kind: its relation to the first image of the group; empty for the first itself.
        distance: 0 for the same bytes; of copies 1 - correlation of thumbnails, of moments 1 - cosine of embeddings.
        width, height: upright, in pixels.
        bytes: size of the file.
        format: `JPEG`, `PNG`, ...
        sha256: of the file's bytes.
        taken: time by EXIF, as text; None without one.
        place: where the file is; None for members of archives and tables, addresses, links, and bytes in memory.
    """

    id: Text
    kind: Name
    distance: Number
    width: Count
    height: Count
    bytes: Count
    format: Name
    sha256: Sha256
    taken: Annotated[str, words(64)] | None
    place: Place | None


@dataclass(frozen=True)
class DuplicateGroup:
    """Images that belong together.

    Attributes:
        kind: of `CERTAIN` for copies, of `TO_LOOK_AT` for moments; where members differ, the least certain.
        why: the reason, in words.
        members: two or more; the one to keep first.
    """

    kind: Name
    why: Text
    members: Annotated[tuple[DuplicateImage, ...], items(record(DuplicateImage), MOST)]

    @property
    def kept(self) -> DuplicateImage:
        """The image to keep."""
        return self.members[0]

    @property
    def spare(self) -> int:
        """Bytes of all others."""
        return sum(image.bytes for image in self.members[1:])


@dataclass(frozen=True)
class Failure:
    """An input without an image.

    Attributes:
        input: its name.
        status: one word, as in `weevit.errors`.
        error: the reason in full.
    """

    input: Text
    status: Name
    error: Text


@dataclass(frozen=True)
class Duplicates:
    """Images that are there more than once.

    Attributes:
        roots: absolute paths of the folders that were looked through.
        images: number of images that were read.
        copies: groups of copies, which are certain.
        moments: groups to look at: the same moment, or the same thing.
        failures: inputs without an image.
        left_out: ending -> number of files in folders that are no images by it.
        unchecked: the searches that were left out, and why.
        model: name of the model of the embeddings; empty without one.
        seconds: time of the search.
    """

    roots: Annotated[tuple[str, ...], items(words(), MOST)]
    images: Count
    copies: Annotated[tuple[DuplicateGroup, ...], items(record(DuplicateGroup), MOST)]
    moments: Annotated[tuple[DuplicateGroup, ...], items(record(DuplicateGroup), MOST)]
    failures: Annotated[tuple[Failure, ...], items(record(Failure), MOST)]
    left_out: Annotated[Mapping[str, int], table(words(255), whole(0, MAX_COUNT), MOST)]
    unchecked: Annotated[tuple[str, ...], items(words(), 100)]
    model: Text
    seconds: Seconds

    @property
    def spare(self) -> int:
        """Bytes of all copies but the kept ones."""
        return sum(group.spare for group in self.copies)

    @property
    def spares(self) -> int:
        """Number of all copies but the kept ones."""
        return sum(len(group.members) - 1 for group in self.copies)


def rows(groups: tuple[DuplicateGroup, ...]) -> Iterator[tuple[Any, ...]]:
    """A row per image, for `COLUMNS`."""
    for count, group in enumerate(groups, 1):
        for place, image in enumerate(group.members):
            size = (image.width, image.height, image.bytes, image.format, image.taken, image.sha256)
            yield (count, "keep" if place == 0 else image.kind, image.id, image.distance, *size, group.why)


COLUMNS = (
    *("group", "what", "input", "distance", "width", "height", "bytes", "format", "taken", "sha256", "why"),
)  # fmt: skip


def plain(value: DuplicateGroup | Failure) -> dict[str, Any]:
    """A finding as plain data for JSON."""
    return asdict(value)
