"""A plain training loop of timm's parts, in the order of its train.py, beside ours: same weights, same batches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from weevit.batches.loader import Batch
from weevit.batches.mixing import Mix, Share, draw
from weevit.batches.seeding import keyed
from weevit.nn.vit import Options, VisionTransformer
from weevit.optim.schedule import Schedule
from weevit.recipes.schema import Recipe
from weevit.training.machine import Machine
from weevit.training.state import State
from weevit.training.step import Step
from weevit.zoo.architectures import Architecture

NUM_CLASSES = 10


@dataclass
class Trained:
    """What came out of a loop: the loss of each step, and the last weights of the model and of its average."""

    losses: list[float]
    weights: dict[str, Tensor]
    average: dict[str, Tensor]


def batches(size: int, batch: int, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Images in which each class has a colour of its own, so that there is something to learn."""
    generator = torch.Generator().manual_seed(1)
    colours = torch.randn(NUM_CLASSES, 3, 1, 1, generator=generator)
    for _ in range(steps):
        targets = torch.randint(NUM_CLASSES, (batch,), generator=generator)
        yield torch.randn(batch, 3, size, size, generator=generator) + colours[targets], targets


def pair(arch: Architecture, size: int) -> tuple[VisionTransformer, nn.Module]:
    """Our fresh module and timm's with the same weights."""
    import timm

    torch.manual_seed(0)
    ours = VisionTransformer(arch, Options(num_classes=NUM_CLASSES, img_size=(size, size)))
    theirs = timm.create_model(arch.name, num_classes=NUM_CLASSES, depth=arch.depth, img_size=size)
    theirs.load_state_dict({name: tensor.clone() for name, tensor in ours.state_dict().items()})
    return ours.train(), theirs.train()


def train_ours(model: VisionTransformer, recipe: Recipe, size: int, steps: int) -> Trained:
    """Our loop without what surrounds it."""
    schedule = Schedule.of(recipe, steps)
    machine = Machine(torch.device("cpu"), torch.get_num_threads(), "fp32", recipe.loop.accumulate or 1)
    state = State.of(model, recipe, machine)
    step, losses = Step(recipe, machine, state, NUM_CLASSES), []
    for number, (x, y) in enumerate(batches(size, recipe.loop.batch_size, steps)):
        batch = Batch(x, y, keys=(), ids=(), bad=(), share=Share.of(len(x)))
        value, _ = step.gradients(*step.inputs(batch, mixed=True), batch.share)
        step.update(schedule.rate(number), len(x))
        losses.append(value)
    assert state.ema is not None
    return Trained(losses, model.state_dict(), state.ema.module.state_dict())


@contextmanager
def drawn_as(one: Mix, mixup: Any) -> Iterator[None]:
    """Within the block timm's mixup draws what we have drawn."""
    box = (0, 0, 0, 0) if one.box is None else one.box
    with (
        mock.patch("timm.data.mixup.cutmix_bbox_and_lam", return_value=(box, one.share)),
        mock.patch.object(mixup, "_params_per_batch", return_value=(one.share, one.box is not None)),
    ):
        yield


def train_theirs(model: nn.Module, recipe: Recipe, size: int, steps: int) -> Trained:
    """The same with timm's optimiser, groups, loss, mixup, schedule, clipping and average."""
    from timm.data.mixup import Mixup
    from timm.loss import BinaryCrossEntropy, LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
    from timm.optim import create_optimizer_v2
    from timm.scheduler import CosineLRScheduler
    from timm.utils import ModelEmaV3, dispatch_clip_grad

    optim, part, schedule = recipe.optim, recipe.loss, Schedule.of(recipe, steps)
    if optim.registers == "as_published":
        model.no_weight_decay = lambda: {"pos_embed", "cls_token"}  # as it said before timm 1.0.29
    optimizer = create_optimizer_v2(
        model,
        optim.name,
        lr=recipe.learning_rate,
        weight_decay=optim.weight_decay,
        layer_decay=optim.layer_decay,
        betas=optim.betas,
        eps=optim.eps,
        momentum=optim.momentum,
    )
    scheduler = CosineLRScheduler(
        optimizer,
        t_initial=schedule.length,
        lr_min=schedule.min_lr,
        warmup_t=schedule.warmup,
        warmup_lr_init=schedule.warmup_lr,
        t_in_epochs=False,
    )
    ema = ModelEmaV3(model, decay=recipe.ema.decay or 0.0, use_warmup=recipe.ema.warmup)
    mixup = Mixup(recipe.mix.mixup, recipe.mix.cutmix, label_smoothing=part.smoothing, num_classes=NUM_CLASSES)
    if part.kind == "bce":
        criterion: nn.Module = BinaryCrossEntropy(part.smoothing, part.target_threshold, sum_classes=part.sum)
    else:
        criterion = SoftTargetCrossEntropy() if recipe.mix.active else LabelSmoothingCrossEntropy(part.smoothing)
    losses = []
    for step, (x, y) in enumerate(batches(size, recipe.loop.batch_size, steps)):
        if recipe.mix.active:
            with drawn_as(draw(recipe.mix, len(x), (size, size), keyed("mix", recipe.seed, step))[0], mixup):
                x, y = mixup(x, y)
        value = criterion(model(x), y)
        value.backward()
        dispatch_clip_grad(model.parameters(), optim.clip, optim.clip_mode)
        optimizer.step()
        optimizer.zero_grad()
        ema.update(model, step=step + 1)
        scheduler.step_update(step + 1)
        losses.append(float(value.detach()))
    return Trained(losses, model.state_dict(), ema.module.state_dict())


def apart(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    """The greatest difference of all weights, as a share of the greatest magnitude."""
    assert ours.keys() == theirs.keys()
    difference = max(float((ours[name] - tensor).abs().max()) for name, tensor in theirs.items())
    return difference / max(float(tensor.abs().max()) for tensor in theirs.values())
