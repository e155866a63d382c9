"""Training on several ranks of this machine, as torchrun starts them.

    python benchmarks/ranks.py same [--worlds 1 2 4]   row T5: 30 steps of pwee on the shared clothing, each loss
                                                       against that of one process (<= 1e-5)
    python benchmarks/ranks.py kills [--kills 5]       row T10: a rank of two is killed with SIGKILL at a random step;
                                                       restarted within 60 s, and the same bytes in the end
    python benchmarks/ranks.py speed [--rounds 4]      two ranks with a core each against one with both (>= 0.9)

Needs the shared data. Short forms: tests/training/test_ranks.py.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import ROOT, instruction_set, interleave, ratios, shared

sys.path.insert(0, str(ROOT / "tests" / "support"))

import ranks

SHORT = (
    *("data.repeats=0", "loop.eval_every=100 %", "loop.checkpoint_minutes=1000", "loop.precision=fp32"),
    *("schedule.warmup=20 %", "schedule.cooldown=0 steps", "loop.compile=false", "loop.log_every=1"),
)


def words(folder: Path, *changes: str, recipe: str = "sbb_in1k_pwee") -> list[str]:
    """`weevit train` on the shared clothing."""
    data = ["--data", str(shared("clothing")), "-o", str(folder), "--quiet", "--no-report"]
    return ["-m", "weevit", "train", recipe, *SHORT, *changes, *data]


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def train(world: int, folder: Path, *changes: str) -> None:
    done = subprocess.run(
        ranks.command(world, *words(folder, *changes)), env=ranks.environment(), capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stderr)


def same(top: Path, options: argparse.Namespace) -> None:
    changes = ("loop.batch_size=32", "model.image_size=64", "schedule.epochs=30 steps")
    for world in options.worlds:
        train(world, top / str(world), *changes, "loop.workers=0")
    first, *others = [rows(top / str(world)) for world in options.worlds]
    for world, found in zip(options.worlds[1:], others, strict=True):
        assert [row["seen"] for row in found] == [row["seen"] for row in first]
        apart = max(abs(own["loss"] - row["loss"]) for own, row in zip(found, first, strict=True) if "loss" in row)
        steps = sum("loss" in row for row in found)
        print(f"T5 {world} ranks: the losses of {steps} steps differ by at most {apart:.1e} from {options.worlds[0]}'s")


def kills(top: Path, options: argparse.Namespace) -> None:
    changes = ("loop.batch_size=16", "model.image_size=64", "schedule.epochs=60 steps", "loop.checkpoint_every=5 steps")
    train(2, top / "whole", *changes)
    wanted, dice, took = end(top / "whole"), random.Random(options.seed), []
    for number in range(options.kills):
        folder, at = top / f"killed-{number}", dice.randrange(2, 55)
        process = ranks.start(ranks.command(2, *words(folder, *changes), restarts=1), top / "log")
        wait_for(lambda folder=folder, at=at: len(rows(folder)) > at)  # type: ignore[misc]  # its own number
        victim = ranks.pid_of(dice.randrange(2), process.pid)
        assert victim is not None
        before = len(rows(folder))
        os.kill(victim, signal.SIGKILL)
        start = time.monotonic()
        wait_for(lambda folder=folder, before=before: len(rows(folder)) != before)  # type: ignore[misc]  # goes on
        took.append(time.monotonic() - start)
        if process.wait(600) or end(folder) != wanted:
            sys.exit(f"T10 not held after a kill at row {at}:\n{(top / 'log').read_text()}")
        print(f"T10 killed after {at} steps: again at work after {took[-1]:.0f} s, same bytes in the end", flush=True)
    print(f"T10 {options.kills} kills of a rank of two: longest pause {max(took):.0f} s, {options.kills} same bytes")


def end(folder: Path) -> str:
    found: str = json.loads((folder / "run.json").read_text())["end"]["digest"]
    return found


def wait_for(condition: Callable[[], bool], limit: float = 300) -> None:
    stop = time.monotonic() + limit
    while time.monotonic() < stop:
        try:
            if condition():
                return
        except OSError:
            pass
        time.sleep(0.05)
    sys.exit("nothing happened for five minutes")


def speed(top: Path, options: argparse.Namespace) -> None:
    changes = ("model.name=vit_tiny_patch16_224", "model.image_size=224", "loop.batch_size=32")
    changes += (f"schedule.epochs={options.updates} steps", "loop.checkpoint_every=100 %", "loop.keep=1")

    def seconds(world: int, threads: int) -> float:
        folder = top / "run"
        shutil.rmtree(folder, ignore_errors=True)
        train(world, folder, *changes, f"--threads={threads}", "loop.workers=0" if world > 1 else "loop.workers=2")
        newest = max((folder / "state").glob("step-*"))
        clock = json.loads((newest / "clock.json").read_text())["rows"]
        return 1 / statistics.median(row["images_per_second"] for row in clock[2:])

    taken = interleave(options.rounds, one=lambda: seconds(1, 2), two=lambda: seconds(2, 1))
    for name, found in taken.items():
        print(f"{name:4} rank(s): " + " ".join(f"{1 / own:.1f}" for own in found) + " images/s")
    print(
        f"ViT-Ti at 224 px, batches of 32: two ranks with a core each are {ratios(taken['two'], taken['one'])} as fast "
        f"as one with both; {instruction_set()}, {time.strftime('%Y-%m-%d')}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=("same", "kills", "speed"))
    parser.add_argument("--worlds", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--updates", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as top:
        {"same": same, "kills": kills, "speed": speed}[options.mode](Path(top), options)


if __name__ == "__main__":
    main()
