"""How many threads to compute with: what this process may use, not what the machine has.

Inside a container onnxruntime sizes its pool from the host's cores; with a quota of 2 CPUs on a host of 64 that is
several times slower than two threads. So the count is chosen here and the reason is told.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from weevit.arguments import MAX_THREADS, whole


@dataclass(frozen=True)
class Threads:
    """A number of threads, and why that many."""

    count: int
    reason: str


def choose_threads(requested: int | None = None, root: Path = Path("/")) -> Threads:
    """The number of threads to compute with.

    Args:
        requested: what the user asked for; wins over everything.
        root: where `/proc` and `/sys` are; another folder in tests.

    Raises:
        UsageError: fewer than one was requested, or more than `MAX_THREADS`.
    """
    if requested is not None:
        count = whole("threads", requested, 1, MAX_THREADS, hint="Leave it out to have it chosen.")
        return Threads(count, "as asked")
    cores = usable_cores()
    wanted = omp_threads()
    if wanted is not None:
        return Threads(min(wanted, cores), f"OMP_NUM_THREADS={wanted}")
    quota = cpu_quota(root)
    if quota is not None and quota < cores:
        return Threads(max(1, int(quota)), f"CPU quota {quota:g}")
    total = os.cpu_count() or 1
    return Threads(cores, f"{cores} of {total} CPUs allowed" if cores < total else f"{total} CPUs")


def omp_threads() -> int | None:
    """What a batch system or the user has set `OMP_NUM_THREADS` to; None where it is not set.

    torchrun sets it to 1 for each process where nobody did, which is a guess of its own: that is not counted.
    """
    value = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # one number for each nested level
    count = int(value) if value.isdecimal() else 0
    return None if count < 1 or (count == 1 and "TORCHELASTIC_RUN_ID" in os.environ) else count


def usable_cores() -> int:
    """CPUs that this process may be scheduled on (`taskset`, `docker --cpuset-cpus`)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_quota(root: Path = Path("/")) -> float | None:
    """CPUs' worth of time that the control groups allow (`docker --cpus`, Kubernetes limits); None where unlimited.

    A group's own limit and those of all its ancestors hold at once, so the smallest counts.
    """
    limits = []
    for folder in _group_folders(root):
        limits += [limit for limit in (_limit_v2(folder), _limit_v1(folder)) if limit is not None]
    return min(limits, default=None)


def _group_folders(root: Path) -> list[Path]:
    """The folders of this process's control group and its ancestors, for version 2 and for version 1's `cpu`."""
    folders: list[Path] = []
    for line in (_read(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, group = (*line.split(":", 2), "", "")[:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / controllers
        own = mount / group.lstrip("/")
        # Inside a container the group's path is the host's and may not exist here: then the mount itself is ours.
        folders += [own, *(parent for parent in own.parents if parent.is_relative_to(mount))]
    return folders


def _limit_v2(folder: Path) -> float | None:
    words = (_read(folder / "cpu.max") or "").split()
    return int(words[0]) / int(words[1]) if len(words) == 2 and words[0] != "max" else None


def _limit_v1(folder: Path) -> float | None:
    quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
    return int(quota) / int(period) if quota and period and int(quota) > 0 else None


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return None
