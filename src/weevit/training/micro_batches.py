"""The number of micro-batches of a batch: as few as fit into memory. The result is equal but for rounding."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from weevit.batches.mixing import Share
from weevit.errors import TrainingError
from weevit.nn.vit import VisionTransformer
from weevit.recipes.schema import EmaPart, Recipe
from weevit.training.machine import Machine
from weevit.training.ranks import Ranks
from weevit.training.state import State
from weevit.training.step import Step
from weevit.zoo.architectures import PATCH

CPU_SHARE = 0.5
"""Share of the available memory that the activations of a micro-batch may take."""


def choose_pieces(
    recipe: Recipe, model: VisionTransformer, machine: Machine, num_classes: int, ranks: Ranks | None = None
) -> int:
    """The number of micro-batches of a batch, or of a rank's share of it: the recipe's, or as few as fit into memory.

    A GPU is tried with the gradients of the true step; on a CPU the available memory decides.

    Raises:
        TrainingError: not even one image fits.
    """
    world = ranks.world if ranks else 1
    batch = -(-recipe.loop.batch_size // world)
    if recipe.loop.accumulate is not None:
        return -(-recipe.loop.accumulate // world)
    if machine.device.type == "cpu":
        return _by_estimate(batch, activation_bytes(model), available_memory() // (ranks.local if ranks else 1))

    plain = replace(recipe, loop=replace(recipe.loop, compile=False), ema=EmaPart())

    def attempt(size: int) -> None:
        # Memory that the first update adds: two moments and an average for each weight.
        ballast = [torch.empty_like(parameter) for parameter in model.parameters() for _ in range(3)]
        step = Step(plain, machine, State.of(model, plain, machine), num_classes)  # its scaler serves one update
        images = torch.zeros(size, 3, *model.img_size, device=machine.device)
        step.gradients(images, torch.zeros(size, num_classes, device=machine.device), Share.of(size))
        model.zero_grad(set_to_none=True)
        ballast.clear()

    model.train()
    return _by_trial(batch, attempt)


def _by_trial(batch: int, attempt: Callable[[int], object]) -> int:
    pieces = 1
    while True:
        size = -(-batch // pieces)
        try:
            attempt(size)
            return pieces
        except torch.OutOfMemoryError as error:
            if size == 1:
                raise TrainingError(
                    "The device's memory does not hold the training of this model on a single image.",
                    "loop.grad_checkpointing=true, a smaller model.image_size or a smaller model",
                ) from error
        # Outside of `except`: the error keeps its frames' tensors alive.
        gc.collect()
        torch.cuda.empty_cache()
        pieces *= 2


def _by_estimate(batch: int, bytes_per_image: int, available: int) -> int:
    pieces = 1
    while -(-batch // pieces) > max(1, int(available * CPU_SHARE / bytes_per_image)):
        pieces *= 2
    return pieces


_WIDTHS = {("softmax", "learned"): 8, ("softmax", "rope"): 13, ("diff", "learned"): 22}
"""Tensors of a token's width that a block keeps for its backward pass, as counted with `saved_tensors_hooks`."""


def activation_bytes(model: VisionTransformer) -> int:
    """Bytes for the backward pass of one image in float32, by the shapes; within 10 % of what is kept."""
    arch = model.arch
    tokens = model.num_prefix_tokens + (model.img_size[0] // PATCH) * (model.img_size[1] // PATCH)
    block = tokens * (_WIDTHS[arch.attention, arch.position] * arch.embed_dim + 2 * arch.mlp_dim)
    # With gradient checkpointing only the inputs of blocks are kept, and one block is recomputed at a time.
    kept = block + tokens * arch.embed_dim * arch.depth if model.grad_checkpointing else block * arch.depth
    return 4 * kept


def available_memory(meminfo: Path = Path("/proc/meminfo")) -> int:
    """Bytes that a process can take without swapping; 4 GB where the system does not say."""
    try:
        for line in meminfo.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return 4 << 30
