"""Row M11, short: folders of jobs, runs and fits, changed anywhere and hashed anew, give typed errors and nothing else.

In full, 100 edits each and 5 s for each: `benchmarks/reliability/folders.py M11`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("filelock")
pytest.importorskip("sklearn")
pytest.importorskip("jinja2")

import strangers

import weevit
from weevit.store.files import sha256_file
from weevit.zoo.manifest import MANIFEST

PATIENCE = 60.0
"""Seconds, on a machine that is busy: what would never end is found all the same."""


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> strangers.Job:
    return strangers.Job(tmp_path_factory.mktemp("job"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> strangers.Run:
    pytest.importorskip("torch")
    return strangers.Run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def fit(tmp_path_factory: pytest.TempPathFactory) -> strangers.Fit:
    return strangers.Fit(tmp_path_factory.mktemp("fit"))


def test_a_strangers_job(job: strangers.Job, tmp_path: Path) -> None:
    said = [strangers.attack(job, tmp_path / "own", seed, PATIENCE) for seed in range(1000, 1025)]
    assert sum("Error: " in line for line in said) > 10


def test_a_strangers_run(run: strangers.Run, tmp_path: Path) -> None:
    said = [strangers.attack(run, tmp_path / "own", seed, PATIENCE) for seed in range(1000, 1012)]
    assert sum("Error: " in line for line in said) > 2


def test_a_strangers_fit(fit: strangers.Fit, tmp_path: Path) -> None:
    said = [strangers.attack(fit, tmp_path / "own", seed, PATIENCE) for seed in range(1000, 1030)]
    assert sum("Error: " in line for line in said) > 10


def _later(content: dict[str, Any]) -> None:
    content["step"] = 10**9


def _before(content: dict[str, Any]) -> None:
    content["step"] = -5


def _seen(content: dict[str, Any]) -> None:
    content["seen"] = 10**9


def _best(content: dict[str, Any]) -> None:
    content["best"]["step"] = 14


def _junk(content: dict[str, Any]) -> None:
    content["best"] = [1, {"a": 2}]


def _window(content: dict[str, Any]) -> None:
    content["window"] = {"loss": 3.0}


def _unknown(content: dict[str, Any]) -> None:
    content["optimizer"] = {"no such parameter": {"step": 3}}


@pytest.mark.parametrize(
    "change", [_later, _before, _seen, _best, _junk, _window, _unknown], ids=lambda own: own.__name__
)
def test_a_state_outside_the_schedule(
    run: strangers.Run, tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    from weevit.training import loop

    folder = Path(shutil.copytree(run.whole, tmp_path / "run"))
    state = max((folder / "state").iterdir())
    content = json.loads((state / "state.json").read_text())
    change(content)
    (state / "state.json").write_text(json.dumps(content))
    manifest = json.loads((state / MANIFEST).read_text())
    manifest["sha256"]["state.json"] = sha256_file(state / "state.json")
    (state / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(weevit.TrainingError, match=r"state\.json|optimizer\.safetensors"):
        loop.resume(folder, report=False)


@pytest.mark.parametrize("name", ["state", "log.txt", "run.json", ".lock", "plots", "model"])
def test_nothing_in_a_run_leads_out_of_it(run: strangers.Run, tmp_path: Path, name: str) -> None:
    from weevit.training import loop

    folder = Path(shutil.copytree(run.whole, tmp_path / "run"))
    outside = tmp_path / "outside"
    if (folder / name).exists():
        shutil.move(folder / name, outside)
    else:
        outside.write_text("kept")
    (folder / name).symlink_to(outside)
    before = sha256_file(outside) if outside.is_file() else sorted(outside.iterdir())
    with pytest.raises(weevit.UsageError, match="lead out of the folder"):
        loop.resume(folder, report=False)
    assert before == (sha256_file(outside) if outside.is_file() else sorted(outside.iterdir()))


def test_a_lock_that_leads_elsewhere_does_not_empty_it(tmp_path: Path) -> None:
    from weevit.store.locks import take_lock

    (tmp_path / "kept").write_text("kept")
    (tmp_path / ".lock").symlink_to(tmp_path / "kept")
    with pytest.raises(OSError, match="symbolic links"):
        take_lock(tmp_path / ".lock", weevit.JobError("busy"))
    assert (tmp_path / "kept").read_text() == "kept"
