"""Files of answers have a line for each row, whatever the names are."""

from __future__ import annotations

from operator import attrgetter
from pathlib import Path

import numpy as np

from weevit.answers.columns import Column
from weevit.answers.results import Result
from weevit.cli.writers import write_npy

NAMES = ["a.png", "b\nc.png", "b\\nc.png", "d\r.png", "d\\r.png", "e\r\nf.png", "\\", "käse.png", "g h.png"]


def test_a_list_of_names_has_a_line_for_each_row(tmp_path: Path) -> None:
    results = [Result(name, embedding=np.full(3, place, np.float32)) for place, name in enumerate(NAMES)]
    results.insert(2, Result("failed.png", status="missing", error="missing: no such file"))
    write_npy(tmp_path / "v.npy", results, [Column("embedding", "float32", attrgetter("embedding"), "vector", (3,))])
    vectors = np.load(tmp_path / "v.npy", allow_pickle=False)
    text = (tmp_path / "v.ids.txt").read_bytes().decode()
    lines = text.splitlines()
    assert len(lines) == len(vectors) == len(NAMES)
    assert text.count("\n") == len(NAMES)
    assert "\r" not in text
    assert len(set(lines)) == len(NAMES)  # two names are never one
    assert (lines[0], lines[7], lines[8]) == ("a.png", "käse.png", "g h.png")
    assert vectors[:, 0].tolist() == list(range(len(NAMES)))
