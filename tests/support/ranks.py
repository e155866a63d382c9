"""Runs on several ranks, as `torchrun` starts them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

NO_RANKS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def command(world: int, *words: object, restarts: int = 0) -> list[str]:
    """The command that runs `python WORDS` on so many ranks of this machine."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}"]
    return [*start, f"--max-restarts={restarts}", "--monitor-interval=0.2", *map(str, words)]


def environment() -> dict[str, str]:
    """One thread a rank; nothing of a group that this process may belong to."""
    kept = {name: value for name, value in os.environ.items() if name not in NO_RANKS}
    return {**kept, "OMP_NUM_THREADS": "1"}


def start(words: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """The command as a process in a group of its own, its output in a file."""
    with log.open("wb") as file:
        return subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT, env=environment(), start_new_session=True)


def run(world: int, *words: object) -> subprocess.CompletedProcess[str]:
    """The command, to its end."""
    return subprocess.run(
        command(world, *words), capture_output=True, text=True, env=environment(), timeout=240, check=False
    )


def pid_of(rank: int, launcher: int) -> int | None:
    """The process of a rank, among the launcher's children."""
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            parent = int((path.parent / "stat").read_text().rpartition(")")[2].split()[1])
            named = path.read_bytes().split(b"\0")
        except (OSError, ValueError):
            continue
        if parent == launcher and f"RANK={rank}".encode() in named:
            return int(path.parent.name)
    return None
