"""The columns of every verb in every form, frozen: a change is one of `docs/answers.md`, and perhaps of `SCHEMA`."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fakes
import numpy as np
import pytest

import weevit
from weevit.answers import tables
from weevit.answers.columns import SCHEMA, Column, json_object
from weevit.answers.results import Prediction, Result
from weevit.answers.tables import csv_lines, read_csv
from weevit.cli.app import _run
from weevit.errors import MalformedFileError
from weevit.zoo.architectures import get_architecture
from weevit.zoo.decision import Decision
from weevit.zoo.labels import Label
from weevit.zoo.weights import BY_NAME
from weevit.zoo.writing import write_checkpoint

ROOT = Path(__file__).resolve().parents[2]

COMMON = {"input": "string", "status": "string", "error": "string", "width": "int32", "height": "int32"}
CLASSES = {
    "class_index": "list of int32",
    "class_id": "list of string",
    "class_name": "list of string",
    "probability": "list of float32",
}
SAID = {"plain": {}, "unknown": {"unknown": "bool"}, "labels": {"present": "list of string"}}
"""Kind of model -> what it says of its own."""

JOB = {"target": "string", "fingerprint": "string"}
JUDGED = {"target": "string", "target_probability": "float32", "rank": "int32", "right": "bool"}

DECISIONS = {"plain": None, "unknown": Decision(threshold=0.5), "labels": Decision(multi_label=True)}
KINDS = tuple(DECISIONS)


def classes(kind: str) -> dict[str, str]:
    return COMMON | CLASSES | SAID[kind]


def predictions(kind: str) -> dict[str, str]:
    asked = {name: COMMON[name] for name in ("input", "status", "error")}
    if kind == "labels":
        return asked | SAID[kind] | {name: JUDGED[name] for name in ("target", "right")}
    return asked | {name: CLASSES[name] for name in ("class_id", "class_name", "probability")} | SAID[kind] | JUDGED


def test_the_version() -> None:
    assert SCHEMA == 2


# ---- one model of each kind, and the same images, in every form


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Kind -> the folder of a model of three classes."""
    top, arch = tmp_path_factory.mktemp("models"), get_architecture(fakes.TINY)
    labels = [Label("n01", "red coat"), Label("n02", "blue coat"), Label("n03", "hat, cap")]
    tensors = fakes.tensors(arch, 3)
    tensors["head.bias"] = np.array([0.3, 0.2, 0.1], np.float32)
    for kind, decision in DECISIONS.items():
        write_checkpoint(top / kind, arch, tensors, BY_NAME[fakes.TINY_TAG].preprocessing, labels, decision=decision)
    return {kind: top / kind for kind in KINDS}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of classes; the first image of all is broken."""
    from labelled import folder

    top = folder(tmp_path_factory.mktemp("data"), {"n01": 2, "n02": 1, "n03": 1})
    (top / "n01" / "0.png").write_bytes(b"no image")
    return top


Rows = list[dict[str, Any]]


@pytest.fixture
def written(models: dict[str, Path], images: Path, tmp_path: Path) -> Callable[..., Path]:
    def write(verb: str, kind: str, name: str, *more: str) -> Path:
        words = [verb, str(images), "-m", str(models[kind]), "--image-size", "32", "-q", "-o", str(tmp_path / name)]
        if verb == "eval":
            words[1:4] = [str(models[kind]), str(images)]
        assert _run([*words, *more]) == 0
        return tmp_path / name

    return write


def columns_of(path: Path) -> dict[str, str]:
    """Name -> type of a Parquet file, as the documentation says it."""
    parquet = pytest.importorskip("pyarrow.parquet")
    schema = parquet.read_schema(path)
    assert schema.metadata[b"weevit.schema"] == str(SCHEMA).encode()
    plain = {field.name: re.sub(r"list<\w+: (\w+)>", r"list of \1", str(field.type)) for field in schema}
    return {name: re.sub(r"\bfloat\b", "float32", kind) for name, kind in plain.items()}


def csv_rows(path: Path) -> Rows:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("kind", KINDS)
def test_classify(kind: str, written: Callable[..., Path], models: dict[str, Path], images: Path,
                  capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    parquet = pytest.importorskip("pyarrow.parquet")
    table, job = written("classify", kind, "a.parquet", "--topk", "2"), written("classify", kind, "a", "--topk", "2")
    assert columns_of(table) == classes(kind)
    assert list(columns_of(table)) == list(classes(kind))  # in this order
    (shard,) = (job / "data").iterdir()
    assert list(columns_of(shard).items()) == list((classes(kind) | JOB).items())
    rows = parquet.read_table(table).to_pylist()
    assert rows == weevit.read_results(job).select(list(classes(kind))).to_pylist()
    assert [row["status"] for row in rows] == ["decode_error", "ok", "ok", "ok"]
    assert all(rows[0][name] is None for name in ("width", "height", *CLASSES, *SAID[kind]))

    lines = [json.loads(line) for line in written("classify", kind, "a.jsonl", "--topk", "2").read_text().splitlines()]
    capsys.readouterr()
    assert (
        _run(["classify", str(images), "-m", str(models[kind]), "--image-size", "32", "-q", "--topk", "2", "--json"])
        == 0
    )
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == lines
    assert all(list(line) == ["schema", *classes(kind)] for line in lines)
    assert all(line.pop("schema") == SCHEMA for line in lines)
    assert list(map(as_float32, lines)) == list(map(as_float32, rows))
    assert all(float(str(np.float32(one))) == one for line in lines for one in line["probability"] or [])

    found = csv_rows(written("classify", kind, "a.csv", "--topk", "2"))
    ranked = [f"{name}{rank}" for rank in (1, 2) for name in CLASSES]
    assert list(found[0]) == [*COMMON, *ranked, *SAID[kind]]
    for line, cells in zip(lines, found, strict=True):
        for name in CLASSES:
            own = line[name] or ["", ""]
            assert [cells[f"{name}1"], cells[f"{name}2"]] == list(map(str, own))
        if kind == "unknown":
            assert cells["unknown"] == {None: "", True: "1", False: "0"}[line["unknown"]]
        if kind == "labels":
            assert cells["present"] == ";".join(line["present"] or [])


def as_float32(row: dict[str, Any]) -> dict[str, Any]:
    shares = row["probability"]
    return row | {"probability": shares and np.array(shares, np.float32).tolist()}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_embed(dtype: str, written: Callable[..., Path], models: dict[str, Path], images: Path,
               capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    parquet = pytest.importorskip("pyarrow.parquet")
    wanted = COMMON | {"embedding": f"list of {dtype.replace('float16', 'halffloat')}"}
    (shard,) = (written("embed", "plain", "job", "--dtype", dtype) / "data").iterdir()
    assert list(columns_of(shard).items()) == list((wanted | JOB).items())
    if dtype == "float16":
        return
    table = written("embed", "plain", "a.parquet")
    assert list(columns_of(table).items()) == list(wanted.items())
    capsys.readouterr()
    assert _run(["embed", str(images), "-m", str(models["plain"]), "--image-size", "32", "-q", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [list(line) for line in lines] == [["schema", *wanted]] * 4
    for line, row in zip(lines, parquet.read_table(table).to_pylist(), strict=True):
        vector = line["embedding"] and np.array(line["embedding"], np.float32).tolist()
        assert row == {name: value for name, value in line.items() if name != "schema"} | {"embedding": vector}


def test_features(written: Callable[..., Path]) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    (shard,) = (written("features", "plain", "maps", "--layers", "3,-1") / "data").iterdir()
    blocks = {"block_3": "list of float32", "block_11": "list of float32"}
    assert list(columns_of(shard).items()) == list((COMMON | blocks | JOB).items())
    shapes = json.loads(parquet.read_schema(shard).metadata[b"weevit.shapes"])
    assert shapes == {"block_3": [192, 2, 2], "block_11": [192, 2, 2]}


@pytest.mark.parametrize("kind", KINDS)
def test_evaluations(kind: str, written: Callable[..., Path]) -> None:
    pytest.importorskip("jinja2")
    pytest.importorskip("pyarrow")
    table = written("eval", kind, "one", "--table", "parquet") / "predictions.parquet"
    assert list(columns_of(table).items()) == list(predictions(kind).items())
    found = csv_rows(written("eval", kind, "two") / "predictions.csv")
    assert list(found[0]) == [f"{name}1" if name in CLASSES else name for name in predictions(kind)]
    assert written("eval", kind, "two")  # its own files are known, and replaced


# ---- in Python


def test_a_result_as_a_row() -> None:
    keys = [*COMMON, *CLASSES, "unknown", "present", "embedding"]
    top = (Prediction(7, None, "class 7", 0.75), Prediction(2, "n02", "hat", 0.25))
    named = Result("a.png", width=4, height=3, top=top, present=top[1:]).to_dict()
    vector = np.arange(3, dtype=np.float32)
    for one in (named, Result("b.png", "missing", "missing: b.png").to_dict(), Result("c", embedding=vector).to_dict()):
        assert list(one) == keys
    assert named["class_id"] == ["class 7", "n02"]
    assert named["present"] == ["n02"]
    assert (named["class_index"].dtype, named["probability"].dtype) == (np.int32, np.float32)
    assert Result("b.png", "missing", "x").to_dict() == dict.fromkeys(keys) | {
        "input": "b.png", "status": "missing", "error": "x",
    }  # fmt: skip
    assert Result("c", embedding=vector).to_dict()["embedding"] is vector


def test_text_reads_back_as_the_same_float32() -> None:
    shares = np.random.default_rng(0).random(2000).astype(np.float32) ** 8
    column = Column("probability", "float32", lambda row: row, "ranked", (len(shares),))
    own = json_object(shares, [column])["probability"]
    assert (np.array(own, np.float32) == shares).all()
    assert all(repr(one) == str(share) for one, share in zip(own, shares, strict=True))
    (row,) = read_csv(b"".join(csv_lines([shares], [column])), [column], "a.csv")
    assert (np.array(row["probability"], np.float32) == shares).all()


COLUMNS = (
    Column("input", "string", lambda row: row[0]),
    Column("class_id", "string", lambda row: row[1], "ranked", (2,)),
    Column("probability", "float32", lambda row: row[2], "ranked", (2,)),
    Column("right", "bool", lambda row: row[3]),
    Column("present", "string", lambda row: row[4], "set"),
    Column("rank", "int32", lambda row: row[5]),
)


def test_a_csv_is_read_as_it_was_written() -> None:
    rows = [("=a,\n", ["x", "'y"], [0.5, 0.25], True, ["x", "z"], 3), ("b", None, None, False, None, None)]
    text = b"".join(csv_lines(rows, COLUMNS))
    assert text.splitlines()[0] == b"input,class_id1,probability1,class_id2,probability2,right,present,rank"
    assert [tuple(row.values()) for row in read_csv(text, COLUMNS, "a.csv")] == rows


@pytest.mark.parametrize(
    "line",
    ["a,x,0.5,y,0.25,1,x,1.5\n", "a,x,0.5,y,much,1,x,1\n", "a,x,0.5\n", "a,x,0.5,y,0.25,1,x,1,2\n", "\xff,x,0.5\n"],
)
def test_a_csv_with_something_else_in_it(line: str) -> None:
    with pytest.raises(MalformedFileError, match=r"a\.csv"):
        list(read_csv(b"".join(csv_lines([], COLUMNS)) + line.encode("latin-1"), COLUMNS, "a.csv"))
    with pytest.raises(MalformedFileError, match=r"a\.csv has other columns than input, class_id, "):
        list(read_csv(b"id,status\n", COLUMNS, "a.csv"))


# ---- the page


def page_rows(heading: str) -> list[list[str]]:
    text = (ROOT / "docs" / "answers.md").read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2]
    lines = [line for line in text.partition("\n## ")[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_page_has_every_column_and_its_type() -> None:
    own = {"embedding": "list of float32", "block_i": "list of float32"}
    every = COMMON | CLASSES | SAID["unknown"] | SAID["labels"] | own | JOB | JUDGED
    assert {name.strip("`"): kind for name, kind, *_ in page_rows("Columns")} == every


def test_the_page_has_the_columns_of_evaluations() -> None:
    forms = {form: re.findall(r"`(\w+)`", columns) for form, columns, _ in page_rows("Forms")}
    assert forms["`predictions.parquet`, an evaluation"] == list(predictions("unknown"))
    assert forms["the same, several labels per image"] == list(predictions("labels"))
    assert forms["`-o answers/`, a job"] == list(JOB)
    text = (ROOT / "docs" / "answers.md").read_text(encoding="utf-8")
    assert f"columns is {SCHEMA}" in " ".join(text.split())


def test_more_numbers_than_a_file_can_count_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow")
    rows = [np.ones(4, np.float32), None, np.ones(4, np.float32)]
    monkeypatch.setattr(np, "iinfo", lambda kind: SimpleNamespace(max=8))
    assert len(tables._lists(rows, "float32")) == 3
    monkeypatch.setattr(np, "iinfo", lambda kind: SimpleNamespace(max=7))
    with pytest.raises(weevit.UsageError, match="3 rows of 4 numbers are too many for one file"):
        tables._lists(rows, "float32")


def test_a_cell_that_is_too_long_is_a_damaged_table() -> None:
    content = b"input\n" + b"x" * (csv.field_size_limit() + 1) + b"\n"
    with pytest.raises(MalformedFileError, match=r"a\.csv cannot be read: field larger than field limit"):
        list(read_csv(content, [Column("input", "string", str)], "a.csv"))
