"""Cuts that anyone can repeat, with the classes in both parts and copies on one side."""

from __future__ import annotations

import shutil
from pathlib import Path

import labelled
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weevit.datasets.dataset import Dataset, Split
from weevit.datasets.hashing import content_hashes
from weevit.datasets.read import read_dataset
from weevit.datasets.splitting import folds, with_validation
from weevit.errors import DatasetError, UsageError
from weevit.images.source import Source


def made(targets: np.ndarray, classes: int, names: list[str] | None = None) -> Dataset:
    """A data set of names alone."""
    names = [f"top/{number}.png" for number in range(len(targets))] if names is None else names
    split = Split("all", tuple(Source(name, name) for name in names), targets)
    return Dataset("top", tuple(f"c{number}" for number in range(classes)), {"all": split}, targets.ndim == 2)


def names(split: Split) -> set[str]:
    return {source.name for source in split.sources}


def test_a_validation_split_is_cut_from_train_and_nothing_is_lost(tmp_path: Path) -> None:
    labelled.folder(tmp_path, {"train/a": 20, "train/b": 10, "test/a": 3, "test/b": 3})
    before = read_dataset(tmp_path)
    after = with_validation(before, share=0.2)
    assert list(after.splits) == ["train", "validation", "test"]
    assert np.bincount(after.split("validation").targets).tolist() == [4, 2]
    assert names(after.split("train")) | names(after.split("validation")) == names(before.split("train"))
    assert not names(after.split("train")) & names(after.split("validation"))
    assert names(after.split("test")) == names(before.split("test"))
    assert after.notes[-1] == "validation: 6 of 30 images of train, drawn with seed 0"


def test_one_that_is_there_is_taken() -> None:
    dataset = with_validation(made(np.arange(40) % 4, 4))
    assert list(dataset.splits) == ["train", "validation"]
    assert with_validation(dataset) is dataset


def test_the_cut_is_repeated_wherever_the_folder_lies_and_however_it_is_listed(tmp_path: Path) -> None:
    labelled.folder(tmp_path / "one", {"a": 30, "b": 20})
    shutil.copytree(tmp_path / "one", tmp_path / "deep/er/two")
    one = with_validation(read_dataset(tmp_path / "one"))
    two = with_validation(read_dataset(tmp_path / "deep/er/two"))

    def own(dataset: Dataset) -> set[str]:
        return {name.removeprefix(dataset.path) for name in names(dataset.split("validation"))}

    assert own(one) == own(two)
    whole = read_dataset(tmp_path / "one")
    order = np.random.default_rng(0).permutation(50)
    mixed = with_validation(Dataset(whole.path, whole.classes, {"all": whole.split("all").take(order)}))
    assert own(mixed) == own(one)


def test_another_seed_is_another_draw() -> None:
    dataset = made(np.arange(200) % 4, 4)
    drawn = [frozenset(names(with_validation(dataset, seed=seed).split("validation"))) for seed in range(5)]
    assert len(set(drawn)) == 5
    assert frozenset(names(with_validation(dataset, seed=0).split("validation"))) == drawn[0]


def test_copies_stay_on_one_side(tmp_path: Path) -> None:
    labelled.folder(tmp_path, {"a": 30, "b": 30})
    for number in range(10):
        for copy in range(3):
            shutil.copy(tmp_path / f"a/{number}.png", tmp_path / f"a/copy {copy} of {number}.png")
        shutil.copy(tmp_path / f"a/{number}.png", tmp_path / f"b/mislabelled {number}.png")
    for seed in range(5):
        dataset = with_validation(read_dataset(tmp_path), seed=seed)
        train, validation = (set(content_hashes(dataset.split(name).sources)) for name in ("train", "validation"))
        assert not train & validation


def test_known_hashes_are_used_and_files_not_read() -> None:
    dataset = made(np.zeros(30, np.int64), 1)
    hashes = [str(number // 3) for number in range(30)]
    cut = with_validation(dataset, hashes=hashes)
    places = {int(Path(source.name).stem) // 3 for source in cut.split("validation").sources}
    assert len(cut.split("validation")) == 3 * len(places) == 6


@given(counts=st.lists(st.integers(0, 30), min_size=1, max_size=6), seed=st.integers(0, 3), share=st.floats(0.01, 0.9))
@settings(max_examples=150, deadline=None)
def test_every_class_of_two_or_more_is_in_both_parts_in_proportion(counts: list[int], seed: int, share: float) -> None:
    targets = np.repeat(np.arange(len(counts)), counts)
    if max(counts) < 2:
        with pytest.raises(DatasetError):
            with_validation(made(targets, len(counts)), share, seed)
        return
    cut = with_validation(made(targets, len(counts)), share, seed)
    validation = np.bincount(cut.split("validation").targets, minlength=len(counts))
    for count, held in zip(counts, validation, strict=True):
        if count >= 2:
            assert 1 <= held <= count - 1
            assert abs(held - count * share) <= 1
        else:
            assert held == 0


@pytest.mark.parametrize("share", [0, 1, -0.1, 2])
def test_other_shares_are_refused(share: float) -> None:
    with pytest.raises(UsageError, match="more than 0 and less than 1"):
        with_validation(made(np.zeros(9, np.int64), 1), share)


def test_nothing_to_cut_from_is_an_error(tmp_path: Path) -> None:
    dataset = read_dataset(labelled.folder(tmp_path, {"test/a": 2, "test/b": 2}))
    with pytest.raises(DatasetError, match="only the split test"):
        with_validation(dataset)


# ---- folds


@pytest.mark.parametrize("k", [2, 3, 5, 10])
def test_each_image_is_judged_once_and_folds_are_stratified(k: int) -> None:
    targets = np.random.default_rng(k).choice(5, 237, p=(0.4, 0.3, 0.2, 0.06, 0.04))
    split = made(targets, 5).split("all")
    cut = folds(split, k)
    assert np.array_equal(np.sort(np.concatenate([judge for _, judge in cut])), np.arange(237))
    per_class = np.array([np.bincount(targets[judge], minlength=5) for _, judge in cut])
    assert (per_class.max(axis=0) - per_class.min(axis=0)).max() <= 1
    assert np.ptp(per_class.sum(axis=1)) <= 1
    for learn, judge in cut:
        assert not set(learn) & set(judge)
        assert len(learn) + len(judge) == 237
        assert (np.diff(learn) > 0).all()


def test_folds_are_as_even_as_those_of_scikit_learn() -> None:
    model_selection = pytest.importorskip("sklearn.model_selection")
    targets = np.random.default_rng(0).choice(7, 500, p=(0.3, 0.25, 0.2, 0.1, 0.08, 0.05, 0.02))
    theirs = model_selection.StratifiedKFold(5, shuffle=True, random_state=0).split(targets, targets)
    ours = folds(made(targets, 7).split("all"), 5)

    def spread(cut: list[tuple[np.ndarray, np.ndarray]]) -> int:
        per_class = np.array([np.bincount(targets[judge], minlength=7) for _, judge in cut])
        return int((per_class.max(axis=0) - per_class.min(axis=0)).max())

    assert spread(ours) <= spread(list(theirs))


def test_groups_stay_in_one_fold() -> None:
    rng = np.random.default_rng(1)
    targets = rng.integers(0, 3, 300)
    groups = [f"g{number}" if number < 40 else None for number in rng.integers(0, 120, 300)]
    cut = folds(made(targets, 3).split("all"), 4, groups=groups)
    of = {place: fold for fold, (_, judge) in enumerate(cut) for place in judge}
    for group in set(groups) - {None}:
        assert len({of[place] for place, own in enumerate(groups) if own == group}) == 1
    assert min(len(judge) for _, judge in cut) > 60


def test_folds_do_not_depend_on_the_order() -> None:
    targets = np.arange(100) % 3
    split = made(targets, 3).split("all")
    order = np.random.default_rng(2).permutation(100)
    first = [names(split.take(judge)) for _, judge in folds(split, 4, seed=7)]
    mixed = split.take(order)
    assert [names(mixed.take(judge)) for _, judge in folds(mixed, 4, seed=7)] == first


def test_several_labels_a_image_are_spread_too() -> None:
    rng = np.random.default_rng(3)
    targets = (rng.random((400, 6)) < (0.5, 0.3, 0.2, 0.1, 0.05, 0.02)).astype(np.uint8)
    dataset = made(targets, 6)
    per_label = np.array([targets[judge].sum(axis=0) for _, judge in folds(dataset.split("all"), 4)])
    assert (per_label.max(axis=0) - per_label.min(axis=0)).max() <= 4
    chance = np.array([targets[judge].sum(axis=0) for judge in np.array_split(rng.permutation(400), 4)])
    assert np.ptp(per_label, axis=0).sum() < np.ptp(chance, axis=0).sum() / 2
    cut = with_validation(dataset)
    assert 70 <= len(cut.split("validation")) <= 90
    assert (cut.split("validation").targets.sum(axis=0) >= 1).all()


def test_too_few_folds_or_images_are_refused() -> None:
    split = made(np.zeros(3, np.int64), 1).split("all")
    with pytest.raises(UsageError, match="2 or more"):
        folds(split, 1)
    with pytest.raises(DatasetError, match="too few for 4 folds"):
        folds(split, 4)


def test_a_image_that_a_table_lists_twice_is_two_rows() -> None:
    cut = folds(made(np.zeros(6, np.int64), 1, ["a", "a", "b", "b", "c", "c"]).split("all"), 3)
    assert sorted(len(judge) for _, judge in cut) == [2, 2, 2]
