"""What a job has to do: its inputs in order, cut into shards, each known by a digest of what it answers.

A shard's digest is made of its inputs' ids, fingerprints and targets. So an input that was added, changed or taken away
gives other digests to the shards that it touches, and to no others that keep their place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Annotated

from weevit.errors import JobError, MalformedFileError
from weevit.images.names import Names
from weevit.images.source import Source
from weevit.store.files import replace_file
from weevit.store.own import read_own
from weevit.zoo.fields import whole
from weevit.zoo.records import MAX_COUNT, Count, Sha256, parse_line, read_record, to_line

PLAN = "plan.jsonl"
DATA = "data"
"""The folder of the shards in the folder of a job: with nothing beside them, every reader of Parquet takes it whole."""

PARTS = "part-[0-9][0-9][0-9][0-9][0-9][0-9]*-" + "[0-9a-f]" * 16 + ".parquet"
"""The names of shards, as a pattern. Others write `part-*.parquet` too: Spark's are not ours to read or delete."""

MAX_BYTES = 1 << 30


@dataclass(frozen=True)
class Shard:
    """A run of inputs that is answered, written and recorded as one.

    Attributes:
        number: its place in the job, from 0.
        rows: how many inputs.
        inputs: the digest of their ids, fingerprints and targets.
    """

    number: Count
    rows: Annotated[int, whole(1, MAX_COUNT)]
    inputs: Sha256

    @property
    def file(self) -> str:
        """Its name in `data/`, by what it answers: another version of the same place is another file."""
        return f"part-{self.number:06d}-{self.inputs[:16]}.parquet"


class Digest:
    """Of a shard's inputs, one after another."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, name: str, fingerprint: str, target: str | None) -> None:
        """The next input; whatever of it stands in a row belongs to the digest."""
        self._hash.update(f"{len(name)} {name} {fingerprint} {target}\n".encode())

    def hex(self) -> str:
        """64 hex digits."""
        return self._hash.hexdigest()


def make_plan(sources: Iterable[Source], shard_size: int, names: Names) -> list[Shard]:
    """Look at every input once: its name and its fingerprint, not its image."""
    plan = []
    for number, group in groups(names.unique(sources), shard_size):
        digest, rows = Digest(), 0
        for rows, source in enumerate(group, 1):  # noqa: B007 - counts
            digest.add(source.name, source.fingerprint(), source.target)
        plan.append(Shard(number, rows, digest.hex()))
    return plan


def groups(sources: Iterable[Source], size: int) -> Iterator[tuple[int, Iterator[Source]]]:
    """Runs of `size` sources, numbered; what the caller leaves of a run is skipped."""
    rest = iter(sources)
    for number, first in enumerate(rest):
        group = chain([first], islice(rest, size - 1))
        yield number, group
        for _ in group:
            pass


def write_plan(folder: Path, plan: list[Shard]) -> None:
    """Record it: the folder is complete when every one of these shards is there."""
    content = b"".join(to_line(asdict(shard)) for shard in plan)
    replace_file(folder / PLAN, lambda tmp: tmp.write_bytes(content))


def read_plan(folder: Path) -> list[Shard] | None:
    """The plan of a folder, None where there is none; JobError where the file is damaged."""
    path = folder / PLAN
    try:
        lines = enumerate(read_own(path, MAX_BYTES).splitlines(), 1)
        where = ((f"{path}, line {number}", line) for number, line in lines)
        plan = [read_record(Shard, parse_line(line, place), place) for place, line in where]
        if any(number != shard.number for number, shard in enumerate(plan)):
            raise MalformedFileError(f"{path} does not count its shards from 0.")
    except FileNotFoundError:
        return None
    except MalformedFileError as error:
        raise JobError(
            f"{path} is damaged: {error.message}", f"Run the job again, which writes it anew; or delete {path} first."
        ) from error
    return plan
