"""Time on a GPU, and on a CPU in the same way: warmed up, in rounds that take turns, with median and range.

A GPU works on after a call has returned, so that a round is between two events on its stream, or between two moments at
which it had nothing left to do. The first says how long the GPU took; the second also what it had to wait for.
"""

from __future__ import annotations

import gc
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch._dynamo

Call = Callable[[], object]


def synchronize() -> None:
    """Wait until the GPU has nothing left to do."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def round_of(call: Call, calls: int, device: str) -> float:
    """Seconds a call on the GPU's own clock, over so many calls without a wait between them."""
    if device != "cuda":
        return wall(call, calls)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(calls):
        call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1000 / calls


def wall(call: Call, calls: int) -> float:
    """Seconds a call on the wall's clock, the GPU idle before and after."""
    synchronize()
    start = time.perf_counter()
    for _ in range(calls):
        call()
    synchronize()
    return (time.perf_counter() - start) / calls


def interleaved(
    calls: Mapping[str, Call], clock: Callable[[Call, int], float], rounds: int, seconds: float
) -> dict[str, list[float]]:
    """Seconds a call of each, in rounds that take turns: A B A B.

    Args:
        calls: name -> what is measured; each is called a few times first, uncounted.
        clock: seconds a call, of so many calls.
        rounds: of each.
        seconds: that a round takes, about; the same number of calls for all.
    """
    for call in calls.values():
        for _ in range(3):
            call()
    synchronize()
    slowest = max(clock(call, 1) for call in calls.values())
    count = max(1, round(seconds / max(slowest, 1e-6)))
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            taken[name].append(clock(call, count))
    return taken


def rates(seconds: list[float], images: int) -> dict[str, float]:
    """Images per second: median, least and most of the rounds."""
    found = sorted(images / second for second in seconds)
    return {"images_per_s": statistics.median(found), "least": found[0], "most": found[-1]}


def compared(taken: Mapping[str, list[float]], images: int) -> dict[str, Any]:
    """Images per second of `weevit` and of `timm`, and how many times faster weevit is, round by round."""
    pairs = sorted(their / our for our, their in zip(taken["weevit"], taken["timm"], strict=True))
    return {
        **{name: rates(seconds, images) for name, seconds in taken.items()},
        "times_timm": statistics.median(pairs),
        "times_timm_least": pairs[0],
        "times_timm_most": pairs[-1],
    }


def matmul_peak(dtype: torch.dtype, device: str, short: bool) -> dict[str, Any]:
    """TFLOP/s of the fastest of a few large matrix products on random numbers; zeros would be faster than any data."""
    sizes = [128, 256] if short else [4096, 8192, 16384]
    found: dict[str, float] = {}
    for size in sizes:
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        taken = interleaved(
            {"matmul": lambda a=a, b=b: a @ b}, lambda c, n: round_of(c, n, device), 3, 0.01 if short else 0.15
        )
        found[f"tflops_{size}"] = 2 * size**3 / statistics.median(taken["matmul"]) / 1e12
    return {"tflops": max(found.values()), **found, "clocks": clocks()}


@contextmanager
def peak_memory(device: str) -> Iterator[dict[str, int]]:
    """Bytes above what was allocated before, at the most, as `above`; 0 on a CPU."""
    found = {"above": 0}
    if device != "cuda":
        yield found
        return
    synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    yield found
    synchronize()
    found["above"] = torch.cuda.max_memory_allocated() - before


def clocks() -> str:
    """Of the card at this moment: processor, memory, power and why it is throttled; empty where nobody says."""
    words = "clocks.sm,clocks.mem,power.draw,temperature.gpu,clocks_event_reasons.active"
    command = ["nvidia-smi", f"--query-gpu={words}", "--format=csv,noheader", "--id=0"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def compiled_graphs() -> int:
    """Graphs that were compiled since `clear`: one per module, or something was compiled again without need."""
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


def clear() -> None:
    """Give back the memory of what nobody refers to any more, and what was compiled for it."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
