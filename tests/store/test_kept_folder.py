"""A kept folder: whose it is, what is left of it, and what stands in it for every verb."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from weevit.errors import OutputError, UsageError
from weevit.store.files import HINT
from weevit.store.folder import (
    FAILURES,
    LOCK,
    Kind,
    check_folder,
    clear_leftovers,
    differences,
    held,
)

pytest.importorskip("filelock")

THING = Kind(
    name="thing",
    record="thing.json",
    schemas=("weevit.thing",),
    files={"": ("thing.json", "parts"), "parts": ("*",)},
    unfinished={"part-*": Path.is_file},
    done="done.json",
    next="weevit show {0}",
    kept="All parts stand.",
    again="weevit again {0}",
)


def put(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("files", "ours"),
    [
        ({}, True),
        ({"thing.json": {"schema": "weevit.thing/1"}, "anything.txt": ""}, True),
        ({"thing.json": {"schema": "weevit.other/1"}}, False),
        ({"thing.json": {"name": "mine"}}, False),
        ({"thing.json": "[" * 100_000}, False),
        ({"thing.json": {"schema": "weevit.thing/1"}, "run.json": "{}"}, False),
        ({"part-1": "", "part-2": ""}, True),
        ({"part-1": "", "thesis.tex": ""}, False),
        ({"part-1/inner": ""}, False),
        ({".hidden": ""}, True),
    ],
)
def test_whose_a_folder_is(tmp_path: Path, files: dict[str, object], ours: bool) -> None:
    folder = tmp_path / "out"
    for name, content in files.items():
        put(folder / name, content)
    if ours:
        check_folder(folder, THING)
    else:
        with pytest.raises(UsageError, match="is not empty and holds no thing"):
            check_folder(folder, THING)


def test_a_damaged_record_of_what_is_resumed_is_no_folder_of_others(tmp_path: Path) -> None:
    put(tmp_path / "out" / "thing.json", "{")
    resumed = Kind("thing", "thing.json", ("weevit.thing",), THING.files, resumed=True)
    check_folder(tmp_path / "out", resumed)


def test_what_is_done_is_not_begun_again(tmp_path: Path) -> None:
    put(tmp_path / "out" / "thing.json", {"schema": "weevit.thing/1"})
    put(tmp_path / "out" / "done.json", {})
    with pytest.raises(UsageError, match="holds a thing already") as caught, held(tmp_path / "out", THING):
        pytest.fail("it was held")
    assert caught.value.hint == f"weevit show {tmp_path / 'out'}"


def test_a_folder_is_held_by_one(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with held(folder, THING):
        for again in (lambda: check_folder(folder, THING), lambda: held(folder, THING).__enter__()):
            with pytest.raises(OutputError, match="Another process works in"):
                again()
        put(folder / "thing.json", {"schema": "weevit.thing/1"})
    with held(folder, THING):
        pass


def test_what_came_to_nothing_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), held(tmp_path / "new" / "out", THING):
        raise RuntimeError
    assert not (tmp_path / "new" / "out").exists()
    (tmp_path / "mine").mkdir()
    with held(tmp_path / "mine", THING):
        pass
    assert (tmp_path / "mine").is_dir()  # who made it keeps it


def test_leftovers_of_a_kill_go_and_files_of_others_stay(tmp_path: Path) -> None:
    for name in (".thing.json.0123abcd.tmp", ".parts.0123abcd.old/a", ".parts.0123abcd.tmp/a"):
        put(tmp_path / name, "half")
    kept = [put(tmp_path / name, "mine") for name in (".notes.tmp", "a.0123abcd.tmp", ".thing.json.0123abcd.txt")]
    clear_leftovers(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(kept)


def test_one_list_of_failures(tmp_path: Path) -> None:
    THING.write_failures(
        tmp_path, [("=1+1.png", "train", "decode_error", "truncated: a\nb"), ("b", None, "missing", None)]
    )
    with (tmp_path / FAILURES).open(newline="") as file:
        assert list(csv.DictReader(file)) == [
            {"input": "'=1+1.png", "split": "train", "status": "decode_error", "error": "truncated: a\nb"},
            {"input": "b", "split": "", "status": "missing", "error": ""},
        ]
    THING.write_failures(tmp_path, [])
    assert not (tmp_path / FAILURES).exists()


@pytest.mark.parametrize("begun", [False, True])
def test_what_could_not_be_written_says_what_is_kept(tmp_path: Path, begun: bool) -> None:
    """A command that goes on with the folder is named only where something was begun in it."""
    if begun:
        put(tmp_path / THING.record, {})
    with pytest.raises(OutputError, match=r"No such file or directory\. All parts stand") as caught:
        THING.write(tmp_path, "nowhere/a", "b")
    assert caught.value.hint == (f"weevit again {tmp_path}" if begun else HINT)


def test_differences_are_named_by_their_key() -> None:
    then = {"verb": "embed", "options": {"dtype": "float16", "normalize": True}, "old": 1}
    now = {"verb": "embed", "options": {"dtype": "float32", "layers": [1]}, "new": "x" * 300}
    assert differences(then, now) == [
        "  options.dtype: float16 then, float32 now",
        "  options.layers: null then, [1] now",
        "  options.normalize: true then, null now",
        f"  new: null then, {'x' * 200}... now",
    ]


@pytest.mark.parametrize("record", ["begun.json", "run.json", "job.json"])
def test_no_report_goes_over_what_another_verb_keeps(tmp_path: Path, record: str) -> None:
    """A fine-tuning has the evaluation of what it kept in its own folder, with the record that `eval` writes."""
    from weevit.evaluation.saved import EVALUATION

    put(tmp_path / "report.json", {"schema": "weevit.evaluation/2"})
    check_folder(tmp_path, EVALUATION)
    put(tmp_path / record, {})
    with pytest.raises(UsageError, match="holds no evaluation"):
        check_folder(tmp_path, EVALUATION)


def test_the_lock_is_a_file_of_the_folder(tmp_path: Path) -> None:
    with held(tmp_path / "out", THING):
        assert (tmp_path / "out" / LOCK).is_file()
