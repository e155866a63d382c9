"""A machine with a GPU, whose work the CPU does: for tests of what users reach through `--device cuda`."""

from __future__ import annotations

from functools import partial

import pytest

from weevit.engine import choice
from weevit.engine import torch as engine


def pretend(monkeypatch: pytest.MonkeyPatch, steady: int = engine.STEADY) -> None:
    """Until the test ends; steady batches have that many images, since a CPU computes the black ones too."""
    monkeypatch.setattr(choice, "_no_cuda", lambda: "")
    monkeypatch.setattr(engine, "STEADY", steady)
    monkeypatch.setattr(engine, "TorchSession", partial(engine.TorchSession, device="cpu", compiles=False))
