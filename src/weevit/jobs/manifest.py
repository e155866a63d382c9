"""Which shards are done: a line of JSON each, added when the shard is on the disk. What has no line does not exist.

Every worker has a manifest of its own (`manifest-3-of-16.jsonl`): workers need nothing in common but the folder.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from weevit.jobs.plan import Shard


@dataclass(frozen=True)
class Line:
    """A finished shard.

    Attributes:
        shard: its number.
        inputs: the digest of what it answers.
        file: its name in the folder.
        rows: inputs in it.
        errors: kind -> how many of them have no answer.
        bytes, sha256: of the file.
        computed: how many rows the model was asked for; the others were taken over from an earlier version.
        seconds: how long the shard took.
    """

    shard: int
    inputs: str
    file: str
    rows: int
    bytes: int
    sha256: str
    computed: int
    seconds: float
    errors: dict[str, int] = field(default_factory=dict)


def manifest_name(worker: int, workers: int) -> str:
    """Of worker 1 of 1, 3 of 16, ..."""
    return f"manifest-{worker}-of-{workers}.jsonl"


def append(path: Path, line: Line) -> None:
    """Add a line and see it onto the disk."""
    with path.open("ab") as file:
        file.write(json.dumps(asdict(line)).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def mend(path: Path) -> None:
    """Cut off the half of a line that a power cut may have left: what follows would be joined to it."""
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)


def read_lines(folder: Path) -> list[Line]:
    """The lines of all workers, older ones of a worker first; a line that is not whole does not count."""
    found = []
    for path in sorted(folder.glob("manifest-*-of-*.jsonl")):
        for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                found.append(Line(**json.loads(text)))
            except (ValueError, TypeError):
                continue
    return found


def done(folder: Path, plan: list[Shard], lines: list[Line]) -> dict[int, Line]:
    """The shards of a plan that are there: number -> the newest line that answers just these inputs."""
    wanted = {(shard.number, shard.inputs) for shard in plan}
    found = {line.shard: line for line in lines if (line.shard, line.inputs) in wanted}
    return {number: line for number, line in found.items() if _size(folder / line.file) == line.bytes}


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
