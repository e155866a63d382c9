"""Indexes: one query beside others' libraries, size, bringing up to date, kills.

    python benchmarks/search.py query [--rows 1000000]   one query among so many vectors of 192 numbers, process and
                                                         index warm, beside faiss (flat), usearch (exact and HNSW) and
                                                         LanceDB where those are installed, with recall@10 against
                                                         float32: <= 60 ms; then the whole command in a new process:
                                                         <= 0.5 s
    python benchmarks/search.py big [--rows 10000000]    query time, and memory beyond the page cache: <= 0.5 s,
                                                         <= 300 MB
    python benchmarks/search.py again [--photos 20000]   the shared photos, each file with bytes of its own, indexed
                                                         again after 200 changes: only those embedded, < 3 s; the size
                                                         of the index over that of its float16 vectors: <= 1.6
    python benchmarks/search.py kills [--kills 20]       row S12: SIGKILL of the writer at random times under a reader
                                                         that asks all the time: every answer from a complete version,
                                                         0 lost, 0 doubled

Vectors are mixtures of the embeddings of the shared photos and noise: as near to each other as those of a large
collection. Indexes are made below --folder, and made once.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from common import instruction_set, photos, run_process, shared, vit_tiny

import weevit
from weevit.answers.results import Array, unit_length
from weevit.search.building import Progress
from weevit.search.index import Index
from weevit.search.manifest import Manifest
from weevit.search.shards import KEY_BYTES, STAMP_BYTES, Rows
from weevit.search.space import space_of
from weevit.search.writing import SHARD_ROWS, Writer

K, QUERIES = 10, 20


# ---- vectors


def embeddings(model: weevit.Predictor, folder: Path) -> Array:
    """Of 1,000 shared photos, computed once."""
    path = folder / "embeddings.npy"
    if not path.exists():
        np.save(path, model.embed(photos(1000)))
    found: Array = np.load(path)
    return found


def mixtures(base: Array, rows: int, seed: int = 0) -> Iterator[Array]:
    """Blocks of rows: two photos' embeddings mixed, and noise of a third of their length."""
    for start in range(0, rows, SHARD_ROWS):
        rng = np.random.default_rng((seed, start))
        count = min(SHARD_ROWS, rows - start)
        first, second = base[rng.integers(0, len(base), count)], base[rng.integers(0, len(base), count)]
        share = rng.uniform(0, 1, (count, 1)).astype(np.float32)
        noise = rng.standard_normal((count, base.shape[1])).astype(np.float32)
        scale = np.linalg.norm(base, axis=1).mean() / np.sqrt(base.shape[1]) / 3
        yield share * first + (1 - share) * second + scale * noise


def made(folder: Path, rows: int) -> tuple[Path, Array]:
    """An index of so many mixtures, and its queries."""
    model = weevit.load(vit_tiny())
    base = embeddings(model, folder)
    path = folder / f"{rows}.idx"
    if not (path / "index.json").exists():
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        writer, number = Writer(path, Manifest(space_of(model), base=str(folder)), at_once=True), 0
        start = time.perf_counter()
        for block in mixtures(base, rows):
            rng = np.random.default_rng(number)
            names = [f"photos/{(number + row) // 1000:05d}/IMG_{number + row:08d}.jpg" for row in range(len(block))]
            keys = rng.integers(0, 256, (len(block), KEY_BYTES), np.uint8)
            stamps = rng.integers(0, 256, (len(block), STAMP_BYTES), np.uint8)
            writer.add(Rows(names, keys, stamps, block.astype(np.float16)))
            number += len(block)
        writer.publish()
        print(f"made {path.name} in {time.perf_counter() - start:.0f} s")
    return path, next(mixtures(base, QUERIES, seed=1))


def size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


# ---- one query


def query(folder: Path, options: argparse.Namespace) -> bool:
    rows = options.rows or 1_000_000
    path, queries = made(folder, rows)
    index = weevit.open_index(path)
    base = embeddings(weevit.load(vit_tiny()), folder)
    every = unit_length(np.concatenate(list(mixtures(base, rows))))
    true = [set(np.argpartition(-(every @ unit), K)[:K].tolist()) for unit in unit_length(queries)]

    def weevits(row: Array) -> list[int]:
        return [int(hit.id[-12:-4]) for hit in index.search_vectors(row[None], K)[0]]

    asked: dict[str, Callable[[Array], list[int]]] = {"weevit": weevits}
    asked |= others(every, path, options.without or ())
    taken: dict[str, list[float]] = {name: [] for name in asked}
    spent: dict[str, list[float]] = {name: [] for name in asked}
    right = dict.fromkeys(asked, 0)
    for row, best in zip(queries, true, strict=True):
        for name, ask in asked.items():
            start, cpu = time.perf_counter(), time.process_time()
            found = ask(row)
            taken[name].append(time.perf_counter() - start)
            spent[name].append(time.process_time() - cpu)
            right[name] += len(best & set(found))
    print(f"one query among {rows:,} x {every.shape[1]}, {instruction_set()}, {index.threads} threads")
    for name, seconds in taken.items():
        print(
            f"  {name:<18}{1000 * statistics.median(seconds[1:]):8.1f} ms wall "
            f"{1000 * statistics.median(spent[name][1:]):8.1f} ms of processors   "
            f"recall@{K} {right[name] / K / QUERIES:.4f}"
        )
    photo = photos(1)[0]
    words = [sys.executable, "-m", "weevit", "search", path, photo, "-k", K, "-q"]
    compiled = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(folder / "compiled")}  # as pip installs it
    whole = [run_process(words, **compiled).seconds for _ in range(7)]
    print(
        f"  weevit search, whole process: {statistics.median(whole[1:]):.2f} s "
        f"({min(whole[1:]):.2f} to {max(whole[1:]):.2f})"
    )
    return right["weevit"] == K * QUERIES


def others(every: Array, path: Path, without: tuple[str, ...]) -> dict[str, Callable[[Array], list[int]]]:
    """What is installed of others, each with all vectors loaded or indexed."""
    found: dict[str, Callable[[Array], list[int]]] = {}
    width = every.shape[1]
    try:
        import faiss

        faiss.omp_set_num_threads(2)
        flat = faiss.IndexFlatIP(width)
        flat.add(every)
        found["faiss flat"] = lambda row: flat.search(unit_length(row[None]), K)[1][0].tolist()
    except ImportError:
        pass
    try:
        from usearch.index import Index as Usearch
        from usearch.index import MetricKind, search

        found["usearch exact"] = lambda row: [
            int(key) for key in search(every, row, K, MetricKind.Cos, exact=True, threads=2).keys
        ]
        if "hnsw" not in without:
            start = time.perf_counter()
            graph = Usearch(ndim=width, metric="cos", dtype="f16")
            graph.add(np.arange(len(every)), every, threads=2)
            print(f"  usearch built HNSW in {time.perf_counter() - start:.0f} s")
            found["usearch HNSW"] = lambda row: [int(key) for key in graph.search(row, K, threads=2).keys]
    except ImportError:
        pass
    if "lancedb" not in without:
        try:
            import lancedb
            import pyarrow as pa

            shutil.rmtree(path.parent / "lance", ignore_errors=True)
            schema = pa.schema([("number", pa.int64()), ("vector", pa.list_(pa.float32(), width))])
            cut = range(0, len(every), SHARD_ROWS)
            batches = (
                pa.RecordBatch.from_arrays(
                    [
                        pa.array(np.arange(top, min(top + SHARD_ROWS, len(every)))),
                        pa.FixedSizeListArray.from_arrays(pa.array(every[top : top + SHARD_ROWS].reshape(-1)), width),
                    ],
                    schema=schema,
                )
                for top in cut
            )
            table = lancedb.connect(path.parent / "lance").create_table("images", batches, schema=schema)
            found["lancedb, no index"] = lambda row: [
                one["number"]
                for one in table.search(row).distance_type("cosine").select(["number", "_distance"]).limit(K).to_list()
            ]
        except ImportError:
            pass
    return found


# ---- many rows


def big(folder: Path, options: argparse.Namespace) -> bool:
    rows = options.rows or 10_000_000
    path, queries = made(folder, rows)
    index = weevit.open_index(path)
    taken = []
    for row in queries[:8]:
        start = time.perf_counter()
        index.search_vectors(row[None], K)
        taken.append(time.perf_counter() - start)
    anonymous = memory("RssAnon")
    print(
        f"one query among {rows:,} x {queries.shape[1]}, {instruction_set()}: {statistics.median(taken[1:]):.2f} s "
        f"(first {taken[0]:.2f}); memory beyond the page cache {anonymous:.0f} MB; index {size(path) / 1e9:.2f} GB, "
        f"{size(path) / (rows * queries.shape[1] * 2):.3f} times of its float16 vectors"
    )
    return statistics.median(taken[1:]) <= 0.5 and anonymous <= 300


def memory(kind: str) -> float:
    """A line of this process's status, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind)) / 1024


# ---- again


def copies(target: Path, count: int) -> list[Path]:
    """So many photos, each with bytes of its own behind the end of the image."""
    given = [*photos(1000), *sorted(shared("clothing").glob("*/*/*.jpg"))]
    target.mkdir(parents=True, exist_ok=True)
    made = []
    for number in range(count):
        path = target / f"{number % 40:02d}" / f"{given[number % len(given)].stem}-{number // len(given)}.jpg"
        path.parent.mkdir(exist_ok=True)
        if not path.exists():
            path.write_bytes(given[number % len(given)].read_bytes() + number.to_bytes(4, "little"))
        made.append(path)
    return made


def again(folder: Path, options: argparse.Namespace) -> bool:
    os.chdir(folder)
    shutil.rmtree("changing", ignore_errors=True)
    shutil.rmtree("changing.idx", ignore_errors=True)
    model, paths = weevit.load(options.model or vit_tiny()), copies(Path("changing"), options.photos)
    seen: list[Progress] = []
    start = time.perf_counter()
    index = weevit.index(
        "changing",
        "changing.idx",
        model,
        cache=folder / "cache",
        watch=lambda now: seen.append(now) if not seen else None,
    )
    print(f"{len(index):,} photos in {time.perf_counter() - start:.0f} s, {model.checkpoint.name}, {instruction_set()}")
    unit = len(index) * index.space.width * 2
    print(f"  index {size(Path('changing.idx')) / unit:.3f} times of its float16 vectors")
    dice = random.Random(0)
    chosen = dice.sample(paths, 200)
    for number, path in enumerate(chosen):
        if number < 50:
            path.write_bytes(path.read_bytes() + b"changed")
        elif number < 100:
            path.with_name(f"added-{path.name}").write_bytes(path.read_bytes() + b"added")
        elif number < 150:
            path.rename(path.with_name(f"moved-{path.name}"))
        else:
            path.unlink()
    seen.clear()
    start, cpu = time.perf_counter(), time.process_time()
    index = weevit.index(
        "changing",
        "changing.idx",
        model,
        cache=folder / "cache",
        watch=lambda now: seen.append(now) if not seen else None,
    )
    seconds, progress = time.perf_counter() - start, seen[0]
    print(
        f"  after 50 changed, 50 added, 50 moved, 50 deleted: {progress.embedded} embedded, {progress.copied} copied, "
        f"{progress.gone} gone, {progress.same:,} the same; {seconds:.2f} s "
        f"({time.process_time() - cpu:.2f} s of processors)"
    )
    start = time.perf_counter()
    weevit.index("changing", "changing.idx", model, cache=folder / "cache")
    print(f"  nothing changed: {time.perf_counter() - start:.2f} s")
    return progress.embedded == 100 and progress.copied == 50 and seconds < 3


# ---- kills

WRITES = """
import sys, weevit
from weevit.search import writing
writing.SECONDS = 0.02
model = weevit.load("digits", threads=1)
print("begin", flush=True)
weevit.index("killed", "killed.idx", model)
print("done", flush=True)
"""


def kills(folder: Path, options: argparse.Namespace) -> bool:
    os.chdir(folder)
    for name in ("killed", "killed.idx"):
        shutil.rmtree(name, ignore_errors=True)
    dice, given = random.Random(0), photos(400)
    Path("killed").mkdir()
    for path in given:
        shutil.copy(path, Path("killed", path.name))
    digits = weevit.load("digits", threads=1)
    weevit.index("killed", "killed.idx", digits)
    killed, asked, versions, wrong = 0, 0, set[int](), 0
    while killed < options.kills:
        for path in dice.sample(given, 60):
            Path("killed", path.name).write_bytes(path.read_bytes() + dice.randbytes(4))
        for path in dice.sample(sorted(Path("killed").iterdir()), 10):
            path.rename(path.with_name(f"{dice.randrange(10**9)}-{path.name[-30:]}"))
        writer = subprocess.Popen([sys.executable, "-c", WRITES], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        writer.stdout.readline()
        end = time.monotonic() + dice.uniform(0.05, 1.2)
        while time.monotonic() < end and writer.poll() is None:
            opened = weevit.open_index("killed.idx", digits)
            ids = list(opened.ids())
            hits = opened.search_vectors(np.concatenate(list(opened.vectors()))[:1].astype(np.float32), K)[0]
            wrong += len(ids) != len(set(ids)) or len(ids) != len(opened) or hits != brute(opened)
            versions.add(opened.version)
            asked += 1
        if writer.poll() is None:
            writer.send_signal(signal.SIGKILL)
            killed += 1
        writer.wait()
        writer.stdout.close()
    index = weevit.index("killed", "killed.idx", digits)
    ids, vectors = index.to_numpy()
    there = {str(path) for path in Path("killed").iterdir()}
    true = {row.input: row.embedding for row in digits.stream(sorted(there), outputs=("embedding",), steady=True)}
    other = sum(
        not np.array_equal(vector, np.asarray(true[name], np.float16))
        for name, vector in zip(ids, vectors, strict=True)
    )
    print(
        f"{killed} kills, {asked} readings of {len(versions)} versions meanwhile, {wrong} of them wrong; at last "
        f"{len(there - set(ids))} lost, {len(ids) - len(set(ids))} doubled, {other} other vectors"
    )
    return not wrong and set(ids) == there and len(ids) == len(there) and not other


def brute(index: Index) -> list[weevit.Hit]:
    """The hits of the first image, by all its vectors."""
    ids, vectors = index.to_numpy()
    units = unit_length(vectors.astype(np.float32))
    cosines = units @ unit_length(vectors[:1].astype(np.float32))[0]
    order = np.argsort(-cosines, kind="stable")[:K]
    scores = index.search_vectors(vectors[:1].astype(np.float32), K)[0]
    return [weevit.Hit(ids[at], own.score) for at, own in zip(order.tolist(), scores, strict=True)]


EXPERIMENTS = {"query": query, "big": big, "again": again, "kills": kills}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--photos", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--model", help="for again; ViT-Ti by default")
    parser.add_argument("--without", nargs="*", choices=("hnsw", "lancedb"))
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "weevit-search")
    options = parser.parse_args()
    folder = options.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    sys.exit(not EXPERIMENTS[options.experiment](folder, options))


if __name__ == "__main__":
    main()
