"""Whoever holds a state's lock finds a run between two updates; and a run keeps the order of its classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("filelock")
pytest.importorskip("sklearn")

import runs  # noqa: E402 - after the skips

import weevit  # noqa: E402
from weevit.training import loop, results  # noqa: E402
from weevit.training.setup import reopen  # noqa: E402
from weevit.training.state import State  # noqa: E402
from weevit.training.watch import Watcher  # noqa: E402
from weevit.zoo.checkpoint import read_checkpoint  # noqa: E402
from weevit.zoo.writing import write_checkpoint  # noqa: E402

PLAIN: dict[str, Any] = {"threads": 1, "report": False}


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A recipe and images; no curves, which take longer than the training."""
    monkeypatch.setattr(results, "draw_curves", lambda *arguments: False)
    return runs.recipe(tmp_path / "recipe.yaml"), runs.images(tmp_path / "data")


def test_whatever_changes_a_state_holds_its_lock(made: tuple[Path, Path], tmp_path: Path, monkeypatch: Any) -> None:
    """Every attribute that is set, and every step of the optimiser and of the averages."""
    without: list[str] = []
    steps = []
    real_begin, real_set = loop.begin, State.__setattr__

    def check(state: State, what: str) -> None:
        if not state.lock._is_owned():
            without.append(what)

    def watched(state: State, name: str, value: Any) -> None:
        if "lock" in vars(state):
            check(state, name)
        real_set(state, name, value)

    def begin(*given: Any) -> Any:
        work = real_begin(*given)
        state = work.state
        state.optimizer.register_step_pre_hook(lambda *_: (check(state, "optimizer"), steps.append(1))[0])
        real_update = state.ema.update
        monkeypatch.setattr(state.ema, "update", lambda *more: (check(state, "ema"), real_update(*more))[1])
        monkeypatch.setattr(State, "__setattr__", watched)
        return work

    monkeypatch.setattr(loop, "begin", begin)
    loop.train(*made, tmp_path / "run", **PLAIN)
    assert without == []
    assert len(steps) == runs.STEPS


def test_a_run_that_is_resumed_has_its_classes_in_their_order(made: tuple[Path, Path], tmp_path: Path) -> None:
    recipe, data = made
    first = loop.train(recipe, data, tmp_path / "first", ["schedule.epochs=1"], **PLAIN)
    trained = read_checkpoint(first.folder / "model")
    assert trained.labels is not None
    turned = tmp_path / "turned"  # the same classes, the last one first
    write_checkpoint(
        turned, trained.architecture, trained.tensors(), trained.preprocessing, trained.labels[::-1], grid=trained.grid
    )
    words = [f"model.name={turned}", "model.pretrained=true"]
    whole = loop.train(recipe, data, tmp_path / "whole", words, **PLAIN)
    at = [0]
    stop = Watcher(moved=lambda progress: at.__setitem__(0, progress.step), should_stop=lambda: at[0] >= 3)
    stopped = loop.train(recipe, data, tmp_path / "stopped", words, watcher=stop, **PLAIN)
    assert stopped.step < whole.step
    work = reopen(tmp_path / "stopped", None, None, pytest.fail)
    assert work.dataset.classes == ("class 2", "class 1", "class 0")
    for split in work.dataset.splits.values():
        for source, target in zip(split.sources, split.targets, strict=True):
            assert Path(str(source.value)).parent.name == work.dataset.classes[target]
    assert loop.resume(tmp_path / "stopped", report=False).digest == whole.digest
    assert [label.id for label in weevit.load(whole.folder).checkpoint.labels or ()] == [
        "class 2",
        "class 1",
        "class 0",
    ]
