"""Rows T1 to T14 of the reliability scorecard, short: a run that is killed anywhere ends as if it had not been.

In full, with more kills: `benchmarks/reliability/training.py`.
"""

from __future__ import annotations

import errno
import json
import os
import pty
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("filelock")
pytest.importorskip("sklearn")

import runs  # noqa: E402 - after the skips
import stopped  # noqa: E402

from weevit.cli.app import _run as cli  # noqa: E402
from weevit.datasets.read import read_dataset  # noqa: E402
from weevit.errors import DatasetError, OutputError, TrainingError  # noqa: E402
from weevit.training import loop, results, sitting  # noqa: E402
from weevit.training import state as state_module  # noqa: E402
from weevit.training.results import Run  # noqa: E402
from weevit.training.state import checkpoints, damage, read_weights  # noqa: E402
from weevit.training.watch import Watcher  # noqa: E402
from weevit.zoo.checkpoint import read_checkpoint  # noqa: E402

Made = tuple[Path, Path]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A recipe and its images."""
    top = tmp_path_factory.mktemp("made")
    return runs.recipe(top / "recipe.yaml"), runs.images(top / "data")


@pytest.fixture(scope="module")
def whole(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    loop.train(*made, folder, threads=1, report=False)
    return folder


@pytest.fixture(autouse=True)
def _no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "draw_curves", lambda *arguments: False)


def train(made: Made, folder: Path, *words: str, **more: Any) -> Run:
    return loop.train(*made, folder, words, threads=1, report=False, **more)


def resume(folder: Path, **more: Any) -> Run:
    return loop.resume(folder, report=False, **more)


def watcher(moved: Callable[[int], object] = lambda step: None, stop: int = 10**9) -> Watcher:
    """Told the step after each update; asks to stop when so many are done."""
    at = [0]

    def told(progress: Any) -> None:
        if progress.doing == "training":
            moved(progress.step)
        at[0] = progress.step

    return Watcher(told, should_stop=lambda: at[0] >= stop)


# ---- T1, T2: killed


def test_t1_killed_at_steps_and_gone_on_with(made: Made, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    for step in sorted(random.Random(1).sample(range(1, runs.STEPS), 2)):
        assert runs.run(runs.to_the_end, folder, made, (), ("step", step)) == -signal.SIGKILL
    assert runs.run(runs.to_the_end, folder, made) == 0
    assert runs.outcome(folder) == runs.outcome(whole)


def test_t2_killed_at_each_point_of_a_save(made: Made, whole: Path, tmp_path: Path) -> None:
    points = ["written ema.safetensors", "synced", "manifest", "renamed"]
    folder = tmp_path / "run"
    for number, point in enumerate(points):  # each in another save: of step 2, 4, 5, 6, ...
        assert runs.run(runs.to_the_end, folder, made, (), (point, 2 + 2 * number)) == -signal.SIGKILL, point
    assert runs.run(runs.to_the_end, folder, made) == 0
    assert runs.outcome(folder) == runs.outcome(whole)
    assert all(not path.name.startswith(".") for path in (folder / "state").iterdir())


# ---- T3, T4: what is seen, and by whom


def test_t3_every_image_is_seen_once_an_epoch(made: Made, whole: Path, tmp_path: Path, monkeypatch: Any) -> None:
    seen: list[str] = []
    real = sitting.count_bad

    def count(work: Any, batch: Any) -> None:
        seen.extend(batch.ids)
        real(work, batch)

    monkeypatch.setattr(sitting, "count_bad", count)
    folder = tmp_path / "run"
    train(made, folder, watcher=watcher(stop=3))
    for stop in (7, 8, 10, 13):
        resume(folder, watcher=watcher(stop=stop))
    resume(folder)
    images = {source.name for source in read_dataset(made[1]).split("train").sources}
    size = len(images)
    for epoch in range(3):
        assert Counter(seen[epoch * size : (epoch + 1) * size]) == Counter(images)
    assert seen[:size] != seen[size : 2 * size]
    assert runs.outcome(folder) == runs.outcome(whole)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_t4_workers_change_nothing(made: Made, whole: Path, tmp_path: Path, workers: int) -> None:
    run = train(made, tmp_path / "run", f"loop.workers={workers}")
    others, ours = runs.outcome(whole), runs.outcome(run.folder)
    for name in ("metrics.jsonl", "model/model.safetensors"):
        assert ours[name] == others[name]
    newest = f"step-{runs.STEPS:06d}"
    for name in ("model", "optimizer", "ema"):
        file = f"state/{newest}/{name}.safetensors"
        assert (run.folder / file).read_bytes() == (whole / file).read_bytes()


# ---- T6: asked to stop


def weevit(*words: object) -> list[str]:
    return [sys.executable, "-m", "weevit", *map(str, words)]


def test_t6_sigterm_saves_within_seconds_and_exits_with_143(made: Made, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = weevit("train", made[0], "--data", made[1], "-o", folder, "--threads", 1, "--no-report")
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        runs.wait_for(lambda: len((folder / "metrics.jsonl").read_text().splitlines()) >= 1)
        start = time.monotonic()
        process.terminate()
        process.terminate()  # twice: the second one changes nothing
        _, said = process.communicate(timeout=60)
        assert time.monotonic() - start < 10
    assert process.returncode == 143
    assert "Traceback" not in said
    assert f"next: weevit resume {folder}" in said
    step = max(checkpoints(folder / "state"))
    assert 0 < step < runs.STEPS
    assert damage(checkpoints(folder / "state")[step]) is None
    resume(folder)
    assert runs.outcome(folder) == runs.outcome(whole)


@pytest.mark.parametrize(
    ("child", "step"), [(stopped.in_a_long_step, 3), (stopped.in_a_save, 2), (stopped.in_a_compiler, 3)]
)
def test_t6_a_step_that_takes_too_long_and_a_save(
    made: Made, whole: Path, tmp_path: Path, child: Callable[..., None], step: int
) -> None:
    start = time.monotonic()
    assert runs.run(child, tmp_path / "run", made) == 143
    assert time.monotonic() - start < 45
    assert max(checkpoints(tmp_path / "run" / "state")) == step
    resume(tmp_path / "run")
    assert runs.outcome(tmp_path / "run") == runs.outcome(whole)


def test_t6_a_signal_in_the_preparation_is_no_mistake_of_ours(made: Made, tmp_path: Path) -> None:
    assert runs.run(stopped.in_anything_else, tmp_path / "run", made) == 143
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize("ignored", [False, pytest.param(True, marks=pytest.mark.long)])
def test_t6_a_closed_terminal_saves_and_exits_with_129(made: Made, whole: Path, tmp_path: Path, ignored: bool) -> None:
    """Nobody reads what it says then; under `nohup`, the run goes on."""
    folder, (ours, theirs) = tmp_path / "run", pty.openpty()
    words = weevit("train", made[0], "--data", made[1], "-o", folder, "--threads", 1, "--no-report")
    words = ["nohup", *words] if ignored else words
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, cwd=tmp_path) as process:
        os.close(theirs)
        runs.wait_for(lambda: len((folder / "metrics.jsonl").read_text().splitlines()) >= 1)
        process.send_signal(signal.SIGHUP)
        os.close(ours)
        assert process.wait(60) == (0 if ignored else 129)
    if not ignored:
        assert 0 < max(checkpoints(folder / "state")) < runs.STEPS
        resume(folder)
    assert runs.outcome(folder) == runs.outcome(whole)


# ---- T7, T8: the disk


def test_t7_a_full_disk_ends_the_run_and_loses_nothing(
    made: Made, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saves = [0]

    def full(point: str) -> None:
        saves[0] += point == "begin"
        if saves[0] == 4 and point == "written model.safetensors":
            raise OSError(errno.ENOSPC, "No space left on device")

    folder = tmp_path / "run"
    monkeypatch.setattr(state_module, "_reached", full)
    with pytest.raises(OutputError, match=r"No space left on device\. It needs [\d,]{7,} bytes; [\d,]+ were free"):
        train(made, folder)
    assert max(checkpoints(folder / "state")) == 4
    resume(folder)
    assert runs.outcome(folder) == runs.outcome(whole)


def test_t7_the_operating_system_says_no(made: Made, whole: Path, tmp_path: Path) -> None:
    folder, said = tmp_path / "run", tmp_path / "said.txt"
    limit = 1_200_000  # room for weights, but not for moments
    assert runs.run(stopped.with_little_room, folder, made, said, limit) == 1
    assert re.search(r"File too large.*It needs [\d,]{7,} bytes; [\d,]+ were free", said.read_text())
    assert "Traceback" not in said.read_text()
    assert [path.name for path in (folder / "state").iterdir()] == ["step-000000"]
    resume(folder)
    assert runs.outcome(folder) == runs.outcome(whole)


def test_t7_a_disk_that_is_full_from_the_start_names_no_run_to_resume(made: Made, tmp_path: Path) -> None:
    said = tmp_path / "said"
    assert runs.run(stopped.with_little_room, tmp_path / "run", made, said, 4096) == 1
    assert "File too large" in said.read_text()
    assert "Free some room or choose another --output." in said.read_text()
    assert "resume" not in said.read_text()


def test_t8_a_damaged_checkpoint_is_told_and_the_one_before_it_used(made: Made, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(made, folder, watcher=watcher(stop=9))
    path = checkpoints(folder / "state")[9] / "optimizer.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)
    told: list[str] = []
    resume(folder, watcher=Watcher(say=told.append))
    assert "step-000009 is damaged" in told[0]
    assert "step-000008 is used" in told[0]
    assert runs.outcome(folder) == runs.outcome(whole)


# ---- T9: numbers that are none


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["loss", "gradient", "weight"])
def test_t9_what_is_not_finite_ends_the_run_and_reaches_no_file(
    made: Made,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    where: str,
    value: float,
) -> None:
    stopped.poison(where, value, monkeypatch.setattr)
    folder = tmp_path / "run"
    words = ["train", made[0], "--data", made[1], "-o", folder, "--threads", 1, "--no-report", "-q"]
    assert cli([*map(str, words)]) == 1
    said = capsys.readouterr().err
    assert re.search(r"In step 8, the (loss|norm of the gradients) is (nan|inf)\. The images: .*\.png", said)
    logged = (folder / "log.txt").read_text()
    assert logged.count(".png") >= 8  # all of the batch
    assert "In step 8, the " in logged
    assert max(checkpoints(folder / "state")) == 6
    for path in checkpoints(folder / "state").values():
        for weights in ("model", "ema", "optimizer"):
            if (path / f"{weights}.safetensors").exists():
                assert all(torch.isfinite(tensor).all() for tensor in read_weights(path, weights).values())
    assert read_checkpoint(folder / "model").tensors()  # which refuses what is not finite
    assert "nan" not in (folder / "metrics.jsonl").read_text().lower()


def test_t9_weights_that_turn_after_the_last_update_are_not_saved(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    works: list[Any] = []
    real = loop.begin
    monkeypatch.setattr(loop, "begin", lambda *given: works.append(real(*given)) or works[0])

    def turn(step: int) -> None:
        if step == 4:
            works[0].state.ema.module.head.weight.data[0, 0] = float("nan")

    with pytest.raises(TrainingError, match=r"After step 4, head\.weight of the ema holds NaN or infinity"):
        train(made, tmp_path / "run", watcher=watcher(turn))
    assert max(checkpoints(tmp_path / "run" / "state")) == 2


# ---- T12, T13: the data


def lacks_a_class(data: Path) -> None:
    shutil.rmtree(data / "validation" / "class 1")


def has_another_class(data: Path) -> None:
    (data / "validation" / "class 1").rename(data / "validation" / "class 7")


def has_an_empty_class(data: Path) -> None:
    for path in (data / "validation" / "class 1").iterdir():
        path.unlink()


@pytest.mark.parametrize("change", [lacks_a_class, has_another_class, has_an_empty_class])
def test_t12_classes_that_differ_are_listed_and_never_shifted(
    made: Made, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    data = tmp_path / "data"
    shutil.copytree(made[1], data)
    change(data)
    with pytest.raises(DatasetError, match=r"(?s)- .*class 1"):
        train((made[0], data), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_t12_odd_names_and_a_loop_of_links(made: Made, whole: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(made[1], data)
    place = data / "train" / "class 0"
    for path, name in zip(sorted(place.iterdir()), ["ü ñ.png", "a;b,c.png", "'quoted'.PNG", "-x.png"], strict=False):
        path.rename(place / name)
    (place / "again").symlink_to(data, target_is_directory=True)
    run = train((made[0], data), tmp_path / "run", "schedule.epochs=1")
    assert json.loads((run.folder / "run.json").read_text())["data"]["train"] == 40
    assert not run.bad


def corrupt(data: Path, count: int) -> None:
    for index, path in enumerate(sorted((data / "train").rglob("*.png"))[: count * 7 : 7]):
        path.write_bytes(path.read_bytes()[:600] if index % 2 else b"<html>no image</html>")


def test_t13_corrupt_images_are_counted_and_too_many_end_the_run(made: Made, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(made[1], data)
    corrupt(data, 2)  # of 40: 5 %
    run = train((made[0], data), tmp_path / "run", "loop.max_bad=0.05")
    assert run.stopped == "done"
    assert run.bad == {"not an image": 1, "truncated": 1}
    listed = (run.folder / "failures.csv").read_text().splitlines()
    assert len(listed) == 3
    assert run.metrics[-1]["seen"] == 3 * 38
    other = train((made[0], data), tmp_path / "other", "loop.max_bad=0.05", watcher=watcher(stop=7))
    assert resume(other.folder).digest == run.digest
    with pytest.raises(TrainingError, match=r"2 of 40 training images cannot be read \(.*\); loop\.max_bad is 0\.049"):
        train((made[0], data), tmp_path / "third", "loop.max_bad=0.049")
    assert (tmp_path / "third" / "failures.csv").read_text().count("\n") == 3


# ---- T14: the folder


def test_t14_a_second_run_in_the_folder_is_refused(made: Made, whole: Path, tmp_path: Path) -> None:
    folder, refused = tmp_path / "run", []

    def second(step: int) -> None:
        if step == 3:
            with pytest.raises(OutputError, match="Another process works in"):
                resume(folder)
            refused.append(step)

    train(made, folder, watcher=watcher(second))
    assert refused == [3]
    assert runs.outcome(folder) == runs.outcome(whole)
