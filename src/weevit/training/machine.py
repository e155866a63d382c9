"""The machine of a run: its device, threads, precision, and the micro-batches that fit into its memory."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from weevit.engine.threads import choose_threads
from weevit.errors import UsageError
from weevit.nn.devices import named_device
from weevit.nn.vit import VisionTransformer
from weevit.recipes.schema import Recipe
from weevit.training.ranks import Ranks

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Machine:
    """The machine of a run; it belongs to the run, since sums in another order are other numbers.

    Attributes:
        device: device of PyTorch.
        threads: threads of the CPU.
        precision: of autocast: `fp32`, `bf16` or `fp16`.
        pieces: micro-batches per batch, or per rank's share of it.
    """

    device: torch.device
    threads: int
    precision: str
    pieces: int = 1

    @classmethod
    def of(cls, device: str, threads: int | None, precision: str, ranks: Ranks | None = None) -> Machine:
        """This machine, by the names that a user gives; UsageError for a device that it does not have."""
        found, local = choose_device(device), ranks.local if ranks else 1
        if local > 1 and found.index is not None:
            raise UsageError(f"--device {device} is one GPU; {local} ranks run here.", "--device cuda: each its own")
        count = choose_threads(threads).count if threads or local == 1 else max(1, choose_threads().count // local)
        return cls(found, count, choose_precision(precision, found))

    def autocast(self) -> AbstractContextManager[object]:
        """The context of forward passes."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, DTYPES[self.precision])


def choose_device(name: str) -> torch.device:
    """The device of this name, for `auto` a GPU where there is one; UsageError where it does not exist."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = named_device(name, f"--device {name}")
    if device.type not in ("cpu", "cuda"):  # PyTorch knows the names of a dozen kinds
        raise UsageError(
            f"--device {name}: training runs on CPUs and on GPUs of CUDA.", "--device auto, cpu, cuda or cuda:1"
        )
    return device


def choose_precision(asked: str, device: torch.device) -> str:
    """The given precision; for `auto` bfloat16 on a GPU that has it, float16 on another, float32 on a CPU."""
    if asked != "auto":
        return asked
    if device.type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"


def placed(model: VisionTransformer, machine: Machine, recipe: Recipe) -> VisionTransformer:
    """The module on its device, with all its weights to be trained."""
    model.set_grad_checkpointing(recipe.loop.grad_checkpointing)
    model.first_only = True
    model.requires_grad_(True)
    if machine.device.type == "cuda":
        model = model.to(memory_format=torch.channels_last)
    return model.to(machine.device)
