"""Checkpoints of a run: whole or not at all, every byte checked, and the newest sound one found."""

from __future__ import annotations

import errno
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402 - after the skip

from weevit.errors import CheckpointError, OutputError, TrainingError  # noqa: E402
from weevit.optim.ema import Ema  # noqa: E402
from weevit.recipes.schema import EmaPart  # noqa: E402
from weevit.runs.saved import CLOCK, Best  # noqa: E402
from weevit.store.folder import clear_leftovers  # noqa: E402
from weevit.training import state as state_module  # noqa: E402
from weevit.training.state import (  # noqa: E402
    State,
    checkpoints,
    damage,
    digest,
    load,
    newest,
    save,
)
from weevit.zoo.manifest import MANIFEST  # noqa: E402


def fresh(seed: int = 0, run: str = "a run") -> State:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7), nn.Linear(7, 3))
    decayed, others = ([p for p in model.parameters() if (p.ndim > 1) == wanted] for wanted in (True, False))
    groups = [{"params": others, "weight_decay": 0.0}, {"params": decayed}]
    optimizer = torch.optim.AdamW(groups, lr=0.1)
    return State(model, optimizer, Ema(model, EmaPart(decay=0.9)), torch.amp.GradScaler("cpu", enabled=False), run)


def advance(state: State, steps: int = 1) -> State:
    for _ in range(steps):
        torch.manual_seed(state.step)
        state.model(torch.randn(4, 5)).square().sum().backward()
        state.optimizer.step()
        state.optimizer.zero_grad()
        state.step += 1
        state.ema.update(state.model, state.step)
        state.seen += 4
        row = {"step": state.step, "epoch": 0, "kind": "train", "seen": state.seen, "loss": 1 / 3 / state.step}
        state.metrics.append(row)
    return state


def numbers(state: State) -> list[Any]:
    """Everything that must survive, bit by bit."""
    order = [parameter for group in state.optimizer.param_groups for parameter in group["params"]]
    moments = [value for parameter in order for _, value in sorted(state.optimizer.state[parameter].items())]
    tensors = [*state.model.state_dict().values(), *state.ema.module.state_dict().values(), *moments]
    return [tensor.numpy().tobytes() for tensor in tensors] + [state.step, state.seen, state.metrics, state.best]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run" / "state"


@pytest.fixture
def two(folder: Path) -> Path:
    """Checkpoints of steps 2 and 5."""
    state = advance(fresh(), 2)
    save(state, folder)
    save(advance(state, 3), folder)
    return folder


def test_what_is_read_is_what_was_written(folder: Path) -> None:
    state = advance(fresh(), 3)
    state.best = Best(2, "ema_top1", 0.1 + 0.2, "ema")
    state.window = {"steps": 1, "loss": 1e-17}
    state.bad = {"käse/1.jpg": ("truncated", "truncated: 3 of 9 bytes")}
    state.clock.seconds, state.clock.rows = 12.5, [{"step": 3, "images_per_second": 1.5}]
    path = save(state, folder)
    assert path.name == "step-000003"
    other = fresh(seed=1)
    load(other, path)
    assert numbers(other) == numbers(state)
    assert (other.window, other.bad, other.clock) == (state.window, state.bad, state.clock)
    assert numbers(advance(other, 4)) == numbers(advance(state, 4))  # the optimiser's own counts too


def test_a_state_before_the_first_step_is_one_too(folder: Path) -> None:
    other = fresh(seed=1)
    load(other, save(fresh(), folder))
    assert numbers(other) == numbers(fresh())


def test_the_clock_alone_does_not_count(folder: Path, tmp_path: Path) -> None:
    first, second = advance(fresh(), 2), advance(fresh(), 2)
    second.clock.seconds = 99.0
    paths = save(first, folder), save(second, tmp_path / "other")
    assert digest(paths[0]) == digest(paths[1])
    for name in sorted(path.name for path in paths[0].iterdir()):
        same = (paths[0] / name).read_bytes() == (paths[1] / name).read_bytes()
        assert same == (name not in (CLOCK, MANIFEST)), name
    second.model[0].bias.data[0] = second.model[0].bias.data[0].nextafter(torch.tensor(9.0))
    assert digest(save(second, tmp_path / "third")) != digest(paths[0])


def test_the_last_and_the_best_are_kept(folder: Path) -> None:
    state = fresh()
    for step in range(1, 7):
        advance(state)
        if step == 2:
            state.best = Best(2, "top1", 0.5, "model")
        save(state, folder, keep=2)
    assert list(checkpoints(folder)) == [6, 5, 2]


def test_another_runs_checkpoint_is_refused(two: Path) -> None:
    with pytest.raises(TrainingError, match="is of another run"):
        load(fresh(run="another"), newest(two, print))


def test_another_versions_checkpoint_is_refused(two: Path) -> None:
    path = two / "step-000005" / "state.json"
    path.write_text(path.read_text().replace("weevit.state/1", "weevit.state/9"))
    with pytest.raises(TrainingError, match=r"weevit\.state/9"):
        load(fresh(), path.parent)


# ---- damage (row T8)


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def test_every_flipped_bit_is_found(two: Path) -> None:
    dice = random.Random(0)
    files = sorted(path for path in (two / "step-000005").iterdir())
    assert damage(two / "step-000005") is None
    for number in range(200):
        path = files[number % len(files)]
        bit = dice.randrange(8 * path.stat().st_size)
        flip(path, bit)
        assert damage(path.parent) is not None, f"{path.name}, bit {bit}"
        flip(path, bit)
    assert damage(two / "step-000005") is None


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_every_cut_is_found(two: Path, share: float) -> None:
    for path in (two / "step-000005").iterdir():
        whole = path.read_bytes()
        path.write_bytes(whole[: int(len(whole) * share)])
        assert damage(path.parent) is not None, path.name
        path.write_bytes(whole)


def test_every_missing_file_is_found_and_the_one_before_is_used(two: Path) -> None:
    whole = two.with_name("whole")
    shutil.copytree(two, whole)
    for name in [path.name for path in (whole / "step-000005").iterdir()]:
        (two / "step-000005" / name).unlink()
        told: list[str] = []
        path = newest(two, told.append)
        assert path.name == "step-000002"
        assert len(told) == 1, name
        assert "step-000005 is damaged" in told[0]
        assert "step-000002 is used" in told[0]
        state = fresh(seed=1)
        load(state, path)
        assert numbers(state) == numbers(advance(fresh(), 2))
        shutil.copy(whole / "step-000005" / name, two / "step-000005" / name)
    assert newest(two, pytest.fail).name == "step-000005"


def test_no_sound_checkpoint_is_an_error_that_lists_them(two: Path) -> None:
    for path in two.iterdir():
        flip(path / "model.safetensors", 4000)
    with pytest.raises(TrainingError, match=r"(?s)step-000005 .* differs.*step-000002 .* differs"):
        newest(two, print)
    with pytest.raises(TrainingError, match="nothing was saved yet"):
        newest(two / "nowhere", print)


def test_a_change_between_looking_and_reading_is_found(two: Path) -> None:
    path = newest(two, print)
    flip(path / "ema.safetensors", 8 * (path / "ema.safetensors").stat().st_size - 20)
    with pytest.raises(CheckpointError, match="changed while it was read"):
        load(fresh(), path)


# ---- crashes while saving (row T2 in one process; with real kills in test_rows.py)


class Crash(BaseException):
    pass


def points(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen: list[str] = []
    monkeypatch.setattr(state_module, "_reached", seen.append)
    save(advance(fresh()), folder)
    return seen


def test_a_crash_anywhere_leaves_a_whole_checkpoint(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = points(tmp_path / "trial", monkeypatch)
    assert len(there) >= 8
    monkeypatch.setattr(shutil, "rmtree", lambda *args, **kwargs: None)  # a process that is killed tidies nothing up
    for number, point in enumerate(there):
        own = folder.with_name(f"state{number}")
        state = advance(fresh(), 2)
        monkeypatch.setattr(state_module, "_reached", lambda name: None)
        save(state, own)
        monkeypatch.setattr(state_module, "_reached", crash_at(point))
        with pytest.raises(Crash):
            save(advance(state, 3), own)
        found = newest(own, pytest.fail)
        after = point in ("renamed", "pruned")
        assert found.name == ("step-000005" if after else "step-000002"), point
        load(fresh(seed=1), found)
        assert after or any(path.suffix == ".tmp" for path in own.iterdir())
        monkeypatch.undo()
        clear_leftovers(own)
        assert all(not path.name.startswith(".") for path in own.iterdir())
        monkeypatch.setattr(shutil, "rmtree", lambda *args, **kwargs: None)


def crash_at(point: str) -> Callable[[str], None]:
    def reached(name: str) -> None:
        if name == point:
            raise Crash

    return reached


def test_a_save_over_a_damaged_checkpoint(two: Path) -> None:
    flip(two / "step-000005" / "model.safetensors", 4000)
    state = fresh(seed=1)
    load(state, newest(two, lambda text: None))
    save(advance(state, 3), two)
    assert newest(two, pytest.fail).name == "step-000005"


# ---- a full disk (row T7), numbers that are none (row T9)


def test_a_full_disk_is_an_error_that_says_how_much_is_needed(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = fresh(seed=1)
    load(state, newest(two, print))

    def full(point: str) -> None:
        if point == "written model.safetensors":
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(state_module, "_reached", full)
    with pytest.raises(OutputError, match=r"No space left on device\. It needs [\d,]+ bytes; [\d,]+ were free"):
        save(advance(state), two)
    assert sorted(path.name for path in two.iterdir()) == ["step-000002", "step-000005"]  # nothing half is left
    assert newest(two, pytest.fail).name == "step-000005"


@pytest.mark.parametrize("where", ["model", "ema", "optimizer"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_never_written(two: Path, where: str, value: float) -> None:
    state = fresh(seed=1)
    load(state, newest(two, print))
    parameter = state.model[2].weight
    tensors = {"model": parameter.data, "ema": state.ema.module[2].weight.data}
    tensor = tensors.get(where, state.optimizer.state[parameter]["exp_avg"])
    tensor[1, 2] = value
    state.step += 1
    with pytest.raises(TrainingError, match=f"After step 6, 2.weight.* of the {where} holds NaN or infinity"):
        save(state, two)
    assert newest(two, pytest.fail).name == "step-000005"
    assert "NaN" not in json.dumps(state.metrics)
