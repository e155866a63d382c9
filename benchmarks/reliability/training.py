"""Rows T1 to T14 of the scorecard in full: runs killed, asked to stop, out of room, damaged, poisoned; one line each.

    python benchmarks/reliability/training.py [T1 T2 ...] [--kills 20] [--seed 0]

A micro ViT on made-up images, 15 updates on the CPU: what is tested is the bookkeeping, and it is the same for all
sizes. The short forms stand in tests/training/test_rows.py, and run with `run.py`.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))

import runs  # noqa: E402 - after the path
import stopped  # noqa: E402

from weevit.errors import WeevitError  # noqa: E402
from weevit.training import loop  # noqa: E402
from weevit.training.state import checkpoints, damage, newest, read_weights  # noqa: E402
from weevit.training.watch import Watcher  # noqa: E402

KILLED = -signal.SIGKILL
POINTS = (
    "begin", "written model.safetensors", "written ema.safetensors", "written optimizer.safetensors",
    "synced", "manifest", "renamed", "pruned",
)  # fmt: skip
"""Where a save is killed: after each file, when they are on the disk, around the rename, when the old ones are gone."""


@dataclass
class Place:
    """Where the rows work: a recipe and images, a run that nothing happens to, and what is asked for."""

    top: Path
    made: tuple[Path, Path]
    whole: Path
    kills: int
    dice: random.Random

    def folder(self, name: str) -> Path:
        """Of that name."""
        return self.top / name

    def same(self, folder: Path) -> bool:
        """Whether a run ended with the bytes of the one that nothing happened to."""
        return runs.outcome(folder) == runs.outcome(self.whole)

    def end(self, folder: Path) -> bool:
        """Go on with a run to its end."""
        return runs.run(runs.to_the_end, folder, self.made) == 0 and self.same(folder)


def t1(place: Place) -> tuple[bool, str]:
    """SIGKILL at a random step, and in half of the runs once more at a random moment; each gone on with until done."""
    good = kills = 0
    for number in range(place.kills):
        folder = place.folder(f"t1-{number}")
        step = place.dice.randrange(1, runs.STEPS)
        kills += runs.run(runs.to_the_end, folder, place.made, (), ("step", step)) == KILLED
        if place.dice.random() < 0.5:
            process = runs.start(runs.to_the_end, folder, place.made)
            process.join(place.dice.uniform(0.05, 0.8))
            process.kill()
            process.join()
            kills += process.exitcode == KILLED
        good += place.end(folder)
        shutil.rmtree(folder)
    return good == place.kills, f"{good}/{place.kills} runs identical after {kills} kills"


def t2(place: Place) -> tuple[bool, str]:
    """SIGKILL at each point of an early and of a late save."""
    good = tried = 0
    for step in (2, 10):
        for point in POINTS:
            folder = place.folder(f"t2-{step}-{point}".replace(" ", "-"))
            code = runs.run(runs.to_the_end, folder, place.made, (), (point, step))
            there = damage(newest(folder / "state", lambda text: None)) is None
            good += code == KILLED and there and place.end(folder)
            tried += 1
            shutil.rmtree(folder)
    return good == tried, f"{good}/{tried} points of a save: a complete checkpoint each time, identical in the end"


def t3(place: Place) -> tuple[bool, str]:
    """Interrupted ten times inside epochs: which images each epoch has seen."""
    seen: list[str] = []
    real = loop._count_bad
    loop._count_bad = lambda work, batch: seen.extend(batch.ids) or real(work, batch)  # type: ignore[func-returns-value]
    folder = place.folder("t3")
    try:
        loop.train(*place.made, folder, threads=1, report=False, watcher=stop_at(1))
        for stop in (2, 3, 4, 6, 7, 9, 11, 12, 14):
            loop.resume(folder, report=False, watcher=stop_at(stop))
        loop.resume(folder, report=False)
    finally:
        loop._count_bad = real
    size = len(list((place.made[1] / "train").rglob("*.png")))
    epochs = [Counter(seen[start : start + size]) for start in range(0, len(seen), size)]
    good = len(epochs) == 3 and all(len(epoch) == size and set(epoch.values()) == {1} for epoch in epochs)
    return good and place.same(folder), f"3 epochs, 10 interruptions: every image exactly once each, {good}"


def stop_at(step: int) -> Watcher:
    at = [0]
    return Watcher(lambda progress: at.__setitem__(0, progress.step), should_stop=lambda: at[0] >= step)


def t4(place: Place) -> tuple[bool, str]:
    """0, 1, 2 and 4 workers."""
    found = set()
    for workers in (0, 1, 2, 4):
        folder = place.folder(f"t4-{workers}")
        loop.train(*place.made, folder, [f"loop.workers={workers}"], threads=1, report=False)
        hashes = runs.outcome(folder)
        newest_one = next(iter(checkpoints(folder / "state").values()))
        weights = [(newest_one / name).read_bytes() for name in ("optimizer.safetensors", "ema.safetensors")]
        found.add((hashes["metrics.jsonl"], hashes["model/model.safetensors"], *map(hash, weights)))
    return len(found) == 1, f"workers 0, 1, 2, 4: {len(found)} hash"


def t6(place: Place) -> tuple[bool, str]:
    """SIGTERM to the command in steps and saves, once and twice."""
    good, slowest = 0, 0.0
    cases = [(twice, wait) for twice in (False, True) for wait in (0.0, 0.15, 0.3, 0.45)]
    for number, (twice, wait) in enumerate(cases):
        folder = place.folder(f"t6-{number}")
        words = [sys.executable, "-m", "weevit", "train", *map(str, (place.made[0], "--data", place.made[1]))]
        words += ["-o", str(folder), "--threads", "1", "--no-report", "-q", "schedule.epochs=300"]
        with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
            runs.wait_for(lambda: (folder / "metrics.jsonl").read_text().count("\n") > 2)  # noqa: B023
            time.sleep(wait)
            start = time.perf_counter()
            process.terminate()
            if twice:
                process.terminate()
            said = process.communicate(timeout=120)[1]
            seconds = time.perf_counter() - start
        step, path = next(iter(checkpoints(folder / "state").items()))
        saved = damage(path) is None and step == json.loads((folder / "run.json").read_text())["end"]["step"]
        good += process.returncode == 143 and saved and seconds < 10 and "Traceback" not in said
        slowest = max(slowest, seconds)
        shutil.rmtree(folder)
    for number, child in enumerate((stopped.in_a_long_step, stopped.in_a_save)):
        folder = place.folder(f"t6-child-{number}")
        good += runs.run(child, folder, place.made) == 143 and place.end(folder)
    total = len(cases) + 2
    return good == total, f"{good}/{total} saved and exited with 143, the slowest of the command's in {slowest:.1f} s"


def t7(place: Place) -> tuple[bool, str]:
    """A disk that is full: a real one of 7 MB where this process may mount it, else a limit of the file size."""
    said_file = place.folder("t7.txt")
    with small_disk(place.folder("t7-disk")) as (disk, limit):
        code = runs.run(stopped.with_little_room, disk / "run", place.made, said_file, limit)
        kept = newest(disk / "run" / "state", lambda text: None)
        elsewhere = place.folder("t7-run")
        shutil.copytree(disk / "run", elsewhere, ignore=shutil.ignore_patterns(".*"))
    said = said_file.read_text()
    named = "It needs " in said and "bytes;" in said and "Traceback" not in said
    good = code == 1 and named and place.end(elsewhere)
    kind = "a disk of 7 MB" if limit is None else f"files of at most {limit:,} bytes"
    reason = said.partition(": ")[2].partition(". Check")[0].rpartition("state: ")[2]
    return good, f"{kind}: {reason}; {kept.name} loads, and the run ends identically"


@contextmanager
def small_disk(folder: Path) -> Any:
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=7m", "tmpfs", str(folder)]
    mounted = shutil.which("mount") and subprocess.run(words, capture_output=True, check=False).returncode == 0
    try:
        yield folder, None if mounted else 1_200_000
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


def t8(place: Place) -> tuple[bool, str]:
    """Cuts, 200 flipped bits and missing files in the newest checkpoint of a run, each looked for, and a resume."""
    folder = place.folder("t8")
    loop.train(*place.made, folder, threads=1, report=False, watcher=stop_at(9))
    path = checkpoints(folder / "state")[9]
    files = sorted(path.iterdir())
    found = tried = 0
    for file in files:
        whole = file.read_bytes()
        for share in (0.0, 0.01, 0.5, 0.99, None):
            file.unlink() if share is None else file.write_bytes(whole[: int(len(whole) * share)])
            found, tried = found + (damage(path) is not None), tried + 1
            file.write_bytes(whole)
    for _ in range(200):
        file = place.dice.choice(files)
        whole = file.read_bytes()
        broken, bit = bytearray(whole), place.dice.randrange(8 * len(whole))
        broken[bit // 8] ^= 1 << bit % 8
        file.write_bytes(broken)
        found, tried = found + (damage(path) is not None), tried + 1
        file.write_bytes(whole)
    sound = damage(path) is None
    (path / "model.safetensors").unlink()
    told: list[str] = []
    loop.resume(folder, report=False, watcher=Watcher(say=told.append))
    good = found == tried and sound and "step-000008 is used" in told[0] and place.same(folder)
    return good, f"{found}/{tried} damages found; fell back to step 8 with a warning, identical in the end: {good}"


def t9(place: Place) -> tuple[bool, str]:
    """NaN and infinity in the loss, a gradient and a weight."""
    good = 0
    cases = [(where, value) for where in ("loss", "gradient", "weight") for value in ("nan", "inf")]
    for where, value in cases:
        folder = place.folder(f"t9-{where}-{value}")
        code = runs.run(stopped.poisoned, folder, place.made, where, float(value))
        finite = all(
            bool(tensor.isfinite().all())
            for path in checkpoints(folder / "state").values()
            for weights in ("model", "ema")
            for tensor in read_weights(path, weights).values()
        )
        logged = (folder / "log.txt").read_text()
        good += code == 1 and finite and "step 8: " in logged and logged.count(".png") >= 8
    return good == len(cases), f"{good}/{len(cases)}: exit 1, step and images logged, every checkpoint finite"


def t12(place: Place) -> tuple[bool, str]:
    """Validation folders that lack a class, have another, an empty one; odd names; a loop of links."""
    good = 0
    changes: list[Callable[[Path], object]] = [
        lambda data: shutil.rmtree(data / "validation" / "class 1"),
        lambda data: (data / "validation" / "class 1").rename(data / "validation" / "class 7"),
        lambda data: [path.unlink() for path in (data / "validation" / "class 1").iterdir()],
    ]
    for number, change in enumerate(changes):
        data = place.folder(f"t12-{number}")
        shutil.copytree(place.made[1], data)
        change(data)
        try:
            loop.train(place.made[0], data, place.folder(f"t12-run-{number}"), threads=1, report=False)
        except WeevitError as error:
            good += "class 1" in str(error) and not place.folder(f"t12-run-{number}").exists()
    data = place.folder("t12-odd")
    shutil.copytree(place.made[1], data)
    files = sorted((data / "train" / "class 0").iterdir())
    for path, name in zip(files, ["ü ñ.png", "a;b,c.png", "'quoted'.PNG", "-x.png"], strict=False):
        path.rename(path.with_name(name))
    (data / "train" / "class 0" / "again").symlink_to(data, target_is_directory=True)
    run = loop.train(place.made[0], data, place.folder("t12-run-odd"), threads=1, report=False)
    good += run.stopped == "done" and not run.bad and run.metrics[-1]["seen"] == 120
    return good == 4, f"{good}/4: differing classes are listed, nothing is shifted, odd names are read"


def t13(place: Place) -> tuple[bool, str]:
    """5 % of the training images corrupt."""
    data = place.folder("t13")
    shutil.copytree(place.made[1], data)
    images = sorted((data / "train").rglob("*.png"))
    for number, path in enumerate(images[:: len(images) // 2][:2]):
        path.write_bytes(path.read_bytes()[:600] if number else b"<html>")
    run = loop.train(place.made[0], data, place.folder("t13-run"), ["loop.max_bad=0.05"], threads=1, report=False)
    good = run.stopped == "done" and run.bad == {"not an image": 1, "truncated": 1}
    try:
        loop.train(place.made[0], data, place.folder("t13-strict"), ["loop.max_bad=0.04"], threads=1, report=False)
        refused = ""
    except WeevitError as error:
        refused = error.message
    return good and "2 of 40" in refused, f"ended with {dict(run.bad)} counted; max_bad 0.04: {refused[:60]}..."


def t14(place: Place) -> tuple[bool, str]:
    """A second command on the folder of a run."""
    folder = place.folder("t14")
    codes = []

    def second(progress: Any) -> None:
        if progress.step == 3 and not codes:
            for verb in (("resume", folder), ("train", place.made[0], "--data", place.made[1], "-o", folder)):
                codes.append(runs.run(runs.command, *verb, "-q"))

    loop.train(*place.made, folder, threads=1, report=False, watcher=Watcher(second))
    good = codes == [1, 2] and place.same(folder)
    return good, f"the second is refused (exit codes {codes}), the first ends as ever: {good}"


ROWS = {
    "T1": t1,
    "T2": t2,
    "T3": t3,
    "T4": t4,
    "T6": t6,
    "T7": t7,
    "T8": t8,
    "T9": t9,
    "T12": t12,
    "T13": t13,
    "T14": t14,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", help=f"any of {', '.join(ROWS)}; all by default")
    parser.add_argument("--kills", type=int, default=20, help="runs of T1")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as top:
        made = runs.recipe(Path(top) / "recipe.yaml"), runs.images(Path(top) / "data")
        place = Place(Path(top), made, Path(top) / "whole", options.kills, random.Random(options.seed))
        loop.train(*made, place.whole, threads=1, report=False)
        for row in options.rows or ROWS:
            start = time.perf_counter()
            good, line = ROWS[row](place)
            print(f"{row:<3} {'ok' if good else 'FAILED'}: {line} ({time.perf_counter() - start:.0f} s)", flush=True)
            failed |= not good
    sys.exit(failed)


if __name__ == "__main__":
    main()
