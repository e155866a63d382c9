"""The folder of a job, held by one process per share, and reading it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path

from weevit.errors import JobError, OutputError, UsageError
from weevit.jobs.plan import DATA, PARTS, PLAN, Plan, Share, part_number, read_plan
from weevit.jobs.settings import JOB, SCHEMA, Settings, read_settings, refuse_old, refuse_other
from weevit.jobs.shards import read_schema, read_table
from weevit.store import folder as store
from weevit.store.files import as_bytes
from weevit.store.folder import FAILURES, Kind, visible
from weevit.store.place import Place

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
    contents={DATA: PARTS},
    resumed=True,
    kept="Every shard that was finished is kept.",
    again="Free some room, or make it writable, and rerun the command to resume.",
    wait="Wait for it, or watch it: weevit jobs status {0}",
)


@contextmanager
def hold(place: Place, settings: Settings, share: Share, inputs: Iterable[object] = ()) -> Iterator[bool]:
    """Hold the folder for one worker; yields whether it is the only one now.

    Raises:
        UsageError: an invalid output, or another job in the folder.
        JobError: damaged records, or records of an older schema.
        OutputError: another process works at this share or at another cut of the job, or the folder cannot be written.
    """
    check_folder(place, share, inputs)
    with place.held(JOBS, inputs, _lock(share)):
        alone = not _others(place, share)
        if place.size(JOB) is not None:
            refuse_other(place, settings)
        else:
            _refuse_parts_of_others(place, settings)
            with JOBS.writing(place):
                place.write(JOB, as_bytes({"schema": SCHEMA, **asdict(settings)}))
        with JOBS.writing(place):
            place.ready(DATA, alone)
        yield alone


def check_folder(place: Place, share: Share, inputs: Iterable[object] = ()) -> None:
    """Refuse a folder that `hold` would refuse, with its errors, before a model is loaded; nothing is made."""
    with JOBS.writing(place):
        refuse_old(place)
    place.check(JOBS, inputs, _lock(share))
    _others(place, share)
    if JOB in place.names():
        read_settings(place)


def in_data(place: Place) -> list[str]:
    """The names in `data/` that readers see, relative to the folder: shards, and files of others."""
    return [f"{DATA}/{name}" for name in place.names(DATA) if not name.startswith(".")]


def _refuse_parts_of_others(place: Place, settings: Settings) -> None:
    """Without `job.json`, the shards name their job; a damaged shard names none."""
    for name in (name for name in place.names(DATA) if fnmatchcase(name, PARTS)):
        with suppress(JobError):
            if other := settings.unlike(read_schema(place, name)):
                raise UsageError(
                    f"{place} has lost its {JOB}, and {name} in it is of another job: another {other}.",
                    "Give the settings that it was made with, or choose another --output.",
                )


def _lock(share: Share) -> str:
    return ".worker-{}-of-{}.lock".format(*share)


def _others(place: Place, share: Share) -> list[Share]:
    """The shares that other processes hold, or may hold; OutputError where one is of another cut."""
    held, unsure = running(place)
    others = [cut for cut in [*held, *unsure] if cut != share]
    for worker, workers in others:
        if workers != share[1]:
            raise OutputError(
                f"Another process works in {place} with --shard {worker}/{workers}: cut in another way, the same rows "
                "would be answered twice.",
                f"Wait for it, or take a share of {workers}.",
            )
    return others


def running(place: Place) -> tuple[list[Share], list[Share]]:
    """The shares (worker, workers) that a process holds now, and the shares where that cannot be determined."""
    taken = {cut: place.is_taken(_lock(cut)) for cut in sorted(_cuts(place))}
    return [cut for cut, one in taken.items() if one], [cut for cut, one in taken.items() if one is None]


def _cuts(place: Place) -> set[Share]:
    found = (re.fullmatch(r"\.worker-([0-9]{1,9})-of-([0-9]{1,9})\.lock(\.[0-9]{6})?", one) for one in place.names())
    return {(int(one[1]), int(one[2])) for one in found if one}


def write_failures(place: Place, files: Iterable[str]) -> None:
    """Write `failures.csv` with the inputs without an answer in the given shards."""

    def failures() -> Iterator[store.Failure]:
        for name in files:
            table = read_table(place, name, ["input", "status", "error"])
            rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
            yield from ((own, None, status, error) for own, status, error in rows if status != "ok")

    write = store.failures_writer(failures())
    if write is None:
        place.remove(FAILURES)
    else:
        place.make(FAILURES, write)


def tidy(place: Place, plan: Plan) -> None:
    """Delete the shards that a newer version replaced."""
    for name in place.names(DATA):
        number = part_number(name)
        if number is not None and not (number < plan.count and plan.shards[number].file == name):
            place.remove(f"{DATA}/{name}")


def plan_of(place: Place) -> Plan:
    """The plan of a job; JobError where the job was stopped before it had one."""
    plan = read_plan(place)
    if plan is None:
        raise JobError(f"{place} has no {PLAN} yet: the job was stopped before it had seen its inputs.")
    return plan
