"""Equal bytes from equal runs: PyTorch's settings, and random numbers that depend on the step alone."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from weevit.store.cache import cache_folder
from weevit.telemetry import keep_caches_in


@contextmanager
def settled(threads: int) -> Iterator[None]:
    """Deterministic kernels and a fixed number of threads; the block's end restores everything.

    Sums depend on the number of threads, so a resumed run takes the number it began with. PyTorch raises for an
    operation without a deterministic kernel; the family needs none.
    """
    keep_caches_in(cache_folder())
    # cuBLAS reads this when it is first used; without it, its matrix products may differ from call to call.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic
    fill = memory.fill_uninitialized_memory
    count, benchmark = torch.get_num_threads(), torch.backends.cudnn.benchmark
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices):
        try:
            torch.use_deterministic_algorithms(True)
            memory.fill_uninitialized_memory = False  # filling memory costs time, and nothing reads it unset
            torch.backends.cudnn.benchmark = False
            torch.set_num_threads(threads)
            yield
        finally:
            torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
            memory.fill_uninitialized_memory = fill
            torch.backends.cudnn.benchmark = benchmark
            torch.set_num_threads(count)


def draw_from(*key: int) -> None:
    """Seed PyTorch's generators from a key, such as (seed, step, micro-batch): no draw depends on another."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:8], "little") >> 1)
