"""The one nearest-neighbour search, against the whole matrix and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest

from weevit.answers.results import Array, unit_length
from weevit.search import neighbours
from weevit.search.neighbours import nearest, products


def rows(count: int, seed: int = 0, width: int = 24) -> Array:
    return unit_length(np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32))


@pytest.mark.parametrize("block", [1, 7, 64, 2048])
@pytest.mark.parametrize("others", [False, True])
def test_the_nearest_are_those_of_the_whole_matrix(monkeypatch: pytest.MonkeyPatch, block: int, others: bool) -> None:
    known = rows(150)
    asked = known if others else rows(40, seed=1)
    whole = (asked @ known.T).astype(np.float64)
    if others:
        np.fill_diagonal(whole, -np.inf)
    order = np.argsort(-whole, axis=1, kind="stable")[:, :9]
    monkeypatch.setattr(neighbours, "_BLOCK", block)
    indices, found = nearest(known, asked, 9, others)
    assert indices.tolist() == order.tolist()
    np.testing.assert_allclose(found, np.take_along_axis(whole, order, axis=1), atol=1e-6)


def test_equal_rows_come_in_their_order() -> None:
    known = np.repeat(rows(3), 4, axis=0)
    assert nearest(known, known[:1], 4)[0].tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize(("known", "others", "found"), [(0, False, 0), (1, True, 0), (3, False, 3), (3, True, 2)])
def test_no_more_are_found_than_there_are(known: int, others: bool, found: int) -> None:
    every = rows(known)
    indices, cosines = nearest(every, every, 9, others)
    assert indices.shape == cosines.shape == (known, found)


def test_scikit_learn_finds_the_same() -> None:
    sklearn = pytest.importorskip("sklearn.neighbors")
    known, asked = rows(500, width=8), rows(200, seed=1, width=8)
    theirs = sklearn.NearestNeighbors(n_neighbors=12, metric="cosine", algorithm="brute").fit(known)
    assert nearest(known, asked, 12)[0].tolist() == theirs.kneighbors(asked)[1].tolist()


@pytest.mark.parametrize("at_once", [1, 100, 1 << 25])
def test_a_block_is_bounded_by_its_products(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(neighbours, "_AT_ONCE", at_once)
    every = rows(30)
    blocks = list(products(every, every))
    assert max(block.size for _, block in blocks) <= max(at_once, len(every))
    np.testing.assert_allclose(np.concatenate([block for _, block in blocks]), every @ every.T, atol=1e-6)
    for top, block in products(every, every, later=True):
        np.testing.assert_allclose(block, every[top : top + len(block)] @ every[top:].T, atol=1e-6)
