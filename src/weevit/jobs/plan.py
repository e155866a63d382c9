"""The plan of a job: its inputs in order, cut into shards, each identified by a digest of its inputs.

The digest covers ids, fingerprints and targets. An input that was added, changed or removed changes the digests of the
shards that it is in or moves, and of no others.
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
"""The folder of the shards in the folder of a job: without other files, any reader of Parquet takes it whole."""

PARTS = "part-[0-9][0-9][0-9][0-9][0-9][0-9]*-" + "[0-9a-f]" * 16 + ".parquet"
"""The names of shards, as a pattern. Others write `part-*.parquet` too: Spark's files are not read or deleted."""

MAX_BYTES = 1 << 30


@dataclass(frozen=True)
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


def make_plan(sources: Iterable[Source], shard_size: int, names: Names) -> list[Shard]:
    """Read the name and fingerprint of every input once; images are not opened."""
    plan = []
    for number, group in groups(names.unique(sources), shard_size):
        digest, rows = Digest(), 0
        for rows, source in enumerate(group, 1):  # noqa: B007 - counts
            digest.add(source.name, source.fingerprint(), source.target)
        plan.append(Shard(number, rows, digest.hex()))
    return plan


def groups(sources: Iterable[Source], size: int) -> Iterator[tuple[int, Iterator[Source]]]:
    """Numbered groups of `size` sources; sources that the caller does not take are skipped."""
    rest = iter(sources)
    for number, first in enumerate(rest):
        group = chain([first], islice(rest, size - 1))
        yield number, group
        for _ in group:
            pass


def write_plan(folder: Path, plan: list[Shard]) -> None:
    """Record the plan: the job is complete when every shard of it is there."""
    content = b"".join(to_line(asdict(shard)) for shard in plan)
    replace_file(folder / PLAN, lambda tmp: tmp.write_bytes(content))


def read_plan(folder: Path) -> list[Shard] | None:
    """The plan of a folder, None where there is none; JobError where the file is damaged."""
    path = folder / PLAN
    try:
        lines = enumerate(read_own(path, MAX_BYTES).splitlines(), 1)
        where = ((f"{path}, line {number}", line) for number, line in lines)
        plan = [read_record(Shard, parse_line(line, at), at) for at, line in where]
        if any(number != shard.number for number, shard in enumerate(plan)):
            raise MalformedFileError(f"{path} does not count its shards from 0.")
    except FileNotFoundError:
        return None
    except MalformedFileError as error:
        raise JobError(
            f"{path} is damaged: {error.message}", f"Run the job again, which writes a new one; or delete {path} first."
        ) from error
    return plan
