"""Quantised checkpoints: int8 weights, and what their integers stand for.

The folder is that of any checkpoint. `config.json` has one more key, `quantization`, and an architecture's name that
timm does not know, so that timm refuses the model by name instead of by four hundred tensors. `model.safetensors` holds
the layers as the graph uses them, after folding (`weevit.graph.folds`); with D embed_dim, M mlp_dim:

    cls_token, reg_token, pos_embed, norm.* or fc_norm.*, head.*      float32, as in any checkpoint
    patch_embed.weight, .scale, .bias       int8 (16 * 16 * C, D), of raw uint8 pixels; float32 (D), (D)
    blocks.I.LAYER.weight, .scale, .bias    int8 (inputs, outputs), float32 (outputs), (outputs); LAYER is query0, key0
                                            (with differential attention query1 and key1 too), value, proj, fc1, fc2.
                                            Without .scale the weight is float32: that layer is not quantised
    blocks.I.norm1.*, norm2.*, lambda       float32
    blocks.I.NAME.range                     float32 (2): lowest and highest input; NAME is norm1, norm2, proj, fc2.
                                            Without it each row has a range of its own
    blocks.I.fc2.outliers, .outlier_weight  int32 (r), float32 (r, D): inputs that are multiplied in float32
    blocks.I.scores                         float32 (maps, 2): largest query and key, where their product is in int8
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from weevit.errors import CheckpointError, MalformedFileError
from weevit.zoo.architectures import PATCH, Architecture
from weevit.zoo.fields import Fields, one_of, whole
from weevit.zoo.layout import Shape, tensor_shapes
from weevit.zoo.safetensors_file import Entry

KEY = "quantization"
MARK = "int8_for_weevit_only_"
"""In front of the architecture's name: what timm's and transformers' error then says."""

PATCH_EMBEDDING = "patch_embed"
MAX_OUTLIERS = 64
LEAST = 1e-30
"""Of a range and of a query's or key's size: a step of less is zero in float32, and nothing can be divided by it."""

MAX_IMAGES = 1_000_000_000

Kind = Literal["static", "rows"]
"""Ranges chosen by calibration, or each row's own."""

Expected = dict[str, tuple[str, Shape]]
"""Tensor -> dtype, as safetensors writes it, and shape."""


@dataclass(frozen=True)
class Quantization:
    """How a checkpoint was quantised.

    Attributes:
        kind: `static`, ranges chosen by calibration; or `rows`, each row of activations has its own.
        bits: of the weights: 8, or 7, whose products no processor's 16-bit sums overflow.
        original: sha256 of the weights file that it was made of.
        images: that it was calibrated on.
    """

    kind: Kind
    bits: Literal[7, 8]
    original: str
    images: int

    def as_json(self) -> dict[str, object]:
        """The value of the key."""
        return asdict(self)

    def __str__(self) -> str:
        how = f"calibrated on {self.images:,} images" if self.kind == "static" else "a range for each row"
        return f"int8 ({self.bits}-bit weights, {how})"


def parse_quantization(raw: Mapping[str, Any], where: str) -> Quantization | None:
    """The quantisation in a `config.json`; None where it has none.

    Raises:
        CheckpointError: an invalid or missing value; the message names the key.
    """
    if raw.get(KEY) is None:
        return None
    if not isinstance(raw[KEY], Mapping):
        raise CheckpointError(f"{where}: {KEY} is not an object {{...}}.")
    fields = Fields(raw[KEY], f"{where}: {KEY}")
    found = {name: fields.get(name, check) for name, check in _CHECKS.items()}
    missing = [name for name, value in found.items() if value is None]
    if missing:
        raise CheckpointError(f"{where}: {KEY} lacks {', '.join(missing)}.")
    return Quantization(**found)  # type: ignore[arg-type]  # checked by the table


def _sha256(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch("[0-9a-f]{64}", value):
        raise ValueError("a sha256: 64 hexadecimal digits")
    return value


_CHECKS = {
    "kind": one_of("static", "rows", shown="kind"),
    "bits": whole(7, 8),
    "original": _sha256,
    "images": whole(0, MAX_IMAGES),
}


def holds_quantized(tensors: Mapping[str, Any]) -> bool:
    """Whether tensors, or a file's header, are those of a quantised checkpoint."""
    return f"{PATCH_EMBEDDING}.scale" in tensors


def check_agreement(header: Mapping[str, Entry], quantization: Quantization | None, where: str) -> None:
    """Refuse a file that is quantised in another way than its `config.json` says.

    Raises:
        CheckpointError: one of the two is quantised, or has ranges, and the other has not; or a model whose products
            are said to be exact everywhere has some that are not.
    """
    said = f"{where} and its config.json do not agree on"
    if holds_quantized(header) != (quantization is not None):
        raise CheckpointError(f"{said} whether the weights are quantised.")
    if quantization is None:
        return
    if any(name.endswith(".range") for name in header) != (quantization.kind == "static"):
        raise CheckpointError(f"{said} whether calibration chose the ranges.")
    if quantization.bits == 7 and any(name.endswith(".scores") for name in header):
        raise CheckpointError(f"{said} the bits: attention in int8 is of models with 8-bit weights.")


def expected_tensors(
    header: Mapping[str, Entry], arch: Architecture, num_classes: int, grid: tuple[int, int], in_chans: int
) -> Expected:
    """Every tensor that a quantised file of this architecture has; which of those that may be absent, it says itself.

    Args:
        header: of the file.
        arch, num_classes, grid, in_chans: as for `tensor_shapes`.
    """
    static = any(name.endswith(".range") for name in header)
    plain = tensor_shapes(arch, num_classes, grid, in_chans)
    found: Expected = {
        name: ("F32", shape) for name, shape in plain.items() if not name.startswith(("blocks.", f"{PATCH_EMBEDDING}."))
    }
    found.update(_layer(header, PATCH_EMBEDDING, (PATCH * PATCH * in_chans, arch.embed_dim), bias=True))
    for index in range(arch.depth):
        found.update(_block(header, arch, f"blocks.{index}.", static))
    return found


def _block(header: Mapping[str, Entry], arch: Architecture, prefix: str, static: bool) -> Iterator[tuple[str, Any]]:
    D, M = arch.embed_dim, arch.mlp_dim
    maps, parallel = 2 if arch.attention == "diff" else 1, arch.block == "parallel"
    norms = ("norm1",) if parallel else ("norm1", "norm2")
    yield from ((f"{prefix}{norm}.{part}", ("F32", (D,))) for norm in norms for part in ("weight", "bias"))
    with_bias = parallel or arch.qkv_bias != "none"
    shapes = {f"{name}{i}": (D, D // maps) for i in range(maps) for name in ("query", "key")}
    for name, shape in {**shapes, "value": (D, D)}.items():
        yield from _layer(header, prefix + name, shape, with_bias)
    yield from _layer(header, f"{prefix}proj", (D, D), bias=not parallel)
    yield from _layer(header, f"{prefix}fc1", (D, M), bias=True)
    yield from _layer(header, f"{prefix}fc2", (M, D), bias=True)
    yield from _outliers(header, f"{prefix}fc2", D)
    if maps == 2:
        yield f"{prefix}lambda", ("F32", (1,))
    if f"{prefix}scores" in header:
        yield f"{prefix}scores", ("F32", (maps, 2))
    users = {"norm1": "value", "proj": "proj", "fc2": "fc2"} | ({} if parallel else {"norm2": "fc1"})
    for name, user in users.items():
        if static and not _stays(header, prefix + user):
            yield f"{prefix}{name}.range", ("F32", (2,))


def _layer(header: Mapping[str, Entry], name: str, shape: Shape, bias: bool) -> Iterator[tuple[str, Any]]:
    stays = _stays(header, name)
    yield f"{name}.weight", ("F32" if stays else "I8", shape)
    if not stays:
        yield f"{name}.scale", ("F32", shape[1:])
    if bias:
        yield f"{name}.bias", ("F32", shape[1:])


def _stays(header: Mapping[str, Entry], name: str) -> bool:
    """Whether a layer is in float32."""
    entry = header.get(f"{name}.weight")
    return entry is not None and entry.dtype == "F32" and name != PATCH_EMBEDDING


def _outliers(header: Mapping[str, Entry], name: str, width: int) -> Iterator[tuple[str, Any]]:
    entry = header.get(f"{name}.outliers")
    if entry is not None:
        count = min(entry.shape[0], MAX_OUTLIERS) if entry.shape else 1
        yield f"{name}.outliers", ("I32", (count,))
        yield f"{name}.outlier_weight", ("F32", (count, width))


def check_values(tensors: Mapping[str, np.ndarray], quantization: Quantization, where: str) -> None:
    """Refuse numbers that no quantisation gives: a graph would answer with them, or fail where it runs.

    Raises:
        MalformedFileError: a scale that is not above 0, a range without 0, weights of more bits, an outlier that is
            no input; the message names the tensor.
    """
    most = 2 ** (quantization.bits - 1) - 1
    allowed = {
        ".scale": (lambda own: own.min() > 0, "scales are above 0"),
        ".range": (lambda own: own[0] <= 0 <= own[1] and own[1] - own[0] >= LEAST, "a range has 0 in it, and is wide"),
        ".scores": (lambda own: own.min() >= LEAST, f"sizes are {LEAST:g} or more"),
        ".outliers": (lambda own: len(set(own.tolist())) == len(own) and own.min() >= 0, "inputs are named once"),
    }
    for name, array in tensors.items():
        check, why = allowed.get(f".{name.rpartition('.')[2]}", (lambda own: True, ""))
        if array.dtype == np.int8:
            check, why = (lambda own: own.min() >= -most and own.max() <= most), f"weights are from -{most} to {most}"
        if name.endswith(".outliers") and array.max() >= len(tensors[name.replace(".outliers", ".weight")]):
            check, why = (lambda own: False), "an input beyond the last"
        if not check(array):
            raise MalformedFileError(f"{where}: tensor {name}: {why}.")
