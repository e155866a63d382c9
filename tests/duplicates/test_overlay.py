"""Images laid over each other: copies and parts fall on themselves, other photos never do."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scenes import encoded, scaled, scene

from weevit.duplicates import overlay
from weevit.duplicates.looks import THUMB
from weevit.duplicates.overlay import SIDE, WHOLE, Overlay, best_windows, lay_over, sketch, window, windows
from weevit.errors import MissingImageError
from weevit.images.decode import DEFAULT_LIMITS
from weevit.images.source import Source


def of(data: bytes) -> np.ndarray:
    made = sketch(Source("x", data), DEFAULT_LIMITS)
    assert made is not None
    return made


def thumb(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB").resize((THUMB, THUMB), Image.Resampling.LANCZOS))


def laid(whole: bytes, part: bytes) -> Overlay:
    ((_, start),) = best_windows(thumb(whole), thumb(part)[None])
    return lay_over(of(whole), of(part), start)


def cut(image: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    width, height = image.size
    box = (round(width * left), round(height * top), round(width * (1 - right)), round(height * (1 - bottom)))
    return image.crop(box)


PHOTO = (480, 360)

PARTS = {
    "5 % a side": (0.05, 0.05, 0.05, 0.05),
    "10 % a side": (0.1, 0.1, 0.1, 0.1),
    "the left": (0.2, 0.0, 0.0, 0.0),
    "top and bottom": (0.0, 0.12, 0.0, 0.12),
    "each side another": (0.02, 0.13, 0.09, 0.05),
}


@pytest.mark.parametrize("way", PARTS)
@pytest.mark.parametrize("seed", range(4))
def test_a_part_is_found_where_it_was_cut(way: str, seed: int) -> None:
    left, top, right, bottom = PARTS[way]
    image = scene(seed, PHOTO)
    over = laid(encoded(image, quality=95), encoded(scaled(cut(image, *PARTS[way]), 0.8), quality=70))
    assert over.same
    assert over.inside
    assert over.cut
    assert not over.outside
    assert over.window == pytest.approx((top, left, 1 - top - bottom, 1 - left - right), abs=0.008)


COPIES: dict[str, Callable[[Image.Image], bytes]] = {
    "quality 30": lambda image: encoded(image, quality=30),
    "a third": lambda image: encoded(scaled(image, 0.34), quality=85),
    "squeezed": lambda image: encoded(image.resize((224, 224)), quality=85),
    "brighter": lambda image: encoded(image.point(lambda level: level * 0.7 + 60), quality=90),
}


@pytest.mark.parametrize("way", COPIES)
def test_a_copy_is_whole(way: str) -> None:
    for seed in range(4):
        over = lay_over(of(encoded(scene(seed, PHOTO), quality=95)), of(COPIES[way](scene(seed, PHOTO))))
        assert (over.same, over.inside, over.outside, over.cut) == (True, True, True, False)


def test_what_is_larger_is_outside() -> None:
    image = scene(1, PHOTO)
    over = lay_over(of(encoded(cut(image, 0.04, 0.04, 0.04, 0.04))), of(encoded(image)))
    assert (over.same, over.inside, over.outside) == (True, False, True)


def test_two_parts_of_which_each_has_something_of_its_own() -> None:
    image = scene(1, PHOTO)
    over = lay_over(of(encoded(cut(image, 0.0, 0.0, 0.06, 0.0))), of(encoded(cut(image, 0.06, 0.0, 0.0, 0.0))))
    assert (over.same, over.inside, over.outside) == (True, False, False)


def shot(seed: int, noise: int, shift: int) -> Image.Image:
    """One thing, taken again: moved a little, with another grain, and with a detail that moved."""
    rng = np.random.default_rng(1000 + noise)
    image = np.roll(np.asarray(scene(seed, PHOTO), np.float32), shift, axis=1)
    image[150:200, 200 + 40 * noise : 260 + 40 * noise] = 255 - image[150:200, 200 + 40 * noise : 260 + 40 * noise]
    return Image.fromarray(np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8))


def test_what_was_taken_again_is_not_the_same() -> None:
    """The same at 16 x 16 pixels, nearly; the detail that moved is in one block."""
    for seed in range(4):
        over = lay_over(of(encoded(shot(seed, 0, 0), quality=92)), of(encoded(shot(seed, 1, 0), quality=92)))
        assert over.distance < 0.05  # a camera on a stand
        assert not over.same


@pytest.mark.parametrize("colour", [(200, 40, 40), (40, 120, 40), (90, 60, 200)])
def test_a_thing_that_came_into_view_is_seen(colour: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is smooth, may be as bright as what it hides, and leaves most of the structure around it as it was."""
    image = scene(3, PHOTO)
    laid_over = []
    for place in ((40, 60), (150, 120), (260, 200)):
        edited = image.copy()
        edited.paste(colour, (*place, place[0] + image.width // 14, place[1] + image.height // 14))
        laid_over.append((of(encoded(image, quality=92)), of(encoded(edited, quality=92))))
    assert not any(lay_over(*both).same for both in laid_over)
    monkeypatch.setattr(overlay, "LEVELS", 255.0)
    assert any(lay_over(*both).same for both in laid_over)


def test_different_images_are_not_the_same() -> None:
    fines = [laid(encoded(scene(seed, PHOTO)), encoded(scene(seed + 20, PHOTO))).fine for seed in range(12)]
    assert max(fines) < 0.2


def test_grey_is_no_copy_of_colour() -> None:
    image = scene(3, PHOTO)
    assert not lay_over(of(encoded(image)), of(encoded(image.convert("L")))).same


def test_an_image_without_anything_fine_is_judged_by_its_colours() -> None:
    ramp = Image.linear_gradient("L").resize(PHOTO).convert("RGB")
    assert lay_over(of(encoded(ramp, "PNG")), of(encoded(ramp, quality=90))).same


def test_windows_are_numbered_as_they_are_cut() -> None:
    rows = windows(thumb(encoded(scene(1))))
    assert rows.shape[0] == 15 * 15
    assert window(0) == WHOLE
    assert len({window(number) for number in range(len(rows))}) == len(rows)
    assert all(top + height <= 1 and left + width <= 1 for top, left, height, width in map(window, range(len(rows))))


def test_a_sketch_of_nothing_is_none(tmp_path: Path) -> None:
    assert sketch(Source("x", tmp_path / "gone.jpg"), DEFAULT_LIMITS) is None
    assert sketch(Source("x", MissingImageError("no")), DEFAULT_LIMITS) is None
    assert of(encoded(scene(1))).shape == (SIDE, SIDE, 3)
