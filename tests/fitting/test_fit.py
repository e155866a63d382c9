"""From a folder of pictures to a checkpoint like any other."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("filelock")
pytest.importorskip("jinja2")

from browsing import DESKTOP, PHONE, Browser

import weevit
from weevit.cli.app import _run
from weevit.evaluation.saved import read_evaluation
from weevit.fitting.fit import Stage, fit
from weevit.fitting.folder import FIT
from weevit.fitting.results import Fit
from weevit.images.source import Source
from weevit.predict import Predictor
from weevit.store.folder import held
from weevit.zoo.checkpoint import read_checkpoint

CLASSES = ("blue", "green", "pink", "red")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("embeddings")


@pytest.fixture(scope="module")
def done(shop: Path, predictor: Predictor, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Fit:
    return fit(shop, tmp_path_factory.mktemp("runs") / "shop", predictor, folds=3, cache=cache)


def weights(done: Fit) -> bytes:
    return (done.folder / "model" / "model.safetensors").read_bytes()


# ---- what is written


def test_a_fit_is_good_and_says_how_good(done: Fit) -> None:
    assert done.classes == CLASSES
    assert done.chosen.score > 0.8
    assert set(done.evaluations) == {"validation", "test"}
    assert done.metrics["top1"] >= 20 / 24  # four pictures are of another class on purpose
    assert done.images == {"train": 57, "validation": 25, "test": 21}
    assert done.computed + done.cached == 100
    assert done.computed >= 90  # the others are copies of those
    assert [(split, Path(name).name, status) for split, name, status, _ in done.failures] == [
        (split, "broken.png", "decode_error") for split in ("train", "validation", "test")
    ]
    assert done.difference < 1e-4
    assert done.calibration.by == "folds"


def test_the_folder(done: Fit) -> None:
    names = {path.name for path in done.folder.iterdir()}
    assert names == {
        *("model", "validation", "test", "report.html", "report.json", "run.json", "metrics.jsonl", "failures.csv"),
        *("log.txt", ".lock"),
    }
    run = json.loads((done.folder / "run.json").read_text())
    assert (run["schema"], run["verb"], run["status"]) == ("weevit.fit/2", "fit", "done")
    assert run["model"]["sha256"] != done.checkpoint.sha256
    assert run["data"]["fingerprint"]
    assert run["versions"]["weevit"] == weevit.__version__
    assert run["metrics"]["test"]["top1"] == done.evaluations["test"].metrics["top1"]
    report = json.loads((done.folder / "report.json").read_text())
    lines = [json.loads(line) for line in (done.folder / "metrics.jsonl").read_text().splitlines()]
    assert report["candidates"] == lines
    assert len(lines) == len(done.candidates)
    with (done.folder / "failures.csv").open(newline="") as file:
        assert [row["split"] for row in csv.DictReader(file)] == ["train", "validation", "test"]
    saved = read_evaluation(done.folder / "test")
    assert saved.metrics == pytest.approx(dict(done.evaluations["test"].metrics))
    assert "chosen: logistic regression" in (done.folder / "log.txt").read_text()


def test_the_checkpoint_says_what_it_is(done: Fit, predictor: Predictor) -> None:
    again = read_checkpoint(done.folder)
    assert [label.id for label in again.labels or ()] == list(done.classes)
    assert again.preprocessing == predictor.preprocessing
    assert again.decision == done.checkpoint.decision
    assert again.decision is not None
    assert again.decision.coverage == 0.95
    assert again.decision.temperature == done.calibration.temperature
    assert "fitted by weevit" in again.config["pretrained_cfg"]["description"]
    base, own = predictor.checkpoint.tensors(), again.tensors()
    assert all((own[name] == base[name]).all() for name in base if not name.startswith("head."))
    assert not again.notes


def test_what_it_says_is_what_the_evaluation_says(done: Fit, shop: Path) -> None:
    """The evaluation is from embeddings at hand; asking the written model gives the same figures."""
    model = weevit.load(done.folder, threads=1, cache=False)
    for split in ("validation", "test"):
        asked = weevit.evaluate(model, shop, split=split)
        assert asked.metrics == pytest.approx(dict(done.evaluations[split].metrics), abs=1e-5)
        assert [row.answer for row in asked.rows] == [row.answer for row in done.evaluations[split].rows]
        assert [row.unknown for row in asked.rows] == [row.unknown for row in done.evaluations[split].rows]
    results = model.classify(shop / "test")
    told = {Path(result.input).name: result.unknown for result in results if result.ok}
    assert set(told.values()) <= {True, False}


def test_logits_in_weevit_timm_and_transformers(done: Fit, shop: Path) -> None:
    timm = pytest.importorskip("timm")
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from PIL import Image

    pictures = sorted((shop / "test").glob("*/[0-9].png"))
    model = weevit.load(done.folder, threads=1, cache=False)
    ours = np.stack([result.logits for result in model.run(pictures, outputs=("logits",))])
    images = [Image.open(path).convert("RGB") for path in pictures]

    theirs = timm.create_model(f"local-dir:{done.folder / 'model'}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(theirs))
    with torch.inference_mode():
        logits = theirs(torch.stack([transform(image) for image in images])).numpy()
    assert np.abs(ours - logits).max() < 1e-4

    folder = str(done.folder / "model")
    wrapped = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    with torch.inference_mode():
        logits = wrapped(**processor(images, return_tensors="pt")).logits.numpy()
    assert np.abs(ours - logits).max() < 1e-4
    assert [wrapped.config.id2label[place] for place in range(4)] == list(done.classes)
    pipe = transformers.pipeline("image-classification", model=wrapped, image_processor=processor)
    best = [answer[0] for answer in pipe(images)]
    expected = model.classify(pictures, topk=1)
    assert [one["label"] for one in best] == [result.labels[0] for result in expected]
    for one, result in zip(best, expected, strict=True):
        assert one["score"] == pytest.approx(result.probabilities[0], abs=1e-4)


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_the_page_in_a_browser(done: Fit, browser: Browser, width: int) -> None:
    seen = browser.look(done.folder / "report.html", width, dark=width == PHONE)
    seen.check()
    assert seen.facts["charts"] == 3
    for words in ("What was tried", "Calibration error", "by chance", "unknown", "decode_error", "test: right"):
        assert words in seen.facts["text"]


# ---- what chooses


@pytest.mark.parametrize("split", ["validation", "test"])
def test_other_pictures_choose_nothing(
    done: Fit, own_shop: Path, predictor: Predictor, cache: Path, tmp_path: Path, split: str
) -> None:
    """With classes exchanged in validation or test, the same weights come out, to the last bit."""
    red, green = own_shop / split / "red", own_shop / split / "green"
    red.rename(own_shop / "other")
    green.rename(red)
    (own_shop / "other").rename(green)
    other = fit(own_shop, tmp_path / "run", predictor, folds=3, cache=cache)
    assert weights(other) == weights(done)
    assert other.checkpoint.decision == done.checkpoint.decision
    assert other.evaluations[split].metrics["top1"] < done.evaluations[split].metrics["top1"]


def test_validation_calibrates_where_that_is_asked_for(
    done: Fit, shop: Path, predictor: Predictor, cache: Path, tmp_path: Path
) -> None:
    other = fit(shop, tmp_path / "run", predictor, folds=3, cache=cache, calibrate="validation")
    found = other.calibration
    assert (found.by, found.temperature) == ("validation", done.calibration.temperatures["validation"])
    assert found.errors["after"] == done.calibration.errors["with_validation"]
    assert other.metrics["top1"] == done.metrics["top1"]
    assert other.metrics["known"] >= 0.95


def test_coverage_and_class_weights(done: Fit, shop: Path, predictor: Predictor, cache: Path, tmp_path: Path) -> None:
    other = fit(shop, tmp_path / "run", predictor, folds=3, cache=cache, coverage=0.6, class_weights="balanced")
    assert other.measure == "balanced accuracy"
    decision, before = other.checkpoint.decision, done.checkpoint.decision
    assert decision is not None
    assert before is not None
    assert decision.threshold is not None
    assert before.threshold is not None
    assert decision.threshold > before.threshold
    assert other.metrics["known"] < done.metrics["known"]


def test_a_second_fit_embeds_nothing(
    done: Fit, shop: Path, predictor: Predictor, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = fit(shop, tmp_path / "second", predictor, folds=3, cache=cache)
    assert (second.computed, second.cached) == (0, 100)
    assert weights(second) == weights(done)
    assert {name: value for name, value in second.as_json().items() if name not in ("embeddings", "seconds")} == {
        name: value for name, value in done.as_json().items() if name not in ("embeddings", "seconds")
    }


# ---- data of other shapes


def test_without_a_validation_split(shop: Path, predictor: Predictor, cache: Path, tmp_path: Path) -> None:
    found = fit(shop / "train", tmp_path / "run", predictor, folds=3, cache=cache, validation_share=0.3)
    assert found.validation_cut
    assert sum(found.images.values()) == 57
    assert 13 <= found.images["validation"] <= 21
    assert any("drawn with seed 0" in note for note in found.notes)
    other = fit(shop / "train", tmp_path / "run", predictor, folds=3, cache=cache, validation_share=0.3, seed=1)
    assert [row.input for row in other.evaluations["validation"].rows] != [
        row.input for row in found.evaluations["validation"].rows
    ]


def test_any_number_of_labels(shop: Path, predictor: Predictor, cache: Path, tmp_path: Path) -> None:
    manifest = shop.parent / "labels.csv"
    with manifest.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "labels", "split"])
        for path in sorted(shop.glob("*/*/*.png")):
            split, name = path.parts[-3:-1]
            warm = ";warm" if name in ("red", "pink") else ""
            writer.writerow([path.relative_to(manifest.parent), name + warm, split])
    found = fit(manifest, tmp_path / "run", predictor, folds=3, cache=cache)
    assert found.computed == 0  # the same pictures, whatever is said of them
    decision = found.checkpoint.decision
    assert decision is not None
    assert decision.multi_label
    assert decision.threshold is None
    assert len(decision.label_thresholds or ()) == 5
    assert found.metrics["map"] > 0.8
    model = weevit.load(found.folder, threads=1, cache=False)
    said = [{one.id for one in result.present} for result in model.classify(sorted((shop / "test" / "pink").iterdir()))]
    assert sum("warm" in one for one in said) >= 3
    asked = weevit.evaluate(model, manifest, split="test")
    assert asked.metrics == pytest.approx(dict(found.evaluations["test"].metrics), abs=1e-5)
    assert [row.answer for row in asked.rows] == [row.answer for row in found.evaluations["test"].rows]


def test_another_image_size_stands_in_the_checkpoint(shop: Path, backbone: Path, tmp_path: Path) -> None:
    wide = weevit.load(backbone, image_size=48, threads=1, cache=False)
    found = fit(shop, tmp_path / "run", wide, folds=3)
    assert (found.checkpoint.preprocessing.height, found.difference < 1e-4) == (48, True)
    timm = pytest.importorskip("timm")
    torch = pytest.importorskip("torch")
    theirs = timm.create_model(f"local-dir:{found.folder / 'model'}", pretrained=True).eval()
    model = weevit.load(found.folder, threads=1, cache=False)
    crops = np.stack(
        [model.crop(Source(str(path), path)) for path in sorted((shop / "test" / "red").glob("[0-9].png"))]
    )
    with torch.inference_mode():
        logits = theirs((torch.from_numpy(crops).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5).numpy()
    assert np.abs(model.forward(crops)["logits"] - logits).max() < 1e-4


# ---- row T12: classes are matched by name, and come from the checkpoint ever after


@pytest.mark.parametrize("split", ["validation", "test"])
def test_t12_a_split_with_other_classes_is_refused(
    own_shop: Path, predictor: Predictor, tmp_path: Path, split: str
) -> None:
    (own_shop / split / "green").rename(own_shop / split / "gren")
    with pytest.raises(weevit.DatasetError, match=r"- green[\s\S]*\+ gren"):
        fit(own_shop, tmp_path / "run", predictor)
    assert not (tmp_path / "run").exists()


def test_t12_a_fitted_model_keeps_its_classes(done: Fit, own_shop: Path, predictor: Predictor) -> None:
    model = weevit.load(done.folder, threads=1, cache=False)
    before = {row.input: row for row in weevit.evaluate(model, own_shop, split="test").rows}
    shutil.rmtree(own_shop / "test" / "green")
    for split in ("train", "validation"):
        shutil.rmtree(own_shop / split / "green")
    with pytest.raises(weevit.DatasetError, match="- green"):
        weevit.evaluate(model, own_shop, split="test")
    fewer = weevit.evaluate(model, own_shop, split="test", allow_missing=True)
    assert [row.target for row in fewer.rows] == [before[row.input].target for row in fewer.rows]
    assert [row.answer for row in fewer.rows] == [before[row.input].answer for row in fewer.rows]
    shutil.copytree(own_shop / "test" / "red", own_shop / "test" / "aaa")
    with pytest.raises(weevit.DatasetError, match=r"\+ aaa"):
        weevit.evaluate(model, own_shop, split="test", allow_missing=True)


def test_missing_classes_if_allowed(own_shop: Path, predictor: Predictor, cache: Path, tmp_path: Path) -> None:
    shutil.rmtree(own_shop / "validation" / "green")
    found = fit(own_shop, tmp_path / "run", predictor, folds=3, cache=cache, allow_missing=True)
    assert found.classes == CLASSES
    assert "green" not in {row.target for row in found.evaluations["validation"].rows}


# ---- what goes wrong


def one_class(shop: Path) -> None:
    for path in shop.glob("*/*"):
        if path.name != "red":
            shutil.rmtree(path)


def no_validation_picture(shop: Path) -> None:
    for path in shop.glob("validation/*/*"):
        path.write_bytes(b"")


def a_class_of_broken_ones(shop: Path) -> None:
    for path in shop.glob("train/green/*"):
        path.write_bytes(b"")


def no_training_split(shop: Path) -> None:
    shutil.rmtree(shop / "train")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (one_class, "has one class, 'red'"),
        (no_validation_picture, "No image of validation could be read. The first: .*empty"),
        (a_class_of_broken_ones, "No training image of green could be read"),
        (no_training_split, "no split 'train'"),
    ],
)
def test_data_that_cannot_be_fitted_to(
    own_shop: Path, predictor: Predictor, cache: Path, tmp_path: Path, change: Callable[[Path], None], words: str
) -> None:
    change(own_shop)
    with pytest.raises(weevit.DatasetError, match=words):
        fit(own_shop, tmp_path / "run", predictor, folds=3, cache=cache)
    assert not (tmp_path / "run").exists()


def test_a_table_without_a_label_is_refused(own_shop: Path, predictor: Predictor, cache: Path, tmp_path: Path) -> None:
    """With a column for several labels, none is a valid number of them."""
    (tmp_path / "t.csv").write_text("path,labels\n" + "".join(f"{path},\n" for path in own_shop.rglob("*.png")))
    with pytest.raises(weevit.DatasetError, match="has no class: no image has a label"):
        fit(tmp_path / "t.csv", tmp_path / "run", predictor, cache=cache)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"folds": 1}, "folds is 2 or more"),
        ({"folds": "5"}, "folds is a whole number"),
        ({"coverage": "0.9"}, "above 0 and up to 1: '0.9' was given"),
        ({"validation_share": None}, "more than 0 and less than 1: None was given"),
        ({"allow_missing": "no"}, "allow_missing is True or False"),
        ({"int8": "no"}, "int8 is True or False"),
        ({"coverage": 0.0}, "above 0 and up to 1"),
        ({"coverage": 95.0}, "above 0 and up to 1"),
        ({"class_weights": "balance"}, "Did you mean 'balanced'"),
        ({"calibrate": "test"}, "folds or validation"),
    ],
)
def test_settings_that_cannot_be_meant(
    shop: Path, predictor: Predictor, tmp_path: Path, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(weevit.UsageError, match=words):
        fit(shop, tmp_path / "run", predictor, **settings)
    assert not (tmp_path / "run").exists()


def test_leaks_are_told(own_shop: Path, predictor: Predictor, cache: Path, tmp_path: Path) -> None:
    for name in ("3.png", "4.png"):
        shutil.copy(own_shop / "train" / "red" / name, own_shop / "validation" / "red" / f"copy-{name}")
    found = fit(own_shop, tmp_path / "run", predictor, folds=3, cache=cache)
    assert any("2 images of validation are in train too" in note for note in found.notes)


def test_a_folder_that_holds_something_else(shop: Path, predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "to-mother.txt").write_text("dear")
    with pytest.raises(weevit.UsageError, match=r"not empty and holds no fit, but to-mother\.txt"):
        fit(shop, tmp_path / "letters", predictor)
    (tmp_path / "file").write_text("")
    with pytest.raises(weevit.UsageError, match="is a file"):
        fit(shop, tmp_path / "file", predictor)
    assert {path.name for path in tmp_path.iterdir()} == {"letters", "file"}


def test_an_earlier_fit_is_replaced(own_shop: Path, predictor: Predictor, cache: Path, tmp_path: Path) -> None:
    fit(own_shop, tmp_path / "run", predictor, folds=3, cache=cache)
    assert (tmp_path / "run" / "failures.csv").exists()
    for path in own_shop.glob("*/*/broken.png"):
        path.unlink()
    for split in ("train", "validation", "test"):
        shutil.rmtree(own_shop / split / "green")
    again = fit(own_shop, tmp_path / "run", predictor, folds=3, cache=cache)
    assert again.classes == ("blue", "pink", "red")
    assert not (tmp_path / "run" / "failures.csv").exists()
    assert len(read_checkpoint(tmp_path / "run").labels or ()) == 3


def test_two_processes_into_one_folder(shop: Path, predictor: Predictor, tmp_path: Path) -> None:
    with held(tmp_path / "run", FIT), pytest.raises(weevit.OutputError, match="Another process works in"):
        fit(shop, tmp_path / "run", predictor)
    assert not (tmp_path / "run").exists()


def test_an_interrupted_fit_goes_on(shop: Path, predictor: Predictor, tmp_path: Path) -> None:
    answered: list[Stage] = []
    with pytest.raises(KeyboardInterrupt):
        fit(shop, tmp_path / "run", predictor, folds=3, watch=answered.append, should_stop=lambda: len(answered) > 30)
    assert not (tmp_path / "run").exists()
    rest = fit(shop, tmp_path / "run", predictor, folds=3)
    assert rest.cached >= 16
    assert rest.computed == 100 - rest.cached


def test_a_crash_while_writing_leaves_nothing_that_looks_whole(
    done: Fit, shop: Path, predictor: Predictor, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from weevit.fitting import fit as module

    def crash(*_: object) -> None:
        raise RuntimeError("the lights went out")

    with monkeypatch.context() as patched:
        patched.setattr(module, "write_run", crash)
        with pytest.raises(RuntimeError, match="lights"):
            fit(shop, tmp_path / "run", predictor, folds=3, cache=cache)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "unfinished"
    assert weights(fit(shop, tmp_path / "run", predictor, folds=3, cache=cache)) == weights(done)


# ---- the command


def command(backbone: Path, shop: Path, run: Path, *more: str) -> int:
    return _run(["fit", str(shop), "--model", str(backbone), "-o", str(run), "--threads", "1", "--folds", "3", *more])


def test_the_command(backbone: Path, shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "my runs" / "shop"
    assert command(backbone, shop, run) == 0
    said = capsys.readouterr()
    assert "chosen             logistic regression, C=" in said.out
    assert "validation  " in said.out
    assert "test  " in said.out
    assert "unknown            below" in said.out
    assert "broken.png: truncated" in said.err
    assert " images embedded, " in said.err
    assert f"next: weevit classify new.jpg --model '{run}'" in said.err
    assert command(backbone, shop, run, "--json", "-q", "--strict") == 3
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    values = json.loads(lines[0])
    assert values["schema"] == 1
    assert values["embeddings"] == {"computed": 0, "cached": 100}
    picture = shop / "test" / "blue" / "2.png"
    assert _run(["classify", str(picture), "--model", str(run), "--topk", "1"]) == 0
    assert "% blue" in capsys.readouterr().out
    assert _run(["eval", str(run), str(shop)]) == 0


def test_the_command_says_what_is_missing(
    backbone: Path, shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(["fit", str(shop), "--model", str(backbone)]) == 2
    assert "-o runs/mine" in capsys.readouterr().err
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    assert command(backbone, shop, tmp_path / "full") == 2
    assert _run(["fit", str(tmp_path / "shopp"), "--model", str(backbone), "-o", str(tmp_path / "run")]) == 1


def test_ctrl_c_says_how_to_go_on(
    backbone: Path, shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from weevit.fitting import fit as module

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "embed_split", interrupted)
    assert command(backbone, shop, tmp_path / "run") == 130
    assert "Rerun the command to resume." in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
