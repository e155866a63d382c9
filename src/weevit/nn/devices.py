"""PyTorch's devices, by the names that a user gives."""

from __future__ import annotations

import torch

from weevit.errors import UsageError


def named_device(name: str | torch.device, given: str) -> torch.device:
    """The device of a name.

    Args:
        name: `cpu`, `cuda`, `cuda:1`, or another of PyTorch's.
        given: the argument as the user wrote it, for messages.

    Raises:
        UsageError: PyTorch knows no such device, or this machine has no such GPU.
    """
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        raise UsageError(f"{given}: there is no such device.", "cpu, cuda or cuda:1") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"{given}: PyTorch finds no GPU here.", "weevit doctor   says what it sees")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(
            f"{given}: PyTorch finds {torch.cuda.device_count()} GPU(s) here, from cuda:0 on.", "cpu, cuda or cuda:0"
        )
    return device
