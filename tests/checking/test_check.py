"""A data set with everything wrong: all of it is found, told in every form, and no file is touched."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import fakes
import labelled
import numpy as np
import pytest
from PIL import Image
from scenes import encoded, scaled, scene

import weevit
from weevit.checking.check import NO_CLASSES, check_data
from weevit.checking.fixes import fixes
from weevit.checking.results import DataCheck
from weevit.checking.saved import json_lines
from weevit.cli.app import main
from weevit.duplicates.looks import Progress
from weevit.errors import MissingExtraError, UsageError


@pytest.fixture
def messy(tmp_path: Path) -> Path:
    """Two splits of two classes: leaks of three kinds, a copy of another class, broken files, unusual ones."""
    top = tmp_path / "messy"
    for place in range(24):
        split = "train" if place < 16 else "validation"
        path = top / split / ("dress" if place % 2 else "hat") / f"{place}.jpg"
        labelled.put(path, encoded(scene(place), quality=92))
    labelled.put(top / "validation/hat/leak.jpg", (top / "train/hat/0.jpg").read_bytes())
    labelled.put(top / "validation/dress/small.jpg", encoded(scaled(scene(1), 0.5), quality=70))
    labelled.put(
        top / "validation/dress/turned.png", encoded(scene(3).transpose(Image.Transpose.FLIP_LEFT_RIGHT), "PNG")
    )
    labelled.put(top / "train/dress/also a hat.jpg", (top / "train/hat/2.jpg").read_bytes())
    labelled.put(top / "train/hat/twice.jpg", (top / "train/hat/4.jpg").read_bytes())
    labelled.put(top / "train/hat/cut.jpg", (top / "train/hat/4.jpg").read_bytes()[:1500])
    labelled.put(top / "train/hat/empty.jpg", b"")
    labelled.put(top / "train/dress/page.jpg", "<html>")
    labelled.put(top / "train/dress/tiny.png", labelled.png(9, (20, 20)))
    return top


def stamps(top: Path) -> dict[str, tuple[bytes, int]]:
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in top.rglob("*") if path.is_file()}


def ids(found: DataCheck) -> list[tuple[str, list[str], bool, bool]]:
    return [(own.kind, [one.id for one in own.members], own.leak, own.conflict) for own in found.copies]


EXPECTED_COPIES = [
    ("exact", ["train/hat/0.jpg", "validation/hat/leak.jpg"], True, False),
    ("exact", ["train/dress/also a hat.jpg", "train/hat/2.jpg"], False, True),
    ("exact", ["train/hat/4.jpg", "train/hat/twice.jpg"], False, False),
    ("near", ["train/dress/1.jpg", "validation/dress/small.jpg"], True, False),
    ("mirrored", ["train/dress/3.jpg", "validation/dress/turned.png"], True, False),
]


def test_everything_is_found_without_a_model_and_nothing_is_touched(messy: Path) -> None:
    before = stamps(messy)
    found = check_data(messy, embeddings=False)
    assert stamps(messy) == before
    assert ids(found) == EXPECTED_COPIES
    assert {(one.image.id, one.kind) for one in found.broken} == {
        ("train/hat/cut.jpg", "truncated"),
        ("train/hat/empty.jpg", "empty"),
        ("train/dress/page.jpg", "not an image"),
    }
    assert {(one.image.id, one.kind) for one in found.unusual} == {
        ("train/dress/tiny.png", "tiny"),
        ("train/dress/tiny.png", "one colour"),
    }
    assert found.classes == ("dress", "hat")
    assert found.counts == {"train": (11, 11), "validation": (6, 5)}
    assert found.imbalance == pytest.approx(17 / 16)
    assert found.formats == {"JPEG": 28, "PNG": 2}
    assert len(found.images) == len(found.sizes) == 33
    assert (found.sizes == 0).all(axis=1).sum() == 3
    assert len(found.leaks) == 3
    assert found.model == ""
    assert found.unchecked == ("labels, crops and things taken twice: that needs embeddings",)


def test_a_sound_data_set_has_no_findings(tmp_path: Path) -> None:
    for place in range(20):
        labelled.put(tmp_path / f"{'ab'[place % 2]}/{place}.jpg", encoded(scene(place)))
    found = check_data(tmp_path, embeddings=False)
    for name in ("copies", "broken", "unusual", "suspects", "alike", "differences"):
        assert getattr(found, name) == (), name
    assert found.imbalance == 1


def test_the_list_says_what_to_do_with_each_file_once(messy: Path, tmp_path: Path) -> None:
    found = check_data(messy, embeddings=False, fix_list=tmp_path / "fixes.csv")
    with (tmp_path / "fixes.csv").open(encoding="utf-8", newline="") as file:
        rows = [tuple(row.values()) for row in csv.DictReader(file)]
    assert rows == [
        ("train/dress/page.jpg", "train", "dress", "broken: not an image", "", "remove"),
        ("train/hat/cut.jpg", "train", "hat", "broken: truncated", "", "remove"),
        ("train/hat/empty.jpg", "train", "hat", "broken: empty", "", "remove"),
        ("train/hat/0.jpg", "train", "hat", "exact copy in another split", "validation/hat/leak.jpg", "remove"),
        (
            *("train/hat/2.jpg", "train", "hat", "exact copy, of another class"),
            *("train/dress/also a hat.jpg", "look: hat or dress?"),
        ),
        ("train/hat/twice.jpg", "train", "hat", "exact copy", "train/hat/4.jpg", "remove"),
        ("train/dress/1.jpg", "train", "dress", "near copy in another split", "validation/dress/small.jpg", "remove"),
        (
            "train/dress/3.jpg",
            "train",
            "dress",
            "mirrored copy in another split",
            "validation/dress/turned.png",
            "remove",
        ),
        ("train/dress/tiny.png", "train", "dress", "tiny", "", "look: 20 x 20 pixels"),
        ("train/dress/tiny.png", "train", "dress", "one colour", "", "look: every pixel has the same colour"),
    ]
    removed = [fix.path for fix in fixes(found) if fix.suggestion == "remove"]
    assert len(set(removed)) == len(removed)


def test_a_file_with_links_to_it_is_not_to_be_removed(tmp_path: Path) -> None:
    for place, name in enumerate(["train/hat/1", "train/hat/2", "train/hat/3", "train/dress/4", "test/dress/5"]):
        labelled.put(tmp_path / f"{name}.jpg", encoded(scene(place)))
    labelled.put(tmp_path / "test/hat/6.jpg", encoded(scene(6)))
    (tmp_path / "train/hat/0.jpg").symlink_to("2.jpg")
    (tmp_path / "test/hat/link.jpg").symlink_to("../../train/hat/1.jpg")
    rows = [(fix.path, fix.other, fix.suggestion) for fix in fixes(check_data(tmp_path, embeddings=False))]
    assert rows == [
        ("train/hat/1.jpg", "test/hat/link.jpg", "look: both names are of this file"),
        ("train/hat/0.jpg", "train/hat/2.jpg", "remove"),
    ]


def test_after_the_list_is_followed_nothing_is_left_to_remove(messy: Path) -> None:
    for fix in fixes(check_data(messy, embeddings=False)):
        if fix.suggestion == "remove":
            (messy / fix.path).unlink()
    again = check_data(messy, embeddings=False)
    assert again.leaks == again.broken == ()
    assert [fix.suggestion for fix in fixes(again) if fix.suggestion == "remove"] == []


def test_classes_that_differ_are_told_and_not_an_error(tmp_path: Path) -> None:
    labelled.folder(tmp_path, {"train/a": 3, "train/b": 3, "val/b": 2, "val/c": 2})
    found = check_data(tmp_path, embeddings=False)
    (difference,) = found.differences
    assert (difference.split, difference.missing, difference.extra) == ("validation", ("a",), ("c",))
    assert found.classes == ("a", "b", "c")
    assert found.counts == {"train": (3, 3, 0), "validation": (0, 2, 2)}


def test_rows_without_a_class_are_told_and_the_others_checked(tmp_path: Path) -> None:
    labelled.folder(tmp_path, {"p": 3})
    table = labelled.put(tmp_path / "t.csv", "path,label\np/0.png,a\np/1.png,\np/2.png,b\n")
    found = check_data(table, embeddings=False)
    assert [(one.image.id, one.kind) for one in found.unusual if one.kind == "no class"] == [("p/1.png", "no class")]
    assert len(found.images) == 2
    found = check_data(labelled.put(tmp_path / "u.csv", "path,label\np/0.png,\n"), embeddings=False)
    assert (found.classes, len(found.images), found.notes) == ((), 1, (NO_CLASSES,))


WITHOUT_CLASSES = {
    "a folder of images": ("", {"all": 8}),
    "images beside lists": ("", {"all": 8}),
    "a list": ("list.txt", {"all": 8}),
    "a pattern": ("*.jpg", {"all": 8}),
    "splits without classes": ("", {"train": 5, "validation": 3}),
}


@pytest.mark.parametrize("way", WITHOUT_CLASSES)
def test_images_without_classes_are_checked_without_labels(way: str, tmp_path: Path) -> None:
    top = tmp_path / "photos"
    for place in range(8):
        split = ("train/" if place < 5 else "val/") if "splits" in way else ""
        labelled.put(top / f"{split}{place}.jpg", encoded(scene(place % 6), quality=90 if place < 6 else 60))
    if "list" in way:
        labelled.put(top / "list.txt", "".join(f"{place}.jpg\n" for place in range(8)))
    entry, counts = WITHOUT_CLASSES[way]
    found = check_data(str(top / entry) if entry else top, embeddings=False)
    assert (found.classes, {name: sum(one) for name, one in found.counts.items()}) == ((), dict.fromkeys(counts, 0))
    assert {image.labels for image in found.images} == {()}
    assert len(found.images) == 8
    assert [len(copies.members) for copies in found.copies] == [2, 2]
    assert [copies.leak for copies in found.copies] == ["splits" in way] * 2
    assert found.unchecked == ("crops and things taken twice: that needs embeddings",)
    assert found.notes[0] == NO_CLASSES
    assert found.conflicts == ()


def test_images_without_classes_need_no_scikit_learn(
    tmp_path: Path, digits: weevit.Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a model: what was taken at one time is told, and no label is judged."""
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = "2026:11:28 09:00:00"
    for place in range(6):
        shot = Image.blend(scene(1), scene(place), 0.1 if place < 2 else 1.0)
        labelled.put(tmp_path / f"{place}.jpg", encoded(shot, **({"exif": exif.tobytes()} if place < 2 else {})))
    found = check_data(tmp_path, digits)
    assert {(one.first.id, one.second.id) for one in found.alike} == {("0.jpg", "1.jpg")}
    assert found.suspects == found.unchecked == ()


def test_a_check_without_classes_in_words_and_as_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("jinja2")
    labelled.noise(tmp_path / "photos", 3)
    labelled.put(tmp_path / "photos" / "cut.jpg", encoded(scene(1))[:900])
    assert run("data", "check", tmp_path / "photos", "--no-embeddings", "-o", tmp_path / "out") == 0
    told = capsys.readouterr()
    assert "4 images without labels: all 4" in told.out
    assert "classes:" not in told.out
    assert f"note: {NO_CLASSES}" in told.err
    page = (tmp_path / "out" / "report.html").read_text()
    assert "4 images without labels" in page
    assert 'id="classes"' not in page
    assert json.loads((tmp_path / "out" / "report.json").read_text())["classes"] == []


def test_progress_is_told(messy: Path) -> None:
    told: list[tuple[str, int, int]] = []

    def watch(progress: Progress) -> None:
        told.append((progress.stage, progress.done, progress.total))

    check_data(messy, embeddings=False, watch=watch)
    assert told[:-1] == [("reading", number, 33) for number in range(1, 34)]
    assert told[-1][0] == "comparing"


# ---- with a model


def test_embeddings_are_asked_for_once_and_kept(messy: Path, fake_tiny: Path) -> None:
    pytest.importorskip("sklearn")
    model = weevit.load(fake_tiny, image_size=32, threads=1)
    told: list[str] = []
    first = check_data(messy, model, watch=lambda progress: told.append(progress.stage))
    assert first.unchecked == ()
    assert first.model == model.checkpoint.name
    assert ids(first) == EXPECTED_COPIES
    assert set(told) == {"reading", "comparing", "embedding"}
    second = check_data(messy, model)
    assert [one.image.id for one in second.suspects] == [one.image.id for one in first.suspects]


def test_several_labels_a_image_are_counted_and_their_labels_not_judged(tmp_path: Path, fake_tiny: Path) -> None:
    pytest.importorskip("sklearn")
    labelled.folder(tmp_path, {"p": 4})
    table = labelled.put(tmp_path / "t.csv", "path,labels\np/0.png,a;b\np/1.png,\np/2.png,b\np/3.png,c;b\n")
    found = check_data(table, weevit.load(fake_tiny, image_size=32, threads=1))
    assert found.multi_label
    assert found.counts == {"all": (1, 3, 1)}
    assert found.suspects == ()
    assert "labels: an image may have several" in found.unchecked[0]


def test_rare_classes_are_said_to_be_unchecked(tmp_path: Path, fake_tiny: Path) -> None:
    pytest.importorskip("sklearn")
    for place in range(22):
        name = "rare" if place < 3 else "ab"[place % 2]
        labelled.put(tmp_path / f"{name}/{place}.jpg", encoded(scene(place)))
    found = check_data(tmp_path, weevit.load(fake_tiny, image_size=32, threads=1))
    assert found.unchecked == ("labels of classes with fewer than 5 different images: rare",)


def test_labels_that_were_changed_in_real_photos_are_found(shared: Path, vit_tiny: Path, tmp_path: Path) -> None:
    """`benchmarks/data_check.py` in short: 30 photos of each of four classes, 8 labels changed."""
    pytest.importorskip("sklearn")
    classes = ("dress", "hat", "pants", "shoes")
    rng = np.random.default_rng(0)
    wrong = set()
    for name in classes:
        paths = sorted((shared / "data" / "clothing" / "train" / name).iterdir())[:30]
        for place, path in enumerate(paths):
            other = str(rng.choice([one for one in classes if one != name]))
            label = other if place % 20 == 0 else name
            labelled.put(tmp_path / label / path.name, path.read_bytes())
            if label != name:
                wrong.add(f"{label}/{path.name}")
    found = check_data(tmp_path, weevit.load(vit_tiny, threads=2))
    first = {one.image.id for one in found.suspects[: 2 * len(wrong)]}
    assert len(wrong) == 8
    assert len(first & wrong) >= 6


# ---- files, the command line


def test_a_folder_holds_a_page_a_list_and_json(messy: Path, tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    found = check_data(messy, output=tmp_path / "new/report", embeddings=False)
    there = {path.name for path in (tmp_path / "new/report").iterdir()}
    assert there == {"report.html", "report.json", "fix-list.csv", ".lock"}
    content = json.loads((tmp_path / "new/report/report.json").read_text())
    assert content["schema"] == "weevit.data-check/2"
    assert content["leaks"] == 3
    assert content["found"] == {"differences": 0, "broken": 3, "copies": 5, "suspects": 0, "alike": 0, "unusual": 2}
    assert content["copies"][0]["members"][0] == {"id": "train/hat/0.jpg", "split": "train", "labels": ["hat"]}
    assert content["sizes"]["width"][2] == 160
    assert len(content["broken"]) == len(found.broken)


def test_a_page_alone(messy: Path, tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    check_data(messy, output=tmp_path / "page.html", embeddings=False)
    text = (tmp_path / "page.html").read_text()
    assert "train/hat/cut.jpg" in text
    assert "different classes" in text


@pytest.mark.parametrize(
    "own",
    [
        *({"fix_list": "fixes.txt"}, {"output": "file"}, {"output": "file/report"}, {"fix_list": "file/fixes.csv"}),
        *({"output": "one.csv", "fix_list": "one.csv"}, {"output": "one.csv/page.html", "fix_list": "one.csv"}),
    ],
)
def test_what_cannot_be_written_is_refused_before_a_image_is_read(
    messy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: dict[str, Any]
) -> None:
    pytest.importorskip("jinja2")
    (tmp_path / "file").write_text("in the way")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("weevit.checking.check.look_at", lambda *arguments: pytest.fail("a image was read"))
    with pytest.raises(UsageError):
        check_data(messy, embeddings=False, **own)


def test_a_text_is_no_truth_value(tmp_path: Path) -> None:
    """The word no would ask a model, and fetch it."""
    with pytest.raises(UsageError, match="embeddings is True or False: 'no' was given"):
        check_data(labelled.folder(tmp_path, {"a": 1, "b": 1}), embeddings="no")  # type: ignore[arg-type]


def test_without_scikit_learn_the_rest_is_still_checked(messy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sklearn", "sklearn.linear_model"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match="scikit-learn"):
        check_data(messy)
    assert len(check_data(messy, embeddings=False).leaks) == 3


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0)


def test_the_command(messy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("jinja2")
    assert run("data", "check", messy, "--no-embeddings", "-o", tmp_path / "r", "--fix-list", tmp_path / "f.csv") == 0
    told = capsys.readouterr()
    assert "33 images of 2 classes: train 22, validation 11" in told.out
    assert "in two splits: 3\n  train/hat/0.jpg = validation/hat/leak.jpg\n" in told.out
    assert "broken: 3 (" in told.out
    assert "(different classes)" in told.out
    assert "labels to look at" not in told.out
    assert "not checked: labels, crops" in told.err
    assert f"written: {tmp_path / 'r'} and {tmp_path / 'f.csv'}" in told.err
    assert (tmp_path / "f.csv").exists()


def test_the_command_with_a_model(messy: Path, fake_tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    assert run("data", "check", messy, "-m", fake_tiny, "--image-size", 32, "--threads", 1) == 0
    told = capsys.readouterr()
    assert "labels to look at: " in told.out
    assert fakes.TINY in told.err
    assert "next: weevit data check" in told.err


@pytest.mark.parametrize(("removed", "code"), [((), 1), (("leak.jpg", "small.jpg", "turned.png"), 3), (None, 0)])
def test_strict_is_a_gate(messy: Path, removed: tuple[str, ...] | None, code: int) -> None:
    """1 for a leak, 3 for a broken file, 0 for neither."""
    names = (
        removed if removed is not None else ("leak.jpg", "small.jpg", "turned.png", "cut.jpg", "empty.jpg", "page.jpg")
    )
    for path in list(messy.rglob("*")):
        if path.name in names:
            path.unlink()
    assert run("data", "check", messy, "--no-embeddings", "--strict", "--quiet") == code
    assert run("data", "check", messy, "--no-embeddings", "--quiet") == 0


def test_json_has_a_line_for_each_finding(messy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("data", "check", messy, "--no-embeddings", "--json", "--quiet") == 0
    told = capsys.readouterr()
    lines = [json.loads(line) for line in told.out.splitlines()]
    assert told.err == ""
    assert [line["kind"] for line in lines] == ["summary", *["broken"] * 3, *["copies"] * 5, *["unusual"] * 2]
    assert {line["schema"] for line in lines} == {"weevit.data-check/2"}
    again = json.loads(json.dumps([*json_lines(check_data(messy, embeddings=False))]))
    assert lines[1:] == again[1:]
    assert {**lines[0], "seconds": 0} == {**again[0], "seconds": 0}


def test_nothing_there_is_one_screen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("data", "check", tmp_path / "gone", "--no-embeddings") == 1
    assert "nothing of this name" in capsys.readouterr().err
    assert run("data", "check", tmp_path, "--no-embeddings") == 1
    assert "no images with classes" in capsys.readouterr().err


# ---- the page in a browser


def test_the_page_in_a_browser(messy: Path, tmp_path: Path, fake_tiny: Path, browser: Any) -> None:
    pytest.importorskip("jinja2")
    pytest.importorskip("sklearn")
    hostile = messy / "train" / "<img src=x onerror=alert(1)>"
    for place in range(30, 36):
        labelled.put(hostile / f"{'long' * 40}{place}.jpg", encoded(scene(place)))
    labelled.put(messy / "validation" / hostile.name / "<b>.jpg", (hostile / f"{'long' * 40}30.jpg").read_bytes())
    stream = io.BytesIO()
    scene(50).save(stream, "PNG")
    labelled.put(messy / "train/hat/<script>.jpg", stream.getvalue()[:-40])
    check_data(messy, weevit.load(fake_tiny, image_size=32, threads=1), output=tmp_path / "page.html")
    for width in (390, 1280):
        for dark in (False, True):
            seen = browser.look(tmp_path / "page.html", width, dark)
            seen.check()
            assert seen.facts["images"] >= 10
            assert "<script>.jpg" in seen.facts["text"]
            assert "In two splits" in seen.facts["text"]
