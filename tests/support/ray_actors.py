"""The processes of a job's actors on this machine, of clusters that this process has begun and of no other."""

from __future__ import annotations

import os
from pathlib import Path


def actors() -> list[int]:
    """The numbers of those processes."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes()
        except OSError:
            continue
        if words.startswith(b"ray::_Actor") and os.getpid() in _ancestors(int(path.name)):
            found.append(int(path.name))
    return found


def _ancestors(pid: int) -> set[int]:
    found: set[int] = set()
    while pid > 1:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[1])
        except OSError:
            break
        found.add(pid)
    return found
