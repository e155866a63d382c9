"""Records are read strictly: types, bounds, keys; and files in folders of ours lead nowhere else."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pytest

from weevit.errors import MalformedFileError, UsageError
from weevit.store.files import append_line
from weevit.store.outputs import local
from weevit.store.own import read_own, refuse_links
from weevit.zoo.records import (
    Count,
    Flag,
    Name,
    Number,
    Sha256,
    either,
    items,
    nothing,
    number,
    parse_line,
    read_record,
    read_record_file,
    table,
    to_line,
    words,
)


@dataclass(frozen=True)
class Inner:
    step: Count
    value: Number


@dataclass(frozen=True)
class Outer:
    name: Name
    digest: Sha256
    best: Inner | None
    flag: Flag = False
    share: Annotated[float | None, either(number(0, 1), nothing)] = None
    rows: Annotated[tuple[str, ...], items(words(3), 2)] = ()
    sums: Annotated[dict[str, int], table(words(2), number(0, 9), 2)] = field(default_factory=dict)


GOOD: dict[str, Any] = {"name": "a", "digest": "0" * 64, "best": {"step": 3, "value": -1.5}}


def test_what_is_right_is_read() -> None:
    more = {"flag": True, "share": 1, "rows": ["abc"], "sums": {"a": 9}}
    assert read_record(Outer, GOOD | more, "f") == Outer("a", "0" * 64, Inner(3, -1.5), True, 1, ("abc",), {"a": 9})
    assert read_record(Outer, {**GOOD, "best": None}, "f").best is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": 3}, "name is 3; expected text"),
        ({"name": "x" * 257}, "name is 'xxx"),
        ({"digest": "G" * 64}, "digest is .* expected 64 hex digits"),
        ({"digest": "0" * 63}, "digest is .* expected 64 hex digits"),
        ({"best": []}, r"best: \[\] is given where an object"),
        ({"best": {"step": -5, "value": 0}}, "best: step is -5; expected a whole number from 0 to"),
        ({"best": {"step": True, "value": 0}}, "best: step is True"),
        ({"best": {"step": 1.0, "value": 0}}, r"best: step is 1\.0"),
        ({"best": {"step": 1, "value": float("nan")}}, "best: value is nan; expected a finite number"),
        ({"best": {"step": 1, "value": 10**400}}, "best: value is 1000"),
        ({"best": {"step": 1}}, "best: the key value is missing"),
        ({"flag": 1}, "flag is 1; expected true or false"),
        ({"share": 1.1}, "share is 1.1; expected a finite number from 0 to 1, or null"),
        ({"rows": ["a", "b", "c"]}, "rows is .* expected a list of at most 2 values"),
        ({"rows": ["abcd"]}, "rows is .* expected text of at most 3 characters"),
        ({"sums": {"abc": 1}}, "sums is an object of 1 keys; expected text of at most 2 characters"),
        ({"sums": {"a": 10}}, "sums is an object of 1 keys; expected a finite number from 0 to 9"),
        ({"more": 1}, "the key 'more' is unknown; there are name, digest"),
        ({"\x1b]0;": 1}, r"the key '\\x1b\]0;' is unknown"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises(MalformedFileError, match=f"^f.json: {said}"):
        read_record(Outer, GOOD | change, "f.json")


@pytest.mark.parametrize("raw", [None, 3, "x", [GOOD]])
def test_what_is_no_object(raw: object) -> None:
    with pytest.raises(MalformedFileError, match="an object"):
        read_record(Outer, raw, "f")


def test_a_file_of_one_record(tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    with pytest.raises(FileNotFoundError):
        read_record_file(Outer, path)
    path.write_text(json.dumps({"schema": "s/1", **GOOD}))
    assert read_record_file(Outer, path, "s/1").name == "a"
    for schema, limit, said in (("s/2", 1000, "not of the kind s/2"), ("s/1", 100, "the limit for such a file is 100")):
        with pytest.raises(MalformedFileError, match=said):
            read_record_file(Outer, path, schema, limit)


def test_lines(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    append_line(path, to_line({"a": "ü\n"}))
    append_line(path, to_line({"b": 1}))
    assert [parse_line(line, "f") for line in path.read_bytes().splitlines()] == [{"a": "ü\n"}, {"b": 1}]
    with pytest.raises(MalformedFileError, match="changed after it was written"):
        parse_line(to_line({"a": 1}).replace(b"1", b"2", 1), "f")
    with pytest.raises(MalformedFileError, match="the limit is 65,536"):
        parse_line(b" " * 65_537, "f")


def test_files_that_lead_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"own")
    assert read_own(tmp_path / "file", 3) == b"own"
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("link", "pipe", "folder"):
        with pytest.raises(MalformedFileError, match=f"{name} is a link, a pipe"):
            read_own(tmp_path / name, 3)
    refuse_links(tmp_path, ["file", "folder", "other-*"])
    refuse_links(tmp_path / "nowhere", ["*"])
    for pattern in ("link", "pip*"):
        with pytest.raises(MalformedFileError, match="lead out of the folder"):
            refuse_links(tmp_path, [pattern])


@pytest.mark.parametrize("address", ["s3://bucket/x", "gs://b", "file:///x", "hf://a/b.csv", "https://h/x"])
def test_outputs_that_are_addresses(address: str) -> None:
    for output in (Path(address), address):
        with pytest.raises(UsageError, match="is an address"):
            local(Path(output))


@pytest.mark.parametrize("name", ["out", "a/b", "C:/x", "C:\\x", "s3", "a:b", "12:30/x", "x/s3:/y", "/s3://x"])
def test_outputs_that_are_none(name: str) -> None:
    local(Path(name))
