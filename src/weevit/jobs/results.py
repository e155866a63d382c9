"""Reading a job: its rows as one table, how far it is, and whether what lies there is what was written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weevit.errors import JobError
from weevit.images.parquet import pyarrow
from weevit.jobs.folder import ERRORS, plan_of, running
from weevit.jobs.manifest import Line, done, read_lines
from weevit.jobs.plan import Digest, read_plan
from weevit.jobs.settings import Settings, read_settings
from weevit.jobs.shards import read_table, vectors
from weevit.text import typed
from weevit.zoo.manifest import sha256_file


def read_results(
    folder: str | Path, columns: list[str] | None = None, partial: bool = False, verify: bool = True
) -> Any:
    """The rows of a job as one Arrow table, in the order of the inputs.

    Vectors are lists of a fixed size; `table["embedding"].chunk(0).values.to_numpy()` has all of them end to
    end without a copy, with zeros where the row has no answer (its `status` is not `ok`). `.to_pandas()` works too.

    Args:
        folder: of the job.
        columns: only these.
        partial: give the rows that are there of a job that is not finished.
        verify: compare every file with its sha256 in the manifest.

    Returns:
        `pyarrow.Table`; the schema's metadata names model, checkpoint, preprocessing and version.

    Raises:
        JobError: no job, not finished, or a file is not what was written.
    """
    arrow = pyarrow()
    folder = Path(folder)
    read_settings(folder)
    plan = plan_of(folder)
    there = done(folder, plan, read_lines(folder))
    left = sum(shard.rows for shard in plan if shard.number not in there)
    if left and not partial:
        total = sum(shard.rows for shard in plan)
        raise JobError(
            f"{folder} is not finished: {left:,} of {total:,} rows are not there.",
            "Run the job to its end, or read what there is: read_results(folder, partial=True).",
        )
    tables = []
    for number in sorted(there):
        path = folder / there[number].file
        if verify and sha256_file(path) != there[number].sha256:
            raise JobError(
                f"{path} is not what was written: its sha256 differs.", f"weevit jobs verify {typed(folder)}"
            )
        tables.append(read_table(path, columns))
    if not tables:
        raise JobError(f"{folder} has no rows yet.")
    return _without_inner_nulls(arrow.concat_tables(tables).combine_chunks())


def _without_inner_nulls(table: Any) -> Any:
    """Parquet says of every number in an absent vector that it is absent, which would make numpy copy: say it once."""
    arrow = pyarrow()
    for place, field in enumerate(table.schema):
        if arrow.types.is_fixed_size_list(field.type):
            column = table.column(place).chunk(0)
            flat = arrow.array(vectors(table, field.name).reshape(-1))
            own = arrow.FixedSizeListArray.from_arrays(flat, field.type.list_size, mask=column.is_null())
            table = table.set_column(place, field.name, own)
    return table


@dataclass(frozen=True)
class Status:
    """How far a job is.

    Attributes:
        settings: of the job.
        total: rows in all; None while no worker has seen all inputs.
        done: rows that are there.
        errors: kind -> how many of them have no answer.
        computed, seconds: rows that the model was asked for, and how long their shards took, over all workers.
        running: shares that a process works at now, as `3/16`.
        error_list: the file that names them, where the job is finished.
    """

    settings: Settings
    total: int | None
    done: int
    errors: Counter[str]
    computed: int
    seconds: float
    running: list[str]
    error_list: Path | None


def job_status(folder: str | Path) -> Status:
    """How far the job in a folder is.

    Raises:
        JobError: there is none.
    """
    folder = Path(folder)
    settings = read_settings(folder)
    plan = read_plan(folder)
    there = list(done(folder, plan, read_lines(folder)).values()) if plan is not None else []
    errors: Counter[str] = Counter()
    for line in there:
        errors.update(line.errors)
    listed = folder / ERRORS
    return Status(
        settings=settings,
        total=sum(shard.rows for shard in plan) if plan is not None else None,
        done=sum(line.rows for line in there),
        errors=errors,
        computed=sum(line.computed for line in there),
        seconds=sum(line.seconds for line in there),
        running=[f"{worker}/{workers}" for worker, workers in running(folder)],
        error_list=listed if listed.exists() else None,
    )


def verify_job(folder: str | Path) -> Iterator[tuple[str, str]]:
    """Read every shard again and compare it with the plan and the manifest.

    Yields:
        (file, what is wrong with it) for each; nothing where all is well.

    Raises:
        JobError: there is no job, or it was stopped before it had a plan.
    """
    folder = Path(folder)
    settings = read_settings(folder)
    plan = plan_of(folder)
    newest = {(line.shard, line.inputs): line for line in read_lines(folder)}
    for shard in plan:
        line = newest.get((shard.number, shard.inputs))
        if line is None:
            yield shard.file, f"not there yet ({shard.rows:,} rows)"
            continue
        wrong = _wrong(folder, line, settings)
        if wrong:
            yield line.file, wrong


def _wrong(folder: Path, line: Line, settings: Settings) -> str:
    path = folder / line.file
    if not path.is_file():
        return "gone, though the manifest has it"
    if sha256_file(path) != line.sha256:
        return "not what was written: its sha256 differs"
    table = read_table(path, ["id", "fingerprint", "target", "status"])
    digest = Digest()
    for name, fingerprint, target, _ in zip(*(column.to_pylist() for column in table.columns), strict=True):
        digest.add(name, fingerprint, target)
    if digest.hex() != line.inputs or table.num_rows != line.rows:
        return "its rows are not those of its inputs"
    failed = sum(status != "ok" for status in table["status"].to_pylist())
    if failed != sum(line.errors.values()):
        return f"{failed} rows have no answer; the manifest says {sum(line.errors.values())}"
    metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    if metadata.get("weevit.checkpoint_sha256") != settings.checkpoint:
        return "the answers of another model"
    return ""
