"""Which instruction sets the processor has, and what follows from them for speed and for precision.

A matrix product in bf16 is twice as fast where the processor multiplies bf16 (`avx512_bf16`, `amx_bf16`), and no faster
where it is emulated. Eight-bit products are exact where sums are kept in 32 bits (VNNI, AMX); AVX2 adds pairs in 16
bits, which saturate. So both are asked for here before anything is loaded.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path

WIDTHS = (("avx512f", "AVX-512"), ("avx2", "AVX2"), ("avx", "AVX"), ("sve", "SVE"), ("asimd", "NEON"))
"""A word in the flags of /proc/cpuinfo and its name, the widest vectors first for each kind of processor."""

_EXTENSIONS = (("vnni", "VNNI"), ("avx512_bf16", "bf16"), ("amx", "AMX"))
"""An attribute of `Cpu` and how its instructions are called."""


@dataclass(frozen=True)
class Cpu:
    """The instructions of a processor that decide which kernels run.

    Attributes:
        name: widest vectors and extensions, such as `AVX-512 with VNNI and bf16`; the kind of processor where the
            system does not list its instructions.
        known: whether the system lists them; where it does not, every other attribute is False.
        avx2: 256-bit vectors of integers.
        avx512: 512-bit vectors.
        avx512_vnni: 8-bit products with sums in 32 bits, 512-bit vectors.
        avx_vnni: 8-bit products with sums in 32 bits, 256-bit vectors.
        avx512_bf16: products of bf16 with sums in fp32.
        amx_int8: 8-bit products of tiles.
        amx_bf16: bf16 products of tiles.
    """

    name: str
    known: bool
    avx2: bool = False
    avx512: bool = False
    avx512_vnni: bool = False
    avx_vnni: bool = False
    avx512_bf16: bool = False
    amx_int8: bool = False
    amx_bf16: bool = False

    @property
    def vnni(self) -> bool:
        """Whether an 8-bit product is exact: sums of u8 times s8 do not saturate."""
        return self.avx512_vnni or self.avx_vnni or self.amx_int8

    @property
    def amx(self) -> bool:
        """Whether it multiplies tiles, of either type."""
        return self.amx_int8 or self.amx_bf16

    @property
    def bf16(self) -> bool:
        """Whether it multiplies bf16 itself."""
        return self.avx512_bf16 or self.amx_bf16

    def kernels(self) -> dict[str, str]:
        """Type of number -> which kernels the engines have for it here, in words."""
        if not self.known:
            return dict.fromkeys(("fp32", "bf16", "int8"), "unknown: this system does not list its instructions")
        products = {"bf16": ("avx512_bf16", "amx_bf16"), "int8": ("avx512_vnni", "avx_vnni", "amx_int8")}
        has = {kind: ", ".join(name for name in names if getattr(self, name)) for kind, names in products.items()}
        return {
            "fp32": self.name.partition(" with ")[0],
            "bf16": has["bf16"] or "none: no instruction multiplies it",
            "int8": f"{has['int8']}: 8-bit weights are exact"
            if has["int8"]
            else "sums saturate: 7-bit weights are exact",
        }


@cache
def cpu(root: Path = Path("/")) -> Cpu:
    """The processor's instruction sets as Linux lists them; other systems are not asked and say so in the name.

    Args:
        root: where `/proc` is; another folder in tests.
    """
    flags = _flags(root)
    if not flags:
        return Cpu(f"unknown instruction set ({platform.machine()})", known=False)
    has = {
        field: field in flags for field in ("avx2", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
    }
    found = Cpu("", known=True, avx512="avx512f" in flags, **has)
    width = next((name for flag, name in WIDTHS if flag in flags), platform.machine())
    extensions = [name for attribute, name in _EXTENSIONS if getattr(found, attribute)]
    return Cpu(_named(width, extensions), known=True, avx512=found.avx512, **has)


def _flags(root: Path) -> frozenset[str]:
    """The words of the first processor's `flags` (x86) or `Features` (Arm); none where there is no such list."""
    try:
        lines = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    found = (line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features")))
    return frozenset(next(found, ()))


def _named(width: str, extensions: list[str]) -> str:
    if not extensions:
        return width
    *first, last = extensions
    return f"{width} with {', '.join(first)} and {last}" if first else f"{width} with {last}"
