"""The folder of a job, held by one process per share, and reading it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path

from weevit.errors import JobError, OutputError, UsageError
from weevit.jobs.plan import DATA, PARTS, PLAN, Plan, read_plan
from weevit.jobs.settings import JOB, SCHEMA, Settings, read_settings, refuse_old, refuse_other
from weevit.jobs.shards import read_schema, read_table
from weevit.store import folder as store
from weevit.store.files import sync
from weevit.store.folder import FAILURES, Kind, clear_leftovers, held, visible
from weevit.store.locks import is_taken

VANISHED = "vanished.txt"


def _holds_shards(data: Path) -> bool:
    """Whether a folder holds shards only: `data/` is also a folder of the hub's and Spark's."""
    return data.is_dir() and all(fnmatchcase(name, PARTS) for name in visible(data))


_RECORDS = (PLAN, "plan-*-of-*.jsonl", FAILURES, VANISHED, "manifest-*-of-*.jsonl")

JOBS = Kind(
    name="job",
    record=JOB,
    schemas=("weevit.job",),
    files={"": (JOB, *_RECORDS, DATA, ".worker-*.lock", ".*.tmp"), DATA: ("*",)},
    unfinished={**dict.fromkeys(_RECORDS, Path.is_file), DATA: _holds_shards},  # it may have lost its `job.json`
    resumed=True,
    kept="Every shard that was finished is kept.",
    again="Free some room, or make it writable, and rerun the command to resume.",
    wait="Wait for it, or watch it: weevit jobs status {0}",
)


@contextmanager
def hold(folder: Path, settings: Settings, share: tuple[int, int], inputs: Iterable[object] = ()) -> Iterator[bool]:
    """Hold the folder for one worker; yields whether it is the only one now.

    Raises:
        UsageError: an invalid output, or another job in the folder.
        JobError: damaged records, or records of an older schema.
        OutputError: another process works at this share or at another cut of the job, or the folder cannot be written.
    """
    check_folder(folder, share, inputs)
    with held(folder, JOBS, inputs, _lock(share)):
        alone = not _others(folder, share)
        if (folder / JOB).exists():
            refuse_other(folder, settings)
        else:
            _refuse_parts_of_others(folder, settings)
            JOBS.write(folder, JOB, {"schema": SCHEMA, **asdict(settings)})
        with JOBS.writing(folder):
            (folder / DATA).mkdir(exist_ok=True)
            sync(folder)  # also where another worker made it: its name must be on disk too
            if alone:
                clear_leftovers(folder)
        yield alone


def check_folder(folder: Path, share: tuple[int, int], inputs: Iterable[object] = ()) -> None:
    """Refuse a folder that `hold` would refuse, with its errors, before a model is loaded; nothing is made."""
    refuse_old(folder)
    store.check_folder(folder, JOBS, inputs, _lock(share))
    _others(folder, share)
    if (folder / JOB).exists():
        read_settings(folder)


def in_data(folder: Path) -> list[str]:
    """The names in `data/` that readers see, relative to the folder: shards, and files of others."""
    return [f"{DATA}/{name}" for name in visible(folder / DATA)] if (folder / DATA).is_dir() else []


def _refuse_parts_of_others(folder: Path, settings: Settings) -> None:
    """Without `job.json`, the shards name their job; a damaged shard names none."""
    for path in sorted((folder / DATA).glob(PARTS)):
        with suppress(JobError):
            if other := settings.unlike(read_schema(path)):
                raise UsageError(
                    f"{folder} has lost its {JOB}, and {path.name} in it is of another job: another {other}.",
                    "Give the settings that it was made with, or choose another --output.",
                )


def _lock(share: tuple[int, int]) -> str:
    return ".worker-{}-of-{}.lock".format(*share)


def _others(folder: Path, share: tuple[int, int]) -> list[tuple[int, int]]:
    """The shares that other processes hold, or may hold; OutputError where one is of another cut."""
    held, unsure = running(folder)
    others = [cut for cut in [*held, *unsure] if cut != share]
    for worker, workers in others:
        if workers != share[1]:
            raise OutputError(
                f"Another process works in {folder} with --shard {worker}/{workers}: cut in another way, the same rows "
                "would be answered twice.",
                f"Wait for it, or take a share of {workers}.",
            )
    return others


def running(folder: Path) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """The shares (worker, workers) that a process holds now, and the shares where that cannot be determined."""
    taken = {cut: is_taken(folder / _lock(cut)) for cut in sorted(_cuts(folder))}
    return [cut for cut, one in taken.items() if one], [cut for cut, one in taken.items() if one is None]


def _cuts(folder: Path) -> Iterator[tuple[int, int]]:
    for path in folder.glob(".worker-*-of-*.lock"):
        if match := re.fullmatch(r"\.worker-([0-9]{1,9})-of-([0-9]{1,9})\.lock", path.name):
            yield int(match[1]), int(match[2])


def write_failures(folder: Path, files: Iterable[str]) -> None:
    """Write `failures.csv` with the inputs without an answer in the given shards."""

    def failures() -> Iterator[store.Failure]:
        for name in files:
            table = read_table(folder / DATA / name, ["input", "status", "error"])
            rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
            yield from ((own, None, status, error) for own, status, error in rows if status != "ok")

    JOBS.write_failures(folder, failures())


def tidy(folder: Path, current: set[str]) -> None:
    """Delete the shards that a newer version replaced."""
    for path in (folder / DATA).glob(PARTS):
        if path.name not in current:
            path.unlink(missing_ok=True)


def plan_of(folder: Path) -> Plan:
    """The plan of a job; JobError where the job was stopped before it had one."""
    plan = read_plan(folder)
    if plan is None:
        raise JobError(f"{folder} has no {PLAN} yet: the job was stopped before it had seen its inputs.")
    return plan
