"""`weevit.index`: make an index, or bring it up to date; only what is new or changed is embedded.

inputs ── name and stamp known? ── yes: the row stays
                 └── no: bytes ── their sha256 known, here or among kept embeddings? ── yes: the vector is copied
                                          └── no: the model ── a row
rows whose image is gone leave at the end
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from weevit.answers.results import Array
from weevit.arguments import flag
from weevit.errors import NotFiniteError, UsageError
from weevit.images.names import Names, id_hash
from weevit.images.source import Source
from weevit.images.sources import Inputs, expand
from weevit.predict import Predictor, load
from weevit.search.embeddings import Found, embed_each
from weevit.search.index import Index, open_index
from weevit.search.kept import Kept, default_cache
from weevit.search.manifest import INDEX, MANIFEST, Manifest, read_manifest
from weevit.search.shards import Rows, key_of, stamp_of
from weevit.search.space import space_of
from weevit.search.writing import Writer
from weevit.store.folder import held
from weevit.store.keys import Keys, first_8
from weevit.store.outputs import local
from weevit.zoo.weights import DEFAULT_MODEL

_FEW = 1 << 16
"""Inputs that are held in memory."""

MOST_GONE = 0.5
"""Share of an index's images that may be gone without being asked for: a folder that is not mounted looks empty."""


@dataclass
class Progress:
    """The progress of an index.

    Attributes:
        total: inputs.
        same: of them, those whose row stays: their name, size and time are known.
        copied: of them, those whose bytes are known: moved, copied, touched, or embedded before.
        embedded: of them, those that the model was asked for.
        errors: kind -> inputs without a vector.
        gone: rows whose image is not among the inputs any more, or cannot be read at all.
        lost: rows of damaged shards, which were made again.
        failures: (id, status, error) of the inputs without a vector.
    """

    total: int = 0
    same: int = 0
    copied: int = 0
    embedded: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    gone: int = 0
    lost: int = 0
    failures: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def done(self) -> int:
        """Inputs that have been looked at."""
        return self.same + self.copied + self.embedded + self.errors.total()


Watcher = Callable[[Progress], None]


def index(
    inputs: Inputs,
    output: str | os.PathLike[str],
    model: str | Path | Predictor | None = None,
    *,
    prune: bool = False,
    cache: Path | None = None,
    threads: int | None = None,
    watch: Watcher = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Index:
    """Make an index of images, or bring one up to date.

    A killed or stopped run loses half a minute at most; the next one resumes. Whoever searches meanwhile sees a
    complete version.

    Args:
        inputs: as for `Predictor.classify`, all of them each time, but no images in memory; many are read twice.
        output: the folder of the index, made if it is not there.
        model: as for `weevit.load`, or a loaded model; by default that of the index, or of weevit.
        prune: also where more than half of the index's images are gone.
        cache: the folder of kept embeddings, which are looked up; weevit's own by default.
        threads: to compute with; chosen by default.
        watch: told after each image.
        should_stop: asked before and after each.

    Raises:
        UsageError: a folder that holds something else, or an index of another embedding space; more than half of the
            images are gone.
        ModelError: the model cannot be loaded.
        KeyboardInterrupt: `should_stop` said so. As after Ctrl-C, what was embedded is kept, and the next call resumes.
        OutputError: the folder is in use or cannot be written; what was finished is kept.
        MissingExtraError: filelock is not installed.
    """
    folder, prune = local(output), flag("prune", prune)
    lasting = list(inputs) if isinstance(inputs, Iterator) else inputs
    given = [model.checkpoint.path if isinstance(model, Predictor) else model, lasting]
    with held(folder, INDEX, given):
        manifest = read_manifest(folder) if (folder / MANIFEST).exists() else None
        predictor = _model(model, manifest, threads)
        if manifest is None:
            manifest = Manifest(space_of(predictor), base=str(Path.cwd()))
        manifest.space.made_with()  # nothing is compared with vectors that nobody knows the model of
        manifest.space.check(predictor)
        update = _Update(predictor, Writer(folder, manifest), Kept(predictor, cache or default_cache()), watch)
        update.run(expand(lasting), should_stop, prune)
    return open_index(folder, predictor, threads)


def _model(model: str | Path | Predictor | None, manifest: Manifest | None, threads: int | None) -> Predictor:
    if isinstance(model, Predictor):
        return model
    if manifest is not None:
        return manifest.space.open(model, threads)
    return load(DEFAULT_MODEL if model is None else model, threads=threads)


class _Update:
    """One pass over all inputs."""

    def __init__(self, predictor: Predictor, writer: Writer, kept: Kept, watch: Watcher) -> None:
        self.predictor, self.writer, self.kept, self.watch = predictor, writer, kept, watch
        self.progress = Progress(lost=writer.lost)
        self.left = writer.left()
        self.seen = [left.copy() for left in self.left]
        self.names, self.keys = self._known()
        self.asked: dict[int, tuple[str, bytes, list[int]]] = {}

    def run(self, inputs: Iterable[Source], should_stop: Callable[[], bool], prune: bool) -> None:
        """Look at every input, and make the versions of the index."""
        listed, self.progress.total = _listed(inputs)
        self.watch(self.progress)
        try:
            unknown = self._unknown(Names().unique(listed))
            embed_each(self.predictor, unknown, self._vector, self._take, should_stop)
        finally:
            self.writer.publish()
        self._drop_gone(prune)
        self.writer.compact()
        rows = ((name, None, status, error) for name, status, error in self.progress.failures)
        INDEX.write_failures(self.writer.folder, rows)
        self.watch(self.progress)

    def _known(self) -> tuple[Keys, Keys]:
        """Positions of the first shards' rows, by the hash of their names and by their keys."""
        shards = self.writer.shards
        names = [np.fromiter(map(id_hash, own.names()), np.uint64, len(own)) for own in shards]
        return Keys.of_parts(names), Keys.of_parts([first_8(own.keys) for own in shards])

    def _unknown(self, sources: Iterator[Source]) -> Iterator[Source]:
        """The inputs whose bytes have to be read."""
        count = 0
        for source in sources:
            stamp = stamp_of(source.fingerprint())  # before the bytes are read: a change meanwhile is seen next time
            same, replaced = self._rows_of(source.name, stamp)
            if same:
                self.progress.same += 1
                self.watch(self.progress)
                continue
            self.asked[count] = source.name, stamp, replaced
            count += 1
            yield source

    def _rows_of(self, name: str, stamp: bytes) -> tuple[bool, list[int]]:
        """Whether the row of an image is there and unchanged; else the rows that its new one replaces."""
        replaced = []
        for at in self.names.of(id_hash(name)):
            shard, row = at >> 32, at & 0xFFFFFFFF
            if not self.seen[shard][row]:
                self.seen[shard][row] = True
                if self.writer.shards[shard].stamps[row].tobytes() == stamp:
                    return True, []
                replaced.append(at)
        return False, replaced

    def _vector(self, digest: str | None) -> Array | None:
        """The vector of an image with these bytes, from the index or from kept embeddings."""
        if digest is None:
            return None
        key = key_of(digest)
        for at in self.keys.of(int.from_bytes(key[:8].tobytes(), "little")):
            shard, row = self.writer.shards[at >> 32], at & 0xFFFFFFFF
            if (shard.keys[row] == key).all():
                return np.asarray(shard.vectors[row], np.float32)
        return self.kept.get(digest)

    def _take(self, found: Found) -> None:
        name, stamp, replaced = self.asked.pop(found.index)
        failure, vector = found.failure, found.vector
        unread = failure is not None and found.digest is None  # a list names images of a disk that is not mounted
        for shard, row in ((at >> 32, at & 0xFFFFFFFF) for at in replaced):
            if unread:
                self.seen[shard][row] = False
            else:
                self.writer.remove(shard, row)  # in the version in which the new row appears
        if vector is not None:
            with np.errstate(over="ignore"):
                narrow = vector.astype(np.float16)
            if not np.isfinite(narrow).all():
                failure = name, NotFiniteError.status, "not_finite: the embedding has numbers above 65,504"
            else:
                digest = found.digest or hashlib.sha256(vector.tobytes()).hexdigest()
                stamps = np.frombuffer(stamp, np.uint8)[None]
                self.writer.add(Rows([name], key_of(digest)[None], stamps, narrow[None]))
        if failure is not None:
            self.progress.failures.append((name, *failure[1:]))
            self.progress.errors[failure[2].partition(":")[0]] += 1
        elif found.computed:
            self.progress.embedded += 1
        else:
            self.progress.copied += 1
        self.watch(self.progress)

    def _drop_gone(self, prune: bool) -> None:
        """Take out the rows that no input has."""
        gone = [~seen for seen in self.seen]
        self.progress.gone = sum(int(rows.sum()) for rows in gone)
        there = sum(int((~left).sum()) for left in self.left)
        if self.progress.gone > MOST_GONE * there and not prune:
            raise UsageError(
                f"{self.progress.gone:,} of the {there:,} images in {self.writer.folder} are not among the inputs any "
                "more, or their files cannot be read. Give all inputs each time. Their rows are kept so far.",
                "--prune   removes them",
            )
        for shard, rows in enumerate(gone):
            for row in np.flatnonzero(rows).tolist():
                self.writer.remove(shard, row)
        self.writer.rebase(Path.cwd())  # all rows are of inputs of this call now
        self.writer.publish()


def _listed(inputs: Iterable[Source]) -> tuple[Iterable[Source], int]:
    """The inputs, which are listed once where they are few and twice otherwise, and their number."""
    iterator = iter(inputs)
    first = list(islice(iterator, _FEW))
    more = sum(1 for _ in iterator)
    return inputs if more else first, len(first) + more
