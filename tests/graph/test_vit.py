"""The graph against timm, for every architecture; and against itself, spelled in two ways."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import fakes
import numpy as np
import onnx
import onnxruntime
import oracle
import pytest

from weevit.errors import UsageError
from weevit.graph.vit import GraphOptions, build_graph
from weevit.zoo.architectures import ARCHITECTURES, Architecture, get_architecture
from weevit.zoo.counts import count

OTHER = (96, 160)
"""Another size than any native one, not square, and small enough to run for the whole family."""

NATIVE_LIMIT = 7.0
"""GMACs up to which the whole depth is run here, at the native size; `benchmarks/parity.py` runs all of them whole."""

SHORT = 4
"""Blocks that every architecture is cut down to here; a block's index matters to the next (differential attention)."""

KINDS = [
    "vit_tiny_patch16_224",
    "vit_wee_patch16_reg1_gap_256",
    "vit_dwee_patch16_reg1_gap_256",
    "vit_pwee_patch16_reg1_gap_256",
    "vit_dpwee_patch16_reg1_gap_256",
    "vit_so150m_patch16_reg4_gap_256",
    "vit_medium_patch16_rope_reg1_gap_256",
    "vit_mediumd_patch16_rope_reg1_gap_256",
]
"""One of each kind of block, attention, position and pool."""


def run(model: onnx.ModelProto, pixels: np.ndarray) -> dict[str, np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"pixels": pixels}), strict=True))


def build(arch: Architecture, tensors: Mapping[str, np.ndarray], options: GraphOptions) -> onnx.ModelProto:
    side = arch.img_size // 16
    return build_graph(arch, tensors, oracle.spec(options.height, options.width), (side, side), options)


def short(name: str) -> Architecture:
    return replace(get_architecture(name), depth=SHORT)


def check(arch: Architecture, size: tuple[int, int] | None) -> None:
    pytest.importorskip("timm")
    theirs = oracle.reference(arch, size)
    height, width = size or (arch.img_size, arch.img_size)
    # Without the last block among the taps the graph pools early; with it, it does not. Both have to be right.
    taps = tuple(range(arch.depth - 1))
    ours = run(build(arch, theirs.tensors, GraphOptions(height, width, features=taps)), theirs.pixels)
    assert oracle.difference(ours["logits"], theirs.logits) < 1e-5
    assert oracle.difference(ours["embedding"], theirs.embedding) < 1e-5
    for i in taps:
        assert oracle.difference(ours[f"block_{i}"], theirs.blocks[i]) < 1e-5
    last = arch.depth - 1
    ours = run(build(arch, theirs.tensors, GraphOptions(height, width, features=(last,))), theirs.pixels)
    assert oracle.difference(ours[f"block_{last}"], theirs.blocks[last]) < 1e-5
    assert oracle.difference(ours["logits"], theirs.logits) < 1e-5


@pytest.mark.oracle
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_at_another_size(name: str) -> None:
    check(short(name), OTHER)


@pytest.mark.oracle
@pytest.mark.parametrize("name", [name for name, row in ARCHITECTURES.items() if count(row, 0).gmacs < NATIVE_LIMIT])
def test_architecture_at_its_native_size(name: str) -> None:
    check(ARCHITECTURES[name], None)


@pytest.mark.oracle
@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("spelling", ["fused", "standard"])
def test_attention_maps(name: str, spelling: str) -> None:
    pytest.importorskip("timm")
    arch = short(name)
    theirs = oracle.reference(arch, (96, 96), maps=True)
    layers = (0, arch.depth - 1)
    ours = run(build(arch, theirs.tensors, GraphOptions(96, 96, attention=layers, spelling=spelling)), theirs.pixels)
    for i in layers:
        expected = theirs.attention[i]
        if arch.attention == "diff":  # timm hands two maps a head to its dropout, before it subtracts them
            pairs = expected.reshape(1, arch.num_heads, 2, *expected.shape[2:])
            expected = pairs[:, :, 0] - diff_lambda(theirs.tensors, arch, i) * pairs[:, :, 1]
        assert oracle.difference(ours[f"attention_{i}"], expected) < 1e-5
    assert oracle.difference(ours["logits"], theirs.logits) < 1e-5


def diff_lambda(tensors: Mapping[str, np.ndarray], arch: Architecture, index: int) -> float:
    prefix = f"blocks.{index}." + ("attn." if arch.block == "serial" else "")
    q1, k1, q2, k2 = (tensors[f"{prefix}lambda_{name}"] for name in ("q1", "k1", "q2", "k2"))
    return float(np.exp(q1 @ k1) - np.exp(q2 @ k2) + 0.8 - 0.6 * np.exp(-0.3 * index))


@pytest.mark.parametrize("name", KINDS)
def test_two_spellings_of_one_pass(name: str) -> None:
    arch = short(name)
    tensors = fakes.tensors(arch, 5)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 96, 3), dtype=np.uint8)
    standard = build(arch, tensors, GraphOptions(64, 96, features=(1,), spelling="standard"))
    onnx.checker.check_model(standard, full_check=True)
    assert {node.domain for node in standard.graph.node} == {""}
    ours, theirs = run(build(arch, tensors, GraphOptions(64, 96, features=(1,))), pixels), run(standard, pixels)
    assert set(ours) == {"embedding", "logits", "block_1"}
    for output in ours:
        assert oracle.difference(ours[output], theirs[output]) < 1e-5


@pytest.mark.parametrize("name", KINDS)
def test_standard_operators_in_openvino(name: str) -> None:
    openvino = pytest.importorskip("openvino")
    arch = short(name)
    tensors = fakes.tensors(arch, 5)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    standard = build(arch, tensors, GraphOptions(64, 64, attention=(0,), spelling="standard"))
    core = openvino.Core()
    model = core.read_model(standard.SerializeToString())
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    theirs = compiled(pixels)
    for index, value in enumerate(run(standard, pixels).values()):
        assert oracle.difference(theirs[index], value) < 1e-4


@pytest.mark.parametrize("name", KINDS)
def test_rows_of_a_batch_do_not_touch(name: str) -> None:
    arch = short(name)
    model = build(arch, fakes.tensors(arch, 5), GraphOptions(64, 64))
    pixels = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    together = run(model, pixels)["logits"]
    alone = np.concatenate([run(model, image[None])["logits"] for image in pixels])
    assert oracle.difference(together, alone) < 1e-5
    assert len(np.unique(together.round(6), axis=0)) == 5


def test_no_classifier_no_logits() -> None:
    arch = get_architecture("vit_wee_patch16_reg1_gap_256")
    answers = run(build(arch, fakes.tensors(arch, 0), GraphOptions(64, 64)), np.zeros((1, 64, 64, 3), np.uint8))
    assert list(answers) == ["embedding"]


@pytest.mark.parametrize(("height", "width", "near"), [(250, 256, "256 x 256"), (0, 32, "16 x 32"), (8, 40, "16 x 32")])
def test_sizes_that_do_not_fit(height: int, width: int, near: str) -> None:
    arch = get_architecture("vit_wee_patch16_reg1_gap_256")
    with pytest.raises(UsageError, match=f"multiple of 16(.|\n)*{near}"):
        build(arch, {}, GraphOptions(height, width))


def test_a_block_that_is_not_there() -> None:
    arch = get_architecture("vit_wee_patch16_reg1_gap_256")
    with pytest.raises(UsageError, match="blocks 0 to 13; there is no block 14"):
        build(arch, {}, GraphOptions(64, 64, features=(13, 14)))
