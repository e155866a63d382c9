"""Batches: the same for every number of workers and after every restart; nothing lost, nothing replaced."""

from __future__ import annotations

import gc
import io
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from textures import texture

torch = pytest.importorskip("torch")

from weevit.batches import loader as loader_module  # noqa: E402
from weevit.batches.augment import draw, finish  # noqa: E402
from weevit.batches.loader import Batch, Left, Loader, SampleKey, choose_workers  # noqa: E402
from weevit.datasets.dataset import Split  # noqa: E402
from weevit.errors import MissingImageError, TrainingError, UsageError  # noqa: E402
from weevit.images.preprocess import normalize, preprocess  # noqa: E402
from weevit.images.source import Source, open_image  # noqa: E402
from weevit.recipes.schema import AugmentPart, DataPart, LoopPart, Recipe  # noqa: E402
from weevit.zoo.weights import CLIP, Preprocessing  # noqa: E402

SPEC = Preprocessing(48, 48, 0.95, "center", "bicubic", *CLIP)
WEE = AugmentPart(
    randaugment="rand-m6-inc1-mstd1.0-n3", erase_prob=0.5, color_jitter=0.3, grayscale_prob=0.1, blur_prob=0.1
)


def encoded(seed: int, kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    texture(70 + seed % 13, 50 + seed % 7, seed).save(buffer, kind)
    return buffer.getvalue()


def a_split(count: int = 21, bad: tuple[int, ...] = ()) -> Split:
    sources = [Source(f"{index}.jpg", encoded(index, "PNG" if index % 5 == 4 else "JPEG")) for index in range(count)]
    broken: dict[int, Any] = {0: b"", 1: encoded(1)[:-400], 2: b"no image", 3: MissingImageError("gone")}
    for place, index in enumerate(bad):
        sources[index] = Source(f"{index}.jpg", broken[place % len(broken)])
    return Split("train", tuple(sources), np.arange(count) % 4)


def a_recipe(workers: int = 0, batch: int = 4, repeats: int = 0, seed: int = 3, augment: AugmentPart = WEE) -> Recipe:
    loop = LoopPart(batch_size=batch, workers=workers)
    return Recipe(seed=seed, augment=augment, data=DataPart(repeats=repeats), loop=loop)


def loaded(split: Split, recipe: Recipe, epoch: int = 0, start: int = 0) -> list[Batch]:
    return list(Loader(split, recipe, SPEC).epoch(epoch, start))


def equal(ours: Batch, theirs: Batch) -> bool:
    alike = torch.equal(ours.images, theirs.images) and torch.equal(ours.targets, theirs.targets)
    return alike and (ours.keys, ours.ids, ours.bad) == (theirs.keys, theirs.ids, theirs.bad)


@pytest.mark.parametrize("repeats", [0, 3])
def test_workers_change_nothing(repeats: int) -> None:
    split = a_split(bad=(5, 6))
    epochs = [loaded(split, a_recipe(workers, repeats=repeats), epoch=2) for workers in (0, 1, 2, 4)]
    assert len(epochs[0]) == 5
    for epoch in epochs[1:]:
        assert all(equal(ours, theirs) for ours, theirs in zip(epoch, epochs[0], strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_from_any_step_on_the_rest_is_the_same(workers: int) -> None:
    split, recipe = a_split(), a_recipe(workers)
    whole = loaded(split, recipe, epoch=1)
    for start in range(len(whole) + 1):
        rest = loaded(split, recipe, 1, start)
        assert all(equal(ours, theirs) for ours, theirs in zip(rest, whole[start:], strict=True))


def test_every_image_is_shown_once_an_epoch_and_otherwise_each_time() -> None:
    loader = Loader(a_split(20), a_recipe(), SPEC)
    first, second = (list(loader.epoch(epoch)) for epoch in (0, 1))
    for epoch in (first, second):
        assert sorted(shot.sample for batch in epoch for shot in batch.keys) == list(range(20))
    assert [batch.keys for batch in first] != [batch.keys for batch in second]
    by_id = {name: image for batch in first for name, image in zip(batch.ids, batch.images, strict=True)}
    again = {name: image for batch in second for name, image in zip(batch.ids, batch.images, strict=True)}
    assert not any(torch.equal(by_id[name], again[name]) for name in by_id)


def test_a_batch_says_what_is_in_it() -> None:
    split = a_split()
    for batch in loaded(split, a_recipe()):
        assert batch.images.shape == (4, 3, 48, 48)
        assert batch.images.dtype == torch.float32
        assert batch.ids == tuple(split.sources[shot.sample].name for shot in batch.keys)
        assert batch.targets.tolist() == [split.targets[shot.sample] for shot in batch.keys]


def test_labels_come_as_they_are() -> None:
    split = replace(a_split(8), targets=np.eye(8, 5, dtype=np.uint8))
    batch = loaded(split, a_recipe())[0]
    assert batch.targets.tolist() == [split.targets[shot.sample].tolist() for shot in batch.keys]


def test_a_seed_is_another_order_and_other_draws() -> None:
    split = a_split()
    ours, theirs = (loaded(split, a_recipe(seed=seed))[0] for seed in (1, 2))
    assert not torch.equal(ours.images, theirs.images)


# ---- repeated augmentation


def test_repeats_follow_on_each_other_with_other_draws() -> None:
    batches = loaded(a_split(), a_recipe(repeats=3, batch=6))
    keys = [shot for batch in batches for shot in batch.keys]
    assert [shot.repeat for shot in keys] == [place % 3 for place in range(18)]
    assert all(keys[place].sample == keys[place + 1].sample for place in (0, 1, 3, 4))
    assert len(Counter(shot.sample for shot in keys)) == 6
    assert not torch.equal(batches[0].images[0], batches[0].images[1])


@pytest.mark.oracle
@pytest.mark.parametrize("count", [5, 200, 255, 256, 300, 511, 512, 1000])
def test_an_epoch_is_as_long_as_timms(count: int) -> None:
    sampler = pytest.importorskip("timm.data.distributed_sampler").RepeatAugSampler
    theirs = list(sampler(range(count), num_replicas=1, rank=0, num_repeats=3))
    split = Split("train", tuple(Source(str(index), b"") for index in range(count)), np.zeros(count, int))
    ours = Loader(split, a_recipe(repeats=3, batch=1), SPEC).order(0)
    assert len(ours) == len(theirs)
    counts = [sorted(Counter(samples).values()) for samples in ([shot.sample for shot in ours], theirs)]
    assert counts[0] == counts[1]
    assert Loader(split, a_recipe(batch=16), SPEC).steps_per_epoch == max(1, count // 16)


def test_fewer_images_than_a_batch_are_one_batch() -> None:
    loader = Loader(a_split(3), a_recipe(batch=64), SPEC)
    assert loader.steps_per_epoch == 1
    assert [len(batch.images) for batch in loader.epoch(0)] == [3]


# ---- images that cannot be read


def test_bad_images_are_left_out_and_said() -> None:
    bad = (2, 7, 11, 19)
    good, spoilt = loaded(a_split(20), a_recipe()), loaded(a_split(20, bad), a_recipe())
    kinds = {one.name: one.kind for batch in spoilt for one in batch.bad}
    assert kinds == {"2.jpg": "empty", "7.jpg": "truncated", "11.jpg": "not an image", "19.jpg": "missing"}
    for ours, whole in zip(spoilt, good, strict=True):
        kept = [place for place, shot in enumerate(whole.keys) if shot.sample not in bad]
        assert torch.equal(ours.images, whole.images[kept])
        assert ours.keys == tuple(whole.keys[place] for place in kept)
        assert len(ours.bad) == 4 - len(kept)
        assert all(len(one.error) > 3 for one in ours.bad)


def test_a_batch_of_nothing_but_bad_images_is_empty() -> None:
    batch = loaded(a_split(4, (0, 1, 2, 3)), a_recipe())[0]
    assert batch.images.shape == (0, 3, 48, 48)
    assert batch.targets.shape == (0,)
    assert len(batch.bad) == 4


@pytest.mark.parametrize("workers", [0, 2])
def test_other_errors_are_not_swallowed(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import ImageFile

    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    split = Split("train", (Source("0.png", encoded(0, "PNG")),), np.zeros(1, int))
    with pytest.raises(UsageError, match="LOAD_TRUNCATED_IMAGES"):
        loaded(split, a_recipe(workers))


def test_no_images_is_an_error() -> None:
    with pytest.raises(TrainingError, match="no images"):
        Loader(a_split(0), a_recipe(), SPEC)


# ---- pixels


def test_images_can_be_prepared_as_for_validation() -> None:
    part = AugmentPart(crop="as_validation", hflip=0.0, erase_prob=0.0)
    split = a_split(8)
    for batch in loaded(split, a_recipe(augment=part)):
        for shot, image in zip(batch.keys, batch.images, strict=True):
            wanted = normalize(preprocess(open_image(split.sources[shot.sample]), SPEC), SPEC)
            assert np.array_equal(image.numpy(), wanted)


def test_a_gpus_way_of_finishing_gives_the_same_images() -> None:
    """The arithmetic that a GPU is given, on the CPU: no GPU has run it yet."""
    loader = Loader(a_split(4), a_recipe(), SPEC)
    planes = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 3, 48, 48), np.uint8))
    for mode in ("pixel", "rand", "const"):
        part = AugmentPart(erase_prob=1.0, erase_mode=mode, erase_count=2)
        holes = [draw(part, (9, 9), (48, 48), index).holes for index in range(4)]
        wanted = np.empty((4, 3, 48, 48), np.float32)
        for target, source, some in zip(wanted, planes.numpy(), holes, strict=True):
            finish(source, some, SPEC, target)
        left = [Left((), some) for some in holes]
        assert torch.equal(loader._finished(left, planes.clone()), torch.from_numpy(wanted))


def test_treatments_on_the_device_change_no_draw_and_hardly_a_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Crops, flips, holes, order and names are the same; the treatment of an image is within a grey level."""
    treated: list[Any] = []
    real = loader_module.treated_together

    def together(images: Any, ops: Any, fill: Any) -> Any:
        treated.extend(ops)
        return real(images, ops, fill)

    monkeypatch.setattr(loader_module, "treated_together", together)
    part = AugmentPart(randaugment="rand-m6-inc1-n1-p1", erase_prob=0.5)
    theirs = loaded(a_split(12), a_recipe(augment=part))
    assert treated == []  # the workers did it
    ours = loaded(a_split(12), a_recipe(augment=replace(part, treated_by="device")))
    assert [len(ops) for ops in treated] == [1] * 12
    level = max(1 / (255 * std) for std in SPEC.std)
    for one, other in zip(ours, theirs, strict=True):
        assert (one.keys, one.ids) == (other.keys, other.ids)
        assert torch.equal(one.targets, other.targets)
        assert one.images.dtype == torch.float32
        assert (one.images - other.images).abs().max() < 1.01 * level
        assert (one.images != other.images).double().mean() < 0.01


def test_a_batch_that_is_kept_is_not_written_over() -> None:
    loader = Loader(a_split(20), a_recipe(workers=1), SPEC)
    kept = [(batch.images, batch.images.clone()) for batch in loader.epoch(0)]
    for _ in loader.epoch(1):
        pass
    assert all(torch.equal(images, copy) for images, copy in kept)
    part = kept[0][0][1]  # a view keeps the memory as well
    copy = part.clone()
    del kept
    gc.collect()
    for _ in loader.epoch(2):
        pass
    assert torch.equal(part, copy)


def test_memory_is_used_again() -> None:
    loader = Loader(a_split(20), a_recipe(), SPEC)
    places = set()
    for batch in loader.epoch(0):
        places.add(batch.images.data_ptr())
        del batch
    assert len(places) <= 2


def test_stopping_in_the_middle_ends_the_threads() -> None:
    import threading

    batches = Loader(a_split(20), a_recipe(workers=2), SPEC).epoch(0)
    next(batches)
    batches.close()  # type: ignore[attr-defined]  # a generator
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("weevit-training")]


def test_workers_are_chosen() -> None:
    assert 1 <= choose_workers() <= 16
    assert Loader(a_split(1), replace(a_recipe(), loop=LoopPart(workers=None)), SPEC).workers >= 1


def test_shots_are_the_order() -> None:
    loader = Loader(a_split(8), a_recipe(), SPEC)
    assert [shot for batch in loader.epoch(5) for shot in batch.keys] == loader.order(5)
    assert loader.order(5)[0] == SampleKey(loader.order(5)[0].sample, 0)


def test_the_small_benchmark_runs(photos: list[Path]) -> None:
    """`benchmarks/augmentation.py` at a small size: both loaders give batches of one shape and of one kind."""
    pytest.importorskip("timm")
    import importlib.util
    import sys

    folder = Path(__file__).resolve().parents[2] / "benchmarks"
    sys.path.insert(0, str(folder))
    try:
        spec = importlib.util.spec_from_file_location("augmentation", folder / "augmentation.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(folder))
    ours = next(module.our_loader(photos[:32], 64).epoch(0)).images
    theirs, _ = next(iter(module.timms_loader(photos[:32], 64)))
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    assert abs(float(ours.mean() - theirs.mean())) < 0.2
    assert abs(float(ours.std() - theirs.std())) < 0.2
