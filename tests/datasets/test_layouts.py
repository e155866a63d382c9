"""Folders and tables as people have them: what is a split, what is a class, and what is refused as either."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import labelled
import numpy as np
import pytest

from weevit.datasets.dataset import Dataset, listed
from weevit.datasets.found import split_of, split_of_file
from weevit.datasets.read import read_dataset
from weevit.errors import DatasetError


def counts(dataset: Dataset) -> dict[str, dict[str, int]]:
    return {
        name: {dataset.classes[place]: int(count) for place, count in enumerate(np.bincount(split.targets)) if count}
        for name, split in dataset.splits.items()
    }


@pytest.mark.parametrize(
    ("split", "names"),
    [
        (
            "train",
            "train TRAIN Training training_set train_data seg_train x_train train2017 images_train trainset Train-1",
        ),
        ("validation", "val valid Validation dev val_images X_val validset"),
        ("test", "test TEST testing Test_Set seg_test testset test1"),
        (None, "hat training_shoes fold_0 contest trainee retrain train_test protest latest data images x set"),
    ],
)
def test_splits_are_known_by_their_names(split: str | None, names: str) -> None:
    assert {name: split_of(name) for name in names.split()} == dict.fromkeys(names.split(), split)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-00000-of-00002.parquet", "train"),
        ("seg_train.tar", "train"),
        ("test_images-0001.tgz", "test"),
        ("validation.csv", "validation"),
        ("more-0.tar", None),
    ],
)
def test_splits_of_files(name: str, split: str | None) -> None:
    assert split_of_file(name) == split


EACH = {"train": {"bag": 3, "hat": 2}, "test": {"bag": 1, "hat": 1}}


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("Training", "Testing"),
        ("TRAIN", "TEST"),
        ("train_data", "test_set"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("x_train", "x_test"),
        ("images/train", "images/test"),
        ("archive/data/Training", "archive/data/Testing"),
        ("data/seg_train/seg_train", "data/seg_test/seg_test"),
    ],
)
def test_splits_in_the_folders_that_people_have(tmp_path: Path, train: str, test: str) -> None:
    labelled.folder(tmp_path, {f"{train}/bag": 3, f"{train}/hat": 2, f"{test}/bag": 1, f"{test}/hat": 1})
    assert counts(read_dataset(tmp_path)) == EACH


@pytest.mark.parametrize("above", ["images", "a/b"])
def test_one_folder_too_many_is_looked_into_and_told(tmp_path: Path, above: str) -> None:
    dataset = read_dataset(labelled.folder(tmp_path, {f"{above}/bag": 3, f"{above}/hat": 2}))
    assert counts(dataset) == {"all": {"bag": 3, "hat": 2}}
    assert dataset.notes == (f"{tmp_path} has one folder: read from {tmp_path / above}",)


def test_what_a_zip_of_macos_has_beside_the_data_is_hidden(tmp_path: Path) -> None:
    for name in ("data/hat/1.png", "data/bag/1.png", "__MACOSX/data/hat/._1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    dataset = read_dataset(tmp_path)
    assert dataset.classes == ("bag", "hat")
    assert f"hidden in {tmp_path}, left out: __MACOSX" in dataset.notes


@pytest.mark.parametrize("folders", ["hat", "hat/deep", "hat/deep/er", "hat/deep hat"])
def test_a_class_alone_is_a_class(tmp_path: Path, folders: str) -> None:
    dataset = read_dataset(labelled.folder(tmp_path, dict.fromkeys(folders.split(), 2)))
    assert dataset.classes == ("hat",)


@pytest.mark.parametrize(
    "folders",
    [
        "fold_0/bag fold_0/hat fold_1/bag fold_1/hat",
        "fold_0/hat fold_1/hat",
        "a/hat/x b/hat/y c/shoe",
        "hard_test/hat old/hat",
    ],
)
def test_the_same_folders_in_several_are_refused_with_both_readings(tmp_path: Path, folders: str) -> None:
    labelled.folder(tmp_path, dict.fromkeys(folders.split(), 2))
    tops = sorted({name.split("/")[0] for name in folders.split()})
    inside = sorted({name.split("/")[1] for name in folders.split()})
    with pytest.raises(DatasetError, match="read in two ways") as caught:
        read_dataset(tmp_path)
    lines = caught.value.message.splitlines()
    assert lines[1] == f"  either the classes are {', '.join(tops)}"
    assert lines[2].startswith(f"  or the classes are {', '.join(inside)}")
    assert "path and label" in caught.value.hint


def test_the_same_folders_in_the_classes_of_a_split_are_refused(tmp_path: Path) -> None:
    labelled.folder(tmp_path, {"train/f0/bag": 1, "train/f1/bag": 1, "test/f0/bag": 1, "test/f1/bag": 1})
    with pytest.raises(DatasetError, match="test can be read in two ways"):
        read_dataset(tmp_path)


@pytest.mark.parametrize(
    "folders", ["n01/images n02/images", "hat hat/old bag bag/old", "hat/a bag/b", "hat/a/x bag/b/x"]
)
def test_folders_in_classes_are_of_the_class(tmp_path: Path, folders: str) -> None:
    dataset = read_dataset(labelled.folder(tmp_path, dict.fromkeys(folders.split(), 2)))
    assert set(dataset.classes) == {name.split("/")[0] for name in folders.split()}


def test_contents_in_a_line(tmp_path: Path) -> None:
    labelled.folder(tmp_path, {"train/bag": 3, "train/hat": 2, "test/bag": 1, "test/hat": 1})
    assert read_dataset(tmp_path).contents() == "5 train, 2 test · 2 classes: bag, hat"
    assert listed([f"c{n}" for n in range(1000)]) == "1,000 classes: c0, c1, c2, c3, c4, c5, c6, c7 and 992 more"
    assert listed(["x" * 5000]) == f"1 class: {'x' * 40}..."


# ---- archives


@pytest.mark.parametrize("ending", ["tar", "tgz"])
@pytest.mark.parametrize("above", ["", "data/"])
def test_splits_in_a_tar(tmp_path: Path, ending: str, above: str) -> None:
    labelled.tar(tmp_path / f"x.{ending}", {f"{above}train": "aab", f"{above}test": "ab"})
    assert counts(read_dataset(tmp_path / f"x.{ending}")) == {"train": {"a": 2, "b": 1}, "test": {"a": 1, "b": 1}}


def test_a_folder_in_a_tar_alone_is_no_split(tmp_path: Path) -> None:
    labelled.tar(tmp_path / "train" / "x.tar", {"test": "ab"})
    assert counts(read_dataset(tmp_path / "train" / "x.tar")) == {"all": {"a": 1, "b": 1}}


def test_splits_in_several_tars(tmp_path: Path) -> None:
    labelled.tar(tmp_path / "a.tar", {"train": "ab"})
    labelled.tar(tmp_path / "b.tar", {"val": "ab"})
    assert list(read_dataset(tmp_path / "*.tar").splits) == ["train", "validation"]


@pytest.mark.parametrize(
    ("names", "word"),
    [
        (("train-0", "train-1", "val-0"), "*.tar"),
        (("train/0", "train/1", "val/0"), "*/*.tar"),
        (("train/0", "train/1", "val/0"), "**/*.tar"),
    ],
)
def test_splits_in_the_names_of_a_pattern(tmp_path: Path, names: Sequence[str], word: str) -> None:
    """As of a folder: test images would be trained on."""
    for name in names:
        labelled.tar(tmp_path / f"{name}.tar", {"x": "ab"})
    assert counts(read_dataset(tmp_path / word)) == {"train": {"a": 2, "b": 2}, "validation": {"a": 1, "b": 1}}


def test_a_pattern_of_one_split_is_all(tmp_path: Path) -> None:
    labelled.tar(tmp_path / "train" / "test-0.tar", {"x": "ab"})
    assert counts(read_dataset(tmp_path / "train" / "test-{0..0}.tar")) == {"all": {"a": 1, "b": 1}}


def test_a_pattern_of_which_some_names_say_their_split_is_refused(tmp_path: Path) -> None:
    for name in ("train-0", "more-0"):
        labelled.tar(tmp_path / f"{name}.tar", {"x": "ab"})
    with pytest.raises(DatasetError, match=r"more-0\.tar: its name does not begin with a split's"):
        read_dataset(tmp_path / "*.tar")


def test_a_pattern_that_nothing_fits_is_told(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"x-\*\.csv: no file has a name like this"):
        read_dataset(tmp_path / "x-*.csv")


def test_members_beside_the_splits_are_refused(tmp_path: Path) -> None:
    labelled.tar(tmp_path / "a.tar", {"train": "ab", "other": "b"})
    with pytest.raises(DatasetError, match="1 rows have no split"):
        read_dataset(tmp_path / "a.tar")


# ---- tables


def table(tmp_path: Path, text: str) -> Path:
    for number in range(6):
        labelled.put(tmp_path / f"{number}.png", labelled.png(number))
    return labelled.put(tmp_path / "t.csv", text)


@pytest.mark.parametrize(
    ("head", "cells", "splits"),
    [
        ("is_valid", "False True FALSE true", "train validation train validation"),
        ("is_valid", "0 1 0 1", "train validation train validation"),
        ("Is_Valid", "no yes no yes", "train validation train validation"),
        ("is_test", "0 1 0 1", "train test train test"),
        ("is_train", "1 0 1 0", "train test train test"),
        ("set", "train val train val", "train validation train validation"),
        ("subset", "training dev training dev", "train validation train validation"),
        ("is_valid,is_test", "0,0 1,0 0,0 0,1", "train validation train test"),
        ("split,is_valid", "train,0 val,1 train,0 val,1", "train validation train validation"),
        ("fold", "0 1 2 3", "all all all all"),
    ],
)
def test_columns_that_say_the_split(tmp_path: Path, head: str, cells: str, splits: str) -> None:
    rows = [f"{number}.png,{'ab'[number // 2]},{cell}" for number, cell in enumerate(cells.split())]
    dataset = read_dataset(table(tmp_path, "\n".join([f"path,label,{head}", *rows])), allow_missing=True)
    where = {Path(source.name).name: name for name, split in dataset.splits.items() for source in split.sources}
    assert [where[f"{number}.png"] for number in range(4)] == splits.split()


@pytest.mark.parametrize(
    ("head", "cells", "match"),
    [
        ("is_valid", "maybe", "'maybe' in the column 'is_valid' is neither true nor false"),
        ("is_valid", "", "neither true nor false"),
        ("is_valid,is_test", "1,1", "of two splits, test and validation"),
        ("split,is_valid", "train,1", "of two splits, train and validation"),
    ],
)
def test_columns_that_contradict_are_refused(tmp_path: Path, head: str, cells: str, match: str) -> None:
    with pytest.raises(DatasetError, match=match):
        read_dataset(table(tmp_path, f"path,label,{head}\n0.png,a,{cells}\n"))


def test_a_label_beside_several_is_refused(tmp_path: Path) -> None:
    """A photo agency's table has tags besides: each of them would be a class."""
    with pytest.raises(DatasetError, match="a column for the label of an image, and another one for several") as caught:
        read_dataset(table(tmp_path, "path,label,tags\n0.png,hat,warm;red\n1.png,shoe,\n"))
    assert "Rename the one that is not meant: label, class" in caught.value.hint


def test_columns_that_were_not_used_are_named(tmp_path: Path) -> None:
    dataset = read_dataset(table(tmp_path, "width,path,label,is_valid,fold,id\n4,0.png,a,0,3,x\n4,1.png,b,0,3,y\n"))
    assert dataset.notes == (f"columns of {tmp_path / 't.csv'} that were not used: width, fold",)


@pytest.mark.parametrize("word", ["t*.csv", "t{1..2}.csv"])
def test_tables_by_pattern_are_read_as_one_is(tmp_path: Path, word: str) -> None:
    """With all their columns: the split, several labels."""
    for number, split in ((1, "train"), (2, "test")):
        table(tmp_path, f"path,labels,split,width\n0.png,a;b,{split},9\n1.png,b,train,9\n").rename(
            tmp_path / f"t{number}.csv"
        )
    dataset = read_dataset(tmp_path / word, allow_missing=True)
    assert dataset.multi_label
    assert {name: split.targets.tolist() for name, split in dataset.splits.items()} == {
        "train": [[1, 1], [0, 1], [0, 1]],
        "test": [[1, 1]],
    }
    assert dataset.notes == (f"columns of {tmp_path / 't1.csv'}, {tmp_path / 't2.csv'} that were not used: width",)


def test_the_hubs_names_of_classes(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    features = '{"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}'
    cells = pa.array([{"bytes": labelled.png(n), "path": None} for n in range(2)])
    made = pa.table({"image": cells, "label": [1, 0], "is_valid": [False, True], "url": ["x", "y"]})
    pq.write_table(made.replace_schema_metadata({"huggingface": features}), tmp_path / "t.parquet")
    dataset = read_dataset(tmp_path / "t.parquet", classes=("cat", "dog"), allow_missing=True)
    assert counts(dataset) == {"train": {"dog": 1}, "validation": {"cat": 1}}
    assert dataset.notes == (f"columns of {tmp_path / 't.parquet'} that were not used: url",)
