"""A checkpoint as data: architecture, tensors, preprocessing, classes and where they came from.

On disk it is the hub's folder, which timm and transformers read and write too: `config.json` + `model.safetensors`;
weevit adds `weevit-manifest.json` where it can speak for the bytes. Reading is cheap and complete: everything that
can be wrong with names, shapes, dtypes or bytes is an error here, before the tensors are needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from weevit.errors import CheckpointError, ChecksumError, UsageError
from weevit.store.files import sha256_file
from weevit.store.home import expand_home
from weevit.zoo.architectures import Architecture
from weevit.zoo.config import ModelConfig, parse_config, read_config
from weevit.zoo.decision import Decision, parse_decision
from weevit.zoo.labels import Label
from weevit.zoo.layout import from_timm_name
from weevit.zoo.manifest import CONFIG_FILE, MANIFEST, WEIGHTS_FILE, check_files, differs
from weevit.zoo.matching import check_tensors, fitting_grid, infer_config, tensor_shape
from weevit.zoo.quantized import Quantization, check_agreement, check_values
from weevit.zoo.safetensors_file import (
    PICKLE_ENDINGS,
    Entry,
    convert_hint,
    read_header,
    read_tensors,
    refuse_pickle,
)
from weevit.zoo.weights import Preprocessing


@dataclass(frozen=True)
class Checkpoint:
    """One model, ready to be made into a graph or a module.

    Attributes:
        name: the full tag of a published weight; for any other, the architecture and the folder's name.
        source: the folder or file, or `hf-hub:organisation/name`, that it came from.
        architecture: its row; `pool` and `norm` are those of this checkpoint.
        num_classes: width of the head, 0 for none.
        in_chans: image channels.
        grid: rows and columns of patches that the learned positions cover (with rotary positions, of its input size).
        preprocessing: what it was trained to see.
        labels: class names, None where none are known for sure.
        license: as published, None where nothing is said.
        path: the `.safetensors` file.
        recorded: what the manifest says the sha256 of that file is; None where there is no manifest.
        notes: what the user should be told.
        config: `config.json` as it stands; empty where there is none.
        decision: how its logits become an answer; None for plain softmax.
        quantization: how its weights became int8; None where they are floating point.
    """

    name: str
    source: str
    architecture: Architecture
    num_classes: int
    in_chans: int
    grid: tuple[int, int]
    preprocessing: Preprocessing
    labels: tuple[Label, ...] | None
    license: str | None
    path: Path
    recorded: str | None
    notes: tuple[str, ...]
    config: Mapping[str, object]
    decision: Decision | None = None
    quantization: Quantization | None = None

    def __getstate__(self) -> dict[str, Any]:
        """To be pickled or copied: a view of a dict cannot be."""
        return {**vars(self), "config": dict(self.config)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, config=MappingProxyType(state["config"]))

    @cached_property
    def sha256(self) -> str:
        """Of the weights file, 64 hex digits; hashed when it is first asked for.

        Raises:
            ChecksumError: the manifest says otherwise.
        """
        digest = sha256_file(self.path)
        if self.recorded not in (None, digest):
            raise self._changed()
        return digest

    def tensors(self) -> dict[str, np.ndarray]:
        """Read the weights: each tensor once, nothing more and nothing less than the architecture has.

        Returns:
            Weevit's names, in the order of the file -> float32, C-contiguous; of a quantised checkpoint those that
            `weevit.zoo.quantized` lists, with int8 among them.

        Raises:
            ChecksumError: the bytes are not those of the manifest, or not those that `sha256` was made of. (Without a
                manifest, and if `sha256` was not asked for, there is nothing to compare with, and nothing is hashed.)
            CheckpointError: NaN or infinity in a tensor, or what no quantisation gives.
        """
        known = self.__dict__.get("sha256", self.recorded)  # what the property has said, if it was ever asked
        found, digest = read_tensors(self.path, hashed=known is not None, integers=self.quantization is not None)
        if digest != known:
            raise self._changed()
        if digest:
            self.__dict__["sha256"] = digest  # hashed while it was read: the property need not read it again
        if self.quantization is not None:
            check_values(found, self.quantization, str(self.path))
            return found
        return {from_timm_name(name, self.architecture): tensor for name, tensor in found.items()}

    def check_floats(self) -> None:
        """Refuse a quantised checkpoint where a module is made, trained, or quantised.

        Raises:
            UsageError: it is quantised.
        """
        if self.quantization is not None:
            raise UsageError(
                f"{self.source} is {self.quantization}; modules, training and quantisation take floating point.",
                f"Name the model that it was made of: its weights have the sha256 {self.quantization.original}.",
            )

    def floats(self) -> dict[str, np.ndarray]:
        """`tensors`, of a checkpoint that has them in floating point.

        Raises:
            UsageError: it is quantised.
        """
        self.check_floats()
        return self.tensors()

    def _changed(self) -> ChecksumError:
        return differs(self.path, _checksum_hint(self.source, self.path.parent))


def read_checkpoint(path: str | Path, source: str = "") -> Checkpoint:
    """Read a checkpoint and check all of it but the numbers.

    Args:
        path: a folder in the hub's format, a run folder (its `model/` is meant), or a `.safetensors` file; a
            `config.json` beside the file is used, and without one the tensors tell the architecture.
        source: where it came from, if not from `path`.

    Raises:
        CheckpointError: missing, or not to be trusted: one of its kinds says why.
        UnknownModelError: the architecture is not of this family.
    """
    path = expand_home(path)
    file, config_file = _locate(path)
    recorded = check_files(file.parent, _checksum_hint(source, file.parent), later=file.name)
    header = read_header(file)
    if config_file:
        config = parse_config(read_config(config_file), str(config_file))
    else:
        config = infer_config(header, file)
    architecture = replace(config.architecture, norm=config.norm or _norm_in_file(config, header))
    num_classes = config.num_classes if config.num_classes is not None else _head_width(header)
    grid = _grid(config, architecture, header, file)
    check_tensors(header, architecture, num_classes, grid, config.in_chans, str(file))
    check_agreement(header, config.quantization, str(file))
    published = config.weight if config.is_published else None
    return Checkpoint(
        name=published.name if published else f"{architecture.name} ({source or _folder_name(path)})",
        source=source or str(path),
        architecture=architecture,
        num_classes=num_classes,
        in_chans=config.in_chans,
        grid=grid,
        preprocessing=config.preprocessing,
        labels=config.labels,
        license=config.license,
        path=file,
        recorded=recorded.get(file.name),
        notes=config.notes,
        config=MappingProxyType(dict(config.raw)),
        decision=parse_decision(config.raw, num_classes, str(config_file)),
        quantization=config.quantization,
    )


def _locate(path: Path) -> tuple[Path, Path | None]:
    """The weights and, where there is one, the config."""
    try:
        return _files(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from None


def _files(path: Path) -> tuple[Path, Path | None]:
    refuse_pickle(path)
    if path.is_dir():
        folder = path if (path / WEIGHTS_FILE).exists() else path / "model"
        file = folder / WEIGHTS_FILE
        if not file.exists():
            raise _no_weights(path)
    elif path.suffix == ".safetensors":
        file = path
    elif path.exists():
        raise CheckpointError(f"{path} is neither a folder nor a .safetensors file.", "Name the folder of the model.")
    else:
        raise CheckpointError(f"{path} does not exist.", "weevit models   lists the models that have a name")
    config = file.parent / CONFIG_FILE
    return file, config if config.exists() else None


def _no_weights(folder: Path) -> CheckpointError:
    pickles = sorted(item.name for item in folder.iterdir() if item.suffix.lower() in PICKLE_ENDINGS)
    if pickles:
        return CheckpointError(
            f"{folder} has no {WEIGHTS_FILE}, only {', '.join(pickles[:3])}: pickles and archives are never opened.",
            convert_hint(folder / pickles[0]),
        )
    return CheckpointError(
        f"{folder} has neither {WEIGHTS_FILE} nor model/{WEIGHTS_FILE}.",
        f"A model is a folder with {CONFIG_FILE} and {WEIGHTS_FILE}, a run folder, or a .safetensors file.",
    )


def _checksum_hint(source: str, folder: Path) -> str:
    if source.startswith("hf-hub:"):
        return f"Fetch it again with refresh=True, or delete {folder}"
    return f"If you changed it on purpose, delete {folder / MANIFEST}"


def _folder_name(path: Path) -> str:
    """What people call it: a run's name rather than `model`."""
    path = path.resolve()
    return path.parent.name if path.name in ("model", WEIGHTS_FILE) else path.name


def _norm_in_file(config: ModelConfig, header: Mapping[str, Entry]) -> Any:
    """Where the last norm stands if the config does not say: older exports say it in the tensor names alone."""
    after, before = (tensor_shape(header, f"{name}.weight") for name in ("fc_norm", "norm"))
    if (after is None) == (before is None):
        return config.architecture.norm
    return "after_pool" if after else "before_pool"


def _head_width(header: Mapping[str, Entry]) -> int:
    shape = tensor_shape(header, "head.weight")
    return shape[0] if shape else 0


def _grid(config: ModelConfig, arch: Architecture, header: Mapping[str, Entry], file: Path) -> tuple[int, int]:
    """The patch grid: that of the saved model, of its input size, or the native one, whichever the positions fit."""
    asked = (config.preprocessing.height, config.preprocessing.width)
    sizes = list(dict.fromkeys([config.img_size or asked, asked, (arch.img_size, arch.img_size)]))
    grid = fitting_grid(header, arch, sizes)
    if grid is None:
        shown = ", ".join(f"{height} x {width}" for height, width in sizes)
        raise CheckpointError(
            f"{file}: pos_embed has the shape {tensor_shape(header, 'pos_embed')}, which fits an image of none of the "
            f"sizes that are known for it: {shown} px.",
            "Say the image size that it was saved at: model_args.img_size in config.json.",
        )
    return grid
