"""How logits become an answer: the rule is stored, checked, and followed wherever answers are given."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
from PIL import Image

import weevit
from weevit.answers.results import decide
from weevit.cli.app import _run
from weevit.predict import load
from weevit.zoo.architectures import get_architecture
from weevit.zoo.checkpoint import Checkpoint, read_checkpoint
from weevit.zoo.decision import Decision, parse_decision
from weevit.zoo.labels import Label
from weevit.zoo.weights import BY_NAME
from weevit.zoo.writing import write_checkpoint

LABELS = [Label(name, name) for name in ("coat", "dress", "hat")]


def write(folder: Path, decision: Decision | None, bias: tuple[float, ...] = (0.0, 2.0, -1.0)) -> Checkpoint:
    """A ViT-Ti whose logits are its biases."""
    arch = get_architecture(fakes.TINY)
    tensors = fakes.tensors(arch, len(LABELS))
    tensors["head.weight"][:] = 0
    tensors["head.bias"] = np.array(bias, np.float32)
    return write_checkpoint(folder, arch, tensors, BY_NAME[fakes.TINY_TAG].preprocessing, LABELS, decision=decision)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    for decision in (
        Decision(threshold=0.52, coverage=0.95, temperature=0.7),
        Decision(multi_label=True, label_thresholds=(0.2, 0.5, 1.0)),
        None,
    ):
        assert write(tmp_path, decision).decision == decision
        assert read_checkpoint(tmp_path).decision == decision


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (3, "weevit is not an object"),
        ({"unknown": 0.5}, "weevit.unknown is not an object"),
        ({"unknown": {"threshold": 1.5}}, "threshold is 1.5: expected a number above 0 and up to 1"),
        ({"unknown": {"threshold": float("nan")}}, "threshold is"),
        ({"temperature": 0}, "temperature is 0"),
        ({"multi_label": "yes"}, "multi_label is .*: expected true or false"),
        ({"label_thresholds": [0.5]}, "1 numbers for 3 classes"),
        ({"label_thresholds": [0.5, 0, 0.5]}, "label_thresholds is .*above 0"),
    ],
)
def test_what_cannot_be_meant(raw: Any, words: str) -> None:
    with pytest.raises(weevit.CheckpointError, match=words):
        parse_decision({"weevit": raw}, 3, "config.json")


def test_keys_of_later_versions_are_passed_over() -> None:
    assert parse_decision({"weevit": {"later": 1, "unknown": None}}, 3, "config.json") == Decision()
    assert parse_decision({}, 3, "config.json") is None


def test_unknown_is_below_the_threshold() -> None:
    logits = np.log(np.array([0.2, 0.5, 0.3], np.float32))
    for threshold, unknown in ((None, False), (0.499, False), (0.501, True)):
        answer = decide(logits, 2, LABELS, Decision(threshold=threshold))
        assert answer.unknown is unknown
        assert [one.name for one in answer.top] == ["dress", "hat"]
        assert answer.present is None


def test_labels_are_judged_each_by_itself() -> None:
    probabilities = np.array([0.3, 0.6, 0.2])
    logits = np.log(probabilities / (1 - probabilities)).astype(np.float32)
    answer = decide(logits, 1, LABELS, Decision(multi_label=True, label_thresholds=(0.25, 0.7, 0.2)))
    assert [one.name for one in answer.top] == ["dress"]
    assert [one.name for one in answer.present or ()] == ["coat"]  # 0.2 in float32 is a little less
    assert answer.present is not None
    assert answer.present[0].probability == pytest.approx(0.3, abs=1e-6)
    plain = decide(np.array([800.0, -800.0, 0.0], np.float32), 3, LABELS, Decision(multi_label=True))
    assert [one.name for one in plain.present or ()] == ["coat", "hat"]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "new.png"
    Image.new("RGB", (40, 40), (200, 10, 10)).save(path)
    (tmp_path / "broken.png").write_bytes(b"")
    return path


KINDS = {
    "unknown": (Decision(threshold=0.95, coverage=0.9), "unknown · 84.4% dress", "unknown", True, "1"),
    "known": (Decision(threshold=0.5, coverage=0.9), "84.4% dress", "unknown", False, "0"),
    "labels": (Decision(multi_label=True), "dress, coat · 88.1% dress", "present", ["dress", "coat"], "dress;coat"),
    "none": (
        Decision(multi_label=True, label_thresholds=(1.0, 1.0, 1.0)),
        "none of its labels · 88.1% dress",
        "present",
        [],
        "",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_answers_say_it(kind: str, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    decision, text, key, said, cell = KINDS[kind]
    write(tmp_path / "run" / "model", decision)
    words = ["classify", str(image), str(image.with_name("broken.png")), "--model", str(tmp_path / "run"), "--topk"]
    words += ["2", "--image-size", "32", "--threads", "1"]
    assert _run(words) == 0
    assert text in capsys.readouterr().out
    assert _run([*words, "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0][key] == said
    assert lines[1]["status"] == "decode_error"
    assert _run([*words, "--output", str(tmp_path / "answers.csv")]) == 0
    with (tmp_path / "answers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row[key] for row in rows] == [cell, ""]
    assert rows[0]["class_name1"] == "dress"


@pytest.mark.parametrize("kind", ["unknown", "labels"])
def test_tables_and_jobs_say_it(kind: str, image: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    import pyarrow.parquet

    decision, _, key, said, _ = KINDS[kind]
    write(tmp_path / "model", decision)
    model = load(tmp_path / "model", image_size=32, threads=1, cache=False)
    inputs = [image, image.with_name("broken.png")]
    words = [str(path) for path in inputs]
    table = tmp_path / "answers.parquet"
    options = ["--model", str(tmp_path / "model"), "--image-size", "32", "--output", str(table)]
    assert _run(["classify", *words, *options]) == 0
    assert pyarrow.parquet.read_table(table)[key].to_pylist() == [said, None]
    for _ in range(2):  # the second run changes nothing, the third has old rows to read
        weevit.run_job(model, inputs, tmp_path / "job", "classify", topk=2)
        assert weevit.read_results(tmp_path / "job")[key].to_pylist() == [said, None]
    again = [*inputs, tmp_path / "none.png"]
    weevit.run_job(model, again, tmp_path / "job", "classify", topk=2)
    assert weevit.read_results(tmp_path / "job")[key].to_pylist() == [said, None, None]


def test_models_without_a_rule_answer_as_before(image: Path, tmp_path: Path) -> None:
    write(tmp_path / "model", None)
    model = load(tmp_path / "model", image_size=32, threads=1, cache=False)
    result = model.classify(image)
    assert (result.unknown, result.present) == (False, None)
    pytest.importorskip("pyarrow")
    weevit.run_job(model, image, tmp_path / "job", "classify", topk=2)
    assert not {"unknown", "present"} & set(weevit.read_results(tmp_path / "job").column_names)


def test_timm_passes_it_over(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    write(tmp_path, Decision(threshold=0.9, coverage=0.95))
    model = timm.create_model(f"local-dir:{tmp_path}", pretrained=True)
    assert model.head.bias.tolist() == [0.0, 2.0, -1.0]
