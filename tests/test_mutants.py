"""The benchmark that changes the code tells what tests notice from what they do not: on a package of one function."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "mutants.py"

MODULE = """\
def best(points):
    return max(points, points)


def passed(points):
    return points >= 50
"""

TESTS = """\
from toy.marks import best, passed

def test_marks() -> None:
    assert passed(best(50))
    assert not passed(49)
"""

EQUIVALENT, NOTICED = "return min(points, points)", "return points > 50"


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    for name, text in {
        "src/toy/__init__.py": "",
        "src/toy/marks.py": MODULE,
        "tests/test_marks.py": TESTS,
        "pyproject.toml": "[tool.pytest.ini_options]\n",
    }.items():
        path = tmp_path / "toy" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "toy"


def mutants(toy: Path, *words: str) -> str:
    command = [sys.executable, str(SCRIPT), "--root", str(toy), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="ends what hangs by POSIX signals")
def test_noticed_survived_and_argued(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("coverage")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    log = tmp_path / "found.jsonl"
    said = mutants(toy, "--count", "9", "--resume", str(log))
    rows = {row["after"]: row for row in map(json.loads, log.read_text().splitlines())}
    assert {row["outcome"] for after, row in rows.items() if after != EQUIVALENT} == {"killed"}
    assert rows[NOTICED]["by"] == "tests/test_marks.py::test_marks"
    assert rows[EQUIVALENT]["outcome"] == "survived"
    assert f"+ {EQUIVALENT}" in said.partition("Not noticed:")[2]
    assert "all rooms      3 of   4: 75 %" in said
    assert "DOUBTFUL" not in said
    assert (toy / "src/toy/marks.py").read_text() == MODULE

    assert "3 of   4" in mutants(toy, "--count", "9", "--resume", str(log))  # from the file: nothing is run
    row = {"file": "src/toy/marks.py", "before": "return max(points, points)", "after": EQUIVALENT, "reason": "equal"}
    (toy / "benchmarks").mkdir()
    (toy / "benchmarks" / "mutants_equivalent.json").write_text(json.dumps([row]))
    assert "all rooms      3 of   3: 100 %" in mutants(toy, "--count", "9", "--resume", str(log))
