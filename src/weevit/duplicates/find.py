"""`weevit.find_duplicates`: images that are there more than once, in two lists.

every file read once ── the same bytes, alike thumbnails ─┐
                     ── embeddings ── parts of others ────┴─ laid over each other ── copies, which are certain
                                   ── times, nearest ── moments, to look at
"""

from __future__ import annotations

import math
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np

from weevit.answers.results import unit_length
from weevit.arguments import flag
from weevit.datasets.dataset import ALL, Split
from weevit.duplicates.folder import THUMBS, write_duplicates, writing_duplicates
from weevit.duplicates.groups import (
    CERTAIN,
    CROPPED,
    EXACT,
    MIRRORED,
    NEAR,
    TO_LOOK_AT,
    DuplicateGroup,
    DuplicateImage,
    Duplicates,
    Failure,
)
from weevit.duplicates.looks import Look, Progress, look_at
from weevit.duplicates.moments import Member, of_one_moment, surely_alike, together
from weevit.duplicates.places import Places
from weevit.duplicates.resembling import Resembling
from weevit.engine.threads import choose_threads
from weevit.errors import ImageError, UsageError
from weevit.images.decode import DEFAULT_LIMITS, Limits
from weevit.images.names import Names
from weevit.images.source import Source, Stored
from weevit.images.sources import Expansion, Inputs, expand, is_one
from weevit.images.taken import Taken
from weevit.predict import Predictor, load
from weevit.search.embeddings import embed_split
from weevit.store.outputs import local
from weevit.zoo.weights import DEFAULT_MODEL

UNCHECKED = "parts cut out of other images, and the same moment: that needs embeddings"


Watcher = Callable[[Progress], None]


def find_duplicates(
    inputs: Inputs,
    model: str | Path | Predictor = DEFAULT_MODEL,
    output: str | Path | None = None,
    *,
    embeddings: bool = True,
    threads: int | None = None,
    limits: Limits = DEFAULT_LIMITS,
    watch: Watcher = lambda progress: None,
) -> Duplicates:
    """Find copies, which are certain, and images of the same moment, to look at; no file is ever changed.

    Args:
        inputs: as for `Predictor.stream`: files, folders, lists, tables, archives, addresses, bytes.
        model: the model of the embeddings: as for `weevit.load`, or a loaded model.
        output: a folder for `report.html`, `copies.csv`, `moments.csv`, `failures.csv` and `duplicates.json`; nothing
            is written by default.
        embeddings: without them no model is needed; parts of other images and moments are then not found, and
            `unchecked` says so.
        threads: threads that decode and compute; chosen by default.
        limits: the largest file and image to decode.
        watch: called after each image.

    Raises:
        UsageError: pixels in memory, which are no file; an output that holds something else.
        ModelError: the model cannot be loaded.
        MissingExtraError: for an output, jinja2 or filelock is not installed.
        OutputError: the output cannot be written.
    """
    start = time.monotonic()
    embeddings, output = flag("embeddings", embeddings), None if output is None else local(output)
    given = [inputs] if is_one(inputs) else list(cast(Iterable[Any], inputs))
    words = [os.fsdecode(one) for one in given if isinstance(one, str | os.PathLike)]
    with writing_duplicates(output, [*words, model]) as folder:
        expansion = expand(inputs if isinstance(inputs, Expansion) else cast(Inputs, given))
        sources = [_checked(source) for source in Names().unique(_once(expansion, folder))]
        predictor = None
        if embeddings:
            predictor = model if isinstance(model, Predictor) else load(model, threads=threads, limits=limits)
        search = _Search(sources, choose_threads(threads).count, limits, watch)
        copies, moments = search.run(predictor)
        places = Places(words)
        found = Duplicates(
            copies=tuple(_group(search, members, search.why(members), places) for members in copies),
            moments=tuple(_group(search, members, why, places) for members, why in moments),
            roots=tuple(places.roots),
            images=sum(look.error is None for look in search.looks),
            failures=tuple(search.failures()),
            left_out=dict(expansion.left_out),
            unchecked=search.unchecked if predictor else (UNCHECKED,),
            model=predictor.checkpoint.name if predictor else "",
            seconds=time.monotonic() - start,
        )
        write_duplicates(found, folder, {source.name: source for source in sources}, search.threads, limits)
    return found


def _once(sources: Iterable[Source], folder: Path | None) -> Iterator[Source]:
    """The sources, a file that several inputs name only once (it is no copy of itself), without our own thumbnails."""
    seen: set[str] = set()
    real = cache(os.path.realpath)
    own = None if folder is None else os.path.join(os.path.realpath(folder), THUMBS)  # noqa: PTH118 - text
    for source in sources:
        if isinstance(source.value, str | Path):
            top, name = os.path.split(os.path.abspath(source.value))  # noqa: PTH100 - text
            path = f"{real(top)}{os.sep}{name}"
            if path in seen or real(top) == own:
                continue
            seen.add(path)
        yield source


def _checked(source: Source) -> Source:
    """The source; UsageError for pixels in memory, which are no file."""
    if not isinstance(source.value, str | Path | Stored | bytes | bytearray | memoryview | ImageError):
        raise UsageError(
            f"{source.name} is in memory only: there is no file that could be a copy of another.",
            "Give files, folders, lists, tables or archives.",
        )
    return source


class _Search:
    """One pass over the images."""

    def __init__(self, sources: Sequence[Source], threads: int, limits: Limits, watch: Watcher) -> None:
        self.sources, self.threads, self.limits, self.watch = sources, threads, limits, watch
        self.looks: list[Look] = []
        self.unchecked: tuple[str, ...] = ()

    def run(self, predictor: Predictor | None) -> tuple[list[list[Member]], list[tuple[list[Member], str]]]:
        """The groups of copies, and those of moments with their reasons."""
        self._look()
        ages = [_age(source) for source in self.sources]
        comparing = Progress("comparing", len(self.sources))
        self.watch(comparing)
        pairs = Resembling(self.sources, self.looks, ages, self.limits)
        single = pairs.singles()
        vectors = np.zeros((0, 0), np.float32)
        if predictor is not None:
            vectors, single = self._embed(predictor, single)
            self.watch(comparing)
            pairs.find_parts(vectors, single, self.threads)
        copies, unsure = pairs.groups(self.threads)
        near = list(unsure)
        if predictor is not None:
            spare = {member.index for group in copies for member in group[1:]}
            rows = [row for row, index in enumerate(single) if index not in spare]
            own = [single[row] for row in rows]
            times = [self._taken(index) for index in own]
            near += [*of_one_moment(vectors[rows], own, times), *surely_alike(vectors[rows], own, times)]
        return copies, together(near, pairs.best_first)

    def _look(self) -> None:
        """Read and decode every image."""
        progress = Progress("reading", len(self.sources))

        def seen(look: Look) -> None:
            progress.done += 1
            if look.error is not None:
                progress.broken[look.error.kind] += 1
            self.watch(progress)

        self.looks = look_at(self.sources, self.threads, self.limits, seen)

    def _embed(self, predictor: Predictor, single: Sequence[int]) -> tuple[np.ndarray, list[int]]:
        """(n, D) of length 1, and the index of each, of the images with an embedding."""
        progress = Progress("embedding", len(single))

        def moved(done: int) -> None:
            progress.done = done
            self.watch(progress)

        sources = tuple(self.sources[index] for index in single)
        split = Split(ALL, sources, np.zeros(len(sources), np.int64))
        embedded = embed_split(predictor, split, watch=lambda own: moved(own.done))
        if embedded.failures:
            count, why = f"{len(embedded.failures):,} of {len(single):,} images", embedded.failures[0][2]
            self.unchecked = (f"parts and the same moment of {count}, which the model does not embed ({why})",)
        rows = np.flatnonzero(embedded.ok)
        return unit_length(embedded.vectors[rows]), [single[row] for row in rows.tolist()]

    def _taken(self, index: int) -> Taken | None:
        facts = self.looks[index].facts
        return facts.taken if facts is not None else None

    def why(self, members: Sequence[Member]) -> str:
        """The reason of a group of copies, in words."""
        return "; ".join(WHY[kind] for kind in CERTAIN if kind in {member.kind for member in members})

    def failures(self) -> Iterator[Failure]:
        """Inputs without an image."""
        for source, look in zip(self.sources, self.looks, strict=True):
            if look.error is not None:
                yield Failure(source.name, look.error.status, f"{look.error.kind}: {look.error.message}")


WHY = {
    EXACT: "the same bytes",
    NEAR: "the same image, compressed or scaled again",
    MIRRORED: "the same image, mirrored",
    CROPPED: "a part of the image",
}


def _age(source: Source) -> float:
    """Time of modification; infinite for what is no plain file: of the same bytes a file is kept, and no link."""
    if isinstance(source.value, str | Path):
        with suppress(OSError, ValueError):
            status = os.lstat(source.value)
            return status.st_mtime if stat.S_ISREG(status.st_mode) else math.inf
    return math.inf


def _group(search: _Search, members: Sequence[Member], why: str, places: Places) -> DuplicateGroup:
    order = (*CERTAIN, *reversed(TO_LOOK_AT))
    kind = max((member.kind for member in members if member.kind), key=order.index)
    return DuplicateGroup(kind, why, tuple(_image(search, member, places) for member in members))


def _image(search: _Search, member: Member, places: Places) -> DuplicateImage:
    source, look = search.sources[member.index], search.looks[member.index]
    assert look.facts is not None and look.digest is not None  # noqa: PT018 - of whole images only
    return DuplicateImage(
        id=source.name,
        kind=member.kind,
        distance=member.distance,
        width=look.width,
        height=look.height,
        bytes=look.bytes,
        format=look.facts.format,
        sha256=look.digest,
        taken=None if look.facts.taken is None else str(look.facts.taken),
        place=places.of(source),
    )
