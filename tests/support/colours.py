"""A model that knows colours, and images of them: small, quick, and sometimes wrong on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import fakes
import numpy as np
from PIL import Image

import weevit
from weevit.zoo.architectures import get_architecture
from weevit.zoo.labels import Label
from weevit.zoo.weights import HALF, Preprocessing
from weevit.zoo.writing import write_checkpoint

COLOURS = {
    "red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 220), "white": (240, 240, 240),
    "black": (15, 15, 15), "yellow": (230, 220, 30), "pink": (240, 120, 190),
}  # fmt: skip
SIZE = 32
SEEN = Preprocessing(SIZE, SIZE, 1.0, "center", "bicubic", *HALF)


def image(colour: str, seed: int, noise: float = 60.0) -> Image.Image:
    """A image of a colour, with noise."""
    rng = np.random.default_rng([seed, *colour.encode()])
    pixels = np.array(COLOURS[colour]) + rng.normal(0, noise, (40, 48, 3)) + rng.normal(0, noise / 2, 3)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def make_model(folder: Path, order: Sequence[str] = tuple(COLOURS), sharp: float = 4.0) -> Path:
    """A ViT-Ti with random blocks and a head that takes the nearest of the colours' mean embeddings."""
    arch = get_architecture(fakes.TINY)
    tensors = fakes.tensors(arch, 0, grid=(2, 2))
    write_checkpoint(folder, arch, tensors, SEEN)
    headless = weevit.load(folder, cache=False, threads=1)
    means = np.stack([headless.embed([image(name, 1000 + i) for i in range(6)]).mean(axis=0) for name in order])
    middle = means.mean(axis=0)
    means = means - middle
    scale = sharp / np.square(means).sum(axis=1).mean()
    tensors["head.weight"] = (scale * means).astype(np.float32)
    tensors["head.bias"] = (-scale * (means @ middle + np.square(means).sum(axis=1) / 2)).astype(np.float32)
    write_checkpoint(folder, arch, tensors, SEEN, [Label(name, name) for name in order])
    return folder


def make_images(folder: Path, count: int = 6, classes: Sequence[str] = tuple(COLOURS), seed: int = 0) -> Path:
    """A folder for each colour; the first image of each is one of the colour before it, and one image is broken."""
    for place, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            shown = classes[place - 1] if place and not index else name
            image(shown, seed + index).save(folder / name / f"{index}.png")
    broken = folder / classes[0] / "broken.png"
    broken.write_bytes((folder / classes[0] / "1.png").read_bytes()[:900])
    return folder
