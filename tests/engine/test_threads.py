"""Threads are those that the process may use, told from made-up /proc and /sys."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from weevit.engine import threads
from weevit.engine.threads import choose_threads, cpu_quota
from weevit.errors import UsageError


@pytest.fixture(autouse=True)
def _no_omp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2.0),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "150000 100000\n"}, 1.5),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/cpu.max": "800000 100000\n",
                "sys/fs/cgroup/a/b/cpu.max": "300000 100000\n",
            },
            3.0,
        ),
        (
            {
                "proc/self/cgroup": "5:cpuset:/x\n4:cpu,cpuacct:/x\n",
                "sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us": "50000\n",
                "sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_period_us": "100000\n",
            },
            0.5,
        ),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/x\n",
                "sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_period_us": "100000\n",
            },
            None,
        ),
        # A container's own view: the path is the host's and is not there, the limit stands at the mount.
        ({"proc/self/cgroup": "0::/docker/abc\n", "sys/fs/cgroup/cpu.max": "400000 100000\n"}, 4.0),
    ],
)
def test_quota(tmp_path: Path, files: dict[str, str], quota: float | None) -> None:
    assert cpu_quota(tree(tmp_path, files)) == quota


@pytest.mark.parametrize(("quota", "cores", "expected"), [("200000", 64, 2), ("50000", 64, 1), ("400000", 3, 3)])
def test_the_smaller_of_quota_and_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, cores: int, expected: int
) -> None:
    tree(tmp_path, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": f"{quota} 100000\n"})
    monkeypatch.setattr(threads, "usable_cores", lambda: cores)
    chosen = choose_threads(root=tmp_path)
    assert chosen.count == expected
    assert ("quota" in chosen.reason) == (int(quota) / 100000 < cores)


def test_affinity_counts(tmp_path: Path) -> None:
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system has no affinity")
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert choose_threads(root=tmp_path).count == 1
    finally:
        os.sched_setaffinity(0, before)


def test_what_was_asked_for_wins() -> None:
    assert choose_threads(5).count == 5
    with pytest.raises(UsageError, match="1 or more"):
        choose_threads(0)


@pytest.mark.parametrize(
    ("value", "expected"), [("1", 1), ("3", 3), ("2,4", 2), ("64", 8), ("0", 8), ("", 8), ("many", 8), ("-2", 8)]
)
def test_a_batch_system_says_how_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, expected: int
) -> None:
    monkeypatch.setattr(threads, "usable_cores", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    chosen = choose_threads(root=tmp_path)
    assert chosen.count == expected
    assert ("OMP_NUM_THREADS" in chosen.reason) == (value in ("1", "3", "2,4", "64"))
    assert choose_threads(5, root=tmp_path).count == 5


def test_torchruns_guess_is_not_a_wish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "usable_cores", lambda: 8)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert choose_threads(root=tmp_path).count == 8
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert choose_threads(root=tmp_path).count == 4
