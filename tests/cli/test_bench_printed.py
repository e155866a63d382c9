"""`weevit bench`: its table, its JSON, and lists of batch sizes that are none."""

from __future__ import annotations

import json
from functools import partial

import pytest

from weevit.cli import bench as module
from weevit.cli.app import _run
from weevit.engine import bench as engine
from weevit.engine.machine import cpu
from weevit.engine.timing import interleaved
from weevit.errors import UsageError


@pytest.fixture(autouse=True)
def _shortly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "interleaved", partial(interleaved, seconds=0))


def test_the_table_ends_with_what_to_type(capfd: pytest.CaptureFixture[str]) -> None:
    assert _run(["bench", "digits", "--batch", "4,1,4", "--rounds", "1", "--threads", "1"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert cpu().name in lines[0]
    assert "64 px" in lines[0]
    assert "1 thread (as asked) · 1 round · 20" in lines[0]
    assert [line.split()[:2] for line in lines if line.endswith("the default")] == [
        ["1", "onnxruntime"],
        ["4", "onnxruntime"],
    ]
    assert sum("bound in fp32" in line for line in lines) == 2
    assert lines[-1].startswith("recommended: ")
    assert "--batch-size" in lines[-1]


def test_the_same_as_json(capfd: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "digits", "--batch", "2", "--rounds", "1", "--threads", "1", "--image-size", "32x48", "--json"]
    assert _run(words) == 0
    (line,) = capfd.readouterr().out.splitlines()
    found = json.loads(line)
    assert (found["schema"], found["height"], found["width"], found["threads"]) == ("weevit.bench/1", 32, 48, 1)
    assert found["instruction_set"] == cpu().name
    first = found["speeds"][0]
    assert (first["engine"], first["precision"], first["device"], first["batch"]) == ("onnxruntime", "fp32", "cpu", 2)
    assert first["keeps_its_promise"]
    assert first["wall"] == {"median": 1.0, "low": 1.0, "high": 1.0, "won": 0.0}
    assert found["recommended"]["batch"] == 2
    assert len(found["speeds"]) + len(found["absent"]) == 5


@pytest.mark.parametrize("text", ["", "0", "1,,8", "8;64", "x", "99999"])
def test_lists_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="--batch is a list of batch sizes") as caught:
        module.parse_batches(text)
    assert caught.value.hint == "--batch 1,8,64"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("digits --clients 3", "--clients is for `bench --serve`, and `bench MODEL` was asked for"),
        ("digits --images photos", "--images is for `bench --serve`, and `bench MODEL` was asked for"),
        ("--search photos digits --batch 3", "--batch is for `bench MODEL`, and `bench --search` was asked for"),
        ("--serve http://127.0.0.1:1 --threads 1", "--threads is for `bench MODEL` and `bench --search`, and"),
        ("--serve http://127.0.0.1:1 --search photos", "--search is for `bench --search`, and `bench --serve`"),
    ],
)
def test_an_option_of_another_measurement_is_not_passed_over(
    words: str, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert _run(["bench", *words.split()]) == 2
    assert said in capfd.readouterr().err
