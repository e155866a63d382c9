"""The folder of a job: made or gone on with, and held by this process while it runs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from weevit.errors import JobError, OutputError
from weevit.jobs.plan import PLAN, Shard, read_plan
from weevit.jobs.settings import JOB, Settings, refuse_other, write_settings
from weevit.jobs.shards import read_table
from weevit.locks import is_taken, take_lock
from weevit.text import csv_row, typed
from weevit.zoo.manifest import replace_file

ERRORS = "errors.csv"
VANISHED = "vanished.txt"


@contextmanager
def hold(folder: Path, settings: Settings, worker: int, workers: int) -> Iterator[bool]:
    """Open the folder for one worker; gives whether it is the only one now.

    Raises:
        JobError: the folder holds something else, or another process works at this share or at another cut of the job.
        OutputError: it cannot be made or written.
    """
    _make(folder)
    _refuse_foreign(folder)
    with _lock(folder, worker, workers):
        others = [cut for cut in running(folder) if cut != (worker, workers)]
        if any(cut[1] != workers for cut in others):
            raise JobError(
                f"Another process works on {folder} with --shard {others[0][0]}/{others[0][1]}: cut in another way, "
                "the same rows would be answered twice.",
                f"Wait for it, or take a share of {others[0][1]}.",
            )
        if (folder / JOB).exists():
            refuse_other(folder, settings)
        else:
            with writing(folder):
                write_settings(folder, settings)
        if not others:
            for leftover in folder.glob(".*.tmp"):  # of a process that was killed while it wrote
                leftover.unlink(missing_ok=True)
        yield not others


def check_folder(folder: Path) -> None:
    """Find out that a folder is not for a job before a model is loaded for it; nothing is made.

    Raises:
        JobError: it holds something else.
        OutputError: it is a file, or may not be written.
    """
    if folder.exists():
        _make(folder)
        _refuse_foreign(folder)


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
    if not os.access(folder, os.W_OK):
        raise OutputError(f"The folder {str(folder)!r} may not be written.", "Choose another --output.")


def _refuse_foreign(folder: Path) -> None:
    others = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    if others and JOB not in others:
        shown = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
        raise JobError(f"{folder} is not empty and holds no job, but {shown}.", "Choose a new folder.")


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


def running(folder: Path) -> list[tuple[int, int]]:
    """The shares (worker, workers) that a process holds at this moment."""
    return [cut for cut in sorted(map(_cut, folder.glob(".worker-*-of-*.lock"))) if is_taken(_lock_path(folder, *cut))]


def _cut(path: Path) -> tuple[int, int]:
    worker, _, workers = path.name.removeprefix(".worker-").removesuffix(".lock").partition("-of-")
    return (int(worker), int(workers)) if worker.isdecimal() and workers.isdecimal() else (0, 0)


def write_errors(folder: Path, files: Iterable[str]) -> None:
    """List every input without an answer in `errors.csv`: id, status, error."""

    def write(path: Path) -> None:
        with path.open("wb") as file:
            file.write(csv_row(["id", "status", "error"]).encode())
            for name in files:
                table = read_table(folder / name, ["id", "status", "error"])
                rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
                file.writelines(csv_row(row).encode("utf-8", "backslashreplace") for row in rows if row[1] != "ok")

    replace_file(folder / ERRORS, write)


def tidy(folder: Path, current: set[str]) -> None:
    """Delete shards that a newer version replaced."""
    for path in folder.glob("part-*.parquet"):
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
