"""What was freed goes back to the system, where it can be told to."""

from __future__ import annotations

import ctypes
import platform
from pathlib import Path

import pytest

from weevit.memory import LARGE, give_back, keep_flat


def resident() -> int:
    """Bytes of this process in memory."""
    fields = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return next(int(words[1]) << 10 for words in fields if words[0] == "VmRSS:")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such call")
def test_what_lies_free_between_blocks_in_use_goes_back() -> None:
    blocks = [bytearray(b"x" * 100_000) for _ in range(500)]
    kept = blocks[-1]  # so that the heap cannot simply shrink
    del blocks
    before = resident()
    give_back()
    keep_flat()
    assert resident() < before - 30_000_000
    assert len(kept) == 100_000


def test_the_bound_from_which_blocks_go_back_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        def mallopt(self, parameter: int, value: int) -> None:
            told.append((parameter, value))

    told: list[tuple[int, int]] = []
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library())
    keep_flat()
    assert told == [(-3, LARGE)]  # M_MMAP_THRESHOLD of glibc's malloc.h


@pytest.mark.parametrize("error", [AttributeError, OSError, TypeError])
def test_elsewhere_it_does_nothing(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: object) -> None:
        raise error(name)

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    give_back()
    keep_flat()
