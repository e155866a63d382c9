"""int8 graphs of every kind of architecture against numpy, which multiplies the same integers."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import fakes
import integers
import numpy as np
import pytest

from weevit.engine import choice
from weevit.engine.choice import Engine, Precision
from weevit.engine.protocol import Request
from weevit.engine.session import needs_exact, open_session
from weevit.errors import UsageError
from weevit.predict import Predictor
from weevit.quantization.observe import observe
from weevit.quantization.quantize import quantized_tensors, write_quantized
from weevit.zoo.architectures import Architecture, get_architecture
from weevit.zoo.checkpoint import Checkpoint
from weevit.zoo.weights import BY_NAME
from weevit.zoo.writing import write_checkpoint

KINDS = {
    "token": "vit_tiny_patch16_224",
    "mean": "vit_pwee_patch16_reg1_gap_256",
    "serial, mean": "vit_wee_patch16_reg1_gap_256",
    "differential": "vit_dwee_patch16_reg1_gap_256",
    "differential, parallel": "vit_dpwee_patch16_reg1_gap_256",
    "rotary": "vit_medium_patch16_rope_reg1_gap_256",
    "rotary, no bias": "vit_mediumd_patch16_rope_reg1_gap_256",
    "norm before pool": "vit_so150m_patch16_reg4_gap_256",
}
WAYS = {"8 bits": 8, "7 bits": 7, "a range for each row": None}
SIDE = 64

Made = Callable[[Checkpoint, str], Checkpoint]


def shortened(name: str) -> Architecture:
    """Two narrow blocks of an architecture: one that is the last, and one that is not."""
    return replace(get_architecture(name), depth=2, embed_dim=64, num_heads=2, mlp_dim=160)


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Checkpoint]:
    found = {}
    weight = BY_NAME[fakes.TINY_TAG]
    for kind, name in KINDS.items():
        arch = shortened(name)
        rng = np.random.default_rng(1)
        grid = (SIDE // 16, SIDE // 16)
        # Numbers of the size of trained ones, so that ranges, softmax and outliers are as they are there.
        tensors = {
            own: (array * 4 if array.ndim > 1 else 1 + array if own.endswith("norm1.weight") else array * 10).astype(
                "f4"
            )
            for own, array in fakes.tensors(arch, 10, grid).items()
        }
        for own in tensors:
            if own.endswith(("mlp.fc1.bias", "in_proj.bias")):
                tensors[own][rng.integers(len(tensors[own]))] += 20
        spec = replace(weight.preprocessing, height=SIDE, width=SIDE)
        folder = tmp_path_factory.mktemp("originals") / kind.replace(" ", "")
        found[kind] = _written(folder, arch, tensors, spec, grid)
    return found


def _written(folder: Path, arch: Architecture, tensors: dict, spec: object, grid: tuple[int, int]) -> Checkpoint:
    with pytest.MonkeyPatch.context() as patch:
        _know(patch, arch)
        return write_checkpoint(folder, arch, tensors, spec, grid=grid)


def _know(patch: pytest.MonkeyPatch, arch: Architecture) -> None:
    from weevit.zoo import architectures

    patch.setitem(architectures.ARCHITECTURES, arch.name, arch)


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


@pytest.fixture(params=KINDS)
def original(
    request: pytest.FixtureRequest, originals: dict[str, Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> Checkpoint:
    found = originals[request.param]
    _know(monkeypatch, found.architecture)
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Quantises an original in one of the ways, once."""
    known: dict[tuple[str, str], Checkpoint] = {}

    def quantised(original: Checkpoint, way: str) -> Checkpoint:
        if (original.name, way) not in known:
            predictor = Predictor(original, threads=1, cache=False)
            bits = WAYS[way]
            observed = None if bits is None else observe(predictor, [images(8)])
            tensors, how = quantized_tensors(predictor, observed, bits or 8)
            known[original.name, way] = write_quantized(tmp_path_factory.mktemp("int8") / "q", predictor, tensors, how)
        return known[original.name, way]

    return quantised


@pytest.mark.parametrize("way", WAYS)
def test_a_graph_computes_the_integers_of_the_format(original: Checkpoint, way: str, made: Made) -> None:
    checkpoint = made(original, way)
    pixels = images(12, seed=5)
    expected = integers.forward(checkpoint.architecture, checkpoint.tensors(), pixels)
    found = open_session(checkpoint, Request(SIDE, SIDE), threads=1, cache=False).run(pixels)
    for name, values in expected.items():
        wrong = np.abs(found[name] - values).max(axis=1) / np.abs(values).max()
        # A number halfway between two steps is rounded either way, by the last bit of what came before it. An image
        # without such a number, of tens of thousands, has the very integers; the others differ by a step somewhere.
        assert np.sort(wrong)[2] < 1e-4, name
        assert wrong.max() < 0.03, name


def engines(checkpoint: Checkpoint) -> list[tuple[Engine, Precision]]:
    """Every way to compute it on the CPU that this machine has: bf16 only where the processor multiplies it."""
    had = [(way.engine, way.precision) for way in choice.WAYS if way.device == "cpu" and choice.refusal(way) is None]
    return [own for own in had if own[0] != "openvino" or not needs_exact(checkpoint)]


@pytest.mark.parametrize("way", ["float32", *WAYS])
def test_an_answer_does_not_depend_on_its_neighbours(original: Checkpoint, way: str, made: Made) -> None:
    """Nor on its place, nor on the number of threads, whichever engine computes it in whichever precision."""
    checkpoint = original if way == "float32" else made(original, way)
    pixels, other = images(5, seed=6), images(4, seed=7)
    for engine, precision in engines(checkpoint):
        answers = []
        for threads, steady in itertools.product((1, 2), (True, False)):
            session = open_session(checkpoint, Request(SIDE, SIDE), threads, engine, cache=False, precision=precision)
            asked = partial(session.run, steady=steady)
            whole = asked(pixels)["embedding"]
            backwards = asked(pixels[::-1].copy())["embedding"][::-1]
            alone = np.concatenate([asked(own[None])["embedding"] for own in pixels])
            mixed = asked(np.concatenate([other, pixels]))["embedding"][4:]
            answers += [whole, backwards, alone, mixed]
        assert all(np.array_equal(found, answers[0]) for found in answers), (engine, precision)


@pytest.mark.parametrize("way", ["8 bits", "7 bits"])
def test_openvino_computes_the_same_scales(original: Checkpoint, made: Made, way: str) -> None:
    pytest.importorskip("openvino")
    checkpoint = made(original, way)
    if needs_exact(checkpoint):  # as on AVX2 with 8 bits
        with pytest.raises(UsageError, match="overflow on this processor"):
            open_session(checkpoint, Request(SIDE, SIDE), threads=1, engine="openvino")
        return
    pixels = images(3, seed=5)
    expected = integers.forward(checkpoint.architecture, checkpoint.tensors(), pixels)["embedding"]
    found = open_session(checkpoint, Request(SIDE, SIDE), threads=1, engine="openvino", cache=False).run(pixels)
    assert np.abs(found["embedding"] - expected).max() < 0.02 * np.abs(expected).max()


def test_taps_give_the_same_answer(original: Checkpoint, made: Made) -> None:
    checkpoint = made(original, "8 bits")
    pixels = images(2, seed=5)
    plain = open_session(checkpoint, Request(SIDE, SIDE), threads=1, cache=False).run(pixels)
    tapped = open_session(checkpoint, Request(SIDE, SIDE, (0, 1), (0, 1)), threads=1, cache=False).run(pixels)
    assert np.abs(tapped["embedding"] - plain["embedding"]).max() < 0.03 * np.abs(plain["embedding"]).max()
    sums = tapped["attention_0"].sum(axis=-1)
    assert np.allclose(sums, sums[0, 0, 0], atol=1e-5)


def test_it_is_near_the_original(original: Checkpoint, made: Made) -> None:
    pixels = images(8)
    first = open_session(original, Request(SIDE, SIDE), threads=1, cache=False).run(pixels)["embedding"]
    for way, allowed in (("8 bits", 0.15), ("7 bits", 0.2), ("a range for each row", 0.1)):
        checkpoint = made(original, way)
        found = open_session(checkpoint, Request(SIDE, SIDE), threads=1, cache=False).run(pixels)["embedding"]
        assert np.linalg.norm(found - first) < allowed * np.linalg.norm(first), way
