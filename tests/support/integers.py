"""The forward pass of a quantised checkpoint in numpy: every product is one of whole numbers, exact in float64.

Written from the format (`weevit.zoo.quantized`) alone, for all kinds of blocks: graphs are held against it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from weevit.graph.folds import fold_token_table
from weevit.graph.positions import rope_tables
from weevit.zoo.architectures import NORM_EPS, PATCH, SUB_NORM_EPS, Architecture


def _erf(x: np.ndarray) -> np.ndarray:
    """numpy has none."""
    return np.fromiter(map(math.erf, x.ravel().tolist()), np.float64, x.size).reshape(x.shape)


def forward(arch: Architecture, tensors: Mapping[str, np.ndarray], pixels: np.ndarray) -> dict[str, np.ndarray]:
    """(B, height, width, channels) uint8 -> embedding (B, D), and logits (B, C) where there is a head."""
    batch, height, width, channels = pixels.shape
    rows, columns = height // PATCH, width // PATCH
    x = pixels.reshape(batch, rows, PATCH, columns, PATCH * channels).transpose(0, 1, 3, 2, 4)
    x = x.reshape(batch, rows * columns, -1).astype(np.float64) @ tensors["patch_embed.weight"].astype(np.float64)
    x = x * tensors["patch_embed.scale"].astype(np.float64)
    x = np.concatenate([np.zeros((batch, arch.num_prefix, arch.embed_dim)), x], axis=1)
    grid = (rows, columns)
    x = x + fold_token_table(tensors, arch, tensors["patch_embed.bias"], grid, grid)
    for index in range(arch.depth):
        prefix = f"blocks.{index}."
        own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        x = _block(arch, own, x, grid)
    norm = "norm" if arch.norm == "before_pool" else "fc_norm"
    before = arch.norm == "before_pool"
    x = _norm(x, tensors, norm) if before else x
    x = x[:, 0] if arch.pool == "token" else x[:, arch.num_prefix :].mean(axis=1)
    x = x if before else _norm(x, tensors, norm)
    found = {"embedding": x}
    if "head.weight" in tensors:
        found["logits"] = x @ tensors["head.weight"].T.astype(np.float64) + tensors["head.bias"]
    return found


def _block(arch: Architecture, own: dict[str, np.ndarray], x: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    y = _norm(x, own, "norm1")
    attended = _attention(arch, own, y, grid)
    if arch.block == "parallel":
        return x + attended + _mlp(own, y, "norm1")
    x = x + attended
    return x + _mlp(own, _norm(x, own, "norm2"), "norm2")


def _mlp(own: dict[str, np.ndarray], y: np.ndarray, norm: str) -> np.ndarray:
    y = _linear(own, y, "fc1", norm)
    y = y * 0.5 * (1 + _erf(y * math.sqrt(0.5)))
    return _linear(own, y, "fc2", "fc2", gelu=True)


def _attention(arch: Architecture, own: dict[str, np.ndarray], y: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    maps = 2 if "lambda" in own else 1
    width = arch.head_dim // maps
    tables = rope_tables(arch, grid) if arch.position == "rope" else None
    weights = []
    for i in range(maps):
        query, key = (_heads(_linear(own, y, f"{name}{i}", "norm1"), arch.num_heads) for name in ("query", "key"))
        if tables is not None:
            query, key = (_turned(one, tables) for one in (query, key))
        if "scores" in own:
            largest = own["scores"][i].astype(np.float64)
            query, key = (
                np.clip(np.rint(one / np.float32(size / 127)), low, 127).astype(np.float64)
                for one, size, low in zip((query, key), largest, (-128, -128), strict=True)
            )
            scores = (query @ key.swapaxes(2, 3)) * (largest[0] / 127) * (largest[1] / 127)
        else:
            scores = query @ key.swapaxes(2, 3)
        powers = np.exp((s := scores * width**-0.5) - s.max(axis=-1, keepdims=True))
        weights.append(powers / powers.sum(axis=-1, keepdims=True))
    chosen = weights[0] if maps == 1 else weights[0] - own["lambda"][0] * weights[1]
    out = (chosen @ _heads(_linear(own, y, "value", "norm1"), arch.num_heads)).transpose(0, 2, 1, 3)
    if maps == 2:
        out = out / np.sqrt((out**2).mean(axis=-1, keepdims=True) + SUB_NORM_EPS)
    return _linear(own, out.reshape(y.shape), "proj", "proj")


def _heads(y: np.ndarray, count: int) -> np.ndarray:
    return y.reshape(*y.shape[:2], count, -1).transpose(0, 2, 1, 3)


def _turned(x: np.ndarray, tables: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    cosine, sine = tables
    even, odd = x[..., 0::2], x[..., 1::2]
    return np.stack([even * cosine - odd * sine, odd * cosine + even * sine], axis=-1).reshape(x.shape)


def _linear(own: dict[str, np.ndarray], x: np.ndarray, name: str, range_: str, gelu: bool = False) -> np.ndarray:
    weight, bias = own[f"{name}.weight"], own.get(f"{name}.bias", 0)
    if weight.dtype != np.int8:
        return x @ weight.astype(np.float64) + bias
    whole, step, zero = _whole(own.get(f"{range_}.range"), x, gelu)
    y = ((whole - zero) @ weight.astype(np.float64)) * own[f"{name}.scale"].astype(np.float64) * step + bias
    if f"{name}.outliers" in own:
        y = y + x[..., own[f"{name}.outliers"]] @ own[f"{name}.outlier_weight"].astype(np.float64)
    return y


def _whole(bounds: np.ndarray | None, x: np.ndarray, gelu: bool) -> tuple[np.ndarray, np.ndarray | np.float32, int]:
    if bounds is not None:
        step = np.float32((float(bounds[1]) - float(bounds[0])) / 255)
        zero = int(np.rint(-float(bounds[0]) / np.float64(step)))
    elif gelu:
        step, zero = np.maximum(x.max(axis=-1, keepdims=True), 2.0) / 235, 20
    else:
        step, zero = np.maximum(np.abs(x).max(axis=-1, keepdims=True), 1e-12) / 127, 128
    return np.clip(np.rint(x / step) + zero, 0, 255).astype(np.float64), step, zero


def _norm(x: np.ndarray, tensors: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    centred = x - x.mean(axis=-1, keepdims=True)
    return (
        centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + NORM_EPS) * tensors[f"{name}.weight"]
        + (tensors[f"{name}.bias"])
    )
