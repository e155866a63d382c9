"""The loop's path for a GPU, without one: PyTorch's fake tensors compute no numbers, but refuse what a GPU would.

They see operations between tensors on two devices, wrong shapes and dtypes, and reads that wait for the device.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("filelock")
pytest.importorskip("sklearn")

import numpy as np  # noqa: E402 - after the skips
import runs  # noqa: E402
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode  # noqa: E402

from weevit.batches import loader  # noqa: E402
from weevit.optim import nadamw  # noqa: E402
from weevit.training import loop, setup, sitting  # noqa: E402
from weevit.training.board import Board  # noqa: E402
from weevit.training.machine import Machine  # noqa: E402
from weevit.training.setup import Work  # noqa: E402
from weevit.training.watch import Watcher  # noqa: E402

GPU = torch.device("cuda", 0)
WORDS = ["loop.workers=1", "loop.precision=bf16", "loop.eval_every=100 %", "mix.prob=1", "augment.erase_prob=1"]
"""Images are prepared by a thread: fake tensors are those of the thread that computes."""


class Pinned:
    """Pinned memory, which only a machine with a GPU has: threads write to it, and it is sent."""

    dtype = torch.uint8

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.array = np.zeros(shape, np.uint8)

    def numpy(self) -> Any:
        return self.array

    def to(self, device: torch.device, non_blocking: bool) -> torch.Tensor:
        assert non_blocking
        return torch.empty(self.array.shape, dtype=self.dtype, device=device)


def with_gradients(value: torch.Tensor, model: torch.nn.Module) -> None:
    """What `backward` leaves behind; PyTorch's own asks the driver about the GPU."""
    assert value.device == GPU
    for parameter in model.parameters():
        parameter.grad = torch.empty_like(parameter)


def on_gpu(work: Work) -> Work:
    """A run that was begun on the CPU, as it would be on a GPU."""
    for module in work.model.modules():
        for name, own in module.named_parameters(recurse=False):
            setattr(module, name, torch.nn.Parameter(torch.empty(own.shape, dtype=own.dtype, device=GPU)))
    machine = Machine(GPU, 1, "bf16", pieces=2)
    return setup._work(work.folder, work.recipe, work.facts, work.dataset, machine, work.model, work.ranks)


@pytest.mark.filterwarnings("ignore:.*CUDA is not available", "ignore:Accessing the data pointer of FakeTensor")
def test_an_update_finds_everything_on_the_gpu_and_waits_for_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[torch.device] = []
    monkeypatch.setattr(FakeTensor, "tolist", lambda self: waits.append(self.device) or [1.0] * len(self))
    monkeypatch.setattr(loader._Memory, "take", lambda memory: Pinned(memory.shape))
    for name, value in {"save": Path(), "digest": ""}.items():
        monkeypatch.setattr(sitting, name, lambda *_, value=value: value)
    for name, value in {"show_samples": None, "outcome": SimpleNamespace(digest="", total=3)}.items():
        monkeypatch.setattr(loop, name, lambda *_, value=value: value)
    monkeypatch.setattr(torch.Tensor, "backward", lambda value: with_gradients(value, begun.model))
    monkeypatch.setattr(nadamw, "_count", lambda state: 1)  # it reads a number that is kept on the CPU, here a fake
    images, recipe = runs.images(tmp_path / "data"), runs.recipe(tmp_path / "recipe.yaml")
    begun = setup.begin(tmp_path, setup.resolved(recipe, images, WORDS), None, "cpu", 1)
    with FakeTensorMode(allow_non_fake_inputs=True):
        work = on_gpu(begun)
        loop._run(work, Board(tmp_path, False), Watcher(should_stop=lambda: work.state.step == 3), report=False)
    assert waits == [GPU] * 3
    assert work.state.ema is not None
    both = [*work.model.parameters(), *work.state.ema.module.parameters()]
    assert {parameter.device for parameter in both} == {GPU}
