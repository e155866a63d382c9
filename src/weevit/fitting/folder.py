"""The folder of a fit, and its files.

model/          the checkpoint in the hub's format, for every other verb, timm and transformers
validation/     its evaluation, as `weevit eval -o` writes it; test/ too where there is a test split
report.html     for people
report.json     for machines: every candidate, all figures
metrics.jsonl   a line per candidate, in order
failures.csv    images without an answer, if any
run.json        versions, machine, data; written last, so that a folder with one is whole
log.txt
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from weevit.datasets.dataset import TEST, VALIDATION
from weevit.evaluation.saved import clear_evaluation, write_evaluation, write_report
from weevit.fitting.results import Fit
from weevit.store.files import finite, write_file
from weevit.store.folder import Kind
from weevit.store.provenance import provenance

SCHEMA = "weevit.fit/2"
MODEL, RUN, LOG, METRICS = "model", "run.json", "log.txt", "metrics.jsonl"
FIT = Kind("fit", RUN, ("weevit.fit",), dict.fromkeys(("", MODEL, VALIDATION, TEST), ("*",)))
"""An earlier fit is replaced file by file, once its replacement exists."""


@contextmanager
def discarded_on_error(folder: Path) -> Iterator[None]:
    """Delete the model if its report cannot be written: half a fit is none."""
    try:
        yield
    except BaseException:
        shutil.rmtree(folder / MODEL, ignore_errors=True)
        raise


def write_run(fit: Fit, facts: Mapping[str, Any], log: str) -> None:
    """Write everything but the model; `facts` go to `run.json`, `log` to `log.txt`. OutputError as for `write_file`."""
    from weevit.fitting.page import fit_page

    folder, figures = fit.folder, finite(fit.as_json())
    for name, evaluation in fit.evaluations.items():
        write_evaluation(evaluation, folder / name)
    lines = [json.dumps(one, allow_nan=False) + "\n" for one in figures["candidates"]]
    write_file(folder / METRICS, "".join(lines))
    FIT.write_failures(folder, ((name, split, status, error) for split, name, status, error in fit.failures))
    write_report(folder, fit_page(fit, facts), {"schema": SCHEMA, **figures})
    write_file(folder / LOG, log)
    summary = {name: value for name, value in figures.items() if name != "candidates"}
    write_file(folder / RUN, {"schema": SCHEMA, "verb": "fit", "status": "done", **facts, **summary})


def begin_writing(folder: Path) -> None:
    """Mark the folder as an unfinished fit before the first file of an earlier one is replaced.

    The evaluations of the earlier fit are deleted at once: beside another model they would be taken for its own.
    """
    write_file(folder / RUN, {"schema": SCHEMA, "verb": "fit", "status": "unfinished"})
    for name in (VALIDATION, TEST):
        clear_evaluation(folder / name)


def machine() -> dict[str, Any]:
    """Versions, hardware and time."""
    packages = ("numpy", "scipy", "scikit-learn", "onnxruntime", "pillow", "safetensors")
    return {**provenance(packages), "made": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())}
