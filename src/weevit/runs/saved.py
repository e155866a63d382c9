"""The schema of a checkpoint's files, and the comparison with the run that resumes from them.

A manifest's digests show that nothing was damaged, not that weevit wrote it: a run folder may be a stranger's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from weevit.errors import MalformedFileError, TrainingError
from weevit.optim.nadamuon import NAdaMuon, is_matrix
from weevit.store.own import read_own
from weevit.zoo.fields import boolean, one_of, whole
from weevit.zoo.records import (
    MAX_COUNT,
    MAX_RECORD_BYTES,
    Count,
    Name,
    Number,
    Seconds,
    either,
    having,
    items,
    number,
    parse_line,
    read_record,
    read_record_file,
    table,
    words,
)
from weevit.zoo.strict_json import parse_json_object

MODEL, OPTIMIZER, EMA = "model.safetensors", "optimizer.safetensors", "ema.safetensors"
STATE, METRICS, CLOCK = "state.json", "metrics.jsonl", "clock.json"
FILES = (MODEL, OPTIMIZER, EMA, STATE, METRICS, CLOCK)
SCHEMA = "weevit.state/1"

MAX_METRICS_BYTES = 1 << 30

DISK_ERRORS = (OSError, SafetensorError)
"""Errors of writing tensors: the library has its own for a full disk."""

MAX_BAD = 10_000_000
MAX_ENDS = 100_000

Row = dict[str, Any]
"""One row of metrics: `step`, `epoch` and figures; finite numbers and text only."""

_value = either(number(), words(256))
_rows = items(table(words(64), _value, 64), MAX_BAD)


def _clock_rows(value: Any) -> list[Row]:
    for row in (found := _rows(value)):
        whole(0, MAX_COUNT)(row.get("step"))
    return list(found)


@dataclass
class Best:
    """The best evaluation so far.

    Attributes:
        step: updates before it.
        figure: the deciding figure: `ema_top1`, `val_loss`, ...
        value: its value.
        weights: `model` or `ema`.
    """

    step: Count
    figure: Name
    value: Number
    weights: Annotated[str, one_of("model", "ema", shown="set of weights")]


@dataclass
class Clock:
    """The time of a run; not equal in equal runs.

    Attributes:
        seconds: of all sittings together, evaluation and saving included.
        rows: `step`, `images_per_second` and `data_wait` (share of the time spent waiting for data).
    """

    seconds: Seconds = 0.0
    rows: Annotated[list[Row], _clock_rows] = field(default_factory=list)


@dataclass(frozen=True)
class Saved:
    """The contents of `state.json`; see `weevit.training.state.State`."""

    run: Name
    step: Count
    seen: Count
    skipped: Count
    best: Best | None
    window: Annotated[dict[str, float], table(one_of("steps", "loss", "grad_norm", shown="sum"), number(), 3)]
    bad: Annotated[dict[str, tuple[str, ...]], table(words(1 << 16), items(words(1 << 16), 2), MAX_BAD)]
    scaler: Annotated[dict[str, float], table(words(64), number(0, 1e30), 16)]
    optimizer: Annotated[dict[str, Any], table(words(512), table(words(64), either(number(), boolean), 16), 1 << 16)]
    files: Annotated[tuple[str, ...], items(one_of(*FILES, shown="file of a checkpoint"), len(FILES))]
    ends: Annotated[tuple[tuple[int, ...], ...], items(items(whole(0, MAX_COUNT), 2), MAX_ENDS)] = ()


def to_lines(rows: list[Row]) -> str:
    """Rows as text, a JSON object per line; equal rows give equal bytes."""
    return "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)


def read_saved(path: Path) -> Saved:
    """Read `state.json` of a checkpoint; TrainingError for another schema, or what weevit does not write."""
    file = path / STATE
    try:
        content = parse_json_object(read_own(file, MAX_RECORD_BYTES), str(file), paths=True)
        schema = content.pop("schema", None)
        if schema != SCHEMA:
            raise TrainingError(
                f"{file} is of the kind {str(schema)[:80]!r}; this version resumes from {SCHEMA!r}.",
                "Resume with the version that run.json names.",
            )
        return read_record(Saved, content, str(file))
    except (MalformedFileError, OSError) as error:
        raise _forged(str(error.message if isinstance(error, MalformedFileError) else error)) from error


def read_clock(path: Path, step: int) -> Clock:
    """Read `clock.json` of the checkpoint of a step; TrainingError for what weevit does not write."""
    try:
        clock = read_record_file(Clock, path / CLOCK, limit=MAX_METRICS_BYTES)
    except (MalformedFileError, OSError) as error:
        raise _forged(str(error)) from error
    _refuse_later(path / CLOCK, clock.rows, step)
    return clock


def read_metrics(path: Path, step: int) -> list[Row]:
    """Read `metrics.jsonl` of the checkpoint of a step; TrainingError for what weevit does not write."""
    file, rows = path / METRICS, []
    try:
        for row, line in enumerate(read_own(file, MAX_METRICS_BYTES).splitlines(), 1):
            where = f"{file}, line {row}"
            rows.append(read_record(_Metrics, {"row": parse_line(line, where)}, where).row)
    except (MalformedFileError, OSError) as error:
        raise _forged(str(error)) from error
    _refuse_later(file, rows, step)
    return rows


_row = having(
    table(words(64), _value, 64),
    "a row",
    {
        **dict.fromkeys(("step", "epoch", "seen"), whole(0, MAX_COUNT)),
        "kind": one_of("train", "eval", shown="kind of row"),
    },
)


def _metrics_row(value: Any) -> Row:
    """A row of metrics: numbers, but for its kind."""
    row: Row = _row(value)
    wrong = [name for name, one in row.items() if name != "kind" and isinstance(one, str)]
    if wrong:
        raise ValueError(f"a row whose {wrong[0]} is a number")
    return row


@dataclass(frozen=True)
class _Metrics:
    row: Annotated[Row, _metrics_row]


def _refuse_later(file: Path, rows: list[Row], step: int) -> None:
    steps = [row["step"] for row in rows]
    if steps != sorted(steps) or (steps and steps[-1] > step):
        raise _forged(f"{file}: its steps do not rise to the state's step, which is {step:,}.")


def refuse_outside(saved: Saved, path: Path, total: int, batch: int) -> None:
    """Refuse counts that a run of `total` updates of `batch` images cannot have, with a TrainingError."""
    step, best, sums = saved.step, saved.best, saved.window
    limits = {
        "step": (step, total),
        "seen": (saved.seen, step * batch),
        "skipped": (saved.skipped, step),
        "best.step": (best.step if best else 0, step),
        "window.steps": (sums.get("steps", 0), step),
        "the number of images that cannot be read": (len(saved.bad), step * batch),
    }
    for name, (value, most) in limits.items():
        if value > most or (name == "window.steps" and sums and value < 1):
            raise _forged(f"{path / STATE}: {name} is {value:,}; here it is at most {most:,}.")
    if path.name != f"step-{step:06d}":
        raise _forged(f"{path / STATE}: step is {step:,}; the folder says {path.name}.")
    looked = [pair[0] for pair in saved.ends]
    if any(len(pair) != 2 or not pair[0] <= pair[1] <= total for pair in saved.ends) or looked != sorted(set(looked)):
        raise _forged(f"{path / STATE}: ends are not (update, last update) pairs that rise, up to {total:,}.")
    if looked and (looked[-1] > step or saved.ends[-1][1] < step):
        raise _forged(f"{path / STATE}: ends were decided after step {step:,}, or lie before it.")
    wrong = [name for name, pair in saved.bad.items() if len(pair) != 2]
    if wrong:
        raise _forged(f"{path / STATE}: bad has an image without a kind and an error.")


def refuse_unlike(path: Path, tensors: Mapping[str, Tensor], module: nn.Module) -> None:
    """Raise a TrainingError if a file's tensors differ from the module's in names or shapes."""
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    differing = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if differing:
        name = differing[0]
        shapes = f"{found.get(name, 'nothing')} there, {wanted.get(name, 'nothing')} in the model of this run"
        raise _forged(f"{path}: {len(differing)} tensors differ; {name}: {shapes}.")


def refuse_strange_moments(
    path: Path,
    tensors: Mapping[str, Tensor],
    plain: Mapping[str, Any],
    state: tuple[nn.Module, torch.optim.Optimizer, int],
) -> None:
    """Refuse moments that do not fit the parameters and the optimiser.

    Args:
        path: path of the file.
        tensors: `parameter.moment` -> tensor.
        plain: parameter -> moments that are no tensors.
        state: the module, its optimiser, and the updates so far.

    Raises:
        TrainingError: an unknown parameter, or another set, shape or count of moments.
    """
    module, optimizer, step = state
    parameters = dict(module.named_parameters())
    kept: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        name, _, moment = key.rpartition(".")
        kept.setdefault(name, {})[moment] = tensor
    for name, own in kept.items():
        parameter = parameters.get(name)
        if parameter is None:
            raise _forged(f"{path}: there is no parameter {name[:80]!r} in the model of this run.")
        matrix = isinstance(optimizer, NAdaMuon) and is_matrix(parameter)
        mean = "momentum_buffer" if matrix else "exp_avg"
        shapes = {"step": (), mean: tuple(parameter.shape), "exp_avg_sq": tuple(parameter.shape)}
        if {moment: tuple(tensor.shape) for moment, tensor in own.items()} != shapes:
            raise _forged(f"{path}: the moments of {name} are not those of this optimiser: {', '.join(shapes)}.")
        count = float(own["step"])
        if not (1 <= count <= step and count.is_integer()) or bool((own["exp_avg_sq"] < 0).any()):
            raise _forged(f"{path}: the moments of {name} cannot come from {step:,} updates.")
    strange = sorted(plain.keys() - parameters.keys())
    if strange:
        raise _forged(f"{path}: there is no parameter {strange[0][:80]!r} in the model of this run.")


def _forged(message: str) -> TrainingError:
    return TrainingError(
        f"{message} The checkpoint is not one that this run has written.",
        "Put back the run's own, or begin another run with --from.",
    )
