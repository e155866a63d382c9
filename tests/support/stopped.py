"""Runs to which something happens: child processes that are asked to stop, and numbers that turn out to be none."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import runs

from weevit.training import loop, state, step

Made = tuple[Path, Path]


def train(folder: Path, made: Made) -> None:
    """The command, quietly."""
    runs.command("train", made[0], "--data", made[1], "-o", folder, "--threads", 1, "--no-report", "-q")


def in_a_long_step(folder: Path, made: Made) -> None:
    """A child whose fourth step takes a minute, and that is asked to stop in it."""
    from weevit.cli import stopping

    stopping.PATIENCE = 0.3
    mixed: Any = step.mix

    def waits(images: Any, targets: Any, part: Any, num_classes: int, key: tuple[int, int], share: Any) -> Any:
        if key[1] == 3:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        return mixed(images, targets, part, num_classes, key, share)

    step.mix = waits  # type: ignore[attr-defined]  # it is imported there
    train(folder, made)


def in_a_save(folder: Path, made: Made) -> None:
    """A child that is asked to stop in the middle of its second save, of step 2."""
    at = [0]

    def reached(point: str) -> None:
        at[0] += point == "begin"
        if at[0] == 2 and point == "synced":
            os.kill(os.getpid(), signal.SIGTERM)

    state._reached = reached
    train(folder, made)


def in_a_compiler(folder: Path, made: Made) -> None:
    """A child that is asked to stop by a signal that ends the compiler of its fourth step too."""
    real = step.Step.gradients

    def ends(self: step.Step, *given: Any) -> tuple[float, float]:
        if self.state.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
            raise RuntimeError("CppCompileError: C++ compile error")
        return real(self, *given)

    step.Step.gradients = ends  # type: ignore[method-assign]
    train(folder, made)


def in_anything_else(folder: Path, made: Made) -> None:
    """A child whose preparation fails in a way of its own, since the signal reached a process that it needs."""

    def ends(*given: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        raise RuntimeError("a worker has gone")

    loop.begin = ends
    train(folder, made)


def with_little_room(folder: Path, made: Made, said: Path, limit: int | None) -> None:
    """A child that runs out of room.

    Args:
        folder, made: as for all.
        said: what it says on stderr goes into this file.
        limit: bytes that a file may have, which the operating system sees to; None where the disk is small enough.
    """
    import resource

    os.dup2(os.open(said, os.O_CREAT | os.O_WRONLY), 2)
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    train(folder, made)


def poison(where: str, value: float, put: Callable[[object, str, Any], None] = setattr) -> None:
    """From now on, in its eighth step a run meets a number that is none.

    Args:
        where: `loss`, `gradient` or `weight`.
        value: NaN or infinity.
        put: sets an attribute of a module; pytest's `monkeypatch.setattr` takes it back later.
    """
    real_loss, real_clip, real_begin, real_draw = step.loss, step.clip_gradients, loop.begin, step.draw_from
    works: list[Any] = []

    def begin(*given: Any) -> Any:
        works.append(real_begin(*given))
        return works[0]

    def now(kind: str) -> bool:
        return kind == where and works[0].state.step == 7

    def loss(*given: Any) -> Any:
        return real_loss(*given) * (value if now("loss") else 1.0)

    def clip(parameters: Any, part: Any) -> Any:
        there = list(parameters)
        if now("gradient"):
            there[5].grad.view(-1)[3] = value
        return real_clip(there, part)

    def draw(*key: int) -> None:
        if works and now("weight"):
            works[0].model.blocks[2].mlp.fc1.weight.data[1, 2] = value
        real_draw(*key)

    put(loop, "begin", begin)
    for name, function in {"loss": loss, "clip_gradients": clip, "draw_from": draw}.items():
        put(step, name, function)


def poisoned(folder: Path, made: Made, where: str, value: float) -> None:
    """A child that is poisoned."""
    poison(where, value)
    train(folder, made)
