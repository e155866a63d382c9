"""`weevit.evaluate`: figures, rows, classes by name, files; answers asked for one by one are the oracle."""

from __future__ import annotations

import csv
import json
import math
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import colours
import numpy as np
import pytest
from browsing import DESKTOP, PHONE, Browser

import weevit
from weevit.answers.tables import csv_lines
from weevit.datasets.dataset import Dataset, Split
from weevit.datasets.read import read_dataset
from weevit.errors import DatasetError, MalformedFileError, MissingExtraError, UsageError
from weevit.evaluation import metrics
from weevit.evaluation.ask import Progress
from weevit.evaluation.model import Answers, JudgedModel, describe, known, match_classes
from weevit.evaluation.predictions import prediction_columns, read_predictions
from weevit.evaluation.results import Evaluation, Row
from weevit.evaluation.rows import figures_of
from weevit.evaluation.saved import as_json, read_evaluation, write_evaluation
from weevit.images.source import Source
from weevit.predict import Predictor
from weevit.reports import page
from weevit.zoo.labels import Label

CLASSES = tuple(colours.COLOURS)


@pytest.fixture(scope="module")
def evaluation(predictor: Predictor, images: Path) -> Evaluation:
    return weevit.evaluate(predictor, images)


def one_by_one(predictor: Predictor, folder: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Logits and targets of the images that can be read, and their names."""
    files = [path for path in sorted(folder.rglob("*.png")) if path.name != "broken.png"]
    logits = [predictor.run(path, outputs=("logits",)).logits for path in files]
    targets = [CLASSES.index(path.parent.name) for path in files]
    return np.stack(logits), np.array(targets), [f"{path.parent.name}/{path.name}" for path in files]


def test_figures_are_those_of_answers_asked_for_one_by_one(
    evaluation: Evaluation, predictor: Predictor, images: Path
) -> None:
    sk = pytest.importorskip("sklearn.metrics")
    logits, targets, names = one_by_one(predictor, images)
    found, answers = evaluation.metrics, logits.argmax(axis=1)
    assert found["top1"] == sk.accuracy_score(targets, answers)
    assert found["top5"] == pytest.approx(sk.top_k_accuracy_score(targets, logits, k=5, labels=np.arange(7)))
    assert found["macro_f1"] == pytest.approx(sk.f1_score(targets, answers, average="macro"))
    assert found["log_loss"] == pytest.approx(sk.log_loss(targets, metrics.softmax(logits)), abs=1e-5)
    assert (evaluation.confusion == sk.confusion_matrix(targets, answers)).all()
    rows = {row.input: row for row in evaluation.answered}
    assert set(rows) == set(names)
    for name, target, answer in zip(names, targets, answers, strict=True):
        assert (rows[name].target, rows[name].answer) == (CLASSES[target], CLASSES[answer])
    assert 0.5 < found["top1"] < 1  # the data errs on purpose, the model seldom


def test_broken_images_are_counted_and_never_left_out(evaluation: Evaluation) -> None:
    assert len(evaluation.rows) == 43
    (broken,) = evaluation.failures
    assert (broken.input, broken.status, broken.target, broken.answer) == (
        "red/broken.png",
        "decode_error",
        "red",
        None,
    )
    assert dict(evaluation.failed) == {"truncated": 1}
    for name in ("top1", "top5"):
        assert evaluation.metrics[f"{name}_worst"] == pytest.approx(evaluation.metrics[name] * 42 / 43)
    assert evaluation.confusion.sum() == 42
    assert evaluation.per_class.support.tolist() == [6] * 7


def test_classes_are_matched_by_name_whatever_their_order(evaluation: Evaluation, images: Path, tmp_path: Path) -> None:
    turned = colours.make_model(tmp_path / "turned", CLASSES[3:] + CLASSES[:3])
    other = weevit.evaluate(turned, images)
    assert [label.id for label in other.classes] != list(CLASSES)
    assert [row.answer for row in other.rows] == [row.answer for row in evaluation.rows]
    assert other.metrics["top1"] == evaluation.metrics["top1"]


def test_the_batch_size_changes_no_figure(colour_model: Path, images: Path, evaluation: Evaluation) -> None:
    for size, threads in ((1, 2), (5, 1), (64, 2)):
        other = weevit.evaluate(weevit.load(colour_model, batch_size=size, threads=threads), images)
        assert other.rows == evaluation.rows
        assert other.metrics == evaluation.metrics


def test_answers_are_judged_whoever_gives_them(evaluation: Evaluation, predictor: Predictor, images: Path) -> None:
    """Answers that are there already give the same rows and figures to the last bit; those of a stranger their own."""
    dataset = read_dataset(images)
    (split,) = dataset.splits.values()
    results = list(predictor.stream(split.sources, outputs=("logits",), steady=True))
    logits = [np.full(len(CLASSES), np.nan) if one.logits is None else one.logits for one in results]
    failures = [(one.input, one.status, str(one.error)) for one in results if not one.ok]
    other = weevit.evaluate(known(predictor, np.stack(logits), np.array([one.ok for one in results]), failures), images)
    assert (other.rows, other.metrics, other.model) == (evaluation.rows, evaluation.metrics, evaluation.model)

    def always_right(sources: Sequence[Source]) -> Answers:
        assert sources == split.sources
        for target in split.targets:
            yield "ok", None, np.eye(len(CLASSES), dtype=np.float32)[CLASSES.index(dataset.classes[target])]

    model = JudgedModel(predictor.checkpoint, {**describe(predictor), "name": "an oracle"}, always_right)
    found = weevit.evaluate(model, images)
    assert (found.metrics["top1"], len(found.answered), found.model["name"]) == (1.0, 43, "an oracle")


def test_images_in_memory(predictor: Predictor, tmp_path: Path) -> None:
    sources = tuple(Source(f"image[{i}]", colours.image(name, i)) for i, name in enumerate(CLASSES))
    splits = {"all": Split("all", sources, np.arange(7))}
    found = weevit.evaluate(predictor, Dataset("memory", CLASSES, splits))
    assert [row.input for row in found.rows] == [source.name for source in sources]
    assert found.metrics["top1"] > 0.7
    assert found.data["fingerprint"] == ""


def test_matching() -> None:
    labels = [Label("n01", "tench, Tinca tinca"), Label("n02", "goldfish"), Label("n03", "cock")]
    assert match_classes(["n03", "n01", "n02"], labels, False).tolist() == [2, 0, 1]
    assert match_classes(["goldfish", "n01", "cock"], labels, False).tolist() == [1, 0, 2]
    assert match_classes(["cock"], labels, True).tolist() == [2]
    with pytest.raises(DatasetError) as caught:
        match_classes(["n01", "gold fish"], labels, False)
    assert "  + gold fish\n  - n02\n  - n03" in caught.value.message
    with pytest.raises(DatasetError, match="- n02"):
        match_classes(["n01", "cock"], labels, False)
    with pytest.raises(DatasetError, match=r"\+ hen"):
        match_classes(["n01", "hen"], labels, True)
    with pytest.raises(DatasetError, match="one class of the model: cock, n03"):
        match_classes(["n03", "cock", "n01", "n02"], labels, False)
    with pytest.raises(DatasetError, match="and 80 more"):
        match_classes([], [Label(str(i), str(i)) for i in range(100)], False)


def test_an_extra_and_a_missing_class(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(images, folder)
    shutil.rmtree(folder / "blue")
    with pytest.raises(DatasetError, match="- blue") as caught:
        weevit.evaluate(predictor, folder)
    assert "--allow-missing" in caught.value.hint
    found = weevit.evaluate(predictor, folder, allow_missing=True)
    assert len(found.rows) == 37
    assert found.per_class.support[CLASSES.index("blue")] == 0
    (folder / "whit").mkdir()
    colours.image("white", 1).save(folder / "whit" / "1.png")
    with pytest.raises(DatasetError, match=r"\+ whit") as caught:
        weevit.evaluate(predictor, folder, allow_missing=True)
    assert "'white'" in caught.value.hint


def test_which_split(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    shutil.copytree(images, tmp_path / "data" / "train")
    with pytest.raises(DatasetError, match="only train") as caught:
        weevit.evaluate(predictor, tmp_path / "data")
    assert "--split train" in caught.value.hint
    assert weevit.evaluate(predictor, tmp_path / "data", split="train").data["split"] == "train"
    colours.make_images(tmp_path / "data" / "val", count=2, seed=50)
    found = weevit.evaluate(predictor, tmp_path / "data")
    assert (found.data["split"], len(found.rows)) == ("validation", 15)
    with pytest.raises(DatasetError, match="no split 'test'"):
        weevit.evaluate(predictor, tmp_path / "data", split="test")


def test_models_that_cannot_be_evaluated(images: Path, colour_model: Path, fake_tiny: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(colour_model, tmp_path / "nameless")
    config = json.loads((folder / "config.json").read_text())
    del config["label_names"]
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "weevit-manifest.json").unlink()
    with pytest.raises(UsageError, match="names none of its 7 classes"):
        weevit.evaluate(folder, images)
    with pytest.raises(DatasetError, match=r"\+ black"):
        weevit.evaluate(fake_tiny, images)


def _with_decision(model: Path, folder: Path, decision: dict[str, Any]) -> Path:
    shutil.copytree(model, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"weevit": decision}))
    (folder / "weevit-manifest.json").unlink()
    return folder


def test_unknown_is_said_below_the_checkpoints_threshold(
    evaluation: Evaluation, colour_model: Path, images: Path, tmp_path: Path
) -> None:
    pytest.importorskip("jinja2")
    threshold = float(np.median([row.probability for row in evaluation.answered if row.probability]))
    model = _with_decision(colour_model, tmp_path / "m", {"unknown": {"threshold": threshold, "coverage": 0.5}})
    found = weevit.evaluate(model, images, tmp_path / "out")
    assert found.metrics["top1"] == evaluation.metrics["top1"]
    known = [row for row in found.answered if not row.unknown]
    assert all((row.probability or 0) >= threshold for row in known)
    assert found.metrics["known"] == len(known) / 42
    assert found.metrics["known_top1"] == pytest.approx(np.mean([row.right for row in known]))
    assert read_evaluation(tmp_path / "out").rows == found.rows
    assert "unknown" in (tmp_path / "out" / "report.html").read_text()


# ---- several labels


@pytest.fixture
def manifest(images: Path, tmp_path: Path) -> Path:
    """Each colour's images are labelled with the colour, and some with `red` too; one with nothing."""
    path = tmp_path / "labels.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "labels"])
        for place, image in enumerate(sorted(images.rglob("*.png"))):
            own = [image.parent.name, *(["red"] if place % 3 == 0 and image.parent.name != "red" else [])]
            writer.writerow([image, "" if place == 20 else ";".join(own)])
    return path


def test_several_labels(predictor: Predictor, manifest: Path, tmp_path: Path, browser: Browser) -> None:
    sk = pytest.importorskip("sklearn.metrics")
    pytest.importorskip("jinja2")
    found = weevit.evaluate(predictor, manifest, tmp_path / "out")
    assert found.multi_label
    logits = {row.input: predictor.run(row.input, outputs=("logits",)).logits for row in found.answered}
    scores = metrics.sigmoid(np.stack(list(logits.values())))
    targets = np.array([[name in row.target.split(";") for name in CLASSES] for row in found.answered])
    assert found.metrics["map"] == pytest.approx(sk.average_precision_score(targets, scores))
    assert found.metrics["micro_f1"] == pytest.approx(sk.f1_score(targets, scores >= 0.5, average="micro"))
    assert found.average_precision == pytest.approx(sk.average_precision_score(targets, scores, average=None))
    for row, own in zip(found.answered, scores >= 0.5, strict=True):
        assert (row.answer or "").split(";") == [name for name, said in zip(CLASSES, own, strict=True) if said] or [""]
    assert len(found.failures) == 1
    assert any(row.target == "" for row in found.rows)
    again = read_evaluation(tmp_path / "out")
    assert (again.rows, again.average_precision) == (found.rows, found.average_precision)
    np.testing.assert_array_equal(again.per_class.f1, found.per_class.f1)
    browser.look(tmp_path / "out" / "report.html", PHONE).check()


def test_label_thresholds_of_the_checkpoint(colour_model: Path, images: Path, tmp_path: Path) -> None:
    decision = {"multi_label": True, "label_thresholds": [1e-12] * 6 + [1.0]}
    found = weevit.evaluate(_with_decision(colour_model, tmp_path / "m", decision), images)
    assert found.multi_label
    assert {row.answer for row in found.answered} == {";".join(CLASSES[:6])}
    assert found.metrics["micro_recall"] == 36 / 42
    assert found.metrics["exact"] == 0


# ---- logits at hand


def test_logits_at_hand() -> None:
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(50, 4)), rng.integers(0, 4, 50)
    judged = metrics.judge(logits, targets)
    named = dict(figures_of(judged, 4, unknown=0.5))
    assert named["top1"] == (logits.argmax(axis=1) == targets).mean()
    known = metrics.softmax(logits).max(axis=1) >= 0.5
    assert named["known"] == known.mean()
    assert "top5" not in named
    assert "known" not in dict(figures_of(judged, 4))


# ---- files


@pytest.mark.parametrize("table", ["csv", "parquet"])
def test_what_is_written_is_read_back(evaluation: Evaluation, tmp_path: Path, table: str) -> None:
    pytest.importorskip("jinja2")
    if table == "parquet":
        pytest.importorskip("pyarrow")
    write_evaluation(evaluation, tmp_path, table)
    again = read_evaluation(tmp_path)
    assert again.rows == evaluation.rows
    assert again.metrics == dict(evaluation.metrics)
    assert (again.model, again.classes, again.seconds) == (evaluation.model, evaluation.classes, evaluation.seconds)
    assert (again.confusion == evaluation.confusion).all()
    written = as_json(evaluation)
    assert as_json(again) == written
    assert written["calibration"]["counts"] == evaluation.calibration.counts.tolist()
    assert sum(written["calibration"]["counts"]) == len(evaluation.answered)
    assert written["coverage"]["accuracy"][-1] == evaluation.coverage.accuracy[-1]
    assert [tuple(one.values()) for one in written["confused"]] == list(evaluation.confused(100))
    assert {item.name for item in tmp_path.iterdir()} == {
        "report.html", "report.json", "per_class.csv", f"predictions.{table}",
    }  # fmt: skip
    with (tmp_path / "per_class.csv").open(newline="") as file:
        classes = list(csv.DictReader(file))
    assert [row["class_id"] for row in classes] == list(CLASSES)
    assert [float(row["recall"]) for row in classes] == evaluation.per_class.recall.tolist()


def test_another_table_replaces_the_first(evaluation: Evaluation, tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    pytest.importorskip("pyarrow")
    write_evaluation(evaluation, tmp_path, "parquet")
    write_evaluation(replace(evaluation, rows=evaluation.rows[:5], sources=evaluation.sources[:5]), tmp_path, "csv")
    assert len(read_evaluation(tmp_path).rows) == 5


def test_what_is_not_an_evaluation(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no whole evaluation"):
        read_evaluation(tmp_path)
    for content in ("{", "[]", '{"schema": "other/1"}', '{"schema": "weevit.evaluation/2"}'):
        (tmp_path / "report.json").write_text(content)
        with pytest.raises(UsageError, match="no whole evaluation") as caught:
            read_evaluation(tmp_path)
        assert "weevit eval MODEL DATA" in caught.value.hint


def test_an_older_evaluation_is_named(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text('{"schema": "weevit.evaluation/1", "classes": []}')
    for ask in (read_evaluation, lambda folder: weevit.compare(folder, folder)):
        with pytest.raises(UsageError, match=r"of an older kind \(weevit\.evaluation/1\), whose columns") as caught:
            ask(tmp_path)
        assert caught.value.hint == f"weevit eval MODEL DATA -o {tmp_path}-2   measures again"


def test_nothing_is_computed_for_a_report_that_cannot_be_written(
    predictor: Predictor, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(progress: Progress) -> None:
        raise AssertionError("it was asked")

    pytest.importorskip("jinja2")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        weevit.evaluate(predictor, images, tmp_path / "file", watch=never)
    with pytest.raises(UsageError, match=r"is a file, and .*below would lie in it"):
        weevit.evaluate(predictor, images, tmp_path / "file" / "below", watch=never)
    with pytest.raises(UsageError, match="csv or parquet"):
        weevit.evaluate(predictor, images, tmp_path / "out", table="xlsx", watch=never)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    page._environment.cache_clear()
    with pytest.raises(MissingExtraError, match="jinja2"):
        weevit.evaluate(predictor, images, tmp_path / "out", watch=never)
    page._environment.cache_clear()


def test_a_report_in_the_home_folder_is_written_there(
    predictor: Predictor, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("jinja2")
    pytest.importorskip("filelock")
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    weevit.evaluate(predictor, images, "~/report")
    weevit.check_data(images, predictor, "~/check", fix_list="~/fixes.csv", embeddings=False)
    assert {path.name for path in (tmp_path / "home").iterdir()} == {"report", "check", "fixes.csv"}
    assert (tmp_path / "home" / "report" / "report.json").is_file()
    assert not Path("~").exists()


def test_it_can_be_watched_and_stopped(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    def watch(progress: Progress) -> None:
        seen.append((progress.done, progress.total))
        if progress.done == 20:
            raise KeyboardInterrupt

    pytest.importorskip("jinja2")
    with pytest.raises(KeyboardInterrupt):
        weevit.evaluate(predictor, images, tmp_path / "out", watch=watch)
    assert seen[-1] == (20, 43)
    assert not (tmp_path / "out").exists()
    line = Progress(10, 4, failed=Counter({"truncated": 2}), seconds=2.0).line()
    assert line == "2.0 images/s · 2 failed (2 truncated)"


def test_nothing_could_be_answered(predictor: Predictor, tmp_path: Path, browser: Browser) -> None:
    pytest.importorskip("jinja2")
    for name in CLASSES:
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "1.png").write_text("no image")
    found = weevit.evaluate(predictor, tmp_path / "data", tmp_path / "out")
    assert math.isnan(found.metrics["top1"])
    assert found.metrics["top1_worst"] == 0
    assert json.loads((tmp_path / "out" / "report.json").read_text())["metrics"]["top1"] is None
    assert read_evaluation(tmp_path / "out").rows == found.rows
    browser.look(tmp_path / "out" / "report.html").check()


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_page_in_a_browser(
    evaluation: Evaluation, tmp_path: Path, browser: Browser, width: int, dark: bool
) -> None:
    pytest.importorskip("jinja2")
    write_evaluation(evaluation, tmp_path)
    seen = browser.look(tmp_path / "report.html", width, dark)
    seen.check()
    wrong = sum(not row.right for row in evaluation.answered)
    assert seen.facts["images"] == min(wrong, 24)
    assert seen.facts["charts"] == 3
    text = seen.facts["text"]
    assert f"{evaluation.metrics['top1']:.1%}".replace("%", "\u00a0%") in text
    assert "red/broken.png" in text
    assert "1 truncated" in text


def test_a_page_of_many_classes_with_hostile_names(tmp_path: Path, browser: Browser) -> None:
    pytest.importorskip("jinja2")
    names = [f"<b>class</b> & {i} {'long ' * (i % 9)}" for i in range(300)]
    rng = np.random.default_rng(0)
    rows = tuple(
        Row(f"{names[i % 300]}/{i}.jpg", target=names[i % 300], class_id=names[int(rng.integers(300))], probability=0.5)
        for i in range(900)
    )
    rows = tuple(replace(row, right=row.target == row.answer) for row in rows)
    seen = {"interpolation": "bicubic", "crop_mode": "center", "crop_pct": 0.9, "height": 224, "width": 256}
    model = {"name": "m" * 200, "source": "s", "sha256": "0" * 64, "parameters": 5, "preprocessing": seen}
    model |= {"engine": "onnxruntime", "threads": 1, "unknown_below": None, "weevit": "1"}
    judged = metrics.judge(rng.normal(size=(900, 300)), np.arange(900) % 300)
    found = Evaluation(
        model=model,
        data={"path": "x" * 300, "split": "all", "fingerprint": "0", "notes": ["<i>note</i>"]},
        classes=tuple(Label(name, name) for name in names),
        multi_label=False,
        rows=rows,
        metrics=dict(metrics.classification(judged, 300)) | {"top1_worst": 0.0, "top5_worst": 0.0},
        seconds=1.0,
    )
    write_evaluation(found, tmp_path)
    for width in (PHONE, DESKTOP):
        looked = browser.look(tmp_path / "report.html", width)
        looked.check()
        assert "<b>class</b>" in looked.facts["text"]
        assert "All 300 classes" in looked.facts["text"]


@pytest.mark.parametrize(
    ("row", "several"),
    [
        (Row("1.png", class_id="b", probability=0.5, target="a", target_probability=0.25, rank=2), False),
        (Row("1.png", present=("a", "b"), target="a;b", right=True), True),
    ],
)
def test_a_row_may_name_every_class(row: Row, several: bool, tmp_path: Path) -> None:
    labels = (Label("a", "a"), Label("b", "b"))
    path = tmp_path / "predictions.csv"
    path.write_bytes(b"".join(csv_lines([row], prediction_columns(labels, several, unknown=False))))
    assert read_predictions(path, labels, several, unknown=False) == (row,)
    with pytest.raises(MalformedFileError, match="names a class that the report does not have"):
        read_predictions(path, labels[:1], several, unknown=False)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (Row("1.png", class_id="a", probability=0.5, target="a", target_probability=0.5, rank=1), "contradicts itself"),
        (Row("1.png", class_id="b", probability=0.5, target="a", rank=2, right=True), "contradicts itself"),
        (Row("1.png", status="nope", error="why", target="a"), "status is 'nope'; expected one of decode_error, "),
    ],
)
def test_an_edited_row_is_refused(row: Row, said: str, tmp_path: Path) -> None:
    labels = (Label("a", "a"), Label("b", "b"))
    path = tmp_path / "predictions.csv"
    path.write_bytes(b"".join(csv_lines([row], prediction_columns(labels, False, unknown=False))))
    with pytest.raises(MalformedFileError, match=said):
        read_predictions(path, labels, False, unknown=False)


@pytest.mark.parametrize("damage", [lambda data: data[:-20], lambda data: b"", lambda data: data[: len(data) // 2]])
def test_a_damaged_table_is_no_shorter_one(
    evaluation: Evaluation, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    pytest.importorskip("jinja2")
    pytest.importorskip("pyarrow")
    write_evaluation(evaluation, tmp_path, "parquet")
    path = tmp_path / "predictions.parquet"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UsageError, match=r"holds no whole evaluation: .*predictions\.parquet cannot be read"):
        read_evaluation(tmp_path)
