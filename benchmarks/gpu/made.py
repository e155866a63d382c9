"""What the sections measure with, made on the spot from seeds: models in pairs, images, folders of JPEGs."""

from __future__ import annotations

import io
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn

from weevit.nn.vit import Options, VisionTransformer
from weevit.zoo.architectures import PATCH, Architecture
from weevit.zoo.counts import count
from weevit.zoo.weights import ALIASES

Pixels = npt.NDArray[np.uint8]

QUALITY = 88
"""Of the JPEGs: about 100 KB at 500 x 375."""


def our_model(
    arch: Architecture, num_classes: int = 1000, size: int | None = None, **options: float
) -> VisionTransformer:
    """A module with random weights in which every parameter matters.

    Fresh ones would hide the blocks: their layer scales begin at 1e-5 and their biases at 0.
    """
    sides = None if size is None else (size, size)
    with torch.device("meta"):  # shapes alone: what they are filled with comes below
        model = VisionTransformer(arch, Options(num_classes=num_classes, img_size=sides, **options))
    model = model.to_empty(device="cpu")
    dice = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, own in model.named_parameters():
            noise = torch.randn(own.shape, generator=dice)
            if own.ndim > 1:
                own.copy_(0.04 * noise)
            else:
                own.copy_(("norm" in name and name.endswith("weight")) + 0.1 * noise + 0.3 * ("gamma" in name))
    return model.eval()


def their_model(ours: VisionTransformer) -> nn.Module:
    """timm's module with the same weights."""
    import timm

    with torch.device("meta"):
        model = timm.create_model(
            ours.arch.name, num_classes=ours.num_classes, img_size=ours.img_size, depth=ours.arch.depth
        )
    model.load_state_dict({name: own.clone() for name, own in ours.state_dict().items()}, assign=True)
    return model.eval()


def row(alias: str, depth: int | None = None) -> Architecture:
    """The architecture of an alias; with another depth, it is a miniature of it."""
    arch = ALIASES[alias].architecture
    return arch if depth is None else replace(arch, depth=depth)


def flop(arch: Architecture, num_classes: int, size: int) -> float:
    """Floating-point operations of one image's forward pass: two for each multiply-accumulate, norms left out."""
    counts = count(arch, num_classes, (size // PATCH, size // PATCH))
    return 2.0 * (counts.linear_macs + counts.attention_macs)


# ---- images


def fields(number: int, height: int, width: int) -> list[npt.NDArray[np.float32]]:
    """Random surfaces with the spectrum of photos (amplitude falls as one over the frequency), from 0 to 1."""
    y, x = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
    fall = 1 / np.maximum(np.hypot(y, x), 1 / width)
    found = []
    for index in range(number):
        dice = np.random.default_rng([7, index])
        planes = []
        grey = dice.standard_normal((height, width))
        for _ in range(3):  # the channels of a photo go together
            noise = 0.8 * grey + 0.6 * dice.standard_normal((height, width))
            plane = np.fft.irfft2(np.fft.rfft2(noise) * fall, s=(height, width))
            low, high = np.percentile(plane, [1, 99])
            planes.append(np.clip((plane - low) / (high - low), 0, 1))
        found.append(np.stack(planes, axis=-1).astype(np.float32))
    return found


def photo(index: int, surfaces: list[npt.NDArray[np.float32]], height: int, width: int, tint: int) -> Pixels:
    """A made photo: parts of two surfaces, one before the other with a sharp edge, some grain; a `tint` per class."""
    dice = np.random.default_rng([11, index])
    parts = []
    for number in dice.integers(len(surfaces), size=2):
        surface = surfaces[number]
        top, left = (
            int(dice.integers(have - want + 1)) for have, want in zip(surface.shape, (height, width), strict=False)
        )
        part = surface[top : top + height, left : left + width]
        parts.append(part[:, ::-1] if dice.random() < 0.5 else part)
    edge = parts[1][..., :1] > 0.5 + 0.2 * dice.standard_normal()
    mixed = np.where(edge, 0.6 * parts[0] + 0.2, 0.9 * parts[1])
    mixed = mixed * np.random.default_rng([13, tint]).uniform(0.5, 1.2, 3).astype(np.float32)
    grain = dice.standard_normal((height, width, 1), np.float32) * np.float32(0.035)
    return np.clip((mixed + grain) * 255, 0, 255).astype(np.uint8)


def jpeg(pixels: Pixels) -> bytes:
    """Encoded as a camera or a web site would."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def folder(top: Path, number: int, classes: int, height: int, width: int, validation: int) -> tuple[Path, float]:
    """A folder of `number` training JPEGs in class folders, and some for validation, made by all cores.

    Returns:
        The folder, and the mean size of a file in KB.
    """
    surfaces = fields(8 if number < 500 else 24, height * 3 // 2, width * 3 // 2)

    def make(index: int) -> int:
        split, own = ("train", index) if index < number else ("validation", index - number)
        place = top / split / f"class{own % classes:04d}"
        place.mkdir(parents=True, exist_ok=True)
        data = jpeg(photo(index, surfaces, height, width, own % classes))
        (place / f"{index:05d}.jpg").write_bytes(data)
        return len(data)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        sizes = list(pool.map(make, range(number + validation)))
    return top, sum(sizes) / len(sizes) / 1000
