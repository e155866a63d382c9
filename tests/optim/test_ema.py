"""The moving average against timm's `ModelEmaV3`."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402 - after the skip

from weevit.optim.ema import Ema  # noqa: E402
from weevit.recipes.schema import EmaPart  # noqa: E402


def model() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))  # buffers too, one of them a whole number


@pytest.mark.oracle
@pytest.mark.parametrize("warmup", [False, True])
def test_averages_are_those_of_timm(warmup: bool) -> None:
    utils = pytest.importorskip("timm.utils")
    moving = model()
    part = EmaPart(decay=0.9, warmup=warmup, warmup_gamma=2.0, warmup_power=0.75)
    ours = Ema(moving, part)
    theirs = utils.ModelEmaV3(moving, decay=0.9, use_warmup=warmup, warmup_gamma=2.0, warmup_power=0.75)
    for step in range(1, 40):
        for parameter in moving.parameters():
            parameter.data += torch.randn(parameter.shape)
        moving(torch.randn(5, 3))
        ours.update(moving, step)
        theirs.update(moving, step=step)
        assert ours.decay(step) == theirs.get_decay(step)
    for name, tensor in theirs.module.state_dict().items():
        assert torch.equal(ours.module.state_dict()[name], tensor), name


def test_it_forgets_where_it_began() -> None:
    moving = model()
    ours = Ema(moving, EmaPart(decay=0.999))
    nn.init.ones_(moving[0].weight)
    ours.update(moving, 1)
    assert torch.equal(ours.module[0].weight, moving[0].weight)
    assert not any(parameter.requires_grad for parameter in ours.module.parameters())
    assert not ours.module.training


def test_the_decay_rises_to_its_own() -> None:
    ours = Ema(model(), EmaPart(decay=0.99, warmup=True, warmup_power=1.0))
    assert [ours.decay(step) for step in (1, 2, 3)] == pytest.approx([0, 1 / 2, 2 / 3])
    assert ours.decay(10_000) == 0.99
