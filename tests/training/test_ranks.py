"""Training on several ranks: the same batches, draws and decisions as one process, and nothing lost when one ends."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("filelock")
pytest.importorskip("sklearn")

import ranks  # noqa: E402 - after the skips
import runs  # noqa: E402

from weevit.batches.loader import Loader  # noqa: E402
from weevit.batches.mixing import Share  # noqa: E402
from weevit.datasets.read import read_dataset  # noqa: E402
from weevit.errors import TrainingError, UsageError  # noqa: E402
from weevit.recipes.recipe import parse_recipe  # noqa: E402
from weevit.training import loop  # noqa: E402
from weevit.training.ranks import Ranks, joined  # noqa: E402
from weevit.zoo.weights import Preprocessing  # noqa: E402

STEPS = 30
EVERYTHING = (
    *("schedule.epochs=30 steps", "loop.log_every=1", "model.patch_drop=0.25", "model.drop=0.1", "loop.accumulate=4"),
    *("optim.clip=0.5", "loop.max_bad=0.5", "loop.eval_every=10 steps", "loop.checkpoint_every=3 steps"),
)
"""Draws of every kind, micro-batches, clipped gradients."""

SPEC = Preprocessing(32, 32, 1.0, "center", "bicubic", (0.5,) * 3, (0.5,) * 3)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A recipe, and images, of which one cannot be read."""
    top = tmp_path_factory.mktemp("ranks")
    data = runs.images(top / "data", train=40, validation=10)
    (data / "train" / "class 0" / "021.png").write_bytes(b"no image")
    return runs.recipe(top / "recipe.yaml"), data


@pytest.fixture(scope="module")
def alone(made: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The run of one process."""
    return loop.train(*made, tmp_path_factory.mktemp("alone") / "run", EVERYTHING, threads=1, report=False)


def words(made: tuple[Path, Path], folder: Path) -> list[str]:
    recipe, data = map(str, made)
    return ["-m", "weevit", "train", recipe, *EVERYTHING, "--data", data, "-o", str(folder), "--threads=1"]


@pytest.fixture(scope="module")
def pair(made: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The run of two ranks, and its output."""
    folder = tmp_path_factory.mktemp("pair") / "run"
    done = ranks.run(2, *words(made, folder), "--no-report")
    assert done.returncode == 0, done.stderr
    return folder, done.stderr


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def end(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run.json").read_text())["end"]
    return found


def assert_alike(folder: Path, alone: Any) -> None:
    """Every figure of every step is that of one process, to 1e-5."""
    found, expected = rows(folder), alone.metrics
    assert [(row["kind"], row["step"], row["seen"]) for row in found] == [
        (row["kind"], row["step"], row["seen"]) for row in expected
    ]
    assert sum(row["kind"] == "train" for row in found) == STEPS
    for own, other in zip(found, expected, strict=True):
        assert own == pytest.approx(other, abs=1e-5)


# ---- T5: other numbers of ranks, the same training


def test_t5_two_ranks_train_as_one_process_does(pair: tuple[Path, str], alone: Any) -> None:
    folder, told = pair
    assert_alike(folder, alone)
    assert end(folder)["bad"] == alone.bad == {"not an image": 1}
    assert told.count("done after 30 of 30 steps") == 1  # one rank speaks
    assert told.count("40 train, 10 validation") == 1
    assert "Traceback" not in told
    assert "Warning" not in told
    assert (folder / "failures.csv").read_text().count("021.png") == 1
    assert json.loads((folder / "run.json").read_text())["ranks"] == 2


@pytest.mark.long
def test_t5_four_ranks_train_as_one_process_does(made: tuple[Path, Path], alone: Any, tmp_path: Path) -> None:
    done = ranks.run(4, *words(made, tmp_path / "run"), "--no-report", "--json")
    assert done.returncode == 0, done.stderr
    assert_alike(tmp_path / "run", alone)
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["step"] == STEPS


class Peer:
    """One rank of several, that hears what all say."""

    def __init__(self, rank: int, world: int, heard: bool = False) -> None:
        self.rank, self.world, self.heard = rank, world, heard

    def any(self, flag: bool) -> bool:
        return self.heard or flag


@pytest.mark.parametrize("world", [2, 3, 5])
@pytest.mark.parametrize("bad", [False, True])
def test_t5_the_shares_of_all_ranks_are_the_batches(made: tuple[Path, Path], world: int, bad: bool) -> None:
    split = read_dataset(str(made[1])).split("train")
    if not bad:
        split = split.take([row for row, one in enumerate(split.sources) if Path(one.name).name != "021.png"])
    recipe = parse_recipe(runs.RECIPE, "recipe")
    (whole, *_) = (list(Loader(split, recipe, SPEC).epoch(epoch)) for epoch in (1, 2))
    shares = [list(Loader(split, recipe, SPEC, peers=Peer(rank, world, heard=bad)).epoch(1)) for rank in range(world)]
    for step, batch in enumerate(whole):
        own = [share[step] for share in shares]
        assert all(one.bad == batch.bad and one.share.size == len(batch.ids) for one in own)
        seen: dict[int, Any] = {}
        for one in own:
            for row, name, image in zip(one.share.rows, one.ids, one.images, strict=True):
                assert name == batch.ids[row]
                assert torch.equal(image, batch.images[row])
                seen[row] = name
            rows = list(one.share.rows)
            assert [len(batch.ids) - 1 - row for row in reversed(rows)] == rows  # each beside its partner
        assert sorted(seen) == list(range(len(batch.ids)))


@pytest.mark.parametrize(("size", "world"), [(8, 2), (9, 2), (8, 3), (13, 5), (3, 2), (1, 4), (256, 8)])
def test_shares_cover_a_batch_once_or_are_all_of_it(size: int, world: int) -> None:
    shares = [Share.of(size, rank, world) for rank in range(world)]
    if size // 2 < world:
        assert all(share.whole and share.ranks == world for share in shares)
        return
    assert sorted(row for share in shares for row in share.rows) == list(range(size))
    assert max(len(share.rows) for share in shares) - min(len(share.rows) for share in shares) <= 3


# ---- T10: a rank that ends


@pytest.mark.long
def test_t10_a_killed_rank_starts_all_again_and_the_bytes_are_the_same(
    made: tuple[Path, Path], pair: tuple[Path, str], tmp_path: Path
) -> None:
    folder, log = tmp_path / "run", tmp_path / "log"
    launcher = ranks.start(ranks.command(2, *words(made, folder), "--no-report", restarts=1), log)
    try:
        runs.wait_for(lambda: len(rows(folder)) > 12)
        victim = ranks.pid_of(1, launcher.pid)
        assert victim is not None
        os.kill(victim, signal.SIGKILL)
        killed = time.monotonic()
        assert launcher.wait(120) == 0, log.read_text()
    finally:
        stop(launcher)
    assert time.monotonic() - killed < 60
    assert end(folder)["digest"] == end(pair[0])["digest"]
    assert "same order, same draws" in log.read_text()


@pytest.mark.long
def test_t10_without_restarts_all_end_and_a_resumed_run_has_the_same_bytes(
    made: tuple[Path, Path], pair: tuple[Path, str], tmp_path: Path
) -> None:
    folder, log = tmp_path / "run", tmp_path / "log"
    launcher = ranks.start(ranks.command(2, *words(made, folder), "--no-report"), log)
    try:
        runs.wait_for(lambda: len(rows(folder)) > 9)
        victim = ranks.pid_of(1, launcher.pid)
        assert victim is not None
        os.kill(victim, signal.SIGKILL)
        assert launcher.wait(60) != 0
    finally:
        stop(launcher)
    assert "end" not in json.loads((folder / "run.json").read_text())
    with pytest.raises(TrainingError, match=r"was begun by 2 rank\(s\); 1 would resume it") as told:
        loop.resume(folder)
    assert told.value.hint.startswith(f"torchrun --nproc-per-node 2 -m weevit resume {folder}")
    done = ranks.run(2, "-m", "weevit", "resume", folder, "--no-report")
    assert done.returncode == 0, done.stderr
    assert end(folder)["digest"] == end(pair[0])["digest"]


def stop(launcher: Any) -> None:
    """End what is left of a launcher and its ranks."""
    if launcher.poll() is None:
        os.killpg(launcher.pid, signal.SIGKILL)
    launcher.wait()


# ---- ranks that cannot train together


SCRIPT = """
import os, sys, weevit
from weevit.errors import TrainingError
rank = int(os.environ["RANK"])
recipe, output, *data = sys.argv[1:]
try:
    weevit.train(recipe, data[rank % len(data)], output, report=False)
except TrainingError as error:
    print(f"<{rank}|{type(error).__name__}|{error.message}>", flush=True)
    sys.exit(3)
"""


@pytest.mark.long
def test_r1_ranks_that_read_other_data_are_refused(made: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    other = runs.images(tmp_path / "other", train=39, validation=10)
    done = ranks.run(2, tmp_path / "script.py", made[0], tmp_path / "run", made[1], other)
    said = dict(re.findall(r"<(\d)\|(.*?)>", done.stdout, flags=re.DOTALL))
    assert said["0"].startswith("TrainingError|Rank 1: This rank reads other data at")
    assert "49 images here, 50 there" in said["0"]
    assert said["1"].startswith("LostRankError|")


def test_a_start_without_an_address_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ranks.NO_RANKS:
        monkeypatch.delenv(name, raising=False)
    with joined() as found:
        assert (found.rank, found.world, type(found)) == (0, 1, Ranks)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(UsageError, match="LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT is not set"), joined():
        pass
    for name in ranks.NO_RANKS:
        monkeypatch.setenv(name, "many")
    with pytest.raises(UsageError, match="a variable is not set to a value"), joined():
        pass


def test_one_gpu_for_several_ranks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from weevit.training import machine

    group = Ranks()
    group.local = 2
    choose: Callable[[str], Any] = lambda name: torch.device(name)  # noqa: E731
    monkeypatch.setattr(machine, "choose_device", choose)
    with pytest.raises(UsageError, match="cuda:1 is one GPU; 2 ranks run here"):
        machine.Machine.of("cuda:1", None, "fp32", group)
    assert machine.Machine.of("cpu", None, "fp32", group).threads == max(1, machine.choose_threads().count // 2)
