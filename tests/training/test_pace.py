"""A run with a time budget: where its schedule ends, as the machine turns out, and that a resumed run follows it."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("filelock")

import runs  # noqa: E402 - after the skips
from browsing import DESKTOP, PHONE  # noqa: E402

from weevit.errors import TrainingError, UsageError  # noqa: E402
from weevit.training import loop, results  # noqa: E402
from weevit.training.pace import LOOKS, Lookout, Pace  # noqa: E402
from weevit.training.state import checkpoints  # noqa: E402
from weevit.training.watch import Watcher  # noqa: E402


class Machine:
    """A machine of a known speed: seconds of an update, as they pass."""

    def __init__(self, planned: int, budget: float, evaluating: float = 0.0) -> None:
        self.now, self.step, self.evaluating = 0.0, 0, evaluating
        self.pace = Pace(planned, [])
        self.lookout = Lookout(self.pace, budget, lambda: self.now)

    def train(self, update: Any) -> Machine:
        """To the end of the schedule; `update(seconds so far)` is how long one takes."""
        while self.step < self.pace.total:
            took = update(self.now)
            self.now, self.step = self.now + took, self.step + 1
            self.lookout.updated(self.step, took, self.evaluating)
        return self


def test_as_planned_a_place_is_the_step_itself() -> None:
    pace = Pace(100, [])
    assert [pace.position(step) for step in (0, 1, 99, 100)] == [0, 1, 99, 100]
    assert all(isinstance(pace.position(step), int) for step in range(3))  # the same bits as ever
    assert [step for step in range(1, 101) if pace.comes_by(step, 7)] == list(range(7, 101, 7))


@pytest.mark.parametrize("ends", [[(10, 50)], [(3, 9), (5, 80), (60, 61)], [(1, 1)], [(2, 100), (90, 100)]])
def test_places_rise_to_the_end_of_the_schedule(ends: list[tuple[int, int]]) -> None:
    pace = Pace(100, ends)
    places = [pace.position(step) for step in range(pace.total + 1)]
    assert places[0] == 0
    assert all(first < second for first, second in itertools.pairwise(places))
    if ends[-1][1] > ends[-1][0]:
        assert places[-1] == pytest.approx(100)
    assert sum(pace.comes_by(step, 25) for step in range(1, pace.total)) <= 3


def test_what_was_decided_later_changes_nothing_before() -> None:
    first, both = Pace(100, [(10, 50)]), Pace(100, [(10, 50), (20, 70)])
    assert [first.position(step) for step in range(21)] == [both.position(step) for step in range(21)]


@pytest.mark.parametrize("update", [0.1, 1.0, 30.0])
def test_a_budget_is_used_and_kept(update: float) -> None:
    machine = Machine(100_000, 1200, evaluating=20).train(lambda now: update)
    assert 0.9 * 1200 <= machine.now + 20 <= 1200
    assert 1 <= len(machine.pace.ends) <= LOOKS + 1


def test_with_more_time_than_the_data_asks_for_it_ends_as_planned() -> None:
    machine = Machine(500, 1200).train(lambda now: 0.5)
    assert (machine.step, machine.now) == (500, 250)
    assert machine.pace.ends == []


@pytest.mark.parametrize("times", [3, 10, 30])
def test_a_machine_that_is_busy_for_two_minutes_costs_those_minutes_alone(times: float) -> None:
    """20 minutes; another process takes the cores for the first two (D1b: 5 of 20 minutes were used)."""
    alone = Machine(2_000, 1140).train(lambda now: 0.5)
    busy = Machine(2_000, 1140).train(lambda now: 0.5 * times if now < 120 else 0.5)
    assert alone.step == 2_000
    assert busy.now >= 0.95 * 1140 or busy.step == 2_000
    assert busy.step >= 0.85 * 2_000


def test_a_machine_that_slows_down_later_still_ends_in_time_at_the_end_of_the_schedule() -> None:
    machine = Machine(2_000, 1140).train(lambda now: 0.4 if now < 600 else 4.0)
    assert 0.9 * 1140 <= machine.now <= 1140
    assert machine.pace.position(machine.step) == pytest.approx(2_000)


# ---- in a run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    top = tmp_path_factory.mktemp("pace")
    return runs.recipe(top / "recipe.yaml"), runs.images(top / "data")


@pytest.fixture(autouse=True)
def _no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "draw_curves", lambda *arguments: False)


@pytest.fixture
def decided(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is decided after which update, in place of a clock."""
    ends = {3: 12, 7: 9}

    def updated(own: Lookout, step: int, *_: float) -> None:
        if step in ends:
            own.pace.ends.append((step, ends[step]))

    monkeypatch.setattr(Lookout, "updated", updated)


BUDGET = {"threads": 1, "report": False, "in_time": True}


def stop(at: int) -> Watcher:
    seen = [0]
    return Watcher(moved=lambda progress: seen.__setitem__(0, progress.step), should_stop=lambda: seen[0] >= at)


@pytest.mark.usefixtures("decided")
@pytest.mark.parametrize("at", [2, 3, 5, 8])
def test_a_resumed_run_follows_what_was_decided(made: tuple[Path, Path], tmp_path: Path, at: int) -> None:
    words = ["loop.minutes=1000"]
    whole = loop.train(made[0], made[1], tmp_path / "whole", words, **BUDGET)
    assert (whole.stopped, whole.step, whole.total, whole.planned) == ("done", 9, 9, 15)
    assert whole.ends == ((3, 12), (7, 9))
    cut = loop.train(made[0], made[1], tmp_path / "cut", words, watcher=stop(at), **BUDGET)
    assert (cut.stopped, cut.step) == ("interrupted", at)
    assert loop.resume(tmp_path / "cut", report=False).digest == whole.digest
    assert runs.outcome(tmp_path / "cut") == runs.outcome(tmp_path / "whole")
    again = loop.resume(tmp_path / "whole", report=False)
    assert (again.stopped, again.digest) == ("done", whole.digest)


def test_without_a_decision_it_is_the_run_without_a_budget(made: tuple[Path, Path], tmp_path: Path) -> None:
    words = ["loop.minutes=1000"]
    first = loop.train(made[0], made[1], tmp_path / "first", words, threads=1, report=False)
    second = loop.train(made[0], made[1], tmp_path / "second", [*words, "loop.eval_every=5 steps"], **BUDGET)
    weights = [next(iter(checkpoints(tmp_path / name / "state").values())) for name in ("first", "second")]
    assert (weights[0] / "model.safetensors").read_bytes() == (weights[1] / "model.safetensors").read_bytes()
    assert first.step == second.step == runs.STEPS


@pytest.mark.usefixtures("decided")
@pytest.mark.parametrize("ends", [[[3, 99]], [[9, 3]], [[3, 12], [2, 9]], [[3, 12, 1]], [[15, 15]], [[3, 4]]])
def test_ends_that_no_run_decides_are_refused(made: tuple[Path, Path], tmp_path: Path, ends: list[list[int]]) -> None:
    from weevit.runs.saved import read_saved, refuse_outside

    loop.train(made[0], made[1], tmp_path / "run", ["loop.minutes=1000"], watcher=stop(8), **BUDGET)
    newest = next(iter(checkpoints(tmp_path / "run" / "state").values()))
    copy = tmp_path / newest.name
    shutil.copytree(newest, copy)
    content = json.loads((copy / "state.json").read_text())
    assert content["ends"] == [[3, 12], [7, 9]]
    refuse_outside(read_saved(copy), copy, 15, 8)
    (copy / "state.json").write_text(json.dumps(content | {"ends": ends}))
    with pytest.raises(TrainingError, match="ends"):
        refuse_outside(read_saved(copy), copy, 15, 8)


# ---- what may change when a run is resumed


def test_too_many_unreadable_images_are_borne_in_the_same_folder(made: tuple[Path, Path], tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(made[1], data)
    images = sorted((data / "train").rglob("*.png"))
    images[2].write_bytes(b"")
    assert loop.train(made[0], data, tmp_path / "one", ["loop.max_bad=0"], threads=1, report=False).bad  # never below
    images[9].write_bytes(b"")
    with pytest.raises(TrainingError, match="2 of 40 training") as error:
        loop.train(made[0], data, tmp_path / "two", ["loop.max_bad=0"], threads=1, report=False)
    assert f"weevit resume {tmp_path / 'two'} loop.max_bad=0.05" in (error.value.hint or "")
    assert loop.resume(tmp_path / "two", overrides=["loop.max_bad=0.05"], report=False).stopped == "done"
    with pytest.raises(UsageError, match=r"optim\.lr cannot be changed"):
        loop.resume(tmp_path / "two", overrides=["optim.lr=1"], report=False)


# ---- the page of a run


@pytest.mark.parametrize(("width", "dark"), [(DESKTOP, False), (PHONE, True)])
def test_the_page_of_a_run(made: tuple[Path, Path], tmp_path: Path, browser: Any, width: int, dark: bool) -> None:
    pytest.importorskip("jinja2")
    loop.train(made[0], made[1], tmp_path / "run", threads=1)
    page = tmp_path / "run" / "report.html"
    seen = browser.look(page, width, dark)
    seen.check()
    assert (seen.facts["tiny"], seen.facts["images"]) == (0, 8)
    text = seen.facts["text"]
    assert text.index("The best weights") < text.index("How it went") < text.index("What the model saw")
    assert "%" in text[text.index("What the model saw") : text.index("Settings")]  # mixed: shares of two classes
    assert 'href="evaluation.html"' in page.read_text()
    assert (tmp_path / "run" / "evaluation.html").is_file()
