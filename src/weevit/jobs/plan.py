"""The plan of a job: its inputs in order, cut into shards, each identified by a digest of its inputs.

One worker plans every shard (`plan.jsonl`). Each of several plans its own (`plan-3-of-16.jsonl`), for which it asks
nobody for the sizes and times of the other inputs: it only reads their names. The shards of a share are those of its
own plan, else those of `plan.jsonl` where both are of the same names: where only files changed, each share may be
answered again without the others.

The digest covers ids, fingerprints and targets. An input that was added, changed or removed changes the digests of the
shards that it is in or moves, and of no others.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from itertools import chain, islice
from typing import Annotated

from weevit.errors import JobError, MalformedFileError
from weevit.images.names import Names, id_hash
from weevit.images.source import Source
from weevit.jobs.repeated import Repeated
from weevit.store.place import Place
from weevit.zoo.fields import whole
from weevit.zoo.records import MAX_COUNT, Count, Sha256, parse_line, read_record, to_line

PLAN = "plan.jsonl"
DATA = "data"
"""The folder of the shards in the folder of a job: without other files, any reader of Parquet takes it whole."""

PARTS = "part-[0-9][0-9][0-9][0-9][0-9][0-9]*-" + "[0-9a-f]" * 16 + ".parquet"
"""The names of shards, as a pattern. Others write `part-*.parquet` too: Spark's files are not read or deleted."""

_PART = re.compile(r"part-([0-9]{6,})-[0-9a-f]{16}\.parquet")

MAX_BYTES = 1 << 30

_TRIES = 3

Share = tuple[int, int]
"""(3, 16): the third of sixteen, which has the shards 2, 18, 34, ..."""


@dataclass(frozen=True, slots=True)
class Shard:
    """Consecutive inputs that are answered, written and recorded together.

    Attributes:
        number: index in the job, from 0.
        rows: number of inputs.
        inputs: digest of their ids, fingerprints and targets.
    """

    number: Count
    rows: Annotated[int, whole(1, MAX_COUNT)]
    inputs: Sha256

    @property
    def file(self) -> str:
        """The file name in `data/`, by the digest: another version of the shard is another file."""
        return f"part-{self.number:06d}-{self.inputs[:16]}.parquet"


def part_number(name: str) -> int | None:
    """The number in the name of a shard; None for another file, though `PARTS` may fit it."""
    found = _PART.fullmatch(name)
    return int(found[1]) if found else None


class Digest:
    """The digest of a shard's inputs."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, name: str, fingerprint: str, target: str | None) -> None:
        """Add the next input: everything of it that stands in its row."""
        self._hash.update(f"{len(name)} {name} {fingerprint} {target}\n".encode())

    def hex(self) -> str:
        """64 hex digits."""
        return self._hash.hexdigest()


@dataclass(frozen=True)
class Plan:
    """The shards of a job, or those of some shares.

    Attributes:
        shards: in rising order; of a share without a plan yet none.
        count, rows: number of shards and inputs of the whole job.
        listing: digest of the names and targets of all inputs; empty for the `plan.jsonl` of an earlier version.
    """

    shards: list[Shard]
    count: int
    rows: int
    listing: str = ""

    @property
    def complete(self) -> bool:
        """Whether every share has a plan."""
        return len(self.shards) == self.count

    def covers(self, other: Plan) -> bool:
        """Whether the other plan is a part of this one."""
        alike = (self.count, self.rows) == (other.count, other.rows) and self.listing in ("", other.listing)
        return alike and (self.shards == other.shards or set(self.shards) >= set(other.shards))


def is_mine(number: int, share: Share) -> bool:
    """Whether the shard of this number belongs to a share."""
    return number % share[1] == share[0] - 1


def make_plan(sources: Iterable[Source], shard_size: int, share: Share) -> tuple[Plan, set[int]]:
    """Read the name of every input and the fingerprints of this share's; images are not opened.

    The inputs are a stream: what is held is 150 bytes per shard. They are read again where names repeat.

    Returns:
        The plan, and the `only` of `Names` for further readings.
    """
    with closing(Repeated()) as keys:
        plan = _read(sources, shard_size, share, Names(set()), keys.add)
        only, more = set[int](), keys.found()
        while more:
            only |= more
            names = Names(only)
            plan = _read(sources, shard_size, share, names, None)
            more = keys.among(names.made) - only  # a longer name may be the name of another input
    return plan, only


def _read(
    sources: Iterable[Source], shard_size: int, share: Share, names: Names, seen: Callable[[int], None] | None
) -> Plan:
    """One reading of the inputs; `seen` is told the hash of each name."""
    shards: list[Shard] = []
    listing, total = hashlib.sha256(), 0
    for number, group in groups(names.unique(sources), shard_size):
        own, digest, rows = is_mine(number, share), Digest(), 0
        for rows, source in enumerate(group, 1):  # noqa: B007 - counts
            if seen:
                seen(id_hash(source.name))
            if own:
                digest.add(source.name, source.fingerprint(), source.target)
            listing.update(f"{len(source.name)} {source.name} {source.target}\n".encode())
        total += rows
        if own:
            shards.append(Shard(number, rows, digest.hex()))
    return Plan(shards, -(-total // shard_size), total, listing.hexdigest())


def groups(sources: Iterable[Source], size: int) -> Iterator[tuple[int, Iterator[Source]]]:
    """Numbered groups of `size` sources; sources that the caller does not take are skipped."""
    rest = iter(sources)
    for number, first in enumerate(rest):
        group = chain([first], islice(rest, size - 1))
        yield number, group
        for _ in group:
            pass


@dataclass(frozen=True)
class _Head:
    """The first line of a plan: `count`, `rows` and `listing` of the job."""

    count: Count
    rows: Count
    listing: Sha256


def plan_name(share: Share) -> str:
    """`plan.jsonl` for one worker, which plans every shard; `plan-3-of-16.jsonl` for a share."""
    return PLAN if share[1] == 1 else "plan-{}-of-{}.jsonl".format(*share)


def write_plan(place: Place, plan: Plan, share: Share) -> None:
    """Record the plan of a share, then delete plans of other cuts and of other names; of one worker all others.

    The caller sees to it that no process works at those.
    """
    head = [asdict(_Head(plan.count, plan.rows, plan.listing))] if plan.listing else []
    content = b"".join(to_line(line) for line in [*head, *map(asdict, plan.shards)])
    place.write(plan_name(share), content)
    for name in _plans(place):
        if name != plan_name(share) and (share[1] == 1 or not _is_beside(place, name, plan, share)):
            place.remove(name)


def _is_beside(place: Place, name: str, plan: Plan, share: Share) -> bool:
    """Whether a plan is of the same names, and of one worker or of another share of the same cut."""
    try:
        return (name == PLAN or _cut(name)[1] == share[1]) and _read_plan(place, name).listing == plan.listing
    except (JobError, FileNotFoundError):
        return False


def join_plans(place: Place, plan: Plan) -> None:
    """Make one `plan.jsonl` of a complete plan, where shares have plans of their own."""
    if cuts(place):
        write_plan(place, plan, (1, 1))


def cuts(place: Place) -> set[int]:
    """Into how many shares the inputs were cut by the shares that have a plan of their own."""
    return {_cut(name)[1] for name in _plans(place) if name != PLAN}


def _plans(place: Place) -> list[str]:
    return [name for name in place.names() if name == PLAN or _cut(name)[1] > 1]


def _cut(name: str) -> Share:
    """The share in the name of a plan; (0, 0) for another name."""
    found = re.fullmatch(r"plan-([0-9]{1,9})-of-([0-9]{1,9})\.jsonl", name)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def read_plan(place: Place) -> Plan | None:
    """The plan of a folder, of all shares that have one; None where there is none.

    Raises:
        JobError: a file is damaged, or the shares saw different inputs.
    """
    for _ in range(_TRIES):
        there = _plans(place)
        with suppress(FileNotFoundError):  # the last worker joined the plans meanwhile
            plans = [_read_plan(place, name) for name in there]
            break
    else:
        return None
    whole = [plan for name, plan in zip(there, plans, strict=True) if name == PLAN]
    shares = [(name, plan) for name, plan in zip(there, plans, strict=True) if name != PLAN]
    if not shares:
        return whole[0] if whole else None
    first = shares[0][1]
    if len({(_cut(name)[1], plan.count, plan.rows, plan.listing) for name, plan in shares}) > 1:
        raise JobError(
            f"The inputs of {place} changed: {shares[0][0]} and {shares[-1][0]} were made of different ones.",
            "Run every share again, each with the same inputs.",
        )
    base = [plan for plan in whole if plan.listing == first.listing]
    shards = {shard.number: shard for plan in [*base, *(plan for _, plan in shares)] for shard in plan.shards}
    return replace(first, shards=[shards[number] for number in sorted(shards)])


def _read_plan(place: Place, name: str) -> Plan:
    """The plan in a file; FileNotFoundError, or a JobError where it is damaged."""
    share, path = (1, 1) if name == PLAN else _cut(name), f"{place}/{name}"
    head, plan = None, list[Shard]()
    try:
        for number, line in _numbered(place, name):
            where = f"{path}, line {number}"
            values = parse_line(line.rstrip(b"\r\n"), where)
            if number == 1 and (share[1] > 1 or "listing" in values):
                head = read_record(_Head, values, where)
            else:
                plan.append(read_record(Shard, values, where))
        wanted = range(share[0] - 1, head.count if head else len(plan), share[1])
        if (share[1] > 1 and head is None) or [shard.number for shard in plan] != list(wanted):
            raise MalformedFileError(f"{path} does not count its shards from {share[0] - 1}.")
    except MalformedFileError as error:
        raise JobError(
            f"{path} is damaged: {error.message}", f"Run the job again, which writes a new one; or delete {path} first."
        ) from error
    if head is None:
        return Plan(plan, len(plan), sum(shard.rows for shard in plan))
    return Plan(plan, head.count, head.rows, head.listing)


def _numbered(place: Place, name: str) -> Iterable[tuple[int, bytes]]:
    return enumerate(place.lines(name, MAX_BYTES), 1)
