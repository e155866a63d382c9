"""The folder of a job: made or gone on with, and held by this process while it runs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path

from weevit.errors import JobError, MalformedFileError, OutputError
from weevit.jobs.plan import DATA, PARTS, PLAN, Shard, read_plan
from weevit.jobs.settings import JOB, Settings, read_settings, refuse_flat, refuse_other, write_settings
from weevit.jobs.shards import read_schema, read_table
from weevit.store.files import replace_file, sync
from weevit.store.locks import is_taken, take_lock
from weevit.store.outputs import local
from weevit.store.own import refuse_links
from weevit.text import csv_row, typed

ERRORS = "errors.csv"
VANISHED = "vanished.txt"

OURS = (JOB, PLAN, ERRORS, VANISHED, "manifest-*-of-*.jsonl", DATA, ".worker-*.lock", ".*.tmp")
"""Everything that a job writes into its folder; the shards lie in `data/`."""


@contextmanager
def hold(folder: Path, settings: Settings, worker: int, workers: int) -> Iterator[bool]:
    """Open the folder for one worker; gives whether it is the only one now.

    Raises:
        UsageError: the folder is an address.
        JobError: the folder holds something else, or another process works at this share or at another cut of the job.
        OutputError: it cannot be made or written.
    """
    local(folder)
    _make(folder)
    check_links(folder)
    _refuse_foreign(folder)
    with _lock(folder, worker, workers):
        held, unsure = running(folder)
        others = [cut for cut in [*held, *unsure] if cut != (worker, workers)]
        if any(cut[1] != workers for cut in others):
            raise JobError(
                f"Another process works on {folder} with --shard {others[0][0]}/{others[0][1]}: cut in another way, "
                "the same rows would be answered twice.",
                f"Wait for it, or take a share of {others[0][1]}.",
            )
        if (folder / JOB).exists():
            refuse_other(folder, settings)
        else:
            _refuse_parts_of_others(folder, settings)
            with writing(folder):
                write_settings(folder, settings)
        with writing(folder):
            (folder / DATA).mkdir(exist_ok=True)
            sync(folder)  # also where another worker made it: its name has to last as what is put into it does
        if not others:
            for leftover in folder.glob(".*.tmp"):  # of a process that was killed while it wrote
                leftover.unlink(missing_ok=True)
        yield not others


def check_folder(folder: Path) -> None:
    """Find out that a folder is not for a job before a model is loaded for it; nothing is made.

    Raises:
        JobError: it holds something else, or a job of an older kind.
        OutputError: it is a file, or may not be written.
    """
    if folder.exists():
        _make(folder)
        _refuse_foreign(folder)
        if (folder / JOB).exists():
            read_settings(folder)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn the operating system's errors into ours."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written: {error.strerror or error}. Every shard that was finished is kept.",
            "Free some room, or make it writable, and give the same command again: it goes on from there.",
        ) from error


def _make(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file; a job writes a folder.", "Choose another --output.")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for own in (folder, folder / DATA):
        if own.exists() and not os.access(own, os.W_OK):
            raise OutputError(f"The folder {str(own)!r} may not be written.", "Choose another --output.")


def check_links(folder: Path) -> None:
    """Refuse a folder of a job in which something leads out of it, or whose `data` is no folder.

    Raises:
        JobError: so it is.
    """
    data = folder / DATA
    try:
        refuse_links(folder, OURS)
        refuse_links(data, ("*",))
    except MalformedFileError as error:
        raise JobError(error.message, error.hint) from error
    if data.exists() and not data.is_dir():
        raise JobError(f"{data} is a file; a job keeps its shards in a folder of that name.", "Move it elsewhere.")


def _refuse_foreign(folder: Path) -> None:
    """Refuse what is neither empty nor a job. One that has lost its `job.json` is one if nothing else is there."""
    with writing(folder):
        others, shards = _seen(folder), in_data(folder)
    if JOB in others:
        return
    refuse_flat(folder)
    foreign = [name for name in others if not any(fnmatchcase(name, pattern) for pattern in OURS)]
    foreign += [name for name in shards if not fnmatchcase(name, f"{DATA}/{PARTS}")]
    if foreign:
        shown = ", ".join(foreign[:3]) + (", ..." if len(foreign) > 3 else "")
        raise JobError(f"{folder} is not empty and holds no job, but {shown}.", "Choose a new folder.")


def _seen(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def in_data(folder: Path) -> list[str]:
    """What readers of the folder's `data/` see, by its way from the folder: shards, and whatever others put there."""
    data = folder / DATA
    if data.is_dir() and not data.is_symlink():
        return [f"{DATA}/{name}" for name in _seen(data)]
    return [DATA] if data.is_symlink() or data.exists() else []


def _refuse_parts_of_others(folder: Path, settings: Settings) -> None:
    """Where `job.json` is gone, shards say themselves of which job they are; damaged ones say nothing."""
    for path in sorted((folder / DATA).glob(PARTS)):
        with suppress(JobError):
            other = settings.unlike(read_schema(path))
            if other:
                break
    else:
        return
    raise JobError(
        f"{folder} has lost its {JOB}, and {path.name} in it is of another job: another {other}.",
        "Give the settings that it was made with, or choose another --output.",
    )


def _lock_path(folder: Path, worker: int, workers: int) -> Path:
    return folder / f".worker-{worker}-of-{workers}.lock"


@contextmanager
def _lock(folder: Path, worker: int, workers: int) -> Iterator[None]:
    busy = JobError(
        f"Another process works on {folder} with --shard {worker}/{workers}.",
        f"Wait for it, or watch it: weevit jobs status {typed(folder)}",
    )
    with writing(folder):
        lock = take_lock(_lock_path(folder, worker, workers), busy)
    try:
        yield
    finally:
        lock.release()


def running(folder: Path) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """The shares (worker, workers) that a process holds at this moment, and those of which it cannot be seen."""
    taken = {cut: is_taken(_lock_path(folder, *cut)) for cut in sorted(_cuts(folder))}
    return [cut for cut, one in taken.items() if one], [cut for cut, one in taken.items() if one is None]


def _cuts(folder: Path) -> Iterator[tuple[int, int]]:
    for path in folder.glob(".worker-*-of-*.lock"):
        if match := re.fullmatch(r"\.worker-([0-9]{1,9})-of-([0-9]{1,9})\.lock", path.name):
            yield int(match[1]), int(match[2])


def write_errors(folder: Path, files: Iterable[str]) -> None:
    """List every input without an answer in `errors.csv`: id, status, error."""

    def write(path: Path) -> None:
        with path.open("wb") as file:
            file.write(csv_row(["id", "status", "error"]).encode())
            for name in files:
                table = read_table(folder / DATA / name, ["id", "status", "error"])
                rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
                file.writelines(csv_row(row).encode("utf-8", "backslashreplace") for row in rows if row[1] != "ok")

    replace_file(folder / ERRORS, write)


def tidy(folder: Path, current: set[str]) -> None:
    """Delete shards that a newer version replaced."""
    for path in (folder / DATA).glob(PARTS):
        if path.name not in current:
            path.unlink(missing_ok=True)


def plan_of(folder: Path) -> list[Shard]:
    """The plan of a job that got so far.

    Raises:
        JobError: it did not.
    """
    plan = read_plan(folder)
    if plan is None:
        raise JobError(f"{folder} has no {PLAN} yet: the job was stopped before it had seen its inputs.")
    return plan
