"""The finished shards: a line of JSON each, appended when the shard is on the disk. A shard without a line is missing.

Every worker has its own manifest (`manifest-3-of-16.jsonl`): workers share nothing but the folder. A shard may
therefore have lines in several manifests, of earlier inputs and of other cuts. A line is valid if the file on the disk
has its size and bytes. Of several valid lines the one with the greatest `order` counts: each line has a greater order
than every line that its writer had read, whatever the machines' clocks say.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from itertools import islice
from typing import Annotated, overload

import numpy as np

from weevit.errors import JobError, MalformedFileError
from weevit.jobs.plan import DATA, Shard
from weevit.store.place import Place
from weevit.zoo.fields import whole
from weevit.zoo.records import MAX_COUNT, Count, Name, Seconds, Sha256, parse_line, read_record, table, to_line, words

MAX_BYTES = 2 << 30
"""Size of a manifest: lines of two thousand million images."""

_AT_ONCE = 4
"""Threads; hashing releases Python's lock, and disks and buckets prefer several requests."""

_ASKED_FOR = 256
"""Files that wait for a thread."""

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


class Lines(Sequence[Line]):
    """Lines in rising order, in about 100 bytes each: a job of 10^9 rows has two million."""

    def __init__(self, lines: Iterable[Line]) -> None:
        counts, seconds, digests = array("Q"), array("d"), bytearray()
        self._errors: dict[int, Errors] = {}
        for index, line in enumerate(lines):
            counts.extend((line.order, line.shard, line.rows, line.bytes, line.computed))
            seconds.append(line.seconds)
            digests += bytes.fromhex(line.inputs + line.sha256)
            if line.errors:
                self._errors[index] = line.errors
        self._counts = np.frombuffer(counts, np.uint64).reshape(-1, 5)
        self._seconds, self._digests = seconds, digests
        self._order = np.argsort(self._counts[:, 0], kind="stable")
        by_shard = np.argsort(self._counts[self._order, 1], kind="stable")
        self._by_shard = self._order[by_shard]
        self._shards = self._counts[self._by_shard, 1]

    def __len__(self) -> int:
        return len(self._seconds)

    @overload
    def __getitem__(self, index: int) -> Line: ...
    @overload
    def __getitem__(self, index: slice) -> list[Line]: ...
    def __getitem__(self, index: int | slice) -> Line | list[Line]:
        if isinstance(index, slice):
            return [self._line(int(own)) for own in self._order[index]]
        return self._line(int(self._order[index]))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # as a list

    def _line(self, index: int) -> Line:
        order, shard, rows, size, computed = map(int, self._counts[index])
        inputs, digest = (self._digests[at : at + 32].hex() for at in (64 * index, 64 * index + 32))
        file, errors = Shard(shard, rows, inputs).file, dict(self._errors.get(index, {}))
        return Line(shard, inputs, file, rows, size, digest, computed, self._seconds[index], errors, order)

    def of(self, shard: Shard) -> list[Line]:
        """The lines of a shard with its inputs, the last one first."""
        first, after = (int(np.searchsorted(self._shards, shard.number, side)) for side in ("left", "right"))
        found = [self._line(int(index)) for index in self._by_shard[first:after][::-1]]
        return [line for line in found if (line.inputs, line.rows) == (shard.inputs, shard.rows)]


def read_lines(place: Place) -> Lines:
    """The lines of all workers, in rising order; a damaged line does not count, and its shard is redone.

    Raises:
        JobError: a manifest is no plain file, or cannot be read.
    """
    names = [name for name in place.names() if fnmatchcase(name, "manifest-*-of-*.jsonl")]
    return Lines(line for name in names for line in map(_line, _content(place, name)) if line)


def _content(place: Place, name: str) -> Iterator[bytes]:
    try:
        yield from place.lines(name, MAX_BYTES)
    except FileNotFoundError:
        return
    except MalformedFileError as error:
        raise JobError(error.message, error.hint) from error


def _line(text: bytes) -> Line | None:
    try:
        line = read_record(Line, parse_line(text.rstrip(b"\r\n"), "a line"), "a line")
    except MalformedFileError:
        return None
    plausible = line.computed <= line.rows and sum(line.errors.values()) <= line.rows
    own = line.file == Shard(line.shard, line.rows, line.inputs).file  # no other file, in this folder or elsewhere
    return line if plausible and own else None


def done(place: Place, plan: Iterable[Shard], lines: Lines, hashed: bool = False) -> Iterator[tuple[Shard, Line]]:
    """The finished shards of a plan, each with its valid line.

    Args:
        place: the job's folder.
        plan: the shards.
        lines: lines of `read_lines`.
        hashed: compare every byte; else the size decides, unless lines differ about files of one size.
    """

    def look(shard: Shard) -> Line | None:
        own = lines.of(shard)
        return true_line(place, own, hashed) if own else None

    shards = iter(plan)
    if not hashed and not place.checks_bytes:
        yield from ((shard, line) for shard in shards if (line := look(shard)))
        return
    with ThreadPoolExecutor(_AT_ONCE, "weevit-hash") as pool:
        while some := list(islice(shards, _ASKED_FOR)):
            looked_at = zip(some, pool.map(look, some), strict=True)
            yield from ((shard, line) for shard, line in looked_at if line)


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
