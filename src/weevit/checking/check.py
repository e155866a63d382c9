"""`weevit.check_data`: the contents of a data set, and its faults.

folders, tables ── every file read once ── copies ── embeddings, once ── doubtful labels ── results, a page
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from weevit.arguments import flag
from weevit.checking.neighbours import FEWEST, denied_labels, rare_classes, require_sklearn
from weevit.checking.results import (
    Alike,
    Broken,
    CheckedImage,
    ClassDifference,
    Copies,
    DataCheck,
    Suspect,
    UnusualImage,
)
from weevit.checking.saved import writable, write_check
from weevit.datasets.dataset import ALL, ORDER, Dataset, Split
from weevit.datasets.found import Found, assemble, split_of
from weevit.datasets.read import find
from weevit.duplicates.copies import KINDS, Group, exact_groups, near_groups
from weevit.duplicates.looks import Look, Progress, look_at
from weevit.duplicates.moments import alike, of_one_moment
from weevit.engine.threads import choose_threads
from weevit.errors import MissingImageError
from weevit.images.decode import DEFAULT_LIMITS, Limits
from weevit.images.names import ids_of
from weevit.images.source import Source
from weevit.images.sources import Expansion, expand
from weevit.predict import Predictor, load
from weevit.search.embeddings import Embedded, embed_split
from weevit.zoo.weights import DEFAULT_MODEL

Watcher = Callable[[Progress], None]


def check_data(
    data: str | Path | Dataset,
    model: str | Path | Predictor = DEFAULT_MODEL,
    output: str | Path | None = None,
    *,
    fix_list: str | Path | None = None,
    embeddings: bool = True,
    threads: int | None = None,
    limits: Limits = DEFAULT_LIMITS,
    watch: Watcher = lambda progress: None,
) -> DataCheck:
    """Read every image of a data set and report faults; no file of it is ever changed.

    Args:
        data: as for `read_dataset`: a folder with a subfolder per class, with or without `train/ val/ test/` above
            them; a table with paths and labels; tars; or a `Dataset`. Where no image has a class (a folder of images;
            a list; a table without labels), the images are checked without labels, and `notes` says so.
        model: the model of the embeddings: as for `weevit.load`, or a loaded model.
        output: a name that ends in `.html` for the page, else a folder for `report.html`, `report.json` and
            `fix-list.csv`; nothing is written by default.
        fix_list: a CSV of images to remove or to look at.
        embeddings: without them no model is needed; labels, crops and near-duplicates are then not checked, and
            `unchecked` says so.
        threads: threads that decode and compute; chosen by default.
        limits: the largest file and image to decode.
        watch: called after each image.

    Raises:
        DatasetError: there are no images.
        ModelError: the model cannot be loaded.
        MissingExtraError: scikit-learn or, for a report, jinja2 or filelock is not installed.
        OutputError: the findings cannot be written.
    """
    start, embeddings = time.monotonic(), flag("embeddings", embeddings)
    with writable(output, fix_list, data, model) as (report, fixes):
        dataset, unusual, differences = _read(data)
        if embeddings and dataset.classes:
            require_sklearn()
        predictor = None
        if embeddings:
            predictor = model if isinstance(model, Predictor) else load(model, threads=threads, limits=limits)
        checked = _Check(dataset, watch)
        checked.look(choose_threads(threads).count, limits)
        checked.find_copies()
        if predictor is not None:
            checked.embed(predictor)
        found = replace(checked.result(), unusual=(*unusual, *checked.unusual()), differences=tuple(differences))
        found = replace(found, seconds=time.monotonic() - start)
        write_check(found, report, fixes)
    return found


def _read(data: str | Path | Dataset) -> tuple[Dataset, list[UnusualImage], list[ClassDifference]]:
    """The data set with the classes of all its splits; differences are findings here, not errors."""
    if isinstance(data, Dataset):
        return data, [], []
    found = find(data)
    unusual: list[UnusualImage] = []
    if not found.rows and (plain := _without_classes(found, data)):
        return plain, [], []
    if found.rows:
        unusual = [
            UnusualImage(CheckedImage(source.name, split, ()), "no class", "it has no label")
            for split, source in found.unlabelled
        ]
        found.unlabelled = []
    classes = found.all_classes()
    return assemble(found, classes, allow_missing=True), unusual, _differences(found)


def _without_classes(found: Found, data: str | Path) -> Dataset | None:
    """The images of a data set in which none has a class; None where there is no image."""
    expansion = expand(data)
    sources = [source for source in expansion if not isinstance(source.value, MissingImageError)]
    if not sources:
        return None
    splits: dict[str, list[Source]] = {}
    for source, split in zip(sources, _splits_of(sources, found), strict=True):
        splits.setdefault(split, []).append(source)
    targets = {name: np.zeros(len(own), np.int64) for name, own in splits.items()}
    made = {name: Split(name, tuple(splits[name]), targets[name]) for name in ORDER if name in splits}
    return Dataset(found.path, (), made, notes=(NO_CLASSES, *_left_out(expansion)))


NO_CLASSES = "no image has a class: checked as images without labels"


def _left_out(expansion: Expansion) -> Iterator[str]:
    if expansion.left_out:
        counts = ", ".join(
            f"{count:,} {ending or 'without ending'}" for ending, count in expansion.left_out.most_common()
        )
        yield f"no images by their endings: {counts}"


def _splits_of(sources: Sequence[Source], found: Found) -> list[str]:
    """The split of each image: by its folder, where all folders have the names of splits."""
    names = ids_of(sources, found.path)
    splits = [split_of(name.partition("/")[0]) if "/" in name else None for name in names]
    return [split or ALL for split in splits] if found.flat and all(splits) else [ALL] * len(names)


def _differences(found: Found) -> list[ClassDifference]:
    """The splits whose classes differ from those of the first."""
    splits = [name for name in ORDER if name in found.rows]
    first = found.classes(splits[0])
    differences = []
    for split in splits[1:]:
        own = found.classes(split)
        missing = tuple(name for name in first if name not in set(own))
        extra = tuple(name for name in own if name not in set(first))
        if missing or extra:
            differences.append(ClassDifference(split, missing, extra))
    return differences


class _Check:
    """One pass over a data set."""

    def __init__(self, dataset: Dataset, watch: Watcher) -> None:
        self.dataset, self.watch = dataset, watch
        splits = dataset.splits.values()
        self.sources = tuple(source for split in splits for source in split.sources)
        self.targets = np.concatenate([split.targets for split in splits])
        names = ids_of(self.sources, dataset.path)
        of = [split.name for split in splits for _ in split.sources]
        rows = zip(names, of, self.targets, strict=True)
        labels = dataset.names_of if dataset.classes else lambda target: ()
        self.images = tuple(CheckedImage(name, split, labels(target)) for name, split, target in rows)
        self.looks: list[Look] = []
        self.groups: list[Group] = []
        self.alike: list[Alike] = []
        self.suspects: list[Suspect] = []
        own = "labels, crops" if dataset.classes else "crops"
        self.unchecked = [f"{own} and things taken twice: that needs embeddings"]
        self.model = ""

    # ---- the steps

    def look(self, threads: int, limits: Limits) -> None:
        """Read and decode every image."""
        progress = Progress("reading", len(self.sources))

        def seen(look: Look) -> None:
            progress.done += 1
            if look.error is not None:
                progress.broken[look.error.kind] += 1
            self.watch(progress)

        self.looks = look_at(self.sources, threads, limits, seen)

    def find_copies(self) -> None:
        """Group the copies, exact ones first."""
        self.watch(Progress("comparing", len(self.sources)))
        exact = exact_groups(self.looks)
        self.groups = exact + near_groups(self.looks, exact)

    def embed(self, predictor: Predictor) -> None:
        """Embed every image, and compare the embeddings."""
        embedded = [self._embed(predictor, split) for split in self.dataset.splits.values()]
        vectors = np.concatenate([part.vectors for part in embedded])
        ok = np.concatenate([part.ok for part in embedded])
        self.model, self.unchecked = predictor.checkpoint.name, []
        self.watch(Progress("comparing", len(self.sources)))
        copy_of = self._copy_of()
        single = [index for index in np.flatnonzero(ok).tolist() if copy_of.get(index, index) == index]
        self.alike = [
            Alike(self.images[first], self.images[second], distance)
            for first, second, distance in alike(vectors[single], single)
        ]
        if self.dataset.classes:
            self._doubt(vectors, np.flatnonzero(ok).tolist(), copy_of)
        else:
            self._add_moments(vectors[single], single)

    def _add_moments(self, vectors: np.ndarray, single: Sequence[int]) -> None:
        """Add the pairs that were taken within seconds, of images without labels."""
        facts = [self.looks[index].facts for index in single]
        known = {(pair.first, pair.second) for pair in self.alike}
        for near in of_one_moment(vectors, single, [own.taken if own else None for own in facts]):
            first, second = (self.images[index] for index in sorted((near.first, near.second)))
            if (first, second) not in known:
                self.alike.append(Alike(first, second, near.distance))

    def _embed(self, predictor: Predictor, split: Split) -> Embedded:
        progress = Progress("embedding", len(split))

        def moved(done: int) -> None:
            progress.done = done
            self.watch(progress)

        return embed_split(predictor, split, watch=lambda own: moved(own.done))

    def _doubt(self, vectors: np.ndarray, indices: Sequence[int], copy_of: dict[int, int]) -> None:
        """Find labels that other images contradict."""
        if self.dataset.multi_label:
            self.unchecked.append("labels: an image may have several, and each would have to be judged alone")
            return
        split = Split("all", tuple(self.sources[index] for index in indices), self.targets[indices])
        groups = [copy_of.get(index) for index in indices]
        rare = rare_classes(split.targets, groups)
        if rare:
            names = ", ".join(self.dataset.classes[target] for target in sorted(rare))
            self.unchecked.append(f"labels of classes with fewer than {FEWEST} different images: {names}")
        for denied in denied_labels(vectors[indices], split, groups):
            image = self.images[indices[denied.index]]
            suggestion = self.dataset.classes[denied.suggestion]
            self.suspects.append(Suspect(image, suggestion, denied.own, denied.suggested))

    def _copy_of(self) -> dict[int, int]:
        """Index -> index of the first copy, for images with copies."""
        first: dict[int, int] = {}
        for group in sorted(self.groups, key=lambda group: -len(group.members)):  # near copies include exact ones
            for index in group.members:
                first.setdefault(index, group.members[0])
        return first

    # ---- the report

    def unusual(self) -> list[UnusualImage]:
        """Images that a person should look at."""
        looks = zip(self.images, self.looks, strict=True)
        return [UnusualImage(image, *own) for image, look in looks for own in look.unusual(image.id)]

    def result(self) -> DataCheck:
        """The findings, without the time."""
        looks, classes = self.looks, self.dataset.classes
        facts = [look.facts for look in looks if look.facts is not None]
        broken = zip(self.images, (look.error for look in looks), strict=True)
        return DataCheck(
            path=self.dataset.path,
            classes=classes,
            counts={name: _counts(split, len(classes)) for name, split in self.dataset.splits.items()},
            multi_label=self.dataset.multi_label,
            notes=self.dataset.notes,
            differences=(),
            images=self.images,
            sizes=np.array([(look.width, look.height) for look in looks], np.int64).reshape(-1, 2),
            bytes=sum(look.bytes for look in looks),
            formats=Counter(own.format for own in facts),
            modes=Counter(own.mode for own in facts),
            orientations=Counter(own.orientation for own in facts),
            broken=tuple(Broken(image, error.kind, error.message) for image, error in broken if error is not None),
            copies=self._copies(),
            alike=tuple(self.alike),
            suspects=tuple(self.suspects),
            unchecked=tuple(self.unchecked),
            model=self.model,
            sources=self.sources,
        )

    def _copies(self) -> tuple[Copies, ...]:
        made = [
            Copies(group.kind, tuple(self.images[index] for index in group.members), group.distance)
            for group in self.groups
        ]
        return tuple(sorted(made, key=lambda own: (KINDS.index(own.kind), not own.leak, not own.conflict)))


def _counts(split: Split, classes: int) -> tuple[int, ...]:
    if split.targets.ndim == 2:
        return tuple(split.targets.sum(axis=0, dtype=np.int64).tolist())
    return tuple(np.bincount(split.targets, minlength=classes).tolist())[:classes]
