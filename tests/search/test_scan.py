"""The first pass over codes and the second over vectors: what they find is what a search through all vectors finds."""

from __future__ import annotations

import random
import zlib
from pathlib import Path
from uuid import UUID

import numpy as np
import numpy.typing as npt
import pytest

from weevit.answers.results import Array, unit_length
from weevit.errors import MalformedFileError
from weevit.search import scan
from weevit.search.scan import Part, best, best_by
from weevit.search.shards import (
    KEY_BYTES,
    STAMP_BYTES,
    Rows,
    Shard,
    coded,
    error_of,
    key_of,
    stamp_of,
    write_shard,
)

WIDTH = 48
DICE = random.Random(0)


def vectors(count: int, seed: int = 0, clusters: int = 0) -> npt.NDArray[np.float16]:
    """Vectors in all directions, or in a few narrow bundles, in which codes confuse neighbours."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((count, WIDTH))
    if clusters:
        centres = 10 * rng.standard_normal((clusters, WIDTH))
        rows = centres[rng.integers(0, clusters, count)] + 0.05 * rows
    return np.asarray(rows * rng.uniform(0.1, 30, (count, 1)), np.float16)


def part(folder: Path, rows: npt.NDArray[np.float16], left: npt.NDArray[np.bool_] | None = None) -> Part:
    folder.mkdir(exist_ok=True)
    path = folder / f"{len(list(folder.iterdir()))}.safetensors"
    names = [f"image-{number}" for number in range(len(rows))]
    keys = np.zeros((len(rows), KEY_BYTES), np.uint8)
    write_shard(path, Rows(names, keys, np.zeros((len(rows), STAMP_BYTES), np.uint8), rows))
    return Part(Shard(path, len(rows), WIDTH), np.zeros(len(rows), bool) if left is None else left, error_of(rows))


def brute(rows: npt.NDArray[np.float16], query: Array, count: int) -> tuple[list[int], Array]:
    cosines = unit_length(rows.astype(np.float32)) @ unit_length(query[None])[0]
    order = np.argsort(-cosines, kind="stable")[:count]
    return order.tolist(), cosines[order]


@pytest.mark.parametrize("clusters", [0, 1, 7])
@pytest.mark.parametrize("run", [64, 1 << 15])
@pytest.mark.parametrize("threads", [1, 3])
def test_the_best_are_those_of_all_vectors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clusters: int, run: int, threads: int
) -> None:
    monkeypatch.setattr(scan, "_RUN", run)
    monkeypatch.setattr(scan, "_RESCORED", 32)
    rows = vectors(1500, clusters=clusters)
    cuts = [rows[:700], rows[700:705], rows[705:]]
    parts = [part(tmp_path / "shards", own) for own in cuts]
    queries = np.concatenate([rows[::300].astype(np.float32), vectors(3, seed=9).astype(np.float32)])
    starts = [0, 700, 705]
    for query, found in zip(queries, best(parts, queries, 10, threads), strict=True):
        indices, cosines = brute(rows, query, 10)
        at = [starts[shard] + row for shard, row in zip(found.shards.tolist(), found.rows.tolist(), strict=True)]
        np.testing.assert_allclose(found.scores, cosines, atol=1e-6)
        # Which of two with the same cosine to the last bit or two comes first, a library of products decides.
        own = unit_length(rows[at].astype(np.float32)) @ unit_length(query[None])[0]
        np.testing.assert_allclose(own, cosines, atol=1e-6)
        assert len(set(at)) == len(indices)


def test_shards_whose_codes_are_off_by_more_hide_none_of_the_others(tmp_path: Path) -> None:
    """Rows of the first shard seem nearer than those of the second, and are farther: their codes are off by 0.026."""
    rng = np.random.default_rng(0)
    axis, rest = 127 * np.eye(1, WIDTH), np.arange(WIDTH) > 0
    signs = rng.choice([-1, 1], WIDTH) * rest
    off = axis + 0.49 * signs * rng.choice([1, 1, 1, 0.9], (300, WIDTH))
    exact = axis + rng.choice([-1, 1], (300, WIDTH)) * rest * (rng.uniform(size=(300, WIDTH)) < 0.85)
    cuts = [np.asarray(rows, np.float16) for rows in (off, exact)]
    parts = [part(tmp_path / "shards", own) for own in cuts]
    assert parts[0].error > 50 * parts[1].error
    query = np.asarray(axis[0] - 0.5 * signs, np.float32)
    (found,) = best(parts, query[None], 10, 1)
    indices, _ = brute(np.concatenate(cuts), query, 10)
    assert (300 * found.shards + found.rows).tolist() == indices


def test_codes_are_off_by_no_more_than_they_say(tmp_path: Path) -> None:
    for clusters in (0, 1, 7):
        rows = vectors(400, clusters=clusters)
        codes, factors = coded(rows)
        units, nearly = unit_length(rows.astype(np.float32)), codes * factors[:, None].astype(np.float32)
        queries = unit_length(np.concatenate([units, vectors(100, seed=3).astype(np.float32), units - nearly + 1e-12]))
        assert np.abs((units - nearly) @ queries.T).max() <= error_of(rows)
        assert error_of(rows) < 0.02


@pytest.mark.parametrize("name", ["factors", "vectors"])
@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(tmp_path: Path, name: str, number: float) -> None:
    """As in a shard that somebody else made: its rows would never be found, or have no cosine."""
    rows = vectors(20)
    own = part(tmp_path / "s", rows)
    harmed = getattr(own.shard, name).copy()
    harmed[7] = number
    setattr(own.shard, name, harmed)
    with pytest.raises(MalformedFileError, match="NaN or infinite"):
        best([own], rows[:1].astype(np.float32), 20, 2)
    if name == "vectors":
        with pytest.raises(MalformedFileError, match="NaN or infinite"):
            best_by([own], lambda found: found[:, 0], 5, 1)


def test_rows_that_left_are_never_found(tmp_path: Path) -> None:
    rows = vectors(200)
    left = np.zeros(200, bool)
    left[::2] = True
    found = best([part(tmp_path / "s", rows, left)], rows[:10].astype(np.float32), 100, 2)
    for one in found:
        assert sorted(one.rows.tolist()) == list(range(1, 200, 2))


def test_equal_rows_come_in_the_order_of_the_index(tmp_path: Path) -> None:
    rows = np.repeat(vectors(3), 50, axis=0)
    (found,) = best([part(tmp_path / "s", rows)], rows[:1].astype(np.float32), 60, 2)
    assert found.rows[:50].tolist() == list(range(50))


def test_a_vector_of_zeros_is_like_nothing(tmp_path: Path) -> None:
    rows = vectors(5)
    rows[2] = 0
    (found,) = best([part(tmp_path / "s", rows)], rows[:1].astype(np.float32), 5, 1)
    assert float(found.scores[found.rows.tolist().index(2)]) == 0
    codes, factors = coded(rows)
    assert not codes[2].any()
    assert factors[2] == 0


def test_scores_of_a_function_are_ranked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "_RESCORED", 16)
    rows = vectors(300)
    left = np.zeros(300, bool)
    left[7] = True
    scores = rows.astype(np.float32)[:, 0]
    scores[7] = -np.inf
    found = best_by([part(tmp_path / "s", rows, left)], lambda own: own[:, 0], 20, 2)
    assert found.rows.tolist() == np.argsort(-scores, kind="stable")[:20].tolist()


def test_a_shard_gives_back_what_it_was_given(tmp_path: Path) -> None:
    rows = vectors(700)
    names = [f"photos/ü {number}\n\\\0\udcff.jpg" for number in range(700)]
    keys = np.random.default_rng(0).integers(0, 256, (700, KEY_BYTES), np.uint8)
    stamps = np.stack([np.frombuffer(stamp_of(f"{number}"), np.uint8) for number in range(700)])
    write_shard(tmp_path / "s", Rows(names, keys, stamps, rows))
    shard = Shard(tmp_path / "s", 700, WIDTH)
    assert list(shard.names()) == names
    assert [shard.name(row) for row in (0, 255, 256, 699)] == [names[row] for row in (0, 255, 256, 699)]
    some = shard.rows(np.array([3, 256, 699]))
    assert list(some.names) == [names[row] for row in (3, 256, 699)]
    for own, given in ((some.keys, keys), (some.stamps, stamps), (some.vectors, rows)):
        assert own.tobytes() == given[[3, 256, 699]].tobytes()
    assert key_of("00" * 11 + "ff" * 21).tolist() == [0] * 11 + [255]


NAMES = {
    "camera": [f"photos/2024-{number % 12 + 1:02d}/IMG_{number:06d}.jpg" for number in range(20_000)],
    "uuid": [f"train/{'hat' if number < 9000 else 'dress'}/{UUID(int=DICE.getrandbits(128))}.jpg"
             for number in range(20_000)],
}  # fmt: skip


@pytest.mark.parametrize(
    "names",
    [
        *(names[:300] for names in NAMES.values()),
        ["a"],
        [""],
        ["", "a", ' ,"'],
        ["[", "]"],
        ["short.jpg", "ein längerer Name\n.jpg" * 20],
        [" padded ", "", "    "],
        [f"{'x' * (number % 97)}, [{number}]" for number in range(600)],
        ["\0" * 4095] * 256,
    ],
    ids=lambda names: f"{len(names)} of {len(names[0])}",
)
def test_names_come_back_however_they_are_packed(tmp_path: Path, names: list[str]) -> None:
    count = len(names)
    zeros = np.zeros((count, KEY_BYTES), np.uint8)
    write_shard(tmp_path / "s", Rows(names, zeros, zeros[:, :STAMP_BYTES], vectors(count)))
    shard = Shard(tmp_path / "s", count, WIDTH)
    assert list(shard.names()) == names
    assert shard.name(count - 1) == names[-1]


@pytest.mark.parametrize(
    "text", [b"", b"[", b"[]", b'["a"]', b'["a",1]', b"{}", b'"a","b"', b'""aa""', b'""aa"",', b"[" * 100_000]
)
def test_damaged_names_are_found(tmp_path: Path, text: bytes) -> None:
    own = part(tmp_path / "s", vectors(2))
    packed = np.frombuffer(zlib.compress(text), np.uint8)
    own.shard._names, own.shard._blocks = packed, np.array([0, len(packed)])
    with pytest.raises(MalformedFileError, match="names are damaged"):
        own.shard.name(0)


@pytest.mark.parametrize("kind", NAMES)
def test_it_is_small(tmp_path: Path, kind: str) -> None:
    """At most 1.6 times of the float16 vectors of the narrowest model."""
    rows = np.random.default_rng(0).standard_normal((20_000, 192)).astype(np.float16)
    names = NAMES[kind]
    keys = np.random.default_rng(1).integers(0, 256, (20_000, KEY_BYTES), np.uint8)
    stamps = np.random.default_rng(2).integers(0, 256, (20_000, STAMP_BYTES), np.uint8)
    write_shard(tmp_path / "s", Rows(names, keys, stamps, rows))
    assert (tmp_path / "s").stat().st_size <= 1.6 * rows.nbytes
