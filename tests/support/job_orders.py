"""A job folder to which anything happens, in a seeded order: what it comes to in the end must not depend on it."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image

import weevit
from weevit.jobs import run as jobs_run
from weevit.jobs import tasks as jobs_tasks
from weevit.jobs.manifest import read_lines
from weevit.jobs.plan import DATA, read_plan
from weevit.jobs.results import Status, job_status, verify_job
from weevit.store.place import Disk

COUNT, SHARD = 26, 4

CUTS = ((1, 1), (1, 2), (2, 2), (1, 3), (2, 3), (3, 3))


class Killed(BaseException):
    """What no code may catch, as it could not catch a kill."""


class Order:
    """One order of events on one folder.

    Args:
        predictor: a small model.
        top: for images and jobs.
        seed: of the order.
    """

    def __init__(self, predictor: weevit.Predictor, top: Path, seed: int) -> None:
        self.predictor, self.images, self.folder = predictor, top / f"images{seed}", top / f"job{seed}"
        self.dice = random.Random(seed)
        self.told: list[str] = []
        self.images.mkdir()
        for number in range(COUNT):
            self._draw(number)
        self._break(5)

    def _draw(self, number: int) -> None:
        pixels = np.random.default_rng(self.dice.randrange(1 << 30)).integers(0, 256, (36, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(self.images / f"{number}.png")

    def _break(self, number: int) -> None:
        (self.images / f"{number}.png").write_bytes(b"no image")

    # ---- what happens

    def run(self, shard: tuple[int, int] = (1, 1), retry: bool = False) -> None:
        """Run a share; an error must be one of ours."""
        weevit.run_job(self.predictor, self.images, self.folder, shard_size=SHARD, shard=shard, retry_failed=retry)

    def _run(self) -> str:
        shard, retry = self.dice.choice(CUTS), self.dice.random() < 0.5
        self._try(lambda: self.run(shard, retry))
        return f"run {shard} {'retry' if retry else ''}"

    def _kill(self) -> str:
        place, when = self.dice.choice(("write_shard", "append", "write_plan", "tidy")), self.dice.randrange(4)
        with _raising(place, when, Killed(), self.dice.random() < 0.5), suppress(Killed):
            self._try(lambda: self.run(self.dice.choice(CUTS), self.dice.random() < 0.5))
        return f"kill at {place} {when}"

    def _full(self) -> str:
        code = self.dice.choice((errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO))
        place, when = (
            self.dice.choice(("write_shard", "append", "write_plan", "write_failures")),
            self.dice.randrange(3),
        )
        with _raising(place, when, OSError(code, os.strerror(code)), self.dice.random() < 0.5):
            self._try(lambda: self.run(self.dice.choice(CUTS)))
        return f"{errno.errorcode[code]} at {place} {when}"

    def _delete(self) -> str:
        there = self._files()
        if there:
            (path := self.dice.choice(there)).unlink()
            return f"delete {path.name}"
        return "nothing"

    def _flip(self) -> str:
        there = [path for path in self._files() if path.stat().st_size]
        if not there:
            return "nothing"
        path = self.dice.choice(there)
        content, times = bytearray(path.read_bytes()), path.stat()
        content[self.dice.randrange(len(content))] ^= 1 << self.dice.randrange(8)
        path.write_bytes(content)
        if self.dice.random() < 0.5:  # as a disk does it: nobody notes the time
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        return f"flip in {path.name}"

    def _cut(self) -> str:
        there = self._files()
        if there:
            path = self.dice.choice(there)
            os.truncate(path, self.dice.randrange(path.stat().st_size + 1))
            return f"cut {path.name}"
        return "nothing"

    def _change(self) -> str:
        number = self.dice.randrange(COUNT + 3)
        kind = self.dice.choice(("draw", "break", "remove"))
        if kind == "draw":
            self._draw(number)
        elif kind == "break":
            self._break(number)
        else:
            (self.images / f"{number}.png").unlink(missing_ok=True)
        return f"{kind} {number}"

    def _files(self) -> list[Path]:
        return sorted(path for path in self.folder.rglob("*") if path.is_file())

    def _try(self, act: Callable[[], None]) -> None:
        try:
            act()
        except weevit.WeevitError as error:
            self.told.append(str(error).splitlines()[0][:200])
            job = self.folder / "job.json"
            if "job.json" in str(error) or "holds another job" in str(error):  # as the hint says
                job.unlink(missing_ok=True)

    def step(self) -> str:
        """One event, and what `status` then says."""
        happens = (self._run, self._run, self._kill, self._full, self._delete, self._flip, self._cut, self._change)
        done = self.dice.choice(happens)()
        self.told.append(done)
        with suppress(weevit.JobError):
            self.check(job_status(self.folder))
        return done

    def check(self, status: Status) -> None:
        """Status counts what is there by size, and says of no process that it runs."""
        assert (status.running, status.unsure) == ([], [])
        plan = read_plan(Disk(self.folder))
        there = {(line.file, line.bytes): line.rows for line in read_lines(Disk(self.folder))}
        sizes = {shard.file: self.folder / DATA / shard.file for shard in plan.shards} if plan else {}
        rows = sum(there.get((name, path.stat().st_size), 0) for name, path in sizes.items() if path.exists())
        assert status.done == rows, self.told
        assert status.total is None or status.done <= status.total

    def end(self) -> int:
        """Run it to its end, as its messages say; returns how many runs that took."""
        for times in range(1, 5):
            self._try(lambda: self.run(retry=True))
            with suppress(weevit.JobError):
                status = job_status(self.folder)
                if status.done == status.total and not list(verify_job(self.folder)):
                    self.check(status)
                    return times
        raise AssertionError(f"it never ends: {self.told}")

    def contents(self, folder: Path) -> dict[str, bytes]:
        """What must be as in a job to which nothing happened."""
        return job_contents(folder)


def job_contents(folder: Path) -> dict[str, bytes]:
    """Every file that must be the same after every way to the end of a job; manifests hold times."""
    found = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    alike = [path for path in found if not path.name.startswith((".", "manifest", "vanished"))]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in alike}


@contextmanager
def _raising(place: str, when: int, error: BaseException, after: bool) -> Iterator[None]:
    """Raise in the function of that name in the job, at its call number `when`; after its work or in place of it."""
    modules = [module for module in (jobs_run, jobs_tasks) if hasattr(module, place)]
    real, calls = getattr(modules[0], place), iter(range(1000))

    def raises(*given: Any) -> Any:
        now = next(calls) == when
        if now and not after:
            raise error
        found = real(*given)
        if now:
            raise error
        return found

    with ExitStack() as patches:
        for module in modules:
            patches.enter_context(mock.patch.object(module, place, raises))
        yield


def play(predictor: weevit.Predictor, top: Path, seed: int, steps: int = 10) -> str:
    """One order of so many events: it ends complete, verified, and as a job to which nothing happened.

    Raises:
        AssertionError: it does not.
    """
    order = Order(predictor, top, seed)
    for _ in range(steps):
        order.step()
    times = order.end()
    whole = top / f"whole{seed}"
    weevit.run_job(predictor, order.images, whole, shard_size=SHARD)
    assert order.contents(order.folder) == order.contents(whole), order.told
    return f"order {seed}: complete and verified after {times} run(s): {', '.join(order.told)}"
