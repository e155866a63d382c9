"""Checkpoint tensors -> the weights of one plain forward pass.

What a trained model does in several steps and one matrix product could do as well is folded here, once, in float64:
pixel normalisation into the patch embedding; layer scale into the output projections; the norm's gain inside
differential attention into the projection behind it; class token, registers, position table and the patch embedding's
bias into one table that is added to the tokens. After folding, every kind of block has the same few matrices,
so that the forward pass in `vit.py` has no cases for where a number is stored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from weevit.graph.layers import Array, Block, Linear, Norm
from weevit.graph.positions import resample_positions
from weevit.zoo.architectures import PATCH, Architecture
from weevit.zoo.weights import Preprocessing

Tensors = Mapping[str, Array]


def fold_patch_embedding(tensors: Tensors, spec: Preprocessing) -> tuple[Array, Array]:
    """The patch embedding for raw uint8 pixels: weight (16 * 16 * C, D) for (row, column, channel), and bias (D)."""
    weight = tensors["patch_embed.proj.weight"].astype(np.float64).transpose(2, 3, 1, 0)  # [16, 16, C, D]
    mean, std = map(np.asarray, spec.of_channels(weight.shape[2]))
    scaled = weight / (255.0 * std)[:, None]
    bias = tensors["patch_embed.proj.bias"] - np.einsum("hwcd,c->d", weight, mean / std)
    return _f32(scaled.reshape(PATCH * PATCH * len(mean), -1)), _f32(bias)


def fold_token_table(
    tensors: Tensors, arch: Architecture, patch_bias: Array, old: tuple[int, int], new: tuple[int, int]
) -> Array:
    """What is added to the tokens (zeros in front of the embedded patches) before the first block.

    Args:
        tensors: of the checkpoint.
        arch: the row.
        patch_bias: bias of the folded patch embedding, (D).
        old: grid that the checkpoint's learned positions cover.
        new: grid of the image.

    Returns:
        (prefix + rows * columns, D): class token, registers, positions and patch bias in one.
    """
    prefix = [tensors[name][0] for name in ("cls_token", "reg_token") if name in tensors]
    table = np.concatenate([*prefix, np.broadcast_to(patch_bias, (new[0] * new[1], arch.embed_dim))]).astype(np.float64)
    if arch.position == "learned":
        covered = arch.num_prefix if arch.embeds_prefix else 0
        positions = resample_positions(tensors["pos_embed"][0], covered, old, new)
        table[arch.num_prefix - covered :] += positions
    return _f32(table)


def fold_block(tensors: Tensors, arch: Architecture, index: int) -> Block:
    """The weights of block `index` (from 0)."""
    prefix = f"blocks.{index}."
    own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    parts = _parallel_parts(own, arch) if arch.block == "parallel" else _serial_parts(own, arch)
    weights = np.split(parts.qkv.weight, 3)
    biases = np.split(parts.qkv.bias, 3) if parts.qkv.bias is not None else [None] * 3
    query, key, value = (_Raw(weight, bias) for weight, bias in zip(weights, biases, strict=True))
    diff_lambda, gain = None, np.ones(arch.embed_dim)
    if arch.attention == "diff":
        diff_lambda, gain = _diff_parts(own, "" if arch.block == "parallel" else "attn.", index)
        gain = np.tile(gain, arch.num_heads)
    return Block(
        norm1=parts.norm1,
        queries=_maps(query, arch),
        keys=_maps(key, arch),
        value=_fold(value),
        diff_lambda=diff_lambda,
        proj=_fold(parts.proj, scale=parts.scale1, gain=gain),
        norm2=parts.norm2,
        fc1=_fold(parts.fc1),
        fc2=_fold(parts.fc2, scale=parts.scale2),
    )


class _Raw(NamedTuple):
    """A linear layer as it stands in a checkpoint: weight (outputs, inputs), bias (outputs) or None."""

    weight: Array
    bias: Array | None


class _Parts(NamedTuple):
    """A block's tensors, sorted by what they do."""

    norm1: Norm
    qkv: _Raw
    proj: _Raw
    scale1: Array | None
    norm2: Norm | None
    fc1: _Raw
    fc2: _Raw
    scale2: Array | None


def _serial_parts(own: Tensors, arch: Architecture) -> _Parts:
    qkv_bias = own.get("attn.qkv.bias")
    if arch.qkv_bias == "qv":
        qkv_bias = np.concatenate([own["attn.q_bias"], np.zeros_like(own["attn.q_bias"]), own["attn.v_bias"]])
    return _Parts(
        norm1=fold_norm(own, "norm1"),
        qkv=_Raw(own["attn.qkv.weight"], qkv_bias),
        proj=_raw(own, "attn.proj"),
        scale1=own.get("ls1.gamma"),
        norm2=fold_norm(own, "norm2"),
        fc1=_raw(own, "mlp.fc1"),
        fc2=_raw(own, "mlp.fc2"),
        scale2=own.get("ls2.gamma"),
    )


def _parallel_parts(own: Tensors, arch: Architecture) -> _Parts:
    D, H = arch.embed_dim, arch.mlp_dim
    weight, bias = own["in_proj.weight"], own["in_proj.bias"]
    # The two branches are summed, so one of them carries the bias of both.
    if arch.attention == "diff":  # one output matrix, attention's columns first
        out_weight = own["out_proj.weight"]
        proj, fc2 = _Raw(out_weight[:, :D], None), _Raw(out_weight[:, D:], own["out_proj.bias"])
    else:
        out_bias = own["attn_out_proj.bias"] + own["mlp_out_proj.bias"]
        proj, fc2 = _Raw(own["attn_out_proj.weight"], None), _Raw(own["mlp_out_proj.weight"], out_bias)
    return _Parts(
        norm1=fold_norm(own, "in_norm"),
        qkv=_Raw(weight[H:], bias[H:]),
        proj=proj,
        scale1=own.get("ls.gamma"),
        norm2=None,
        fc1=_Raw(weight[:H], bias[:H]),
        fc2=fc2,
        scale2=own.get("ls.gamma"),
    )


def _diff_parts(own: Tensors, prefix: str, index: int) -> tuple[float, npt.NDArray[np.float64]]:
    """Lambda of differential attention, and what each of a head's outputs is multiplied with after the inner norm."""
    vectors = {name: own[f"{prefix}lambda_{name}"].astype(np.float64) for name in ("q1", "k1", "q2", "k2")}
    start = 0.8 - 0.6 * math.exp(-0.3 * index)  # arXiv:2410.05258, section 2.1; timm counts layers from 0
    first, second = math.exp(vectors["q1"] @ vectors["k1"]), math.exp(vectors["q2"] @ vectors["k2"])
    return first - second + start, own[f"{prefix}sub_norm.weight"].astype(np.float64) * (1 - start)


def _maps(raw: _Raw, arch: Architecture) -> tuple[Linear, ...]:
    """Queries or keys, one layer for each attention map: rows (head, half, width) become halves of (head, width)."""
    halves = 2 if arch.attention == "diff" else 1
    order = np.arange(arch.embed_dim).reshape(arch.num_heads, halves, -1).swapaxes(0, 1).reshape(halves, -1)
    return tuple(_fold(_Raw(raw.weight[rows], None if raw.bias is None else raw.bias[rows])) for rows in order)


def _fold(raw: _Raw, scale: Array | None = None, gain: npt.NDArray[np.float64] | None = None) -> Linear:
    """`scale` multiplies the outputs, `gain` the inputs."""
    factor = np.ones(1) if scale is None else scale.astype(np.float64)
    weight = raw.weight.astype(np.float64) * factor[:, None]
    if gain is not None:
        weight = weight * gain
    return Linear(_f32(weight.T), None if raw.bias is None else _f32(raw.bias * factor))


def fold_norm(tensors: Tensors, name: str) -> Norm:
    """The LayerNorm of that name."""
    return Norm(tensors[f"{name}.weight"], tensors[f"{name}.bias"])


def fold_head(tensors: Tensors) -> Linear | None:
    """The classifier, None where there is none."""
    return _fold(_raw(tensors, "head")) if "head.weight" in tensors else None


def _raw(tensors: Tensors, name: str) -> _Raw:
    return _Raw(tensors[f"{name}.weight"], tensors.get(f"{name}.bias"))


def _f32(array: npt.NDArray[np.floating[Any]]) -> Array:
    return np.ascontiguousarray(array, dtype=np.float32)
