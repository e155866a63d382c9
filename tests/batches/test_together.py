"""Treatments of a batch by PyTorch against those of one image by numpy and Pillow, on the CPU."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from textures import even, texture

torch = pytest.importorskip("torch")

from weevit.batches.pixels import OPS, planes_of, treated  # noqa: E402
from weevit.batches.seeding import keyed  # noqa: E402
from weevit.batches.together import TOGETHER, treated_together  # noqa: E402
from weevit.recipes.randaugment import Op, RandAugment  # noqa: E402

FILL = (123, 117, 104)
SIGNED = (-1.0, -0.6, -0.05, 0.0, 0.02, 0.5, 1.0)
FACTORS = (0.1, 0.46, 1.0, 1.54, 1.9)
VALUES: dict[str, tuple[float, ...]] = {
    **dict.fromkeys(("autocontrast", "equalize", "invert", "grayscale"), (0.0,)),
    "posterize": (0, 1, 2, 4, 7, 8),
    "solarize": (0, 1, 100, 255, 256),
    "solarize_add": (0, 66, 110, 128),
    **dict.fromkeys(("color", "contrast", "brightness", "sharpness"), FACTORS),
    "blur": (0.1, 0.4, 1.0, 2.0),
    "rotate": tuple(30 * value for value in SIGNED),
    **dict.fromkeys(("shear_x", "shear_y"), tuple(0.3 * value for value in SIGNED)),
    **dict.fromkeys(("translate_x", "translate_y"), (*(0.45 * value for value in SIGNED), 1.5, -1.5)),
}
MOVES = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
NEAR = (*MOVES, "blur")
"""What reads between pixels or averages them: within a grey level. The others are equal."""


def images(width: int = 80, height: int = 64) -> list[np.ndarray]:
    dark = Image.fromarray((np.asarray(texture(width, height, 1)) // 3 + 20).astype(np.uint8))
    return [planes_of(np.asarray(image)) for image in (texture(width, height), dark, even(width, height))]


def together(given: list[np.ndarray], ops: list[list[Op]]) -> np.ndarray:
    found: np.ndarray = treated_together(torch.from_numpy(np.stack(given)), ops, FILL).numpy()
    return found


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("name", OPS)
def test_each_treatment_is_that_of_one_image(name: str, interpolation: str) -> None:
    pairs = [(image, Op(name, value, interpolation)) for image in images() for value in VALUES[name]]
    found = together([image for image, _ in pairs], [[op] for _, op in pairs])
    for (image, op), ours in zip(pairs, found, strict=True):
        difference = np.abs(ours.astype(int) - treated(image, [op], FILL))
        assert difference.max() <= (1 if name in NEAR else 0), op
        assert (difference > 0).mean() < 0.01, op


def test_the_same_names() -> None:
    assert set(TOGETHER) == set(OPS) == set(VALUES)


def test_lists_of_a_recipe_that_differ_from_image_to_image() -> None:
    """Some images have no treatment, others three, and what follows one is done to its result."""
    drawn = RandAugment.parse("rand-m9-inc1-mstd0.5-n3")
    ops = [list(drawn.draw(keyed("test", row), "random")) for row in range(40)]
    assert {len(own) for own in ops} == {0, 1, 2, 3}
    given = images(64, 64) * 14
    found = together(given[:40], ops)
    exact = 0
    for own, image, ours in zip(ops, given, found, strict=False):
        difference = np.abs(ours.astype(int) - treated(image, own, FILL))
        # What follows may turn a grey level into several: contrast by 1.8, an inversion at a threshold.
        assert (difference > 1).mean() < 0.02, own
        assert difference.mean() < 0.1, own
        exact += not difference.any()
    assert exact > 15
    assert any((ours != image).any() for ours, image in zip(found, given, strict=False))
