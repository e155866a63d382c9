"""Which engine, precision and device answer: one table, and errors that say what to type."""

from __future__ import annotations

from typing import Any

import pytest

from weevit.engine import choice
from weevit.engine.choice import DEFAULT, WAYS, choose
from weevit.engine.machine import Cpu
from weevit.errors import MissingExtraError, UsageError


@pytest.fixture
def everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a GPU, a processor with bf16, and all packages."""
    monkeypatch.setattr(choice, "cpu", lambda: Cpu("AVX-512 with bf16", known=True, avx512_bf16=True))
    monkeypatch.setattr(choice, "find_spec", lambda _: object())
    monkeypatch.setattr(choice, "_no_cuda", lambda: "")


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ({}, ("onnxruntime", "fp32", "cpu")),
        ({"precision": "bf16"}, ("openvino", "bf16", "cpu")),
        ({"engine": "openvino"}, ("openvino", "fp32", "cpu")),
        ({"engine": "openvino", "precision": "bf16"}, ("openvino", "bf16", "cpu")),
        ({"device": "cuda"}, ("torch", "bf16", "cuda")),
        ({"device": "auto"}, ("torch", "bf16", "cuda")),
        ({"device": "cuda", "precision": "fp32"}, ("torch", "fp32", "cuda")),
        ({"device": "auto", "engine": "onnxruntime"}, ("onnxruntime", "fp32", "cpu")),
        ({"device": "auto", "engine": "openvino", "precision": "bf16"}, ("openvino", "bf16", "cpu")),
    ],
)
@pytest.mark.usefixtures("everything")
def test_what_is_chosen(asked: dict[str, Any], given: tuple[str, str, str]) -> None:
    way = choose(**asked)
    assert (way.engine, way.precision, way.device) == given


def test_who_says_nothing_gets_timms_numbers_whatever_is_installed() -> None:
    assert choose() is DEFAULT
    assert (DEFAULT.engine, DEFAULT.precision, DEFAULT.device) == ("onnxruntime", "fp32", "cpu")


def test_auto_is_the_cpu_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "_no_cuda", lambda: "PyTorch finds no CUDA device")
    assert choose(device="auto") is DEFAULT


@pytest.mark.parametrize(
    ("asked", "message", "hint"),
    [
        (
            {"engine": "onnxruntime", "precision": "bf16"},
            "onnxruntime does not compute in bf16 on cpu; it computes fp32 on cpu",
            "--precision bf16   without --engine chooses openvino",
        ),
        ({"engine": "onnxruntime", "device": "cuda"}, "onnxruntime does not compute on cuda", "--device cpu"),
        ({"engine": "torch"}, "torch does not compute on cpu; it computes bf16 on cuda, fp32 on cuda", "--device cuda"),
        ({"precision": "bf17"}, "precision is fp32 or bf16: 'bf17'", "Did you mean 'bf16'"),
        ({"precision": "int8"}, "precision is fp32 or bf16: 'int8'", "weevit quantize tiny --data"),
        ({"device": "gpu"}, "device is cpu or cuda or auto: 'gpu'", "Did you mean 'cuda'?"),
    ],
)
@pytest.mark.usefixtures("everything")
def test_contradictions(asked: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        choose(**asked)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("cpu", "said"),
    [
        (Cpu("AVX-512 with VNNI", known=True, avx512_vnni=True), "AVX-512 with VNNI) has neither avx512_bf16 nor amx"),
        (Cpu("unknown instruction set (arm64)", known=False), "does not tell whether it multiplies bf16"),
    ],
)
@pytest.mark.usefixtures("everything")
def test_bf16_is_refused_where_it_is_emulated(cpu: Cpu, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "cpu", lambda: cpu)
    with pytest.raises(UsageError, match="needs a processor that multiplies bf16.*" + said.replace(")", r"\)")):
        choose(precision="bf16")


@pytest.mark.parametrize(
    ("absent", "asked", "said"),
    [
        ("openvino", {"engine": "openvino"}, "The engine 'openvino' is not installed"),
        ("openvino", {"precision": "bf16"}, "Precision bf16 needs the engine 'openvino'"),
        ("torch", {"device": "cuda"}, "A GPU needs PyTorch"),
    ],
)
@pytest.mark.usefixtures("everything")
def test_what_is_not_installed(absent: str, asked: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "find_spec", lambda name: None if name == absent else object())
    with pytest.raises(MissingExtraError, match=said) as caught:
        choose(**asked)
    assert "pip install" in caught.value.hint


@pytest.mark.usefixtures("everything")
def test_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "_no_cuda", lambda: "PyTorch finds no CUDA device")
    for asked in ({"device": "cuda"}, {"device": "auto", "engine": "torch"}):
        with pytest.raises(UsageError, match="no GPU to compute on: PyTorch finds no CUDA device") as caught:
            choose(**asked)
        assert caught.value.hint == "--device cpu"


@pytest.mark.usefixtures("everything")
def test_what_is_typed_for_a_way_chooses_it() -> None:
    typed = [way.options() for way in WAYS]
    assert typed == ["", "--engine openvino", "--precision bf16", "--device cuda", "--device cuda --precision fp32"]
    for way, words in zip(WAYS, typed, strict=True):
        pairs = zip(words.split()[::2], words.split()[1::2], strict=True)
        assert choose(**{name.removeprefix("--"): value for name, value in pairs}) is way


def test_every_way_says_why_and_none_stands_twice() -> None:
    assert len({(way.device, way.precision, way.engine) for way in WAYS}) == len(WAYS)
    assert all(way.why and set(way.needs) <= set(choice._NEEDS) for way in WAYS)
    assert [str(way) for way in WAYS] == [
        "onnxruntime",
        "openvino",
        "openvino in bf16",
        "torch on cuda in bf16",
        "torch on cuda in fp32",
    ]
