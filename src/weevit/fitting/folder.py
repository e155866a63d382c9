"""The folder of a fit: held while it runs, and what is written into it.

model/          the checkpoint in the hub's format: what every other verb, timm and transformers load
validation/     its evaluation, as `weevit eval -o` writes it; test/ the same where there is a test split
report.html     for people
report.json     for machines: everything that was tried, all figures
metrics.jsonl   one line for each candidate, in the order they were tried
failures.csv    images without an answer, where there are any
run.json        with what and on what it was made; written last, so that a folder that has one is whole
log.txt
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from weevit.datasets.dataset import TEST, VALIDATION
from weevit.errors import MalformedFileError, OutputError, UsageError
from weevit.evaluation.saved import clear_evaluation, finite, json_bytes, with_errors, write_bytes, write_evaluation
from weevit.fitting.results import Fit
from weevit.store.locks import take_lock
from weevit.store.outputs import local, refuse_foreign
from weevit.store.own import read_own, refuse_links
from weevit.store.provenance import provenance
from weevit.text import csv_bytes
from weevit.zoo.checkpoint import Checkpoint, read_checkpoint
from weevit.zoo.records import MAX_RECORD_BYTES
from weevit.zoo.strict_json import parse_json_object

SCHEMA = "weevit.fit/2"
MODEL, RUN, LOG, METRICS, FAILURES = "model", "run.json", "log.txt", "metrics.jsonl", "failures.csv"
REPORT_HTML, REPORT_JSON = "report.html", "report.json"
_LOCK, _STAGE = ".lock", ".unfinished"
_FOLDERS = (MODEL, VALIDATION, TEST)


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A folder beside `model/` for what is not yet known to be sound; it is gone in the end, whatever happens."""
    stage = folder / _STAGE
    shutil.rmtree(stage, ignore_errors=True)  # of a fit that was killed
    try:
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def install(stage: Path, folder: Path) -> Checkpoint:
    """Put the checkpoint in its place: the manifest comes last, without which what is there is refused or is whole.

    Raises:
        OutputError: the folder cannot be written.
    """
    model = folder / MODEL
    with writing(model):
        shutil.rmtree(model, ignore_errors=True)  # of an earlier fit, whose other files are replaced too
        stage.rename(model)
    return read_checkpoint(model)


@contextmanager
def discarded_on_error(folder: Path) -> Iterator[None]:
    """Take the model away again if what tells how good it is cannot be written: half a fit is none."""
    try:
        yield
    except BaseException:
        shutil.rmtree(folder / MODEL, ignore_errors=True)
        raise


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn the operating system's errors into ours."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written: {error.strerror or error}.", "Free some room or choose another --output."
        ) from error


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold the folder against other processes; made if it is not there, and removed again if nothing came of it.

    An earlier fit in it is replaced, file by file, once there is something to replace it with.

    Raises:
        UsageError: it is an address, holds something else than an earlier fit or what leads out of it, or another
            process works in it.
        OutputError: it cannot be made or written.
    """
    local(folder)
    _refuse_other(folder)
    with_errors(folder, lambda: folder.mkdir(parents=True, exist_ok=True))
    busy = UsageError(
        f"Another process fits into {folder}; two would overwrite each other.", "Choose another --output."
    )
    lock = with_errors(folder, lambda: take_lock(folder / _LOCK, busy))
    try:
        yield
    finally:
        lock.release()
        shutil.rmtree(folder / _STAGE, ignore_errors=True)
        if {path.name for path in folder.iterdir()} <= {_LOCK}:
            (folder / _LOCK).unlink(missing_ok=True)
            with suppress(OSError):
                folder.rmdir()


def _refuse_other(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; a fit is a folder.", "-o runs/mine")
    try:
        for part in (folder, *(folder / name for name in _FOLDERS)):
            refuse_links(part, ["*", ".*"])
    except MalformedFileError as error:
        raise UsageError(error.message, error.hint) from error
    refuse_foreign(folder, _is_fit, "fit")


def _is_fit(folder: Path) -> bool:
    try:
        return parse_json_object(read_own(folder / RUN, MAX_RECORD_BYTES), RUN).get("schema") == SCHEMA
    except (OSError, MalformedFileError):
        return False


class Log:
    """What happened when, for `log.txt`."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def __call__(self, line: str) -> None:
        """Add a line."""
        self._lines.append(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {line}\n")

    def data(self) -> bytes:
        """The file."""
        return "".join(self._lines).encode("utf-8", "backslashreplace")


def write_run(fit: Fit, facts: Mapping[str, Any], log: Log) -> None:
    """Write everything but the model, which is there.

    Args:
        fit: what came of it.
        facts: for `run.json`, besides the figures.
        log: of the run.

    Raises:
        OutputError: the disk is full or the folder cannot be written.
    """
    from weevit.fitting.page import fit_page

    folder, figures = fit.folder, finite(fit.as_json())
    for name, evaluation in fit.evaluations.items():
        write_evaluation(evaluation, folder / name)
    lines = [json.dumps(one, allow_nan=False) + "\n" for one in figures["candidates"]]
    write_bytes(folder / METRICS, "".join(lines).encode())
    _write_failures(fit)
    write_bytes(folder / REPORT_HTML, fit_page(fit, facts).encode("utf-8", "backslashreplace"))
    write_bytes(folder / REPORT_JSON, json_bytes({"schema": SCHEMA, **figures}))
    write_bytes(folder / LOG, log.data())
    summary = {name: value for name, value in figures.items() if name != "candidates"}
    write_bytes(folder / RUN, json_bytes({"schema": SCHEMA, "verb": "fit", "status": "done", **facts, **summary}))


def begin_writing(folder: Path) -> None:
    """Say that the folder holds a fit that is not whole, before the first file of another is replaced.

    The evaluations of the fit that was there go at once: beside another model they would be taken for its own.
    """
    write_bytes(folder / RUN, json_bytes({"schema": SCHEMA, "verb": "fit", "status": "unfinished"}))
    for name in (VALIDATION, TEST):
        clear_evaluation(folder / name)


def _write_failures(fit: Fit) -> None:
    path = fit.folder / FAILURES
    if not fit.failures:
        with_errors(path, lambda: path.unlink(missing_ok=True))  # of a fit that was here before
        return
    write_bytes(path, csv_bytes(("split", "id", "status", "error"), fit.failures))


def machine() -> dict[str, Any]:
    """Versions and hardware, and when it was made."""
    packages = ("numpy", "scipy", "scikit-learn", "onnxruntime", "pillow", "safetensors")
    return {**provenance(packages), "made": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())}
