"""Rates against timm's scheduler, update by update."""

from __future__ import annotations

from typing import Any

import pytest

from weevit.optim.schedule import Schedule
from weevit.recipes.duration import Duration
from weevit.recipes.schema import LoopPart, OptimPart, Recipe, SchedulePart


def recipe(lr: float = 8e-4, **schedule: Any) -> Recipe:
    return Recipe(optim=OptimPart(lr=lr), schedule=SchedulePart(**schedule), loop=LoopPart(batch_size=32))


def steps(count: float) -> Duration:
    return Duration(count, "steps")


@pytest.mark.oracle
@pytest.mark.parametrize("prefix", [False, True])
@pytest.mark.parametrize("warmup", [0, 7])
def test_cosine_is_that_of_timm(warmup: int, prefix: bool) -> None:
    torch = pytest.importorskip("torch")
    scheduler = pytest.importorskip("timm.scheduler").CosineLRScheduler
    ours = recipe(
        epochs=steps(40), warmup=steps(warmup), cooldown=steps(5), warmup_lr=5e-7, min_lr=1e-6, warmup_prefix=prefix
    )
    optimizer = torch.optim.SGD([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr_scale": 0.5}], lr=8e-4)
    theirs = scheduler(
        optimizer,
        t_initial=40,
        lr_min=1e-6,
        warmup_t=warmup,
        warmup_lr_init=5e-7,
        warmup_prefix=prefix,
        t_in_epochs=False,
    )
    total = Schedule.of(ours, 10).total
    assert total == 40 + 5 + (warmup if prefix else 0)
    for step in range(total):
        assert Schedule.of(ours, 10).rate(step) * 0.5 == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        theirs.step_update(step + 1)


def test_constant_and_linear() -> None:
    constant = recipe(kind="constant", epochs=steps(10), warmup=steps(4), warmup_lr=0.0)
    assert [Schedule.of(constant, 1).rate(step) for step in (0, 1, 2, 4, 9)] == [0.0, 2e-4, 4e-4, 8e-4, 8e-4]
    linear = recipe(kind="linear", epochs=steps(8), warmup=steps(0), min_lr=0.0)
    assert [Schedule.of(linear, 1).rate(step) for step in (0, 2, 4, 8)] == pytest.approx([8e-4, 6e-4, 4e-4, 0.0])


def test_lengths_are_turned_into_updates() -> None:
    found = Schedule.of(
        recipe(epochs=Duration(4, "epochs"), warmup=Duration(10, "%"), cooldown=Duration(320, "samples")), 25
    )
    assert (found.length, found.warmup, found.cooldown, found.total) == (100, 10, 10, 110)


def test_the_rate_is_scaled_with_the_square_root_of_the_batch() -> None:
    base = Recipe(optim=OptimPart(base_lr=8e-4, base_batch=512), loop=LoopPart(batch_size=1024))
    assert base.learning_rate == pytest.approx(8e-4 * 2**0.5)
