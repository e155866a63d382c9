"""What is a class, what is a split, what is left out and told, and that no class ever takes another's number."""

from __future__ import annotations

import os
import shutil
import tarfile
import unicodedata
from functools import partial
from pathlib import Path
from typing import Any

import labelled
import numpy as np
import pytest

import weevit
from weevit.datasets.dataset import Dataset
from weevit.datasets.read import read_dataset
from weevit.errors import DatasetError, MissingImageError, UnreadableImageError, UsageError
from weevit.images.source import open_image


def pairs(dataset: Dataset, split: str = "all") -> list[tuple[str, tuple[str, ...]]]:
    """(name below the data set, class names) of each image."""
    own = dataset.split(split)
    names = [source.name.removeprefix(dataset.path).lstrip(os.sep) for source in own.sources]
    return [(name, dataset.names_of(target)) for name, target in zip(names, own.targets, strict=True)]


def counts(dataset: Dataset) -> dict[str, list[int]]:
    return {
        name: np.bincount(split.targets, minlength=len(dataset.classes)).tolist()
        for name, split in dataset.splits.items()
    }


# ---- folders


def test_a_folder_of_classes_is_one_split_in_natural_order(tmp_path: Path) -> None:
    dataset = read_dataset(labelled.folder(tmp_path, {"class10": 2, "Class2": 1, "class1": 3}))
    assert dataset.classes == ("class1", "Class2", "class10")
    assert list(dataset.splits) == ["all"]
    assert dataset.split("all").targets.tolist() == [0, 0, 0, 1, 2, 2]
    assert dataset.split("all").targets.dtype == np.int64
    assert pairs(dataset)[3] == (str(Path("Class2/0.png")), ("Class2",))
    assert dataset.notes == ()


@pytest.mark.parametrize("name", ["val", "VAL", "valid", "Validation"])
def test_splits_are_known_by_name_in_any_case_and_come_in_order(tmp_path: Path, name: str) -> None:
    labelled.folder(tmp_path, {"Test/b": 1, "Test/a": 1, f"{name}/a": 2, f"{name}/b": 1, "TRAIN/a": 3, "TRAIN/b": 4})
    dataset = read_dataset(tmp_path)
    assert list(dataset.splits) == ["train", "validation", "test"]
    assert counts(dataset) == {"train": [3, 4], "validation": [2, 1], "test": [1, 1]}
    assert [split.name for split in dataset.splits.values()] == list(dataset.splits)


def test_one_split_may_be_given_alone(tmp_path: Path) -> None:
    labelled.folder(tmp_path, {"train/a": 2, "train/b": 1, "val/a": 1, "val/b": 1})
    dataset = read_dataset(tmp_path / "train")
    assert counts(dataset) == {"all": [2, 1]}


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    assert read_dataset(labelled.folder(tmp_path, {"car": 1, "plane": 1, "train": 1})).classes == (
        "car",
        "plane",
        "train",
    )


def test_two_folders_that_are_one_split_are_refused(tmp_path: Path) -> None:
    labelled.folder(tmp_path, {"val/a": 1, "valid/a": 1})
    with pytest.raises(DatasetError, match="both the split 'validation'"):
        read_dataset(tmp_path)


def test_splits_without_class_folders_are_refused(tmp_path: Path) -> None:
    labelled.folder(tmp_path, {"train": 2, "val": 2})
    with pytest.raises(DatasetError, match="no folder in train, val"):
        read_dataset(tmp_path)


def test_images_without_any_folder_are_refused_and_told(tmp_path: Path) -> None:
    labelled.folder(tmp_path, {".": 3})
    with pytest.raises(DatasetError, match=r"(?s)no images with classes.*3 \.png") as caught:
        read_dataset(tmp_path)
    assert "a folder of images for each class" in caught.value.hint


def test_what_lies_below_a_class_folder_belongs_to_it(tmp_path: Path) -> None:
    dataset = read_dataset(labelled.folder(tmp_path, {"a/deep/er": 2, "a": 1, "b": 1}))
    assert counts(dataset) == {"all": [3, 1]}


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    labelled.folder(tmp_path, {"train/a": 1, "train/b": 1, "val/a": 1, "val/b": 1, "extra/c": 1, "train/.cache": 1})
    labelled.put(tmp_path / "train/stray.png", labelled.png(90))
    labelled.put(tmp_path / "train/a/notes.txt", "x")
    labelled.put(tmp_path / "train/a/._0.png", "junk of another system")
    labelled.put(tmp_path / "README.md", "x")
    dataset = read_dataset(tmp_path)
    assert counts(dataset) == {"train": [1, 1], "validation": [1, 1]}
    train = tmp_path / "train"
    assert set(dataset.notes) == {
        "folders beside the splits, left out: extra",
        f"files in no class folder of {tmp_path}, left out: 1 .md",
        f"files in no class folder of {train}, left out: 1 .png",
        f"hidden in {train}, left out: .cache",
        f"hidden in {train / 'a'}, left out: ._0.png",
        f"no images by their endings, in {train / 'a'}: 1 .txt",
    }


def test_broken_images_are_images(tmp_path: Path) -> None:
    labelled.folder(tmp_path, {"a": 1, "b": 1})
    labelled.put(tmp_path / "a/broken.jpg", "no image")
    (tmp_path / "b/gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    dataset = read_dataset(tmp_path)
    assert counts(dataset) == {"all": [2, 2]}
    with pytest.raises(MissingImageError):
        open_image(dataset.split("all").sources[3])


def test_a_class_folder_that_cannot_be_listed_is_a_image_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labelled.folder(tmp_path, {"a": 1, "b": 1})
    real = os.scandir

    def scandir(path: Any) -> Any:
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    dataset = read_dataset(tmp_path)
    assert counts(dataset) == {"all": [1, 1]}
    with pytest.raises(UnreadableImageError, match="Permission denied"):
        open_image(dataset.split("all").sources[1])


# ---- row T12 of the reliability scorecard: classes go by name, and are never shifted


def three_classes(tmp_path: Path) -> Path:
    names = ("bag", "dress", "hat")
    return labelled.folder(tmp_path, {f"{split}/{name}": 2 for split in ("train", "val") for name in names})


def test_a_split_that_lacks_a_class_is_refused_with_a_list(tmp_path: Path) -> None:
    shutil.rmtree(three_classes(tmp_path) / "val/bag")
    with pytest.raises(DatasetError) as caught:
        read_dataset(tmp_path)
    lines = caught.value.message.splitlines()
    assert lines == [
        f"{tmp_path} does not have the classes of train.",
        "validation (1 lacking, 0 more):",
        "  - bag",
    ]
    assert "allow_missing" in caught.value.hint


def test_with_leave_a_split_may_lack_a_class_and_nothing_shifts(tmp_path: Path) -> None:
    shutil.rmtree(three_classes(tmp_path) / "val/bag")
    dataset = read_dataset(tmp_path, allow_missing=True)
    assert dataset.classes == ("bag", "dress", "hat")
    assert dataset.split("validation").targets.tolist() == [1, 1, 2, 2]


@pytest.mark.parametrize("allow_missing", [False, True])
def test_an_extra_class_is_always_refused(tmp_path: Path, allow_missing: bool) -> None:
    (three_classes(tmp_path) / "val/hat").rename(tmp_path / "val/hats")
    with pytest.raises(DatasetError) as caught:
        read_dataset(tmp_path, allow_missing=allow_missing)
    assert "  + hats" in caught.value.message.splitlines()
    assert ("  - hat" in caught.value.message.splitlines()) is not allow_missing
    assert "Did you mean 'hat'?" in caught.value.hint


def test_an_empty_class_folder_is_a_class_that_lacks(tmp_path: Path) -> None:
    for file in (three_classes(tmp_path) / "val/dress").iterdir():
        file.unlink()
    with pytest.raises(DatasetError, match=r"  - dress   \(its folder is empty\)"):
        read_dataset(tmp_path)
    dataset = read_dataset(tmp_path, allow_missing=True)
    assert dataset.split("validation").targets.tolist() == [0, 0, 2, 2]
    assert dataset.notes == (f"no image in {tmp_path / 'val/dress'}: an empty folder is no class",)


def test_a_folder_that_is_empty_everywhere_is_no_class(tmp_path: Path) -> None:
    labelled.folder(tmp_path, {"a": 1, "empty": 0, "z": 1})
    dataset = read_dataset(tmp_path)
    assert dataset.classes == ("a", "z")
    assert counts(dataset) == {"all": [1, 1]}


@pytest.mark.parametrize("names", [("zebra", "ant", "bee"), ("bee", "zebra", "ant")])
def test_given_classes_keep_their_order_whatever_the_folders(tmp_path: Path, names: tuple[str, ...]) -> None:
    labelled.folder(tmp_path, {"ant": 1, "bee": 2, "zebra": 3})
    dataset = read_dataset(tmp_path, classes=names)
    assert dataset.classes == names
    per_name = dict(zip(names, counts(dataset)["all"], strict=True))
    assert per_name == {"ant": 1, "bee": 2, "zebra": 3}


def test_given_classes_that_differ_are_listed_for_all_splits_at_once(tmp_path: Path) -> None:
    three_classes(tmp_path)
    with pytest.raises(DatasetError) as caught:
        read_dataset(tmp_path, classes=("dress", "hat", "shoe"))
    assert caught.value.message.splitlines() == [
        f"{tmp_path} does not have the classes of the model.",
        *("train (1 lacking, 1 more):", "  - shoe", "  + bag"),
        *("validation (1 lacking, 1 more):", "  - shoe", "  + bag"),
    ]
    assert read_dataset(tmp_path, ("shoe", "hat", "dress", "bag"), allow_missing=True).classes[0] == "shoe"


def test_long_lists_of_classes_are_cut(tmp_path: Path) -> None:
    labelled.folder(tmp_path, {f"c{number}": 1 for number in range(40)})
    with pytest.raises(DatasetError) as caught:
        read_dataset(tmp_path, classes=("other",))
    assert len(caught.value.message.splitlines()) == 2 + 12 + 1
    assert "... and 29 more" in caught.value.message


def test_two_given_classes_of_one_name_are_refused(tmp_path: Path) -> None:
    labelled.folder(tmp_path, {"crane": 1})
    with pytest.raises(DatasetError, match="Two classes have the name 'crane'"):
        read_dataset(tmp_path, classes=("crane", "crane"))


def test_odd_names_are_names(tmp_path: Path) -> None:
    odd = ("a b", "-r", "ünïcode", "it's 100%", "comma,semi;colon", "line\nbreak", "emoji 👗", "日本")
    labelled.folder(tmp_path, {f"{split}/{name}": 1 for split in ("train", "val") for name in odd})
    labelled.put(tmp_path / "train/-r/#1 50% off?.PNG", labelled.png(200))
    dataset = read_dataset(tmp_path)
    assert set(dataset.classes) == set(odd)
    for split in ("train", "validation"):
        for name, (label,) in pairs(dataset, split):
            assert Path(name).parent.name == label


def test_one_name_in_two_spellings_of_unicode_is_one_class(tmp_path: Path) -> None:
    composed, apart = unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café")
    labelled.folder(tmp_path, {f"train/{composed}": 1, "train/tea": 1, f"val/{apart}": 1, "val/tea": 1})
    dataset = read_dataset(tmp_path)
    assert dataset.classes == (composed, "tea")
    assert counts(dataset) == {"train": [1, 1], "validation": [1, 1]}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_names_that_are_not_utf8_are_names(tmp_path: Path) -> None:
    labelled.folder(tmp_path, {"a": 1})
    raw = os.path.join(os.fsencode(tmp_path), b"caf\xe9")  # noqa: PTH118 - bytes
    try:
        Path(os.fsdecode(raw)).mkdir()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    labelled.put(Path(os.fsdecode(raw)) / "x.png", labelled.png(5))
    dataset = read_dataset(tmp_path)
    assert dataset.classes == ("a", "caf\\udce9")
    assert dataset.fingerprint()


def test_links_that_lead_in_circles_end_and_no_class_takes_the_images_of_another(tmp_path: Path) -> None:
    labelled.folder(tmp_path, {"train/a": 1, "train/b": 2, "train/c": 3, "val/a": 1, "val/b": 1, "val/c": 1})
    (tmp_path / "train/a/up").symlink_to(tmp_path / "train", target_is_directory=True)
    (tmp_path / "train/a/self").symlink_to(".", target_is_directory=True)
    (tmp_path / "train/a/beside").symlink_to(tmp_path / "train/c", target_is_directory=True)
    (tmp_path / "train/a/round").symlink_to("round", target_is_directory=True)
    (tmp_path / "train/loop").symlink_to(tmp_path / "train", target_is_directory=True)
    (tmp_path / "val/loop").symlink_to(tmp_path, target_is_directory=True)
    dataset = read_dataset(tmp_path)
    assert dataset.classes == ("a", "b", "c")
    assert counts(dataset) == {"train": [1, 2, 3], "validation": [1, 1, 1]}
    told = "\n".join(dataset.notes)
    assert f"{tmp_path / 'train/loop'} leads back to where it lies" in told
    assert "lead back into the data set; not followed: " in told


def test_links_to_elsewhere_are_followed(tmp_path: Path) -> None:
    labelled.folder(tmp_path / "store", {"red": 2, "blue": 1, "more": 1})
    labelled.folder(tmp_path / "set", {"train/blue": 1})
    (tmp_path / "set/train/red").symlink_to(tmp_path / "store/red", target_is_directory=True)
    (tmp_path / "set/train/blue/more").symlink_to(tmp_path / "store/more", target_is_directory=True)
    (tmp_path / "set/val").symlink_to(tmp_path / "store", target_is_directory=True)
    with pytest.raises(DatasetError, match=r"\+ more"):
        read_dataset(tmp_path / "set")
    assert counts(read_dataset(tmp_path / "set/train")) == {"all": [2, 2]}


def test_a_split_that_links_to_the_folder_it_lies_in_is_no_split(tmp_path: Path) -> None:
    labelled.folder(tmp_path, {"train/a": 1, "train/b": 1})
    (tmp_path / "val").symlink_to(".", target_is_directory=True)
    assert list(read_dataset(tmp_path).splits) == ["train"]


# ---- tables


def table(tmp_path: Path, text: str, name: str = "t.csv") -> Path:
    for number in range(6):
        labelled.put(tmp_path / f"{number}.png", labelled.png(number))
    return labelled.put(tmp_path / name, text)


def test_a_table_of_paths_and_labels(tmp_path: Path) -> None:
    dataset = read_dataset(table(tmp_path, "path,label\n0.png,hat\n1.png, dress \n2.png,hat\n"))
    assert dataset.classes == ("dress", "hat")
    assert dataset.split("all").targets.tolist() == [1, 0, 1]
    assert open_image(dataset.split("all").sources[0]).size == (4, 3)


def test_a_table_with_splits(tmp_path: Path) -> None:
    text = "path\tclass\tSplit\n0.png\ta\ttrain\n1.png\tb\tTRAIN\n2.png\ta\tval\n3.png\tb\tvalid\n"
    dataset = read_dataset(table(tmp_path, text, "t.tsv"))
    assert counts(dataset) == {"train": [1, 1], "validation": [1, 1]}


def test_a_table_with_several_labels_a_image(tmp_path: Path) -> None:
    text = "path,labels\n0.png,red; round\n1.png,\n2.png,round;red;round\n3.png,green\n"
    dataset = read_dataset(table(tmp_path, text))
    assert dataset.multi_label
    assert dataset.classes == ("green", "red", "round")
    assert dataset.split("all").targets.tolist() == [[0, 1, 1], [0, 0, 0], [0, 1, 1], [1, 0, 0]]
    assert dataset.split("all").targets.dtype == np.uint8
    assert [labels for _, labels in pairs(dataset)] == [("red", "round"), (), ("red", "round"), ("green",)]


def test_numbers_as_classes_are_in_the_order_of_numbers(tmp_path: Path) -> None:
    rows = "".join(f"{place}.png,{label}\n" for place, label in enumerate((10, 9, 2, 10)))
    assert read_dataset(table(tmp_path, "path,label\n" + rows)).classes == ("2", "9", "10")


@pytest.mark.parametrize("column", ["labels", "label"])
def test_a_parquet_with_lists_of_labels(tmp_path: Path, column: str) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    cells = pa.array([{"bytes": labelled.png(n), "path": None} for n in range(4)], kind)
    columns = {"image": cells, column: [["b", "a"], [], ["a"], ["c"]], "split": ["train", "train", "test", "test"]}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet", row_group_size=3)
    dataset = read_dataset(tmp_path / "t.parquet", classes="abc", allow_missing=True)
    assert dataset.multi_label
    assert dataset.split("train").targets.tolist() == [[1, 1, 0], [0, 0, 0]]
    assert dataset.split("test").targets.tolist() == [[1, 0, 0], [0, 0, 1]]


def test_a_label_with_the_sign_between_labels_is_refused(tmp_path: Path) -> None:
    """In predictions.csv it would be two labels, and `compare` would judge by these."""
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    path = table(tmp_path, "", "t.parquet")
    pq.write_table(pa.table({"path": ["0.png", "1.png"], "labels": [["a;b"], ["a", "b"]]}), path)
    with pytest.raises(DatasetError, match="'a;b' cannot be a label: ';' stands between"):
        read_dataset(path)
    pq.write_table(pa.table({"path": ["0.png", "1.png"], "label": ["a;b", "a"]}), path)
    assert read_dataset(path).classes == ("a", "a;b")  # one label per image: a name like any other


def test_a_parquet_of_the_hub_with_one_label_a_image(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    for name, labels in (("train-00000-of-00002", [0, 1]), ("train-00001-of-00002", [1]), ("validation-0", [1, 0])):
        cells = pa.array([{"bytes": labelled.png(n), "path": None} for n in labels], kind)
        pq.write_table(pa.table({"image": cells, "labels": labels}), tmp_path / f"{name}.parquet")
    dataset = read_dataset(tmp_path)
    assert not dataset.multi_label
    assert dataset.split("train").targets.tolist() == [0, 1, 1]
    assert dataset.split("validation").targets.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([b"hat", b"dress"], [("hat",), ("dress",)]),
        ([[b"hat"], [b"dress", b"hat"]], [("hat",), ("dress", "hat")]),
        ([["hat", ""], [" "]], [("hat",), ()]),
        ([1.0, float("nan")], None),
        ([b"hat", b"\xff"], None),
        ([["hat"], ["dress", None]], None),
    ],
)
def test_labels_of_a_parquet_are_text_or_none(tmp_path: Path, labels: list[Any], expected: list[Any] | None) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"path": ["0.png", "1.png"], "label": labels}), tmp_path / "t.parquet")
    if expected is not None:
        assert [found for _, found in pairs(read_dataset(tmp_path / "t.parquet"))] == expected
    else:
        with pytest.raises(DatasetError, match=r"(?s)1 of 2 images have no class.*1\.png"):
            read_dataset(tmp_path / "t.parquet")


def test_a_row_without_a_label_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"(?s)2 of 3 images have no class.*1\.png") as caught:
        read_dataset(table(tmp_path, "path,label\n0.png,hat\n1.png,\n2.png\n"))
    assert "path and label" in caught.value.hint


def test_a_split_that_is_none_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="'trian' is no split") as caught:
        read_dataset(table(tmp_path, "path,label,split\n0.png,hat,trian\n"))
    assert "'train'" in caught.value.hint


def test_a_table_without_labels_or_paths_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="1 of 1 images have no class"):
        read_dataset(table(tmp_path, "path,colour\n0.png,red\n"))
    with pytest.raises(UsageError, match="no column of images"):
        read_dataset(table(tmp_path, "image_no,label\n0.png,red\n"))


def test_a_path_in_a_table_that_leads_nowhere_is_a_image_that_is_missing(tmp_path: Path) -> None:
    dataset = read_dataset(table(tmp_path, "path,label\ngone.png,a\n0.png,b\n"))
    with pytest.raises(MissingImageError):
        open_image(dataset.split("all").sources[0])


# ---- archives


def tar(path: Path, *members: tuple[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            file = path.parent / "member"
            file.write_bytes(content)
            archive.add(file, name)
            file.unlink()
    return path


def shard(path: Path, *classes: str) -> Path:
    members = []
    for number, label in enumerate(classes):
        members += [(f"{number}.png", labelled.png(number)), (f"{number}.cls", label.encode())]
    return tar(path, *members)


def test_tars_by_pattern(tmp_path: Path) -> None:
    shard(tmp_path / "s-000.tar", "2", "10")
    shard(tmp_path / "s-001.tar", "10", "9")
    for word in ("s-{000..001}.tar", "s-*.tar"):
        dataset = read_dataset(tmp_path / word)
        assert dataset.classes == ("2", "9", "10")
        assert dataset.split("all").targets.tolist() == [0, 2, 2, 1]


@pytest.mark.parametrize("names", [("train-0.tar", "val-0.tar"), ("train/0.tar", "val/0.tar")])
def test_a_folder_of_tars_in_splits(tmp_path: Path, names: tuple[str, str]) -> None:
    shard(tmp_path / names[0], "a", "b", "b")
    shard(tmp_path / names[1], "b", "a")
    dataset = read_dataset(tmp_path)
    assert counts(dataset) == {"train": [1, 2], "validation": [1, 1]}


def test_tars_of_which_some_say_their_split_are_refused(tmp_path: Path) -> None:
    shard(tmp_path / "train-0.tar", "a")
    shard(tmp_path / "more-0.tar", "a")
    with pytest.raises(DatasetError, match=r"more-0\.tar: its name does not begin with a split's"):
        read_dataset(tmp_path)


def test_members_without_a_class_and_broken_archives_are_told(tmp_path: Path) -> None:
    tar(tmp_path / "a.tar", ("1.png", labelled.png(1)))
    with pytest.raises(DatasetError, match=r"a\.tar/1\.png"):
        read_dataset(tmp_path / "a.tar")
    labelled.put(tmp_path / "b.tar", b"no archive at all" * 100)
    with pytest.raises(DatasetError, match="not a tar archive"):
        read_dataset(tmp_path / "b.tar")


# ---- the rest


@pytest.mark.parametrize("name", ["clothing", "clothing.csv", "clothing.tar"])
def test_nothing_there_is_an_error_with_the_nearest_name(tmp_path: Path, name: str) -> None:
    labelled.put(tmp_path / name.replace("clothing", "clothes"), "x")
    with pytest.raises(DatasetError, match="nothing of this name") as caught:
        read_dataset(tmp_path / name)
    assert "clothes" in caught.value.hint


@pytest.mark.parametrize(
    ("data", "said"),
    [("", "an empty text"), (["a", "b"], "something of type list"), (3, "something of type int"), (b"a", "type bytes")],
)
def test_data_that_is_no_path(data: Any, said: str) -> None:
    """Before a model is fetched, too."""
    for call in (read_dataset, partial(weevit.evaluate, "hf-hub:no/such")):
        with pytest.raises(UsageError, match=f"Data is one path or pattern, or a Dataset: .*{said} was given"):
            call(data)


def test_a_split_that_is_not_there_is_an_error_that_names_those_that_are(tmp_path: Path) -> None:
    dataset = read_dataset(labelled.folder(tmp_path, {"train/a": 1}))
    with pytest.raises(DatasetError, match="no split 'tran'; there is train") as caught:
        dataset.split("tran")
    assert "'train'" in caught.value.hint


def test_take_is_in_the_order_that_was_asked_for(tmp_path: Path) -> None:
    split = read_dataset(labelled.folder(tmp_path, {"a": 2, "b": 2})).split("all")
    part = split.take([3, 0], "part")
    assert (part.name, part.targets.tolist(), len(part)) == ("part", [1, 0], 2)
    assert part.sources == (split.sources[3], split.sources[0])


def test_the_fingerprint_knows_images_classes_and_splits(tmp_path: Path) -> None:
    labelled.folder(tmp_path / "one", {"train/a": 1, "train/b": 1, "val/a": 1, "val/b": 1})
    first = read_dataset(tmp_path / "one").fingerprint()
    assert read_dataset(tmp_path / "one").fingerprint() == first
    (tmp_path / "one").rename(tmp_path / "two")
    assert read_dataset(tmp_path / "two").fingerprint() == first
    (tmp_path / "two/train/a/0.png").rename(tmp_path / "two/train/b/1.png")
    labelled.put(tmp_path / "two/train/a/0.png", labelled.png(9))
    changed = read_dataset(tmp_path / "two").fingerprint()
    assert changed != first
    reordered = read_dataset(tmp_path / "two", classes=("b", "a"))
    assert reordered.fingerprint() == changed  # a class is its name, not its number


def test_the_shared_clothes(shared: Path) -> None:
    dataset = read_dataset(shared / "data" / "clothing")
    assert len(dataset.classes) == 10
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 3068, "validation": 341}
    assert dataset.notes == ()


def test_a_text_is_no_truth_value(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="allow_missing is True or False: 'no' was given"):
        read_dataset(labelled.folder(tmp_path, {"train/a": 1, "train/b": 1}), allow_missing="no")  # type: ignore[arg-type]


@pytest.mark.parametrize("data", [None, 3, ["digits"]])
def test_data_is_one_path(data: object) -> None:
    with pytest.raises(weevit.UsageError, match="Data is one path or pattern"):
        read_dataset(data)  # type: ignore[arg-type]
