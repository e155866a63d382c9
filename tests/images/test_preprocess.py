"""Pixels against timm's own evaluation transform, and the shapes at which it has nothing to compare with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from weevit.errors import TooLargeImageError, UsageError
from weevit.images import preprocess as room
from weevit.images.decode import decode, read_file
from weevit.images.preprocess import normalize, preprocess
from weevit.zoo.weights import CLIP, HALF, WEIGHTS, CropMode, Interpolation, Preprocessing


def spec_of(
    height: int, width: int, crop_pct: float, mode: CropMode, interpolation: Interpolation = "bicubic"
) -> Preprocessing:
    return Preprocessing(height, width, crop_pct, mode, interpolation, *CLIP)


PHOTO_SPECS = [
    spec_of(224, 224, 0.9, "center"),
    spec_of(256, 256, 0.95, "center"),
    spec_of(384, 384, 1.0, "center"),
    spec_of(448, 448, 1.0, "squash"),
    spec_of(256, 320, 0.95, "center"),
    spec_of(256, 256, 0.9, "border"),
]

SMALL_SPECS = [
    spec_of(height, width, crop_pct, mode, interpolation)
    for height, width in ((96, 96), (64, 96))
    for crop_pct in (0.9, 1.0, 1.25)
    for mode in ("center", "squash", "border")
    for interpolation in ("nearest", "bilinear", "bicubic", "lanczos")
]

SIZES = ((1, 1), (2, 3), (17, 5), (95, 96), (96, 96), (97, 300), (301, 97), (640, 480), (1, 500), (500, 1), (3, 400))
"""(width, height): smaller than the crop, exactly it, odd, and very thin."""


@pytest.fixture(scope="module")
def timm_transform() -> Callable[[Preprocessing], Callable[[Image.Image], Any]]:
    """spec -> timm's transform; its result is a tensor, uint8 before the normalisation and float32 after it."""
    pytest.importorskip("timm")
    from timm.data.transforms_factory import transforms_imagenet_eval

    def make(spec: Preprocessing, normalized: bool = False) -> Callable[[Image.Image], Any]:
        transform: Callable[[Image.Image], Any] = transforms_imagenet_eval(
            img_size=(spec.height, spec.width),
            crop_pct=spec.crop_pct,
            crop_mode=spec.crop_mode,
            interpolation=spec.interpolation,
            mean=spec.mean,
            std=spec.std,
            normalize=normalized,
        )
        return transform

    return make


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(width * 10_007 + height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def opened_plainly(path: Path) -> Image.Image:
    """What timm opens, EXIF ignored: no code of weevit's is used."""
    with Image.open(path) as image:
        return image.convert("RGB")


@pytest.mark.long
@pytest.mark.oracle
def test_every_photo_equals_timm(photos: list[Path], timm_transform: Any) -> None:
    """None of the 500 photos needs turning (one has orientation 0), so timm and weevit must see the same."""
    transforms = [(spec, timm_transform(spec)) for spec in PHOTO_SPECS]
    different = []
    for path in photos:
        ours, theirs = decode(read_file(path)), opened_plainly(path)
        for spec, transform in transforms:
            if not np.array_equal(preprocess(ours, spec), transform(theirs).permute(1, 2, 0).numpy()):
                different.append((path.name, spec))
    assert len(photos) == 500
    assert not different


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("number", "turn"),
    [(3, Image.Transpose.ROTATE_180), (6, Image.Transpose.ROTATE_270), (8, Image.Transpose.ROTATE_90)],
)
def test_a_turned_photo_equals_timm_once_it_is_turned_by_hand(
    shared: Path, number: int, turn: Image.Transpose, timm_transform: Any
) -> None:
    path, spec = shared / "data" / "image_zoo" / "exif" / f"Landscape_{number}.jpg", PHOTO_SPECS[1]
    theirs = timm_transform(spec)(opened_plainly(path).transpose(turn)).permute(1, 2, 0).numpy()
    assert np.array_equal(preprocess(decode(read_file(path)), spec), theirs)


@pytest.mark.oracle
def test_all_sizes_modes_and_filters_equal_timm(timm_transform: Any) -> None:
    different = []
    for spec in SMALL_SPECS:
        transform = timm_transform(spec)
        for size in SIZES:
            try:
                theirs = transform(noise(*size)).permute(1, 2, 0).numpy()
            except ValueError:  # a side of no pixels: timm gives up, weevit keeps one pixel (below)
                assert spec.crop_mode == "border"
                continue
            if not np.array_equal(preprocess(noise(*size), spec), theirs):
                different.append((spec, size))
    assert not different


@pytest.mark.oracle
@pytest.mark.parametrize("weight", WEIGHTS[::7], ids=lambda weight: weight.name)
def test_normalised_values_equal_timm(weight: Any, timm_transform: Any) -> None:
    spec = weight.preprocessing
    theirs = timm_transform(spec, normalized=True)(noise(300, 200)).numpy()
    ours = normalize(preprocess(noise(300, 200), spec), spec)
    assert ours.dtype == np.float32
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("size", [(1, 20_000), (20_000, 1), (1, 1), (3, 2000)])
def test_shape_and_layout_for_every_shape_of_image(mode: CropMode, size: tuple[int, int]) -> None:
    pixels = preprocess(Image.new("RGB", size, (10, 20, 30)), spec_of(64, 96, 0.95, mode))
    assert (pixels.shape, pixels.dtype, pixels.flags.c_contiguous) == ((64, 96, 3), np.uint8, True)
    assert [10, 20, 30] in pixels.reshape(-1, 3).tolist()  # `border` may leave a single line of it


@pytest.mark.parametrize("size", [(1, 1500), (1500, 1), (7, 1999), (3000, 30), (60, 3000)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("crop_pct", [0.95, 1.3])
def test_the_middle_of_a_thin_image_is_nearly_that_of_the_whole(
    size: tuple[int, int], crop_pct: float, interpolation: Interpolation, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(128, 96, crop_pct, "center", interpolation)
    monkeypatch.setattr(room, "_MAX_RESIZED", 2**40)
    whole = preprocess(noise(*size), spec).astype(int)
    monkeypatch.setattr(room, "_MAX_RESIZED", 0)
    middle = preprocess(noise(*size), spec).astype(int)
    assert np.abs(whole - middle).mean() < 0.02
    assert np.abs(whole - middle).max() <= 1


def test_border_has_the_mean_colour_and_center_pads_with_black() -> None:
    white = Image.new("RGB", (10, 100), "white")
    assert preprocess(white, spec_of(64, 64, 1.0, "border"))[32, 0].tolist() == [round(255 * mean) for mean in CLIP[0]]
    assert preprocess(white, spec_of(64, 64, 2.0, "center"))[0, 0].tolist() == [0, 0, 0]


def test_a_needle_is_refused_instead_of_filling_the_memory() -> None:
    with pytest.raises(TooLargeImageError):
        preprocess(Image.new("RGB", (1, 4_000_000)), spec_of(448, 448, 1.0, "squash"))


@pytest.mark.parametrize(("field", "value"), [("crop_mode", "centre"), ("interpolation", "bicubik")])
def test_unknown_names_are_refused_with_the_nearest(field: str, value: str) -> None:
    with pytest.raises(UsageError, match=r"Did you mean '(center|bicubic)'"):
        Preprocessing(**{**vars(spec_of(64, 64, 1.0, "center")), field: value})


def test_another_mode_than_rgb_is_refused() -> None:
    with pytest.raises(UsageError, match="'L'"):
        preprocess(Image.new("L", (8, 8)), spec_of(64, 64, 1.0, "center"))


def test_normalize_maps_half_to_minus_one_and_one() -> None:
    pixels = np.array([[[0, 255, 0]]], np.uint8)
    assert normalize(pixels, Preprocessing(1, 1, 1.0, "center", "bicubic", *HALF)).ravel().tolist() == [-1, 1, -1]
