"""The folder of a run.

model/        the best weights in the hub's format, for every other verb and for timm
recipe.yaml   the resolved recipe
run.json      model, data, recipe, versions and machine
metrics.jsonl, metrics.csv   the same rows twice
failures.csv  unreadable images
report.html, evaluation.html, plots/, log.txt
state/        checkpoints to resume from
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from weevit.errors import MalformedFileError, OutputError, TrainingError, UsageError, WeevitError
from weevit.recipes.recipe import flat
from weevit.recipes.schema import Recipe
from weevit.runs.facts import check_facts
from weevit.runs.saved import DISK_ERRORS, METRICS, Row, to_lines
from weevit.store.files import stamped
from weevit.store.folder import FAILURES, LOCK, Kind, check_folder, differences, held
from weevit.store.own import read_own
from weevit.store.provenance import provenance
from weevit.text import csv_bytes, typed
from weevit.zoo.records import MAX_RECORD_BYTES
from weevit.zoo.strict_json import parse_json_object

MODEL, STATE, PLOTS, BOARD = "model", "state", "plots", "tensorboard"
RECIPE, RUN, LOG, CSV, REPORT = "recipe.yaml", "run.json", "log.txt", "metrics.csv", "report.html"
EVALUATION = "evaluation.html"
SCHEMA = "weevit.run/1"

TRAINING = Kind(
    name="run",
    record=RUN,
    schemas=("weevit.run",),
    files={
        "": (MODEL, STATE, PLOTS, BOARD, RECIPE, RUN, LOG, CSV, FAILURES, REPORT, EVALUATION, LOCK, METRICS),
        STATE: ("step-*", ".*"),
    },
    # `run.json` is written last; without a lock, the files are not a run's
    unfinished=dict.fromkeys((RECIPE, STATE), lambda path: (path.parent / LOCK).is_file()),
    resumed=True,
    done=RUN,
    next="weevit resume {0}   resumes it; a new run from its weights: weevit train --from {0} --epochs N -o NEW",
    errors=DISK_ERRORS,
    kept="The checkpoints are kept.",
    again="Free some room, or make it writable, then: weevit resume {0}",
)

BINDING = ("recipe", "data", "weights", "model", "classes", "threads", "device", "precision", "pieces", "ranks")
"""The keys of `run.json` that determine the result; a run resumes with exactly these."""


@contextmanager
def hold(folder: Path, new: bool, inputs: Iterable[object] = ()) -> Iterator[None]:
    """Hold the folder of a run against other processes.

    Args:
        folder: made for a new run.
        new: whether the run is new; otherwise one must be there.
        inputs: inputs of the run.

    Raises:
        UsageError: an invalid output, a run where a new one is to begin, or none where one is to resume.
        OutputError: another process works in the folder, or it cannot be written.
    """
    try:
        check_folder(folder, TRAINING, inputs)
        if not new and not (folder / RUN).is_file():
            raise UsageError(f"{folder} holds no run: there is no {RUN} in it.")
    except UsageError as error:
        if new:
            raise
        raise UsageError(error.message, _instead(folder)) from error
    with held(folder, TRAINING if new else replace(TRAINING, done=""), inputs):
        try:
            if new:
                _clear_unbegun(folder)
            yield
        finally:
            if not (folder / RUN).exists():  # nothing began: leave no folder
                _clear_unbegun(folder)


def _instead(folder: Path) -> str:
    """The command in place of one that resumes what is no run; of an output, another name would be proposed."""
    with suppress(OSError):
        if (folder / _FINETUNING).is_file():
            return f"weevit finetune DATA -o {typed(folder)}   resumes a fine-tuning"
    return "weevit train RECIPE --data FOLDER -o RUN   begins one"


_FINETUNING = "begun.json"
"""Record of a fine-tuning (`weevit.finetuning`, a layer above)."""


def _clear_unbegun(folder: Path) -> None:
    """Delete the files of a process that was killed before there was a run."""
    (folder / RECIPE).unlink(missing_ok=True)
    shutil.rmtree(folder / STATE, ignore_errors=True)


# ---- the run's inputs


def fingerprint(facts: Mapping[str, Any]) -> str:
    """sha256 of everything in a run that determines its result; recorded in every checkpoint."""
    binding = {key: facts[key] for key in BINDING if key in facts}
    return hashlib.sha256(json.dumps(binding, sort_keys=True).encode()).hexdigest()


def machine() -> dict[str, Any]:
    """Versions and hardware, GPUs among it."""
    found = provenance(("torch", "torchvision", "numpy", "pillow", "safetensors"))
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {**found, "machine": {**found["machine"], "gpus": gpus}}


def write_run(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write `run.json`."""
    TRAINING.write(folder, RUN, {"schema": SCHEMA, **facts})


def read_run(folder: Path) -> dict[str, Any]:
    """Read `run.json`; TrainingError where it is damaged, or of another schema."""
    path = folder / RUN
    try:
        content = parse_json_object(read_own(path, MAX_RECORD_BYTES), str(path), paths=True)
        if content.pop("schema", None) != SCHEMA:
            raise MalformedFileError("it is of another kind")
        check_facts(content, str(path))
    except (OSError, MalformedFileError) as error:
        raise TrainingError(f"{path} is not a run of the kind {SCHEMA}: {error}") from error
    return content


def refuse_other(folder: Path, recorded: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Compare the record of a run with its current values.

    Args:
        folder: folder of the run.
        recorded: `run.json`.
        found: current values; absent keys are not compared.

    Raises:
        TrainingError: a difference; the message lists all of them.
    """
    lines = differences(recorded, found)
    if lines:
        raise TrainingError(
            f"{folder} cannot be resumed, because this would be another run:\n" + "\n".join(lines),
            f"Put it back as it was, or begin a new run from these weights: weevit train --from {typed(folder)} -o NEW",
        )


def refuse_other_recipe(folder: Path, recorded: Mapping[str, Any], recipe: Recipe) -> None:
    """Compare the recipe that a run was begun with and the one in its folder.

    A key that an earlier version did not know had the value that is its default now.

    Raises:
        TrainingError: a difference; the message lists all of them.
    """
    defaults, now = (json.loads(json.dumps(flat(one))) for one in (Recipe(), recipe))
    refuse_other(folder, {"recipe": {**defaults, **recorded["recipe"]}}, {"recipe": now})


# ---- the run's files


def append_row(folder: Path, row: Row) -> None:
    """Append a row to `metrics.jsonl`."""
    with TRAINING.writing(folder), (folder / METRICS).open("a", encoding="utf-8") as file:
        file.write(to_lines([row]))


def write_metrics(folder: Path, rows: list[Row]) -> None:
    """Write `metrics.jsonl` and `metrics.csv` from the rows of the state."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    TRAINING.write(folder, METRICS, to_lines(rows))
    TRAINING.write(folder, CSV, csv_bytes(columns, [[row.get(name) for name in columns] for row in rows]))


def log(folder: Path, line: str) -> None:
    """Add a line with the time to `log.txt`."""
    with TRAINING.writing(folder), (folder / LOG).open("a", encoding="utf-8") as file:
        file.write(stamped(line))


@contextmanager
def logging(folder: Path) -> Iterator[None]:
    """Log an error that ends the run; where there is no run yet, nothing is left behind."""
    try:
        yield
    except WeevitError as error:
        if (folder / RUN).is_file():
            with suppress(OutputError):
                log(folder, str(error))
        raise
