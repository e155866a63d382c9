"""The state of a run: everything that its rest depends on, written to the disk and read back bit by bit.

A checkpoint is a folder, and complete: no other file of the run is needed to resume.

    state/step-000412/
        model.safetensors  optimizer.safetensors  ema.safetensors     float32, by the names of the parameters
        state.json             step, best, counts, the optimiser's groups
        metrics.jsonl          every row of metrics so far
        clock.json             its time: the one file in which two equal runs differ
        weevit-manifest.json   sha256 of each, written last

It is written under another name, synced, and renamed. A folder of the final name without a manifest, or with a file
that differs from it, is damaged, and the newest complete one before it is used.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from weevit.errors import CheckpointError, TrainingError
from weevit.nn.vit import VisionTransformer
from weevit.optim.ema import Ema
from weevit.optim.optimizer import create_optimizer
from weevit.recipes.schema import Recipe
from weevit.runs.saved import (
    CLOCK,
    DISK_ERRORS,
    FILES,
    MAX_METRICS_BYTES,
    METRICS,
    MODEL,
    OPTIMIZER,
    SCHEMA,
    STATE,
    Best,
    Clock,
    Row,
    read_clock,
    read_metrics,
    read_saved,
    refuse_outside,
    refuse_strange_moments,
    refuse_unlike,
    to_lines,
)
from weevit.store.files import HINT, replacing_folder, sha256_file, sync, writing
from weevit.store.own import refuse_links
from weevit.text import typed
from weevit.training.machine import Machine
from weevit.zoo.manifest import MANIFEST, check_files, read_manifest, write_manifest
from weevit.zoo.records import MAX_COUNT, MAX_RECORD_BYTES
from weevit.zoo.safetensors_file import MAX_FILE_BYTES, read_tensors


@dataclass
class State:
    """A run between two updates.

    Attributes:
        model: the weights in training.
        optimizer: with its moments.
        ema: averages of the weights; None where the recipe has none.
        scaler: of gradients, for float16; inactive in other precisions.
        run: fingerprint of the run (`weevit.runs.folder.fingerprint`).
        step: updates done.
        seen: images trained on.
        skipped: updates that float16 skipped because the scale of the gradients was too high.
        best: the best evaluation so far.
        metrics: every row so far, in order.
        window: sums since the last row of training metrics: `steps`, `loss`, `grad_norm`.
        bad: image -> (kind, error), of unreadable images.
        ends: decisions on the end of the schedule, as in `weevit.training.pace.Pace`.
        clock: its time.
        lock: held while any of this changes or is saved: its holder sees a run between two updates.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    ema: Ema | None
    scaler: torch.amp.GradScaler
    run: str
    step: int = 0
    seen: int = 0
    skipped: int = 0
    best: Best | None = None
    metrics: list[Row] = field(default_factory=list)
    window: dict[str, float] = field(default_factory=dict)
    bad: dict[str, tuple[str, str]] = field(default_factory=dict)
    ends: list[tuple[int, int]] = field(default_factory=list)
    clock: Clock = field(default_factory=Clock)
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    @classmethod
    def of(cls, model: VisionTransformer, recipe: Recipe, machine: Machine, run: str = "") -> State:
        """The state of a module before its first update."""
        scaler = torch.amp.GradScaler(machine.device.type, enabled=machine.precision == "fp16")
        ema = Ema(model, recipe.ema) if recipe.ema.decay is not None else None
        return cls(model, create_optimizer(model, recipe), ema, scaler, run)

    def modules(self) -> dict[str, nn.Module]:
        """`model` and, where there are averages, `ema`."""
        return {"model": self.model} | ({} if self.ema is None else {"ema": self.ema.module})

    def count(self, loss: float, grad_norm: float) -> None:
        """Add an update to the current row; one that float16 skipped has no norm and counts as skipped."""
        if not math.isfinite(grad_norm):
            self.skipped += 1
            return
        for name, value in {"steps": 1.0, "loss": loss, "grad_norm": grad_norm}.items():
            self.window[name] = self.window.get(name, 0.0) + value

    def take_window(self) -> dict[str, float]:
        """The means since the last row, and start of the next; empty where every update was skipped."""
        steps = self.window.pop("steps", 0.0)
        means = {name: value / steps for name, value in self.window.items()}
        self.window.clear()
        return means


# ---- writing


def save(state: State, folder: Path, keep: int = 2) -> Path:
    """Write a checkpoint, whole or not at all, and delete all but the last `keep` and the best.

    Args:
        state: state of a run; its lock is taken.
        folder: `state/` of the run.
        keep: number of the newest checkpoints to keep.

    Returns:
        The folder of the checkpoint.

    Raises:
        TrainingError: a weight, an average or a moment is NaN or infinite; nothing is written.
        OutputError: it cannot be written; the message names the bytes needed, and earlier checkpoints stay.
    """
    with state.lock:
        return _save(state, folder, keep)


def _save(state: State, folder: Path, keep: int) -> Path:
    files = _tensor_files(state)
    for name, tensors in files.items():
        refuse_not_finite(name.partition(".")[0], tensors, state.step)
    final = folder / f"step-{state.step:06d}"
    needed = sum(tensor.nbytes for tensors in files.values() for tensor in tensors.values())
    kept, again = f"It needs {needed:,} bytes; {_free(folder):,} were free.", HINT
    if checkpoints(folder):
        kept += " Earlier checkpoints are kept."
        again = f"Free some room, then: weevit resume {typed(folder.parent)}"
    with writing(folder, kept, again, DISK_ERRORS):
        folder.mkdir(parents=True, exist_ok=True)
        with replacing_folder(final) as tmp:
            _reached("begin")
            texts = _texts(state, files)
            for name, tensors in files.items():
                save_file(tensors, tmp / name)
                _reached(f"written {name}")
            for name, text in texts.items():
                (tmp / name).write_text(text, encoding="utf-8")
            for name in (*files, *texts):
                sync(tmp / name)
            _reached("synced")
            write_manifest(tmp, {name: sha256_file(tmp / name) for name in (*files, *texts)})
            _reached("manifest")
        _reached("renamed")
        prune(folder, keep, state.best.step if state.best else None)
    _reached("pruned")
    return final


def _reached(point: str) -> None:
    """A point at which tests kill a save."""


def _tensor_files(state: State) -> dict[str, dict[str, Tensor]]:
    """File name -> its tensors, on the CPU."""
    files = {f"{name}.safetensors": _on_cpu(module.state_dict()) for name, module in state.modules().items()}
    names = _names(state)
    moments = {
        f"{names[parameter]}.{key}": value
        for parameter, values in state.optimizer.state.items()
        for key, value in values.items()
        if isinstance(value, Tensor)
    }
    # Before the first update there are no moments, and reading refuses a file without tensors.
    return files | ({OPTIMIZER: _on_cpu(moments)} if moments else {})


def _names(state: State) -> dict[Tensor, str]:
    return {parameter: name for name, parameter in state.model.named_parameters()}


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", torch.float32).contiguous() for name, tensor in tensors.items()}


def refuse_not_finite(what: str, tensors: Mapping[str, Tensor], step: int) -> None:
    """Raise a TrainingError that names the tensor and the step if a number is NaN or infinite."""
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise TrainingError(
                f"After step {step}, {name} of the {what} holds NaN or infinity. Nothing of it was written.",
                "The last checkpoint is from before. A lower optim.lr, or loop.precision=bf16, are the usual remedies.",
            )


def _texts(state: State, files: Mapping[str, Any]) -> dict[str, str]:
    clock = json.dumps(vars(state.clock))
    return {STATE: _to_json(state, files), METRICS: to_lines(state.metrics), CLOCK: clock}


def _to_json(state: State, files: Mapping[str, Any]) -> str:
    content = {
        "schema": SCHEMA,
        "run": state.run,
        "step": state.step,
        "seen": state.seen,
        "skipped": state.skipped,
        "best": vars(state.best) if state.best else None,
        "window": state.window,
        "bad": state.bad,
        "scaler": state.scaler.state_dict(),
        "optimizer": _plain_moments(state),
        "files": list(files),
        **({"ends": state.ends} if state.ends else {}),
    }
    return json.dumps(content, indent=1, allow_nan=False)


def _plain_moments(state: State) -> dict[str, dict[str, Any]]:
    """The optimiser's values of a parameter that are no tensors."""
    names = _names(state)
    found = {
        names[parameter]: {key: value for key, value in values.items() if not isinstance(value, Tensor)}
        for parameter, values in state.optimizer.state.items()
    }
    return {name: values for name, values in found.items() if values}


def _free(folder: Path) -> int:
    return shutil.disk_usage(next(path for path in (folder, *folder.absolute().parents) if path.exists())).free


def prune(folder: Path, keep: int, best: int | None) -> None:
    """Delete all checkpoints but the newest `keep` and the best one."""
    there = checkpoints(folder)
    for step, path in list(there.items())[keep:]:
        if step != best:
            (path / MANIFEST).unlink(missing_ok=True)  # from here on it does not exist, even if deleting stops
            shutil.rmtree(path, ignore_errors=True)


# ---- reading


def checkpoints(folder: Path) -> dict[int, Path]:
    """Step -> folder with a checkpoint's name, newest first."""
    found = {}
    for path in folder.glob("step-*"):
        if match := re.fullmatch(r"step-([0-9]{6,15})", path.name):
            found[int(match[1])] = path
    return dict(sorted(found.items(), reverse=True))


def newest(folder: Path, warn: Callable[[str], None]) -> Path:
    """The newest complete checkpoint, TrainingError without one; `warn` is told of newer, damaged ones."""
    problems: list[str] = []
    for path in checkpoints(folder).values():
        problem = damage(path)
        if problem is None:
            for text in problems:
                warn(f"{text} {path.name} is used, which is complete.")
            return path
        problems.append(f"{path.name} is damaged and left out: {problem}")
    shown = "\n  ".join(problems) or "nothing was saved yet"
    raise TrainingError(f"{folder} holds no complete checkpoint:\n  {shown}", "Begin again, with another --output.")


def damage(path: Path) -> str | None:
    """The damage of a checkpoint, every byte of it read; None where it is sound."""
    try:
        refuse_links(path, ["*"])
        recorded = read_manifest(path) or {}
        if {MODEL, STATE, METRICS, CLOCK} - recorded.keys() or recorded.keys() - set(FILES):
            return f"it has no {MANIFEST}" if not recorded else f"{MANIFEST} is not a checkpoint's"
        for name in recorded:
            limit = MAX_FILE_BYTES if name.endswith(".safetensors") else max(MAX_RECORD_BYTES, MAX_METRICS_BYTES)
            if (path / name).is_file() and (path / name).stat().st_size > limit:
                return f"{name} has over {limit:,} bytes"
        check_files(path, "")
    except (CheckpointError, OSError) as error:
        return error.message if isinstance(error, CheckpointError) else str(error)
    return None


def load(state: State, path: Path, total: int = MAX_COUNT, batch: int = MAX_COUNT) -> None:
    """Load a sound checkpoint into a new state.

    Args:
        state: the state to fill.
        path: path of the checkpoint.
        total: updates of the run's schedule.
        batch: images of an update.

    Raises:
        TrainingError: a checkpoint of another run, or values that this run cannot have.
        CheckpointError: it changed since it was checked.
    """
    saved = read_saved(path)
    if saved.run != state.run:
        raise TrainingError(
            f"{path} is of another run: its recipe, data or first weights differ from this folder's record.",
            "The checkpoint or run.json was copied here. Put the original back, or begin another run with --from.",
        )
    refuse_outside(saved, path, total, batch)
    metrics, clock = read_metrics(path, saved.step), read_clock(path, saved.step)
    for name, module in state.modules().items():
        tensors = _read(path, f"{name}.safetensors")
        refuse_unlike(path / f"{name}.safetensors", tensors, module)
        module.load_state_dict(tensors)
    moments = _read(path, OPTIMIZER) if OPTIMIZER in saved.files else {}
    refuse_strange_moments(path / OPTIMIZER, moments, saved.optimizer, (state.model, state.optimizer, saved.step))
    _load_moments(state, moments, saved.optimizer)
    _load_scaler(state, saved.scaler, path)
    state.step, state.seen, state.skipped = saved.step, saved.seen, saved.skipped
    state.best, state.window = saved.best, saved.window
    state.bad = {name: (kind, error) for name, (kind, error) in saved.bad.items()}
    state.ends = [(looked, end) for looked, end in saved.ends]
    state.metrics, state.clock = metrics, clock


def _load_scaler(state: State, values: dict[str, float], path: Path) -> None:
    own = state.scaler.state_dict()
    if values.keys() != own.keys() or any(type(value) is not type(own[name]) for name, value in values.items()):
        raise TrainingError(f"{path / STATE}: the scaler of gradients is not that of this run.")
    state.scaler.load_state_dict(values)


def read_weights(path: Path, weights: str) -> dict[str, Tensor]:
    """The tensors of `model` or `ema` in a checkpoint, by their names in the module."""
    return _read(path, f"{weights}.safetensors")


def _read(path: Path, name: str) -> dict[str, Tensor]:
    recorded = (read_manifest(path) or {}).get(name)
    if recorded is None:
        raise TrainingError(f"{path} has no {name}, which this run needs.", "Put back the run's own checkpoint.")
    arrays, digest = read_tensors(path / name)
    if digest != recorded:
        raise CheckpointError(f"{path / name} changed while it was read.")
    return {key: torch.from_numpy(array) for key, array in arrays.items()}


def _load_moments(state: State, tensors: Mapping[str, Tensor], plain: Mapping[str, Mapping[str, Any]]) -> None:
    """Load moments by the optimiser's own `load_state_dict`, which puts each value on its device."""
    content = state.optimizer.state_dict()
    names = _names(state)
    order = [names[parameter] for group in state.optimizer.param_groups for parameter in group["params"]]
    indices = {name: index for index, name in enumerate(order)}
    found: dict[int, dict[str, Any]] = {}
    for key, tensor in tensors.items():
        name, _, moment = key.rpartition(".")
        found.setdefault(indices[name], {})[moment] = tensor
    for name, values in plain.items():
        found.setdefault(indices[name], {}).update(values)
    state.optimizer.load_state_dict({**content, "state": found})


def digest(path: Path) -> str:
    """One sha256 of a checkpoint without its clock: weights, moments, averages, counts and metrics."""
    recorded = read_manifest(path) or {}
    lines = "".join(f"{name} {recorded[name]}\n" for name in sorted(recorded) if name != CLOCK)
    return hashlib.sha256(lines.encode()).hexdigest()
