"""How well a model finds your images: a card of measured figures, to choose a model by.

Every image is a query among all others; one is right if it has the query's class. Copies of a query (the same bytes)
are left out, since any model finds those.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from weevit.answers.results import Array, unit_length
from weevit.arguments import MAX_SEED, whole
from weevit.datasets.dataset import Dataset, Split
from weevit.datasets.read import read_dataset
from weevit.errors import DatasetError
from weevit.images.source import Source
from weevit.predict import Predictor, load
from weevit.search.embeddings import embed_split
from weevit.search.neighbours import products
from weevit.search.scan import Part, best
from weevit.search.shards import KEY_BYTES, STAMP_BYTES, Rows, Shard, error_of, write_shard

AT = (1, 5, 10)
MOST = 5_000
"""Queries; of more images so many are drawn."""

_TIMED = 64
"""Images whose embedding is timed."""

_SEARCHED = 20
"""Queries that are timed."""


@dataclass(frozen=True)
class Card:
    """The figures of one model on some images.

    Attributes:
        model: its full tag.
        images, classes, queries: numbers of them.
        map: mean over the queries of the average precision of all other images in their order: 1 if all images of the
            class come first.
        recall: k -> share of queries with an image of their class among the first k.
        images_per_s: images decoded and embedded per second.
        search_ms: of a query among these images, embedding not included.
        bytes_per_image: of an index of these images.
        peak_mb: the most memory that the process has had so far; None where the system does not tell.
        width: numbers of an embedding.
        failed: images that cannot be read.
    """

    model: str
    images: int
    classes: int
    queries: int
    map: float
    recall: dict[int, float]
    images_per_s: float
    search_ms: float
    bytes_per_image: float
    peak_mb: float | None
    width: int
    failed: int

    def to_dict(self) -> dict[str, str | float | None]:
        """The fields as plain data; `recall` as `recall_1`, `recall_5`, `recall_10`."""
        flat = asdict(self)
        recall = flat.pop("recall")
        return {**flat, **{f"recall_{k}": value for k, value in recall.items()}}


def measure_search(
    data: str | Path | Dataset,
    model: str | Path | Predictor,
    *,
    seed: int = 0,
    cache: Path | None = None,
    watch: Callable[[int, int], None] = lambda done, total: None,
) -> Card:
    """Measure how well a model finds images of the same class.

    Args:
        data: images with one class each, as for `weevit.fit`; their splits are joined.
        model: as for `weevit.load`, or a loaded model.
        seed: of the draw of queries from more than 5,000 images.
        cache: the folder of kept embeddings; weevit's own by default.
        watch: told embedded and all images.

    Raises:
        DatasetError: several labels per image, no class with two images, or no image with an embedding.
        ModelError: the model cannot be loaded.
    """
    whole("seed", seed, 0, MAX_SEED)
    dataset = data if isinstance(data, Dataset) else read_dataset(data, allow_missing=True)
    if dataset.multi_label:
        raise DatasetError("Images with several labels have no one class to be found by.", "Give one class per image.")
    predictor = model if isinstance(model, Predictor) else load(model)
    splits = tuple(dataset.splits.values())
    every = Split("all", tuple(one for split in splits for one in split.sources), _joined(splits))
    found = embed_split(predictor, every, cache, lambda now: watch(now.done, now.total))
    kept = np.flatnonzero(found.ok)
    if found.failures and not len(kept):
        name, _, error = found.failures[0]
        raise DatasetError(f"None of the {len(every.sources):,} images has an embedding: {name}: {error}.")
    vectors, targets = found.vectors[kept], every.targets[kept].astype(np.int64)
    copies = np.unique([found.hashes[row] or str(row) for row in kept.tolist()], return_inverse=True)[1]
    queries = _queries(targets, copies, seed)
    if not len(queries):
        raise DatasetError("No class has two different images: there is nothing to find.", "Give more images.")
    average, recall = _judged(unit_length(vectors), targets, copies, queries)
    seconds, size = _searched(vectors, [every.sources[row].name for row in kept.tolist()], predictor.threads.count)
    return Card(
        model=predictor.checkpoint.name,
        images=len(kept),
        classes=len(np.unique(targets)),
        queries=len(queries),
        map=average,
        recall=recall,
        images_per_s=_speed(predictor, [every.sources[row] for row in kept[:_TIMED].tolist()]),
        search_ms=1000 * seconds,
        bytes_per_image=size / len(kept),
        peak_mb=_peak_mb(),
        width=vectors.shape[1],
        failed=len(found.failures),
    )


Ints = npt.NDArray[np.int64]


def _joined(splits: Sequence[Split]) -> Ints:
    return np.concatenate([np.asarray(split.targets, np.int64) for split in splits])


def _queries(targets: Ints, copies: Ints, seed: int) -> Ints:
    """Images of classes with another image, some of them where there are many."""
    pairs = np.unique(np.stack([targets, copies]), axis=1)
    different = np.bincount(pairs[0], minlength=targets.max(initial=0) + 1)
    usable = np.flatnonzero(different[targets] > 1)
    if len(usable) <= MOST:
        return usable
    return np.sort(np.random.default_rng(seed).choice(usable, MOST, replace=False))


def _judged(units: Array, targets: Ints, copies: Ints, queries: Ints) -> tuple[float, dict[int, float]]:
    """Mean average precision, and recall at each k."""
    precisions, first = np.zeros(len(queries)), np.zeros(len(queries), np.int64)
    for top, block in products(units, units[queries]):
        for row, cosines in enumerate(block):
            query = queries[top + row]
            others = np.flatnonzero(copies != copies[query])
            order = others[np.argsort(-cosines[others], kind="stable")]
            hits = np.flatnonzero(targets[order] == targets[query])
            if len(hits):
                precisions[top + row] = ((np.arange(len(hits)) + 1) / (hits + 1)).mean()
            first[top + row] = hits[0] if len(hits) else len(order)
    return float(precisions.mean()), {k: float((first < k).mean()) for k in AT}


def _searched(vectors: Array, names: Sequence[str], threads: int) -> tuple[float, int]:
    """Seconds of a query, and bytes of an index, both without the model."""
    rows = vectors.astype(np.float16)
    keys = np.random.default_rng(0).integers(0, 256, (len(rows), KEY_BYTES), np.uint8)
    with tempfile.TemporaryDirectory(prefix="weevit-") as folder:
        path = Path(folder, "shard.safetensors")
        write_shard(path, Rows(names, keys, np.zeros((len(rows), STAMP_BYTES), np.uint8), rows))
        part = Part(Shard(path, len(rows), vectors.shape[1]), np.zeros(len(rows), bool), error_of(rows))
        taken = []
        for query in vectors[:_SEARCHED]:
            start = time.perf_counter()
            best([part], query[None], min(10, len(rows)), threads)
            taken.append(time.perf_counter() - start)
        return float(np.median(taken)), path.stat().st_size


def _speed(predictor: Predictor, sources: Sequence[Source]) -> float:
    """Images per second, after one that loads the model."""
    list(predictor.stream(sources[0], outputs=("embedding",)))
    start = time.perf_counter()
    done = sum(1 for _ in predictor.stream(sources, outputs=("embedding",)))
    return done / (time.perf_counter() - start)


def _peak_mb() -> float | None:
    """The most memory that this process has had; None where the system does not tell (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
