"""Small sound checkpoints for tests: the right names and shapes, numbers that mean nothing."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from weevit.zoo.architectures import Architecture, get_architecture
from weevit.zoo.checkpoint import Checkpoint
from weevit.zoo.layout import tensor_shapes, to_timm_name
from weevit.zoo.weights import BY_NAME, WEIGHTS
from weevit.zoo.writing import write_checkpoint

TINY = "vit_tiny_patch16_224"
TINY_TAG = f"{TINY}.augreg_in21k_ft_in1k"
PUBLISHED = {row.name: row for row in WEIGHTS if not row.embedded}
"""The weights on the hub: all but the one that comes with weevit."""


def tensors(
    arch: Architecture, num_classes: int, grid: tuple[int, int] | None = None, in_chans: int = 3
) -> dict[str, np.ndarray]:
    """Weevit's names -> small random numbers."""
    rng = np.random.default_rng(0)
    shapes = tensor_shapes(arch, num_classes, grid, in_chans)
    return {name: rng.standard_normal(shape, np.float32) * np.float32(0.02) for name, shape in shapes.items()}


def file_bytes(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file with any header: an object to be dumped, or the very bytes."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def dump(arrays: dict[str, np.ndarray], dtype: str = "F32") -> bytes:
    """A sound safetensors file of the given arrays, whose bytes are of that dtype already."""
    header, data = {}, b""
    for name, array in arrays.items():
        header[name] = {
            "dtype": dtype,
            "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + array.nbytes],
        }
        data += array.tobytes()
    return file_bytes(header, data)


def config(name: str = TINY_TAG, **changes: Any) -> dict[str, Any]:
    """The `config.json` of a published weight, with changes to `pretrained_cfg` (`top` for the top level)."""
    weight = BY_NAME[name]
    architecture, _, tag = name.partition(".")
    seen = weight.preprocessing
    pretrained = {
        "tag": tag,
        "input_size": [3, seen.height, seen.width],
        "interpolation": seen.interpolation,
        "crop_pct": seen.crop_pct,
        "crop_mode": seen.crop_mode,
        "mean": list(seen.mean),
        "std": list(seen.std),
        "num_classes": weight.num_classes,
        "license": weight.license,
        "fixed_input_size": True,
        "first_conv": "patch_embed.proj",
        "classifier": "head",
    }
    top = changes.pop("top", {})
    pretrained.update(changes)
    return {"architecture": architecture, "num_classes": weight.num_classes, "pretrained_cfg": pretrained, **top}


def folder(
    path: Path, raw: dict[str, Any] | None = None, arrays: dict[str, np.ndarray] | None = None, num_classes: int = 1000
) -> Path:
    """A folder in the hub's format; a ViT-Ti where nothing else is said."""
    raw = config() if raw is None else raw
    arch = get_architecture(raw["architecture"].partition(".")[0])
    arrays = tensors(arch, num_classes) if arrays is None else arrays
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(raw))
    named = {to_timm_name(name, arch): array for name, array in arrays.items()}
    (path / "model.safetensors").write_bytes(dump(named))
    return path


def blunt(checkpoint: Checkpoint, path: Path, noise: float = 1.0) -> Path:
    """The same model with noise in its numbers: one that errs more often."""
    rng = np.random.default_rng(0)
    arrays = {
        name: array + np.float32(noise * array.std()) * rng.standard_normal(array.shape, np.float32)
        for name, array in checkpoint.tensors().items()
    }
    write_checkpoint(path, checkpoint.architecture, arrays, checkpoint.preprocessing, checkpoint.labels)
    return path
