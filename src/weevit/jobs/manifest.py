"""The finished shards: a line of JSON each, appended when the shard is on the disk. A shard without a line is missing.

Every worker has its own manifest (`manifest-3-of-16.jsonl`): workers share nothing but the folder. A shard may
therefore have lines in several manifests, of earlier inputs and of other cuts. A line is valid if the file on the disk
has its size and bytes. Of several valid lines the one with the greatest `order` counts: each line has a greater order
than every line that its writer had read, whatever the machines' clocks say.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from typing import Annotated

from weevit.errors import JobError, MalformedFileError
from weevit.jobs.plan import DATA, Shard
from weevit.store.place import Place
from weevit.zoo.fields import whole
from weevit.zoo.records import MAX_COUNT, Count, Name, Seconds, Sha256, parse_line, read_record, table, to_line, words

MAX_BYTES = 2 << 30
"""Size of a manifest: lines of two thousand million images."""

_AT_ONCE = 4
"""Threads; hashing releases Python's lock, and disks and buckets prefer several requests."""

Errors = Annotated[dict[str, int], table(words(256), whole(0, MAX_COUNT), 1024)]


@dataclass(frozen=True, slots=True)
class Line:
    """A finished shard.

    Attributes:
        shard: number of the shard.
        inputs: digest of its inputs.
        file: file name in `data/`.
        rows: number of inputs.
        errors: kind -> number of inputs without an answer.
        bytes, sha256: of the file.
        computed: number of rows from the model; the others came from an earlier version.
        seconds: time that the shard took.
        order: greater than that of every line known to the writer; 0 in older folders.
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
    """`manifest-3-of-16.jsonl`."""
    return f"manifest-{worker}-of-{workers}.jsonl"


def append(place: Place, name: str, line: Line) -> None:
    """Append a line, which is kept whatever happens then."""
    place.append(name, to_line(asdict(line)))


def read_lines(place: Place) -> list[Line]:
    """The lines of all workers, in rising order; a damaged line does not count, and its shard is redone.

    Raises:
        JobError: a manifest is no plain file, or cannot be read.
    """
    found: list[Line] = []
    names = [name for name in place.names() if fnmatchcase(name, "manifest-*-of-*.jsonl")]
    with ThreadPoolExecutor(_AT_ONCE, "weevit-read") as pool:
        for content in pool.map(partial(_content, place), names):
            found += filter(None, map(_line, content.splitlines()))
    return sorted(found, key=lambda line: line.order)


def _content(place: Place, name: str) -> bytes:
    try:
        return place.read(name, MAX_BYTES)
    except FileNotFoundError:
        return b""
    except MalformedFileError as error:
        raise JobError(error.message, error.hint) from error


def _line(text: bytes) -> Line | None:
    try:
        line = read_record(Line, parse_line(text, "a line"), "a line")
    except MalformedFileError:
        return None
    plausible = line.computed <= line.rows and sum(line.errors.values()) <= line.rows
    own = line.file == Shard(line.shard, line.rows, line.inputs).file  # no other file, in this folder or elsewhere
    return line if plausible and own else None


def claims(plan: Iterable[Shard], lines: list[Line]) -> dict[int, list[Line]]:
    """Number of a planned shard -> the lines with its inputs, the last one first."""
    wanted = {(shard.number, shard.inputs, shard.rows) for shard in plan}
    found: dict[int, list[Line]] = {}
    for line in reversed(lines):
        if (line.shard, line.inputs, line.rows) in wanted:
            found.setdefault(line.shard, []).append(line)
    return found


def done(place: Place, plan: Iterable[Shard], lines: list[Line], hashed: bool = False) -> dict[int, Line]:
    """The finished shards of a plan: number -> its valid line.

    Args:
        place: the job's folder.
        plan: the shards.
        lines: lines of `read_lines`.
        hashed: compare every byte; else the size decides, unless lines differ about files of one size.
    """

    def look(own: list[Line]) -> Line | None:
        return true_line(place, own, hashed)

    found = claims(plan, lines)
    if not hashed and not place.checks_bytes:
        looked_at = list(map(look, found.values()))
    else:
        with ThreadPoolExecutor(_AT_ONCE, "weevit-hash") as pool:
            looked_at = list(pool.map(look, found.values()))
    return {number: line for number, line in zip(found, looked_at, strict=True) if line is not None}


def true_line(place: Place, lines: list[Line], hashed: bool) -> Line | None:
    """The first of a file's lines that is valid for it; None where none is."""
    name = f"{DATA}/{lines[0].file}"
    try:
        size = place.size(name)
        fitting = [line for line in lines if line.bytes == size]
        if fitting and (hashed or len({line.sha256 for line in fitting}) > 1):
            digest = place.sha256(name)
            fitting = [line for line in fitting if line.sha256 == digest]
    except OSError:
        return None
    return fitting[0] if fitting else None
