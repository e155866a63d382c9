"""The shards of a job on the actors of a Ray cluster. Comes with `pip install "weevit[ray]"`.

    driver: plan, tasks ── actors: model loaded once each, shards written ── driver: manifest lines

An actor has as many CPUs as threads, or a GPU. Two shards at a time keep it busy while one begins and another ends. One
that dies is started again by Ray, and so are the shards that it had: a shard is the same file however often it is made.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import Any

from weevit.errors import EngineError, JobError, UsageError, WeevitError
from weevit.jobs.manifest import Line
from weevit.jobs.plan import DATA
from weevit.jobs.runners import Step
from weevit.jobs.tasks import ASKED, Task, answer_shard
from weevit.predict import Predictor
from weevit.shipping import Shipped, ship
from weevit.store.extras import needed

CPUS = 4
"""CPUs of an actor where no number of threads is asked for: more threads of one model gain less each."""

AT_ONCE = 2
"""Shards of an actor at a time."""

TRIES = 5
"""Times that Ray repeats a shard whose actor died."""


@dataclass(frozen=True)
class Ray:
    """Where and how a job runs on Ray.

    Attributes:
        address: of the cluster; None for the one that this process is connected to, or else the one that
            `RAY_ADDRESS` names, or else one on this machine for the time of the job.
        threads: of each actor, which has as many CPUs; None for 4, or for all that the smallest machine has.
    """

    address: str | None = None
    threads: int | None = None


def parse_on(text: str, threads: int | None = None) -> Ray:
    """`ray` or `ray=ADDRESS`; UsageError for anything else, MissingExtraError without Ray."""
    name, sign, address = text.partition("=")
    if name != "ray" or (sign and not address):
        raise UsageError(f"--on is ray, or ray=ADDRESS: {text[:80]!r} was given.", "--on ray")
    _ray()
    return Ray(address or None, threads)


def _ray() -> Any:
    # Else Ray warns of a change in how it hides GPUs from workers without one; ours ask for theirs.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    return needed("ray", "ray", "--on ray: Ray is not installed.")


class _Actor:
    """One process of the cluster, with a model."""

    def __init__(self, shipped: Shipped, threads: int, folder: str) -> None:
        with suppress(OSError):  # on another machine it may not exist
            os.chdir(folder)  # the inputs' paths are relative to it
        self._shipped, self._threads = shipped, threads
        self._lock = Lock()
        self._predictor: Predictor | None = None

    def ready(self) -> None:
        """Answered when the actor has begun."""

    def answer(self, task: Task, weights: list[Any]) -> Line:
        """Answer a shard.

        `weights` has a reference to their bytes. An argument of the constructor would be lost to an actor that is
        started again, and is fetched by each one where only some need it.
        """
        with self._lock:
            if self._predictor is None:
                import ray

                self._predictor = self._shipped.open(lambda: bytes(ray.get(weights[0])), self._threads)
        return answer_shard(task, self._predictor)


class OnRay:
    """The actors of a cluster; made for one job."""

    ends_begun = True

    def __init__(self, how: Ray, predictor: Predictor) -> None:
        self._how, self._predictor = how, predictor
        self._weights: list[Any] = []
        self._ray = _ray()

    def answer(self, tasks: Iterator[Task]) -> Generator[Step, None, None]:
        """One step per shard, in the order in which they end."""
        first = next(tasks, None)
        if first is None:  # no cluster for nothing
            return
        ours = self._connect()
        actors: list[Any] = []
        try:
            actors = self._actors()
            yield from self._answered(chain([first], tasks), actors)
        finally:
            for actor in actors:
                self._ray.kill(actor)
            if ours:
                self._ray.shutdown()

    def _answered(self, tasks: Iterator[Task], actors: list[Any]) -> Generator[Step, None, None]:
        """An actor gets tasks when it has begun: one that waits for CPUs of a busy cluster holds nothing up."""
        begun: dict[Any, tuple[Any, Task | None]] = {actor.ready.remote(): (actor, None) for actor in actors}
        free: list[Any] = []
        task: Task | None
        more = True
        while True:
            while more and free:
                task = next(tasks, None)
                more = task is not None
                if task is not None:
                    actor = free.pop()
                    begun[_begin(actor, task, self._weights)] = actor, task
            if not more and all(task is None for _, task in begun.values()):
                return
            (ended, *_), _ = self._ray.wait(list(begun), num_returns=1)
            actor, task = begun.pop(ended)
            if task is None:
                free += [actor] * AT_ONCE
            else:
                free.append(actor)
                yield _step(task, self._line(ended, task))

    def _connect(self) -> bool:
        """Connect to the cluster; whether that was done here."""
        if self._ray.is_initialized():
            return False
        try:
            self._ray.init(
                address=self._how.address, include_dashboard=None if self._how.address else False,
                log_to_driver=False, logging_level="ERROR",
            )  # fmt: skip
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            raise EngineError(
                f"There is no Ray cluster at {self._how.address or 'this machine'}: {error}", "ray status"
            ) from error
        return True

    def _actors(self) -> list[Any]:
        """As many actors as the cluster has room for, each loading the model."""
        gpu = self._predictor.device == "cuda"
        machines = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        smallest = min((int(own.get("CPU", 0)) for own in machines if own.get("CPU")), default=1)
        cpus = self._how.threads or min(CPUS, max(smallest, 1))
        room = [int(min(own.get("CPU", 0) // cpus, own.get("GPU", 0) if gpu else 1e9)) for own in machines]
        if not sum(room):
            wanted = f"{cpus} CPUs" + (" and a GPU" if gpu else "")
            raise UsageError(f"No machine of the Ray cluster has {wanted} for an actor.", "--threads 1")
        made = self._ray.remote(_Actor).options(
            num_cpus=cpus, num_gpus=int(gpu), max_restarts=-1, max_task_retries=TRIES, max_concurrency=AT_ONCE
        )
        shipped = ship(self._predictor)
        self._weights = [self._ray.put(self._predictor.checkpoint.path.read_bytes())]
        return [made.remote(shipped, cpus, str(Path.cwd())) for _ in range(sum(room))]

    def _line(self, ended: Any, task: Task) -> Line:
        """The line of a shard, whose file is there for everyone."""
        errors = self._ray.exceptions
        try:
            line: Line = self._ray.get(ended)
        except errors.RayTaskError as error:
            if isinstance(error.cause, WeevitError):
                raise error.cause from None
            raise
        except errors.RayError as error:
            raise EngineError(
                f"Shard {task.shard.number:,} was begun {TRIES + 1} times, and each time its actor ended: "
                f"{str(error).splitlines()[0]}",
                "Look for the reason in Ray's log, and rerun the command to resume.",
            ) from error
        if task.place.size(f"{DATA}/{line.file}") != line.bytes:
            raise JobError(
                f"An actor wrote {line.file} where this machine does not see it: {task.place} is not shared.",
                "Choose an --output that all machines see: a shared folder, or a bucket (s3://bucket/answers).",
            )
        return line


def _step(task: Task, line: Line) -> Step:
    known = Counter(row.failure for row in task.rows if row.status not in ("ok", ASKED))
    return Step(line.computed, Counter(line.errors) - known, line)


def _begin(actor: Any, task: Task, weights: list[Any]) -> Any:
    try:
        return actor.answer.remote(task, weights)
    except TypeError as error:
        raise UsageError(
            f"{task.sources[0].name} cannot be read by another process: the members of a compressed archive are kept "
            "in this one.",
            "Unpack the archive to .tar, or leave --on out.",
        ) from error
