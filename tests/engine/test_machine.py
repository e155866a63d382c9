"""What the processor has, read from Linux's list of its flags."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from weevit.engine.machine import Cpu, cpu


def listed(root: Path, lines: str) -> Cpu:
    (root / "proc").mkdir()
    (root / "proc/cpuinfo").write_text(f"processor\t: 0\n{lines}processor\t: 1\n", encoding="utf-8")
    return cpu(root)


@pytest.mark.parametrize(
    ("lines", "name", "vnni", "bf16"),
    [
        ("flags\t\t: fpu sse2 avx avx2 fma\n", "AVX2", False, False),
        ("flags\t\t: avx avx2 avx_vnni\n", "AVX2 with VNNI", True, False),
        ("flags\t\t: avx avx2 avx512f\n", "AVX-512", False, False),
        ("flags\t\t: avx avx2 avx512f avx512_vnni\n", "AVX-512 with VNNI", True, False),
        ("flags\t\t: avx avx2 avx512f avx512_vnni avx512_bf16\n", "AVX-512 with VNNI and bf16", True, True),
        (
            "flags\t\t: avx2 avx512f avx512_vnni avx512_bf16 amx_tile amx_bf16 amx_int8\n",
            "AVX-512 with VNNI, bf16 and AMX",
            True,
            True,
        ),
        ("flags\t\t: avx2 avx512f amx_tile amx_bf16\n", "AVX-512 with AMX", False, True),
        ("model name\t: avx512f in name only\nflags\t\t: sse2 avx\n", "AVX", False, False),
        ("Features\t: fp asimd bf16\n", "NEON", False, False),
    ],
)
def test_instruction_sets(tmp_path: Path, lines: str, name: str, vnni: bool, bf16: bool) -> None:
    found = listed(tmp_path, lines)
    assert (found.name, found.vnni, found.bf16, found.known) == (name, vnni, bf16, True)
    assert found.avx512 == ("AVX-512" in name)
    assert found.amx == ("AMX" in name)


@pytest.mark.parametrize("lines", ["", "model name\t: some processor\n"])
def test_without_a_list_nothing_is_promised(tmp_path: Path, lines: str) -> None:
    found = listed(tmp_path, lines)
    assert found == Cpu(f"unknown instruction set ({platform.machine()})", known=False)
    assert (found.vnni, found.bf16) == (False, False)


def test_on_other_systems_nothing_is_promised(tmp_path: Path) -> None:
    assert not cpu(tmp_path).known


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("avx avx2", {"fp32": "AVX2", "bf16": "none: ", "int8": "sums saturate: 7-bit weights are exact"}),
        ("avx2 avx512f avx512_vnni", {"fp32": "AVX-512", "bf16": "none: ", "int8": "avx512_vnni: 8-bit"}),
        ("avx512f avx512_bf16 amx_bf16 amx_int8", {"bf16": "avx512_bf16, amx_bf16", "int8": "amx_int8: 8-bit"}),
        ("", {"fp32": "unknown: ", "bf16": "unknown: ", "int8": "unknown: "}),
    ],
)
def test_kernels(tmp_path: Path, flags: str, said: dict[str, str]) -> None:
    kernels = listed(tmp_path, f"flags\t\t: {flags}\n" if flags else "").kernels()
    assert {kind: kernels[kind][: len(text)] for kind, text in said.items()} == said


def test_it_is_read_once(tmp_path: Path) -> None:
    found = listed(tmp_path, "flags\t: avx2\n")
    (tmp_path / "proc/cpuinfo").unlink()
    assert cpu(tmp_path) is found
