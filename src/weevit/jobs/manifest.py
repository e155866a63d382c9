"""Which shards are done: a line of JSON each, added when the shard is on the disk. What has no line does not exist.

Every worker has a manifest of its own (`manifest-3-of-16.jsonl`): workers need nothing in common but the folder. The
same shard may so have lines in several: of earlier versions of its inputs, and of runs that were cut in another way.
Which of them counts is decided by the bytes that are there: a line is only true of a file that it describes. Of several
that are, the one of the greatest `order` counts: each line has a greater one than every line that its writer had read,
whatever the clocks of the machines say.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from stat import S_ISREG
from typing import Annotated

from weevit.errors import JobError, MalformedFileError
from weevit.jobs.plan import DATA, Shard
from weevit.store.files import append_line, sha256_file
from weevit.store.own import read_own
from weevit.zoo.fields import whole
from weevit.zoo.records import MAX_COUNT, Count, Name, Seconds, Sha256, parse_line, read_record, table, to_line, words

MAX_BYTES = 2 << 30
"""Of a manifest: lines of two thousand million images."""

_HASHING = 4
"""Threads; hashing lets others run, and a disk likes more than one question at a time."""

Errors = Annotated[dict[str, int], table(words(256), whole(0, MAX_COUNT), 1024)]


@dataclass(frozen=True)
class Line:
    """A finished shard.

    Attributes:
        shard: its number.
        inputs: the digest of what it answers.
        file: its name in `data/`.
        rows: inputs in it.
        errors: kind -> how many of them have no answer.
        bytes, sha256: of the file.
        computed: how many rows the model was asked for; the others were taken over from an earlier version.
        seconds: how long the shard took.
        order: greater than that of every line that was known when this one was written; 0 in older folders.
    """

    shard: Count
    inputs: Sha256
    file: Name
    rows: Count
    bytes: Count
    sha256: Sha256
    computed: Count
    seconds: Seconds
    errors: Errors = field(default_factory=dict)
    order: Count = 0


def manifest_name(worker: int, workers: int) -> str:
    """Of worker 1 of 1, 3 of 16, ..."""
    return f"manifest-{worker}-of-{workers}.jsonl"


def append(path: Path, line: Line) -> None:
    """Add a line and see it onto the disk."""
    append_line(path, to_line(asdict(line)))


def mend(path: Path) -> None:
    """Cut off the half of a line that a power cut may have left: what follows would be joined to it."""
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)


def read_lines(folder: Path) -> list[Line]:
    """The lines of all workers, the one that was written last coming last.

    A line that is not whole, or not what was written, does not count: its shard is then done again.

    Raises:
        JobError: a manifest is no plain file, or cannot be read.
    """
    found: list[Line] = []
    for path in sorted(folder.glob("manifest-*-of-*.jsonl")):
        try:
            content = read_own(path, MAX_BYTES)
        except FileNotFoundError:
            continue
        except MalformedFileError as error:
            raise JobError(error.message, error.hint) from error
        found += filter(None, map(_line, content.splitlines()))
    return sorted(found, key=lambda line: line.order)


def _line(text: bytes) -> Line | None:
    try:
        line = read_record(Line, parse_line(text, "a line"), "a line")
    except MalformedFileError:
        return None
    plausible = line.computed <= line.rows and sum(line.errors.values()) <= line.rows
    own = line.file == Shard(line.shard, line.rows, line.inputs).file  # no other file, in this folder or elsewhere
    return line if plausible and own else None


def claims(plan: Iterable[Shard], lines: list[Line]) -> dict[int, list[Line]]:
    """Number of a planned shard -> the lines that claim to answer just its inputs, the last one first."""
    wanted = {(shard.number, shard.inputs, shard.rows) for shard in plan}
    found: dict[int, list[Line]] = {}
    for line in reversed(lines):
        if (line.shard, line.inputs, line.rows) in wanted:
            found.setdefault(line.shard, []).append(line)
    return found


def done(folder: Path, plan: Iterable[Shard], lines: list[Line], hashed: bool = False) -> dict[int, Line]:
    """The shards of a plan that are there: number -> the line that is true of the file.

    Args:
        folder: of the job.
        plan: the shards to look for.
        lines: of `read_lines`.
        hashed: look at every byte; else the size of a file tells, unless lines differ about files of one size.
    """

    def look(own: list[Line]) -> Line | None:
        return true_line(folder / DATA / own[0].file, own, hashed)

    found = claims(plan, lines)
    if not hashed:
        looked_at = list(map(look, found.values()))
    else:
        with ThreadPoolExecutor(_HASHING, "weevit-hash") as pool:
            looked_at = list(pool.map(look, found.values()))
    return {number: line for number, line in zip(found, looked_at, strict=True) if line is not None}


def true_line(path: Path, lines: list[Line], hashed: bool) -> Line | None:
    """The first of the lines that is true of the file; None where none is."""
    try:
        status = path.lstat()
        fitting = [line for line in lines if S_ISREG(status.st_mode) and line.bytes == status.st_size]
        if fitting and (hashed or len({line.sha256 for line in fitting}) > 1):
            digest = sha256_file(path)
            fitting = [line for line in fitting if line.sha256 == digest]
    except OSError:
        return None
    return fitting[0] if fitting else None
