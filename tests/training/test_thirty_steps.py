"""Thirty steps of our parts beside thirty of timm's: same weights, same batches, same draws."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import oracle
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("timm")

import timm_loop  # noqa: E402 - after the skip

from weevit.recipes.duration import Duration  # noqa: E402
from weevit.recipes.schema import (  # noqa: E402
    EmaPart,
    LoopPart,
    LossPart,
    MixPart,
    OptimPart,
    Recipe,
    SchedulePart,
)
from weevit.zoo.architectures import get_architecture  # noqa: E402

STEPS, SIZE, DEPTH = 30, 48, 2

RECIPE = Recipe(
    mix=MixPart(mixup=0.8, cutmix=1.0),
    optim=OptimPart(base_lr=8e-3, weight_decay=0.06, layer_decay=0.75),
    schedule=SchedulePart(epochs=Duration(STEPS, "steps"), warmup=Duration(20, "%")),
    ema=EmaPart(decay=0.9998, warmup=True),
    loop=LoopPart(batch_size=8),
)
"""The recipe of wee, short and steep."""

OF_IN12K = replace(RECIPE, loss=LossPart(kind="bce", sum=True, target_threshold=0.2))
FIXED_ADAMW = replace(RECIPE, optim=replace(RECIPE.optim, name="adamw", registers="fixed"), mix=MixPart())


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("vit_tiny_patch16_224", RECIPE),
        ("vit_wee_patch16_reg1_gap_256", FIXED_ADAMW),
        ("vit_pwee_patch16_reg1_gap_256", RECIPE),
        ("vit_dpwee_patch16_reg1_gap_256", OF_IN12K),
    ],
)
def test_losses_and_weights_are_those_of_a_timm_loop(name: str, recipe: Any) -> None:
    arch = replace(get_architecture(name), depth=DEPTH)
    ours, theirs = timm_loop.pair(arch, SIZE)
    start = {key: tensor.clone() for key, tensor in ours.state_dict().items()}
    found = timm_loop.train_ours(ours, recipe, SIZE, STEPS)
    expected = timm_loop.train_theirs(theirs, recipe, SIZE, STEPS)
    assert found.losses == pytest.approx(expected.losses, abs=1e-5)
    for own, other in ((found.weights, expected.weights), (found.average, expected.average)):
        assert timm_loop.apart(own, other) < 1e-5
    assert timm_loop.apart(found.weights, start) > 5e-3  # it went somewhere
    assert all(oracle.difference(start[key].numpy(), found.weights[key].numpy()) > 0 for key in start)
