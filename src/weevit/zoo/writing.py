"""Write a checkpoint: the hub's folder, which timm and transformers read too."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from weevit.errors import CheckpointError, TensorMismatchError
from weevit.store.files import as_bytes, replace_file, sha256_file
from weevit.zoo.architectures import ARCHITECTURES, PATCH, Architecture
from weevit.zoo.checkpoint import Checkpoint, read_checkpoint
from weevit.zoo.config import parse_config
from weevit.zoo.decision import KEY, Decision, parse_decision
from weevit.zoo.labels import Label, imagenet_labels
from weevit.zoo.layout import to_timm_name
from weevit.zoo.manifest import CONFIG_FILE, WEIGHTS_FILE, write_manifest
from weevit.zoo.matching import check_tensors, fitting_grid
from weevit.zoo.quantized import KEY as QUANTIZATION
from weevit.zoo.quantized import MARK, PATCH_EMBEDDING, Quantization
from weevit.zoo.safetensors_file import Entry
from weevit.zoo.strict_json import parse_json_object
from weevit.zoo.weights import Preprocessing


def write_checkpoint(
    folder: str | Path,
    architecture: Architecture,
    tensors: Mapping[str, np.ndarray],
    preprocessing: Preprocessing,
    labels: Sequence[Label] | None = None,
    pretrained_cfg: Mapping[str, Any] | None = None,
    decision: Decision | None = None,
    grid: tuple[int, int] | None = None,
    quantization: Quantization | None = None,
) -> Checkpoint:
    """Write `config.json`, `model.safetensors` and the manifest; each file appears whole or not at all.

    The weights come after the config and the manifest after both, so a crash on the way leaves a folder that is either
    complete or refused by `read_checkpoint`.

    Args:
        folder: made if it is not there; files of these names in it are replaced.
        architecture: the row; `pool` and `norm` may differ from the published one.
        tensors: weevit's names -> arrays of any float dtype, written as float32; of a quantised checkpoint those that
            `weevit.zoo.quantized` lists.
        preprocessing: what the model was trained to see.
        labels: one for each class, or None.
        pretrained_cfg: what else should stand under that key: `license`, `tag`, ...; not the tag of the weights that
            training started from, since these are no longer those.
        decision: how logits become an answer; None for plain softmax.
        grid: rows and columns of patches that learned positions cover, where that is neither those of the images nor
            the architecture's own.
        quantization: how the tensors were quantised; None where they are floating point.

    Returns:
        The checkpoint, read back.

    Raises:
        TensorMismatchError: not exactly the tensors of the architecture.
        CheckpointError: a tensor holds NaN or infinity, the number of labels is not that of the classes, or a value of
            the config would be refused when it is read.
    """
    folder = Path(folder)
    arrays = {name: _writable(array, quantization is not None) for name, array in tensors.items()}
    num_classes = len(arrays["head.weight"]) if "head.weight" in arrays else 0
    sizes = [(preprocessing.height, preprocessing.width), (architecture.img_size, architecture.img_size)]
    trained = [(grid[0] * PATCH, grid[1] * PATCH)] if grid else []
    grid = _check_writable(arrays, architecture, num_classes, [*trained, *sizes])
    if labels is not None and len(labels) != num_classes:
        raise CheckpointError(f"{len(labels)} labels for {num_classes} classes.")
    config = _config_json(architecture, num_classes, arrays, grid, preprocessing)
    config["pretrained_cfg"].update(pretrained_cfg or {})
    config.update(_label_fields(labels))
    if decision is not None:
        config[KEY] = decision.as_json()
    if quantization is not None:
        config.update({"architecture": MARK + architecture.name, QUANTIZATION: quantization.as_json()})
    read = parse_json_object(as_bytes(config), CONFIG_FILE)  # or nobody could read it
    parse_decision(read, parse_config(read, CONFIG_FILE).num_classes or 0, CONFIG_FILE)
    folder.mkdir(parents=True, exist_ok=True)
    if quantization is None:
        arrays = {to_timm_name(name, architecture): array for name, array in arrays.items()}
    _write_files(folder, arrays, config)
    return read_checkpoint(folder)


def _writable(array: np.ndarray, quantized: bool) -> np.ndarray:
    """As it is written: float32, or an integer of a quantised checkpoint."""
    keep = quantized and array.dtype in (np.int8, np.int32)
    return np.ascontiguousarray(array, array.dtype if keep else np.float32)


def _write_files(folder: Path, arrays: dict[str, np.ndarray], config: Mapping[str, Any]) -> None:
    replace_file(folder / CONFIG_FILE, lambda tmp: tmp.write_bytes(as_bytes(config)))

    def write_weights(tmp: Path) -> None:
        # transformers refuses a file that does not say for which framework it was written
        _save_arrays(arrays, tmp, {"format": "pt"})
        shutil.copymode(folder / CONFIG_FILE, tmp)  # the library leaves it readable by its owner only

    replace_file(folder / WEIGHTS_FILE, write_weights)
    write_manifest(folder, {name: sha256_file(folder / name) for name in (CONFIG_FILE, WEIGHTS_FILE)})


def _save_arrays(arrays: dict[str, np.ndarray], path: Path, metadata: dict[str, str]) -> None:
    """A safetensors file; OSError where the disk does not take it, for which the library has an error of its own."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    try:
        save_file(arrays, path, metadata=metadata)
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


def _check_writable(
    arrays: Mapping[str, np.ndarray], arch: Architecture, num_classes: int, sizes: list[tuple[int, int]]
) -> tuple[int, int]:
    """Refuse what could not be read back; returns the patch grid of the positions."""
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise CheckpointError(f"Tensor {name} holds NaN or infinity; such weights are not written.")
    dtypes = {"float32": "F32", "int8": "I8", "int32": "I32"}
    header = {name: Entry(name, dtypes[array.dtype.name], array.shape, 0, 0) for name, array in arrays.items()}
    grid = fitting_grid(header, arch, sizes)
    if grid is None:
        raise TensorMismatchError(f"pos_embed has shape {arrays['pos_embed'].shape}, which fits none of {sizes} px.")
    check_tensors(header, arch, num_classes, grid, _in_chans(arrays), "The dict of tensors")
    return grid


def _in_chans(arrays: Mapping[str, np.ndarray]) -> int:
    patch = arrays.get("patch_embed.proj.weight")
    if patch is None and f"{PATCH_EMBEDDING}.weight" in arrays:  # quantised
        return len(arrays[f"{PATCH_EMBEDDING}.weight"]) // PATCH**2
    return patch.shape[1] if patch is not None and patch.ndim == 4 else 3


def _config_json(
    arch: Architecture,
    num_classes: int,
    arrays: Mapping[str, np.ndarray],
    grid: tuple[int, int],
    preprocessing: Preprocessing,
) -> dict[str, Any]:
    in_chans = _in_chans(arrays)
    size = [preprocessing.height, preprocessing.width]
    model_args = _model_args(arch, grid, size, in_chans)
    return {
        "architecture": arch.name,
        "num_classes": num_classes,
        "num_features": arch.embed_dim,
        "global_pool": arch.pool,
        **({"model_args": model_args} if model_args else {}),
        "pretrained_cfg": {
            "custom_load": False,
            "input_size": [in_chans, *size],
            "fixed_input_size": "dynamic_img_size" not in model_args,
            "interpolation": preprocessing.interpolation,
            "crop_pct": preprocessing.crop_pct,
            "crop_mode": preprocessing.crop_mode,
            "mean": list(preprocessing.mean),
            "std": list(preprocessing.std),
            "num_classes": num_classes,
            "pool_size": None,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        },
    }


def _model_args(arch: Architecture, grid: tuple[int, int], size: list[int], in_chans: int) -> dict[str, Any]:
    """What timm must be told to build this model: only what differs from its own row."""
    row = ARCHITECTURES[arch.name]
    trained = [side * PATCH for side in grid]
    args: dict[str, Any] = {}
    if trained != [row.img_size, row.img_size]:
        args["img_size"] = trained
    if trained != size:
        args["dynamic_img_size"] = True
    if in_chans != 3:
        args["in_chans"] = in_chans
    if (arch.pool, arch.norm) != (row.pool, row.norm):
        args.update(global_pool=arch.pool, fc_norm=arch.norm == "after_pool")
    return args


def _label_fields(labels: Sequence[Label] | None) -> dict[str, Any]:
    if labels is None:
        return {}
    if tuple(labels) == imagenet_labels(len(labels)):
        # transformers answers with label_names alone, and does so in words where it knows the head as ImageNet's
        return {"label_names": [label.name for label in labels]}
    descriptions = {label.id: label.name for label in labels if label.name != label.id}
    names = {"label_names": [label.id for label in labels]}
    return {**names, "label_descriptions": descriptions} if descriptions else names
