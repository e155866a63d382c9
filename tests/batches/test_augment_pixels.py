"""Each treatment of a training picture against timm's: the same parameters give the same pixels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL
import pytest
from PIL import Image
from textures import even, texture

torch = pytest.importorskip("torch")

from weevit.batches.augment import Box, Params, apply, resized_part  # noqa: E402
from weevit.batches.pixels import OPS, planes_of, treated  # noqa: E402
from weevit.images.decode import decode, read_file  # noqa: E402
from weevit.recipes.randaugment import Op  # noqa: E402
from weevit.zoo.weights import CLIP, Preprocessing  # noqa: E402

FILL = (123, 117, 104)
PICTURES = [texture(96, 96), texture(112, 80, 1), texture(37, 61, 2), texture(16, 16, 3), even(48, 48), even(24, 24)]

SIGNED = (-1.0, -0.6, -0.05, 0.02, 0.5, 1.0)
VALUES: dict[str, tuple[float, ...]] = {
    "autocontrast": (0,),
    "equalize": (0,),
    "invert": (0,),
    "posterize": (1, 2, 3, 4, 7, 8),
    "solarize": (0, 1, 100, 255, 256),
    "solarize_add": (0, 66, 110, 128),
    "color": (0.1, 0.46, 1.0, 1.54, 1.9),
    "contrast": (0.1, 0.46, 1.0, 1.54, 1.9),
    "brightness": (0.1, 0.46, 1.0, 1.54, 1.9),
    "sharpness": (0.1, 0.46, 1.0, 1.54, 1.9),
    "rotate": tuple(30 * value for value in SIGNED),
    "shear_x": tuple(0.3 * value for value in SIGNED),
    "shear_y": tuple(0.3 * value for value in SIGNED),
    "translate_x": (*(0.45 * value for value in SIGNED), 1 / 96, 0.5 / 96, 1.5),
    "translate_y": (*(0.45 * value for value in SIGNED), 1 / 80, 0.5 / 80, -1.5),
}
"""Treatment -> values: the ends of its range, the middle, and where it does nothing."""

MOVES = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
NAMES = {"autocontrast": "auto_contrast", "translate_x": "translate_x_rel", "translate_y": "translate_y_rel"}


def timms(name: str) -> Callable[..., Image.Image]:
    function: Callable[..., Image.Image] = getattr(pytest.importorskip("timm.data.auto_augment"), NAMES.get(name, name))
    return function


def apart(ours: np.ndarray, theirs: Image.Image) -> np.ndarray:
    """Differences of grey levels."""
    return np.abs(ours.astype(int) - planes_of(np.asarray(theirs)))


@pytest.mark.oracle
@pytest.mark.parametrize("name", [name for name in VALUES if name not in MOVES])
def test_colours_are_timms(name: str) -> None:
    function = timms(name)
    for image in PICTURES:
        for value in VALUES[name]:
            given = () if VALUES[name] == (0,) else (value,)
            assert not apart(
                OPS[name](planes_of(np.asarray(image)), Op(name, value), FILL), function(image, *given)
            ).any()


@pytest.mark.oracle
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("name", MOVES)
def test_moved_pictures_are_timms_within_a_grey_level(name: str, interpolation: str) -> None:
    function, resample = timms(name), getattr(Image.Resampling, interpolation.upper())
    for image in PICTURES:
        for value in VALUES[name]:
            theirs = function(image, value, fillcolor=FILL, resample=resample)
            ours = OPS[name](planes_of(np.asarray(image)), Op(name, value, interpolation), FILL)
            difference = apart(ours, theirs)
            assert difference.max() <= (0 if (name, interpolation) == ("rotate", "bicubic") else 1), (image.size, value)
            # Shifts of whole fifths and the like put many values exactly between two levels.
            assert (difference > 0).mean() < 0.06, (image.size, value)


@pytest.mark.oracle
@pytest.mark.parametrize("sigma", [0.1, 0.4, 1.0, 2.0])
def test_blur_is_torchvisions_within_a_grey_level(sigma: float) -> None:
    functional = pytest.importorskip("torchvision.transforms.functional")
    for image in (picture for picture in PICTURES if min(picture.size) > 11):
        theirs = functional.gaussian_blur(image, [23, 23], [sigma, sigma])
        difference = apart(OPS["blur"](planes_of(np.asarray(image)), Op("blur", sigma), FILL), theirs)
        assert difference.max() <= 1
        assert (difference > 0).mean() < 0.003


@pytest.mark.oracle
def test_grey_is_torchvisions() -> None:
    functional = pytest.importorskip("torchvision.transforms.functional")
    levels = np.arange(256, dtype=np.uint8)
    every = np.stack(
        [levels[:, None].repeat(256, 1), levels[None].repeat(256, 0), levels[::-1, None].repeat(256, 1)], -1
    )
    for image in (*PICTURES, Image.fromarray(every)):
        ours = OPS["grayscale"](planes_of(np.asarray(image)), Op("grayscale"), FILL)
        assert not apart(ours, functional.rgb_to_grayscale(image, 3)).any()


def test_no_treatment_changes_what_it_is_given() -> None:
    for name in OPS:
        given = planes_of(np.asarray(PICTURES[0]))
        before = given.copy()
        value = VALUES.get(name, (1.0,))[0]
        result = OPS[name](given, Op(name, value, "bicubic" if name in MOVES else ""), FILL)
        assert np.array_equal(given, before), name
        assert (result.dtype, result.shape) == (np.uint8, given.shape), name


def test_what_lies_outside_is_filled() -> None:
    moved = OPS["translate_x"](planes_of(np.asarray(even(40, 30))), Op("translate_x", 0.25, "bicubic"), FILL)
    assert np.array_equal(moved[:, :, 30:], np.broadcast_to(np.array(FILL)[:, None, None], (3, 30, 10)))
    assert np.array_equal(moved[:, :, :30], np.broadcast_to(np.array((10, 200, 31))[:, None, None], (3, 30, 30)))


BOXES = [Box(0, 0, 300, 400), Box(10, 20, 97, 113), Box(31, 7, 250, 60), Box(3, 250, 60, 140), Box(0, 0, 1, 1)]


@pytest.mark.oracle
@pytest.mark.skipif(int(PIL.__version__.split(".")[0]) < 13, reason="Pillow resized in another order before 13")
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("wanted", [(64, 64), (224, 224), (96, 160), (160, 96)])
def test_resized_parts_are_pillows_within_a_grey_level(interpolation: str, wanted: tuple[int, int]) -> None:
    """Rows first or columns first, larger or smaller. Two levels are allowed for one value in 10,000 (see the doc)."""
    image = texture(400, 300, 5)
    for box in BOXES:
        edges = (box.left, box.top, box.left + box.width, box.top + box.height)
        theirs = np.asarray(image.crop(edges).resize(wanted[::-1], getattr(Image.Resampling, interpolation.upper())))
        difference = np.abs(resized_part(np.asarray(image), box, wanted, interpolation).astype(int) - theirs)
        assert difference.max() <= 2
        assert (difference > 1).mean() < 1e-4
        assert (difference > 0).mean() < 0.08


@pytest.mark.oracle
def test_parts_of_photos_are_pillows(photos: list[Path]) -> None:
    if int(PIL.__version__.split(".")[0]) < 13:
        pytest.skip("Pillow resized in another order before 13")
    counts = np.zeros(256, int)
    for index, path in enumerate(photos[::25]):
        image = decode(read_file(path))
        box = Box(index, 2 * index, image.height // 2, int(image.width * (0.3 + 0.02 * index)))
        edges = (box.left, box.top, box.left + box.width, box.top + box.height)
        for name in ("bilinear", "bicubic"):
            theirs = image.crop(edges).resize((256, 256), getattr(Image.Resampling, name.upper()))
            difference = np.abs(resized_part(np.asarray(image), box, (256, 256), name).astype(int) - np.asarray(theirs))
            counts += np.bincount(difference.ravel(), minlength=256)
    assert counts[3:].sum() == 0
    assert counts[2] < 1e-5 * counts.sum()
    assert counts[1] < 0.01 * counts.sum()


@pytest.mark.oracle
def test_a_whole_picture_is_what_timms_steps_make_of_it() -> None:
    """Crop, resize, flip and three treatments in a row, from the same parameters."""
    image, spec = texture(200, 150, 8), Preprocessing(96, 96, 0.95, "center", "bicubic", *CLIP)
    ops = (Op("shear_y", 0.21, "bilinear"), Op("equalize"), Op("rotate", -13.0, "bicubic"), Op("color", 1.4))
    ours = apply(np.asarray(image), Params(Box(20, 30, 100, 120), "bicubic", True, False, ops, ()), spec)
    theirs = image.crop((30, 20, 150, 120)).resize((96, 96), Image.Resampling.BICUBIC)
    theirs = theirs.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    red, green, blue = (round(255 * mean) for mean in spec.mean)
    for op in ops:
        value = (op.value,) if op.value else ()
        resample = getattr(Image.Resampling, op.interpolation.upper(), None)
        theirs = timms(op.name)(theirs, *value, fillcolor=(red, green, blue), resample=resample)
    difference = apart(ours, theirs)
    assert difference.mean() < 0.2  # a grey level here and there, after `equalize` a few
    assert np.percentile(difference, 99) <= 2


def test_treatments_follow_one_another() -> None:
    planes = planes_of(np.asarray(PICTURES[1]))
    twice = treated(planes, [Op("invert"), Op("invert")], FILL)
    assert np.array_equal(twice, planes)
    assert treated(planes, [], FILL) is planes


def test_flips() -> None:
    image = np.asarray(texture(64, 64, 4))
    spec = Preprocessing(64, 64, 0.95, "center", "bicubic", *CLIP)
    whole = Box(0, 0, 64, 64)
    for horizontal, vertical in ((False, False), (True, False), (False, True), (True, True)):
        ours = apply(image, Params(whole, "bilinear", horizontal, vertical, (), ()), spec)
        wanted = image[:: -1 if vertical else 1, :: -1 if horizontal else 1]
        assert np.array_equal(ours, planes_of(wanted))
