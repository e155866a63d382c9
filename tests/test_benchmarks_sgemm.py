"""The bound of `benchmarks/throughput.py`: the best of three libraries at the model's shapes, without overrides."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from weevit.engine.bound import model_shapes
from weevit.zoo.architectures import get_architecture
from weevit.zoo.counts import count

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def sgemm(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("sgemm")


@pytest.fixture
def common(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("common")


def test_the_bound_is_the_best_of_all_libraries_and_shapes(sgemm: ModuleType) -> None:
    small, large = sgemm.Shape("output", 100, 100, 100), sgemm.Shape("fc1", 200, 100, 100)
    seconds = {
        ("numpy", small): [2e-3, 1e-3],  # 2 GFLOP/s
        ("numpy", large): [4e-3, 3e-3],
        ("torch", small): [8e-3, 5e-3],
        ("torch", large): [1e-3, 2e-3],  # 4 GFLOP/s
        ("onnxruntime", small): [1.0, 1.0],
    }
    best = sgemm.best_product(seconds)
    assert (best.library, best.shape) == ("torch", large)
    assert best.gflops == pytest.approx(4.0)
    assert {name: round(own.gflops, 3) for name, own in sgemm.by_library(seconds).items()} == {
        "numpy": 2.0,
        "torch": 4.0,
        "onnxruntime": 0.002,
    }


@pytest.mark.parametrize("name", ["vit_pwee_patch16_reg1_gap_256", "vit_tiny_patch16_224"])
def test_shapes_are_those_of_the_model(name: str) -> None:
    arch, batch = get_architecture(name), 8
    side = arch.img_size // 16
    patches, *block = model_shapes(arch, batch, (side, side))
    macs = (patches.gflop + arch.depth * sum(shape.gflop for shape in block)) * 1e9 / 2
    assert round(macs) == batch * count(arch, 0).linear_macs


def test_each_library_computes_the_product(sgemm: ModuleType) -> None:
    pytest.importorskip("torch")
    shape = sgemm.Shape("output", 65, 33, 17)
    made = sgemm.products([shape], 1)
    assert [library for library, _ in made] == ["numpy", "torch", "onnxruntime"]
    answers = [np.asarray(product()).reshape(65, 17) for product in made.values()]
    assert np.abs(answers[0]).max() > 1
    for answer in answers[1:]:
        np.testing.assert_allclose(answer, answers[0], atol=1e-4)


def test_overrides_of_openblas_are_left_out(sgemm: ModuleType) -> None:
    plain = sgemm.plain_environment({"HOME": "/h", "OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_L2_SIZE": "1"}, 3)
    assert plain == {"HOME": "/h", "OPENBLAS_NUM_THREADS": "3"}


def test_the_instruction_set_is_the_engines(common: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("flags\t\t: avx2 avx512f avx512_vnni\n", encoding="utf-8")
    assert common.instruction_set(tmp_path) == "AVX-512 with VNNI"
