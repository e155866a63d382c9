"""Row J13 of the reliability scorecard: one odd row of every kind is one failed row, in whatever it stands.

A thousand good rows: `benchmarks/reliability/odd_rows.py`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import containers
import pytest

from weevit.datasets.read import read_dataset
from weevit.errors import ImageError
from weevit.images.source import Source, open_image
from weevit.images.sources import expand

GOOD = 20


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return containers.odd_place(tmp_path)


def answers(found: list[Source]) -> list[str]:
    """`ok`, or the status of each."""
    given = []
    for source in found:
        source.name.encode()  # any terminal takes it
        try:
            given.append("ok" if open_image(source).size == (4, 3) else "another")
        except ImageError as error:
            error.message.encode()
            given.append(error.status if len(source.name + error.message) < 10_000 else "long")
    return given


@pytest.mark.parametrize("kind", containers.CONTAINERS)
@pytest.mark.parametrize("odd", containers.ODD_PATHS)
def test_one_odd_row_is_one_failed_row(place: Path, kind: str, odd: str) -> None:
    path = containers.ODD_PATHS[odd]
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    made = containers.with_odd_row(place, kind, path, GOOD)
    if made is None:
        pytest.skip("cannot be said there")
    given = answers(list(expand(made)))
    middle = given[GOOD:-GOOD]
    assert given[:GOOD] == given[-GOOD:] == ["ok"] * GOOD
    assert len(middle) == (0 if kind == "txt" and not path.strip() else 1)
    assert not {"ok", "long"} & set(middle)


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet"])
@pytest.mark.parametrize("odd", containers.ODD_PATHS)
def test_a_data_set_has_all_rows(place: Path, kind: str, odd: str) -> None:
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    made = containers.with_odd_row(place, kind, containers.ODD_PATHS[odd], GOOD)
    if made is None:
        pytest.skip("cannot be said there")
    dataset = read_dataset(made)
    given = answers(list(dataset.split("all").sources))
    assert given.count("ok") == 2 * GOOD
    left_out = any("could not be read, left out" in note for note in dataset.notes)
    assert len(given) - given.count("ok") == (0 if left_out else 1)


def test_rows_that_could_not_be_read_are_told(place: Path) -> None:
    lines = ["path,label", *["a.png,x"] * 3, 'a.png,"x', *["a.png,y"] * 100, "a,png,x,y"]
    (place / "t.csv").write_text("\n".join(lines))
    dataset = read_dataset(place / "t.csv")
    assert len(dataset) == 103
    (note,) = dataset.notes
    assert "t.csv#row5: line 5:" in note
    assert "t.csv#row106: line 106: 4 cells" in note


@pytest.mark.parametrize("odd", containers.ODD_PATHS)
def test_the_same_as_words(place: Path, odd: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    path = containers.ODD_PATHS[odd]
    if odd in ("folder", "above", "address"):
        return  # gives what is in it; `test_remote.py`
    given = answers(list(expand(["a.png", path, Path(path) if path.strip() else path, f"{path}*", "a.png"])))
    assert (given[0], given[-1]) == ("ok", "ok")
    assert len(given) >= 4
    wrong = {"decode_error"} if odd == "data URI" else {"missing", "unreadable", "unsupported"}
    assert path == "" or set(given[1:3]) <= wrong


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0 or sys.platform == "darwin", reason="needs another user to be")
def test_a_locked_folder_is_a_row(place: Path) -> None:
    (place / "locked").mkdir()
    (place / "locked/a.png").write_bytes(containers.png())
    (place / "list.txt").write_text("locked/a.png\na.png\n")
    for above in (place, *place.parents):
        if above.stat().st_mode & 0o055 != 0o055 and above != Path("/"):
            above.chmod(0o755)
    (place / "locked").chmod(0o700)
    os.seteuid(65534)
    try:
        given = [answers(list(expand(what))) for what in (place / "locked/a.png", place / "list.txt", place / "locked")]
        assert given == [["unreadable"], ["unreadable", "ok"], ["unreadable"]]
    finally:
        os.seteuid(0)
