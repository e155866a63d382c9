"""What is drawn for a training image: the same for the same key, and distributed as timm's.

Both are sampled and compared: frequencies and means within 4.5 standard errors (a test of some hundred such numbers
fails by chance once in a thousand runs; but nothing here is chance, the keys are fixed).
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from weevit.batches.augment import Box, Hole, Params, draw, filling, finish  # noqa: E402
from weevit.batches.seeding import keyed, noise, permutation  # noqa: E402
from weevit.errors import RecipeError  # noqa: E402
from weevit.recipes.randaugment import Op, RandAugment  # noqa: E402
from weevit.recipes.schema import AugmentPart  # noqa: E402
from weevit.zoo.weights import CLIP, HALF, Preprocessing  # noqa: E402

WEE = AugmentPart(randaugment="rand-m6-inc1-mstd1.0-n3")
SIZE = (64, 64)


def alike(ours: Sequence[float], theirs: Sequence[float]) -> None:
    """Mean and spread of two samples agree within what chance allows."""
    for mine, other in ((ours, theirs), (np.abs(ours), np.abs(theirs)), (np.square(ours), np.square(theirs))):
        error = math.sqrt(np.var(mine) / len(mine) + np.var(other) / len(other))
        assert abs(np.mean(mine) - np.mean(other)) <= 4.5 * error + 1e-9, (np.mean(mine), np.mean(other), error)


def equally_often(ours: int, theirs: int, count: int) -> None:
    assert abs(ours - theirs) <= 4.5 * math.sqrt(max(ours + theirs, 20)) + 1, (ours, theirs, count)


# ---- keys


def test_the_same_key_draws_the_same() -> None:
    drawn = [draw(WEE, (300, 400), SIZE, 1, 2, 3, 0) for _ in range(2)]
    assert drawn[0] == drawn[1]
    others = [draw(WEE, (300, 400), SIZE, *key) for key in ((0, 2, 3, 0), (1, 3, 3, 0), (1, 2, 4, 0), (1, 2, 3, 1))]
    assert len({params.crop for params in (drawn[0], *others)}) == 5


def test_draws_are_the_same_on_every_machine() -> None:
    """Written down once: who changes these changes the images of every run."""
    assert draw(WEE, (375, 500), (256, 256), 0, 7, 17, 1) == Params(
        crop=Box(top=18, left=231, height=177, width=218),
        interpolation="bilinear",
        hflip=False,
        vflip=False,
        ops=(
            Op("brightness", pytest.approx(0.6603077675460857)),
            Op("contrast", pytest.approx(0.13271498938555037)),
            Op("solarize", 123),
        ),
        holes=(Hole(Box(top=63, left=48, height=74, width=205), "pixel", ("erase", 0, 7, 17, 1, 0)),),
    )
    assert permutation(8, "order", 0, 1).tolist() == [5, 0, 7, 4, 1, 6, 3, 2]
    wanted = [-1.4511295557022095, -0.4871607720851898, 0.2923693060874939, 0.4440198838710785]
    assert noise((2, 2), "erase", 0).ravel().tolist() == pytest.approx(wanted, abs=1e-6)


def test_an_order_is_a_permutation_and_another_one_each_epoch() -> None:
    first, second = (permutation(1000, "order", 0, epoch) for epoch in (0, 1))
    assert sorted(first) == list(range(1000))
    assert (first != second).mean() > 0.99
    assert abs(np.corrcoef(first, np.arange(1000))[0, 1]) < 0.12


def test_noise_is_normal() -> None:
    values = noise((3, 400, 500), "erase", 1)
    assert values.dtype == np.float32
    assert abs(values.mean()) < 0.006
    assert abs(values.std() - 1) < 0.005
    assert abs((values**4).mean() - 3) < 0.05
    assert abs((np.abs(values) < 1).mean() - 0.6827) < 0.003
    assert np.array_equal(values, noise((3, 400, 500), "erase", 1))
    assert not np.array_equal(values, noise((3, 400, 500), "erase", 2))
    assert noise((3, 700, 700), "erase", 1).shape == (3, 700, 700)  # more than are drawn once


# ---- crops


@pytest.mark.oracle
@pytest.mark.parametrize("size", [(375, 500), (500, 375), (256, 256), (100, 900), (64, 64)])
@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.3, 0.5)])
def test_crops_are_distributed_as_timms(size: tuple[int, int], scale: tuple[float, float]) -> None:
    crop = pytest.importorskip("timm.data.transforms").RandomResizedCropAndInterpolation
    height, width = size
    image = torch.empty(3, height, width, dtype=torch.uint8)
    random.seed(0)
    theirs = np.array([crop.get_params(image, scale, (3 / 4, 4 / 3)) for _ in range(3000)], float)
    part = AugmentPart(scale=scale)
    boxes = [draw(part, size, SIZE, index).crop for index in range(3000)]
    ours = np.array([(box.top, box.left, box.height, box.width) for box in boxes if box is not None], float)
    for sample in (ours, theirs):
        assert (sample[:, 0] + sample[:, 2]).max() <= height
        assert (sample[:, 1] + sample[:, 3]).max() <= width
    for measure in (
        lambda s: s[:, 2] * s[:, 3] / (height * width),
        lambda s: np.log(s[:, 3] / s[:, 2]),
        lambda s: s[:, 0] / height,
        lambda s: s[:, 1] / width,
    ):
        alike(measure(ours), measure(theirs))


@pytest.mark.oracle
@pytest.mark.parametrize("size", [(1, 500), (500, 1), (3, 40), (40, 3)])
def test_where_no_box_fits_it_is_timms_middle(size: tuple[int, int]) -> None:
    crop = pytest.importorskip("timm.data.transforms").RandomResizedCropAndInterpolation
    image = torch.empty(3, *size, dtype=torch.uint8)
    theirs = Box(*crop.get_params(image, (0.9, 1.0), (3 / 4, 4 / 3)))
    assert draw(AugmentPart(scale=(0.9, 1.0)), size, SIZE, 0).crop == theirs


def test_interpolation_and_flips() -> None:
    drawn = [draw(AugmentPart(hflip=0.5, vflip=0.2), (300, 300), SIZE, index) for index in range(2000)]
    assert abs(sum(params.interpolation == "bicubic" for params in drawn) - 1000) < 110
    assert abs(sum(params.hflip for params in drawn) - 1000) < 110
    assert abs(sum(params.vflip for params in drawn) - 400) < 90
    assert {draw(AugmentPart(interpolation="bilinear"), (9, 9), SIZE, index).interpolation for index in range(9)} == {
        "bilinear"
    }
    assert draw(AugmentPart(crop="as_validation"), (9, 9), SIZE, 0).crop is None


# ---- RandAugment

OURS = {
    "auto_contrast": "autocontrast",
    "translate_x_rel": "translate_x",
    "translate_y_rel": "translate_y",
}


def timms_ops(sentence: str, count: int, interpolation: str | None = None) -> list[list[Op]]:
    """What timm draws, caught where it would be done."""
    module = pytest.importorskip("timm.data.auto_augment")
    from PIL import Image

    params: dict[str, Any] = {"translate_const": 100, "img_mean": (128, 128, 128)}
    if interpolation:
        params["interpolation"] = getattr(Image.Resampling, interpolation.upper())
    transform = module.rand_augment_transform(sentence, params)
    seen: list[Op] = []

    def catch(name: str) -> Any:
        def caught(image: Any, *args: float, **kwargs: Any) -> Any:
            moves = name.startswith(("rotate", "shear", "translate"))
            resample = module._interpolation(dict(kwargs)) if moves else None
            value = max(0, args[0]) if name == "posterize" else args[0] if args else 0.0  # below 0 bits Pillow fails
            seen.append(Op(OURS.get(name, name), value, resample.name.lower() if resample else ""))
            return image

        return caught

    for op in transform.ops:
        op.aug_fn = catch(op.aug_fn.__name__)
    random.seed(1)
    np.random.seed(1)
    drawn = []
    for _ in range(count):
        seen.clear()
        transform(None)
        drawn.append(list(seen))
    return drawn


SENTENCES = [
    "rand-m6-inc1-mstd1.0-n3",
    "rand-m8-inc1-mstd1.0-n4",
    "rand-m9-mstd0.5",
    "rand-m7-mstd101-p0.8-n2",
    "rand-m3-inc1-n1-p1",
    "rand-m14-mmax20-mstd3-inc1",
    "rand-inc1",
    "rand-m5-mstd1-tweights-n3",
]


@pytest.mark.oracle
@pytest.mark.parametrize("sentence", SENTENCES)
def test_randaugment_is_distributed_as_timms(sentence: str) -> None:
    count = 6000
    state = np.random.get_state()
    theirs = timms_ops(sentence, count)
    np.random.set_state(state)
    parsed = RandAugment.parse(sentence)
    ours = [parsed.draw(keyed("test", index), "random") for index in range(count)]
    alike([len(ops) for ops in ours], [len(ops) for ops in theirs])
    mine, other = ([op for ops in sample for op in ops] for sample in (ours, theirs))
    names = Counter(op.name for op in mine), Counter(op.name for op in other)
    assert set(names[0]) == set(names[1])
    for name in names[0]:
        equally_often(names[0][name], names[1][name], count)
        values = [[op.value for op in sample if op.name == name] for sample in (mine, other)]
        if len(values[0]) > 30:
            alike(*values)
            assert max(values[0]) <= max(*values[1], 1e9 if max(values[1]) else 0)
        cubic = [sum(op.interpolation == "bicubic" for op in sample if op.name == name) for sample in (mine, other)]
        equally_often(cubic[0], cubic[1], count)
    if parsed.weighted:
        assert all(len({op.name for op in ops}) == len(ops) for ops in ours)


@pytest.mark.oracle
@pytest.mark.parametrize("magnitude", range(11))
@pytest.mark.parametrize("increasing", [False, True])
def test_levels_are_timms(magnitude: int, increasing: bool) -> None:
    """Without noise a magnitude is one value, or two of either sign."""
    sentence = f"rand-m{magnitude}-inc{int(increasing)}-p1"
    state = np.random.get_state()
    theirs = timms_ops(sentence, 300, "bilinear")
    np.random.set_state(state)
    ours = [RandAugment.parse(sentence).draw(keyed(index), "bilinear") for index in range(300)]

    def values(sample: Any) -> dict[str, set[float]]:
        found: dict[str, set[float]] = {}
        for ops in sample:
            for op in ops:
                found.setdefault(op.name, set()).add(round(op.value, 9))
        return found

    assert values(ours) == values(theirs)


@pytest.mark.parametrize(
    ("sentence", "message"),
    [
        ("rand-m6-x3", "'x3' is none of mNUMBER"),
        ("rand-m12", "m12 is above the greatest magnitude, 10"),
        ("rand-w0", "tweights"),
        ("random-m3", "begins with 'rand'"),
        ("rand-m6-m5", "'m5' repeats"),
        ("rand-n3.0", "n is 3.0; expected a whole number from 1 to 15"),
        ("rand-n0", "expected a whole number from 1"),
        ("rand-mst1", "Did you mean 'mstd'"),
        ("rand-p2", "p is 2; expected a number from 0 to 1"),
        ("rand-m6-", "'' is none of"),
        ("", "begins with 'rand'"),
        ("rand-inc2", "inc is 2"),
    ],
)
def test_a_sentence_is_read_strictly(sentence: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        RandAugment.parse(sentence)
    assert message in str(caught.value)


def test_a_sentence_is_read() -> None:
    assert RandAugment.parse("rand") == RandAugment()
    assert RandAugment.parse("rand-m6-inc1-mstd1.0-n3") == RandAugment(6, 1.0, increasing=True, layers=3)
    assert RandAugment.parse("rand-mmax20-m15-p0.25-tweights") == RandAugment(15, most=20, prob=0.25, weighted=True)


# ---- colours and holes


@pytest.mark.oracle
def test_colour_jitter_is_distributed_as_torchvisions() -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    part = AugmentPart(color_jitter=0.4, color_jitter_prob=0.7, grayscale_prob=0.2, blur_prob=0.3)
    drawn = [draw(part, (9, 9), SIZE, index).ops for index in range(4000)]
    torch.manual_seed(0)
    params = [transforms.ColorJitter.get_params((0.6, 1.4), (0.6, 1.4), (0.6, 1.4), None) for _ in range(4000)]
    for place, name in enumerate(("brightness", "contrast", "color")):
        alike(
            [op.value for ops in drawn for op in ops if op.name == name], [float(param[1 + place]) for param in params]
        )
    orders = Counter(tuple(op.name for op in ops if op.name not in ("grayscale", "blur")) for ops in drawn)
    assert len(orders) == 7  # six of them, and none
    assert abs(orders[()] - 1200) < 150
    assert all(abs(times - 2800 / 6) < 100 for order, times in orders.items() if order)
    assert abs(sum(any(op.name == "grayscale" for op in ops) for ops in drawn) - 800) < 120
    sigmas = [op.value for ops in drawn for op in ops if op.name == "blur"]
    alike(sigmas, list(np.linspace(0.1, 2.0, 4000)))
    assert abs(len(sigmas) - 1200) < 150
    assert all([op.name for op in ops][-1] == "blur" for ops in drawn if any(op.name == "blur" for op in ops))


@pytest.mark.oracle
@pytest.mark.parametrize("count", [1, 3])
def test_holes_are_distributed_as_timms(count: int) -> None:
    erasing = pytest.importorskip("timm.data.random_erasing").RandomErasing
    random.seed(2)
    erase = erasing(0.6, mode="const", max_count=count, device="cpu")
    theirs = []
    for _ in range(3000):
        image = torch.ones(1, 96, 64)
        erase(image)
        theirs.append(image[0].numpy() == 0)
    part = AugmentPart(erase_prob=0.6, erase_mode="const", erase_count=count)
    ours = []
    for index in range(3000):
        erased = np.zeros((96, 64), bool)
        for hole in draw(part, (9, 9), (96, 64), index).holes:
            box = hole.box
            assert erased[box.top :, box.left :][: box.height, : box.width].shape == (box.height, box.width)
            erased[box.top : box.top + box.height, box.left : box.left + box.width] = True
        ours.append(erased)
    alike(*([mask.mean() for mask in sample] for sample in (ours, theirs)))
    for axis in (0, 1):
        alike(*([mask.any(axis=axis).sum() for mask in sample] for sample in (ours, theirs)))
    assert np.abs(np.mean(ours, axis=0) - np.mean(theirs, axis=0)).max() < 0.06
    equally_often(*(sum(mask.any() for mask in sample) for sample in (ours, theirs)), count=3000)


def test_a_hole_is_filled_as_its_mode_says() -> None:
    for mode, shape, levels in (("pixel", (3, 12, 9), 300), ("rand", (3, 1, 1), 3)):
        part = AugmentPart(erase_prob=1.0, erase_mode=mode)
        hole = draw(part, (9, 9), (64, 64), 5).holes[0]
        values = np.asarray(filling(hole))
        assert values.shape == ((3, hole.box.height, hole.box.width) if mode == "pixel" else shape)
        assert len(np.unique(values)) >= min(levels, values.size * 0.9)
        assert np.array_equal(values, filling(hole))
    assert filling(draw(AugmentPart(erase_prob=1.0, erase_mode="const"), (9, 9), (64, 64), 5).holes[0]) == 0


def test_a_finished_image_is_normalised_and_has_its_holes() -> None:
    from weevit.images.preprocess import normalize

    for spec in (
        Preprocessing(40, 50, 1.0, "center", "bicubic", *CLIP),
        Preprocessing(40, 50, 1, "center", "bicubic", *HALF),
    ):
        pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
        hole = draw(AugmentPart(erase_prob=1.0, erase_mode="pixel"), (9, 9), (40, 50), 1).holes[0]
        out = np.empty((3, 40, 50), np.float32)
        finish(pixels.transpose(2, 0, 1), [hole], spec, out)
        wanted = normalize(pixels, spec)
        box = hole.box
        inside = np.zeros((40, 50), bool)
        inside[box.top : box.top + box.height, box.left : box.left + box.width] = True
        assert np.array_equal(out[:, ~inside], wanted[:, ~inside])
        assert np.array_equal(out[:, inside].reshape(3, box.height, box.width), filling(hole))


def test_params_are_plain_data() -> None:
    params = draw(WEE, (375, 500), (256, 256), 0, 0, 0, 0)
    assert isinstance(params, Params)
    assert hash(params) == hash(draw(WEE, (375, 500), (256, 256), 0, 0, 0, 0))
