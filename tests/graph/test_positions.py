"""Positions against torch and timm, and by what must hold in any case."""

from __future__ import annotations

import numpy as np
import pytest

from weevit.graph.positions import cubic_matrix, resample_positions, rope_tables
from weevit.zoo.architectures import get_architecture


@pytest.mark.parametrize(("old", "new"), [(14, 14), (14, 16), (16, 7), (16, 33), (3, 50), (24, 1)])
def test_a_constant_stays_constant(old: int, new: int) -> None:
    assert np.allclose(cubic_matrix(old, new).sum(axis=1), 1)


def test_the_same_grid_is_left_alone() -> None:
    table = np.random.default_rng(0).standard_normal((17, 8)).astype(np.float32)
    assert resample_positions(table, 1, (4, 4), (4, 4)) is table


@pytest.mark.oracle
@pytest.mark.parametrize("new", [(16, 16), (7, 7), (24, 24), (10, 31), (1, 40), (14, 15)])
@pytest.mark.parametrize("prefix", [0, 1, 5])
def test_learned_positions_as_timm(new: tuple[int, int], prefix: int) -> None:
    torch = pytest.importorskip("torch")
    resample = pytest.importorskip("timm.layers").resample_abs_pos_embed
    table = np.random.default_rng(0).standard_normal((prefix + 14 * 14, 12)).astype(np.float32)
    theirs = resample(torch.from_numpy(table)[None], new, (14, 14), num_prefix_tokens=prefix)[0].numpy()
    assert np.abs(resample_positions(table, prefix, (14, 14), new) - theirs).max() < 1e-5


@pytest.mark.oracle
@pytest.mark.parametrize("grid", [(16, 16), (10, 10), (6, 24)])
def test_rotary_positions_as_timm(grid: tuple[int, int]) -> None:
    build = pytest.importorskip("timm.layers").build_rotary_pos_embed
    arch = get_architecture("vit_betwixt_patch16_rope_reg4_gap_256")
    sine, cosine = build(grid, dim=arch.head_dim, in_pixels=False, ref_feat_shape=(16, 16))
    ours_cosine, ours_sine = rope_tables(arch, grid)
    assert (ours_cosine[:4] == 1).all()
    assert (ours_sine[:4] == 0).all()
    assert np.abs(ours_cosine[4:].repeat(2, axis=1) - cosine.numpy()).max() < 1e-5
    assert np.abs(ours_sine[4:].repeat(2, axis=1) - sine.numpy()).max() < 1e-5
