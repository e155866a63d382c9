"""timm as the oracle: its models with random tensors in which nothing is zero, one or symmetric by accident."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from weevit.zoo.architectures import Architecture
from weevit.zoo.layout import from_timm_name
from weevit.zoo.weights import HALF, Preprocessing

NUM_CLASSES = 37


@dataclass
class Reference:
    """What timm says of one batch.

    Attributes:
        tensors: weevit's names -> float32.
        pixels: (B, height, width, 3) uint8.
        logits, embedding: (B, classes), (B, D).
        blocks: (B, N, D) for each block, prefix tokens first.
        attention: (B, maps, N, N) for each block: two maps a head in differential attention.
    """

    tensors: dict[str, np.ndarray]
    pixels: np.ndarray
    logits: np.ndarray
    embedding: np.ndarray
    blocks: list[np.ndarray]
    attention: list[np.ndarray]


def spec(height: int, width: int) -> Preprocessing:
    """Preprocessing of that size, mean and std 0.5."""
    return Preprocessing(height, width, 1.0, "center", "bicubic", *HALF)


def random_state(model: Any, seed: int = 0) -> dict[str, Any]:
    """Random tensors for a timm model: gains around 1, everything else around 0, none of them exactly so."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, tensor in model.state_dict().items():
        scale = 0.2 if tensor.ndim == 1 else tensor.shape[-1] ** -0.5
        centre = 1.0 if name.endswith("weight") and tensor.ndim == 1 else 0.0
        state[name] = centre + scale * torch.randn(tensor.shape, generator=generator)
    return state


def timm_model(arch: Architecture, **options: Any) -> Any:
    """timm's model of that row, with the row's depth and random tensors; its own slow initialisation is left out."""
    import timm
    import timm_rows  # noqa: F401  (weevit's own row)
    import torch

    with torch.device("meta"):
        model = timm.create_model(arch.name, num_classes=NUM_CLASSES, depth=arch.depth, **options).eval()
    model.to_empty(device="cpu")
    for module in model.modules():
        if hasattr(module, "init_non_persistent_buffers"):
            module.init_non_persistent_buffers()
    model.load_state_dict(random_state(model))
    return model


def reference(arch: Architecture, size: tuple[int, int] | None = None, batch: int = 1, maps: bool = False) -> Reference:
    """Run timm's model of an architecture, at its native or another size; `maps` records attention (slower)."""
    import torch

    with fused(not maps):
        model = timm_model(arch)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    height, width = size or (arch.img_size, arch.img_size)
    if size is not None:
        model.set_input_size(size)
    pixels = np.random.default_rng(1).integers(0, 256, (batch, height, width, 3), dtype=np.uint8)
    x = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
    seen: list[Any] = []
    if maps:
        for block in model.blocks:
            drop = block.attn.attn_drop if hasattr(block, "attn") else block.attn_drop
            drop.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0].numpy()))
    with torch.inference_mode():
        final, taps = model.forward_intermediates(x, output_fmt="NLC", return_prefix_tokens=True)
        attention = list(seen)
        embedding = model.forward_head(final, pre_logits=True)
        logits = model.forward_head(final)
    return Reference(
        tensors={from_timm_name(name, arch): tensor.numpy() for name, tensor in state.items()},
        pixels=pixels,
        logits=logits.numpy(),
        embedding=embedding.numpy(),
        blocks=[torch.cat([prefix, patches], dim=1).numpy() for patches, prefix in taps],
        attention=attention,
    )


@contextmanager
def fused(wanted: bool) -> Iterator[None]:
    """timm with or without its fused attention."""
    import timm.layers

    before = timm.layers.use_fused_attn()
    timm.layers.set_fused_attn(wanted)
    try:
        yield
    finally:
        timm.layers.set_fused_attn(before)


def difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Greatest difference, as a share of the greatest magnitude."""
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())
