"""Mixup and cutmix: the same pixels and targets as timm for the same draws, and draws of the same distribution."""

from __future__ import annotations

import statistics
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from weevit.batches.mixing import Mix, apply, draw, mix  # noqa: E402
from weevit.batches.seeding import keyed  # noqa: E402
from weevit.recipes.schema import MixPart  # noqa: E402

RECIPE = MixPart(mixup=0.8, cutmix=1.0, switch=0.5)
SIZE = (40, 56)
CLASSES = 7


def a_batch(count: int = 8) -> tuple[Any, Any]:
    generator = torch.Generator().manual_seed(count)
    return torch.randn(count, 3, *SIZE, generator=generator), torch.randint(0, CLASSES, (count,), generator=generator)


class Told:
    """Stands for `numpy.random` in timm's module, and says what it is told to say."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers

    def rand(self, *shape: int) -> Any:
        return np.zeros(shape) if shape else 0.0  # below every probability: mixed, and cut where both are on

    def beta(self, a: float, b: float, size: int | None = None) -> Any:
        return self.answers["beta"] if size is None else np.array(self.answers["beta"])

    def randint(self, low: int, high: int, size: int | None = None) -> int:
        return int(self.answers["centres"].pop(0))


def timms(monkeypatch: pytest.MonkeyPatch, images: Any, targets: Any, told: Told, **options: Any) -> tuple[Any, Any]:
    module = pytest.importorskip("timm.data.mixup")
    monkeypatch.setattr(np, "random", told)
    mixed = module.Mixup(num_classes=CLASSES, label_smoothing=0.0, **options)(images.clone(), targets)
    monkeypatch.undo()
    return mixed


@pytest.mark.oracle
@pytest.mark.parametrize("share", [0.0, 0.3, 0.8371])
def test_a_mixed_batch_is_timms(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    images, targets = a_batch()
    theirs = timms(monkeypatch, images, targets, Told(beta=share), mixup_alpha=1.0, mode="batch")
    ours = apply(images.clone(), targets, [Mix(share)] * 8, CLASSES)
    assert all(torch.equal(mine, other) for mine, other in zip(ours, theirs, strict=True))


@pytest.mark.oracle
@pytest.mark.parametrize(("share", "row", "column"), [(0.4, 20, 30), (0.9, 0, 0), (0.05, 39, 55), (0.7, 3, 50)])
def test_a_cut_batch_is_timms(share: float, row: int, column: int, monkeypatch: pytest.MonkeyPatch) -> None:
    images, targets = a_batch()
    told = Told(beta=share, centres=[row, column])
    theirs = timms(monkeypatch, images, targets, told, mixup_alpha=0.0, cutmix_alpha=1.0, mode="batch")

    class Drawn:
        def __init__(self) -> None:
            self.numbers = iter([0.0, (row + 0.5) / SIZE[0], (column + 0.5) / SIZE[1]])

        def random(self) -> float:
            return next(self.numbers)

        def betavariate(self, alpha: float, beta: float) -> float:
            return share

    drawn = draw(MixPart(cutmix=1.0), 8, SIZE, Drawn())  # type: ignore[arg-type]
    ours = apply(images.clone(), targets, drawn, CLASSES)
    assert all(torch.equal(mine, other) for mine, other in zip(ours, theirs, strict=True))


@pytest.mark.oracle
@pytest.mark.parametrize("mode", ["elem", "pair"])
@pytest.mark.parametrize("cut", [False, True])
def test_single_images_and_pairs_are_timms(mode: str, cut: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    images, targets = a_batch()
    count = 8 if mode == "elem" else 4
    shares = np.linspace(0.1, 0.9, count)
    centres = [3 * index % 40 for index in range(2 * count)]
    told = Told(beta=shares, centres=list(centres))
    options = {"mixup_alpha": 0.0, "cutmix_alpha": 1.0} if cut else {"mixup_alpha": 1.0}
    theirs = timms(monkeypatch, images, targets, told, mode=mode, **options)

    drawn = [Mix(float(np.float32(share))) for share in shares]
    if cut:
        module = pytest.importorskip("timm.data.mixup")
        told = Told(beta=shares, centres=list(centres))
        monkeypatch.setattr(np, "random", told)
        boxes = [module.cutmix_bbox_and_lam(images.shape, np.float32(share)) for share in shares]
        monkeypatch.undo()
        drawn = [Mix(float(share), (int(box[0]), int(box[1]), int(box[2]), int(box[3]))) for box, share in boxes]
    if mode == "pair":
        drawn += drawn[::-1]
    ours = apply(images.clone(), targets, drawn, CLASSES)
    assert torch.equal(ours[0], theirs[0]) if cut else torch.allclose(ours[0], theirs[0], rtol=0, atol=1e-6)
    assert torch.allclose(ours[1], theirs[1].to(ours[1].dtype), rtol=0, atol=1e-6)


@pytest.mark.oracle
@pytest.mark.parametrize(("mixup", "cutmix"), [(0.8, 0.0), (0.0, 1.0), (0.8, 1.0), (0.2, 1.0)])
def test_draws_are_distributed_as_timms(mixup: float, cutmix: float) -> None:
    """4,000 draws of each: how often it cuts, and mean and spread of the share, within 4 standard errors."""
    module = pytest.importorskip("timm.data.mixup")
    state = np.random.get_state()
    np.random.seed(1)
    judge = module.Mixup(mixup, cutmix, mode="batch", switch_prob=0.4, prob=0.9)
    theirs = []
    for _ in range(4000):
        share, cut = judge._params_per_batch()
        if cut:
            _, share = module.cutmix_bbox_and_lam((1, 3, *SIZE), share)
        theirs.append((float(share), bool(cut)))
    np.random.set_state(state)
    part = MixPart(mixup=mixup, cutmix=cutmix, switch=0.4, prob=0.9)
    ours = [(one.share, one.box is not None) for step in range(4000) for one in draw(part, 1, SIZE, keyed("mix", step))]
    for mine, other in zip(zip(*ours, strict=True), zip(*theirs, strict=True), strict=True):
        spread = statistics.pstdev(map(float, other))
        error = 4 * spread * (2 / 4000) ** 0.5 + 1e-9
        assert abs(statistics.fmean(mine) - statistics.fmean(other)) <= error
        assert abs(statistics.pstdev(map(float, mine)) - spread) <= max(error, 0.02)


def test_a_batch_is_mixed_the_same_way_whenever_its_step_comes() -> None:
    batches = [a_batch() for _ in range(2)]
    first, again = (mix(*batch, RECIPE, CLASSES, (3, 17)) for batch in batches)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    other = mix(*a_batch(), RECIPE, CLASSES, (3, 18))
    assert not torch.equal(first[0], other[0])


def test_shares_of_a_target_add_up() -> None:
    for mode in ("batch", "pair", "elem"):
        for step in range(20):
            _, targets = mix(*a_batch(9), replace(RECIPE, mode=mode), CLASSES, (0, step))
            assert torch.allclose(targets.sum(1), torch.ones(9))


def test_an_odd_batch_of_pairs_leaves_the_middle_one() -> None:
    images, targets = a_batch(5)
    mixed, soft = mix(images.clone(), targets, MixPart(mixup=1.0, mode="pair"), CLASSES, (0, 0))
    assert torch.equal(mixed[2], images[2])
    assert soft[2].max() == 1
    assert not torch.equal(mixed[0], images[0])


def test_labels_are_mixed_as_they_are() -> None:
    images, _ = a_batch(4)
    labels = torch.tensor([[1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 1]])
    _, soft = apply(images, labels, [Mix(0.25)] * 4, 3)
    assert torch.allclose(soft[0], torch.tensor([1.0, 0.75, 1.0]))


def test_without_mixing_everything_comes_back_as_it_is() -> None:
    images, targets = a_batch()
    assert mix(images, targets, MixPart(), CLASSES, (0, 0)) == (images, targets)
