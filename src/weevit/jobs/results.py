"""Reading a job: its rows as one table, its progress, and the check of its files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weevit.answers.columns import is_vector
from weevit.errors import JobError
from weevit.images.parquet import pyarrow
from weevit.jobs.folder import JOBS, in_data, plan_of, running
from weevit.jobs.manifest import Line, claims, done, read_lines, true_line
from weevit.jobs.plan import DATA, Digest, read_plan
from weevit.jobs.settings import Settings, read_settings
from weevit.jobs.shards import job_of, read_table, vectors
from weevit.store.files import sha256_file
from weevit.store.folder import FAILURES, refuse_strange
from weevit.text import typed

if TYPE_CHECKING:
    from pyarrow import Table


def read_results(
    folder: str | Path, columns: list[str] | None = None, partial: bool = False, verify: bool = True
) -> Table:
    """The rows of a job as one Arrow table, in the order of the inputs.

    Vectors are lists of a fixed size; `table["embedding"].chunk(0).values.to_numpy()` has all of them end to end
    without a copy, with zeros where the row has no answer (its `status` is not `ok`). `.to_pandas()` works too.

    Args:
        folder: the job's folder.
        columns: columns to read; all by default.
        partial: read the finished rows of an unfinished job.
        verify: compare every file with its sha256 in the manifest.

    Returns:
        `pyarrow.Table`; the schema's metadata names model, checkpoint, preprocessing and version.

    Raises:
        JobError: no job, an unfinished job, or a file whose sha256 differs.
    """
    arrow = pyarrow()
    folder = Path(folder)
    refuse_strange(folder, JOBS)
    settings = read_settings(folder)
    plan = plan_of(folder)
    there = done(folder, plan.shards, read_lines(folder))
    left = plan.rows - sum(line.rows for line in there.values())
    if left and not partial:
        raise JobError(
            f"{folder} is not finished: {left:,} of {plan.rows:,} rows are not there.",
            "Run the job to its end, or read what there is: read_results(folder, partial=True).",
        )
    tables = []
    for number in sorted(there):
        path = folder / DATA / there[number].file
        if verify and sha256_file(path) != there[number].sha256:
            raise JobError(
                f"{path} changed after it was written: its sha256 differs.", f"weevit jobs verify {typed(folder)}"
            )
        tables.append(read_table(path, columns))
        _refuse_other(path, tables[0].schema, tables[-1].schema, settings)
    if not tables:
        raise JobError(f"{folder} has no rows yet.")
    return _of_fixed_size(arrow.concat_tables(tables).combine_chunks())


def _refuse_other(path: Path, first: Any, schema: Any, settings: Settings) -> None:
    other = settings.unlike(schema)
    if other or schema.remove_metadata() != first.remove_metadata():
        raise JobError(
            f"{path} holds the answers of another job: another {other or 'set of columns'}.",
            f"Delete it, and give the command that made {job_of(path)} again.",
        )


def _of_fixed_size(table: Any) -> Any:
    """The table with vectors as lists of a fixed size, zeros for absent ones."""
    arrow = pyarrow()
    for index, field in enumerate(table.schema):
        if is_vector(field.name):
            found = vectors(table, field.name)
            if found.size:
                absent = table.column(index).chunk(0).is_null()
                own = arrow.FixedSizeListArray.from_arrays(arrow.array(found.reshape(-1)), found.shape[1], mask=absent)
                table = table.set_column(index, field.name, own)
    return table


@dataclass(frozen=True)
class Status:
    """The progress of a job.

    Attributes:
        settings: settings of the job.
        total: number of rows; None until a worker has read all inputs.
        done: number of finished rows.
        errors: kind -> number of rows without an answer.
        computed, seconds: rows from the model, and the time of their shards, over all workers.
        running: shares that a process works at now, as `3/16`.
        unsure: shares for which that cannot be determined.
        error_list: path of `failures.csv`, where the job is finished and has failures.
    """

    settings: Settings
    total: int | None
    done: int
    errors: Counter[str]
    computed: int
    seconds: float
    running: list[str]
    unsure: list[str]
    error_list: Path | None


def job_status(folder: str | Path) -> Status:
    """The progress of the job in a folder, by the sizes of its files; JobError where there is none."""
    folder = Path(folder)
    refuse_strange(folder, JOBS)
    settings = read_settings(folder)
    plan = read_plan(folder)
    there = list(done(folder, plan.shards, read_lines(folder)).values()) if plan is not None else []
    errors: Counter[str] = Counter()
    for line in there:
        errors.update(line.errors)
    listed = folder / FAILURES
    held, unsure = ([f"{worker}/{workers}" for worker, workers in cuts] for cuts in running(folder))
    return Status(
        settings=settings,
        total=plan.rows if plan is not None else None,
        done=sum(line.rows for line in there),
        errors=errors,
        computed=sum(line.computed for line in there),
        seconds=sum(line.seconds for line in there),
        running=held,
        unsure=unsure,
        error_list=listed if listed.exists() else None,
    )


def verify_job(folder: str | Path) -> Iterator[tuple[str, str]]:
    """Compare every shard with the plan and the manifest, and find other files in `data/`.

    Yields:
        (path relative to the folder, problem); nothing for a sound job.

    Raises:
        JobError: no job, or a job that was stopped before it had a plan.
    """
    folder = Path(folder)
    refuse_strange(folder, JOBS)
    settings = read_settings(folder)
    plan = plan_of(folder)
    recorded = claims(plan.shards, read_lines(folder))
    if not plan.complete:
        yield DATA, f"{plan.count - len(plan.shards):,} of {plan.count:,} shards are of workers without a plan yet"
    for shard in plan.shards:
        if shard.number not in recorded:
            yield f"{DATA}/{shard.file}", f"not there yet ({shard.rows:,} rows)"
            continue
        wrong = _wrong(folder / DATA / shard.file, recorded[shard.number], settings)
        if wrong:
            yield f"{DATA}/{shard.file}", wrong
    planned = {f"{DATA}/{shard.file}" for shard in plan.shards}
    for name in in_data(folder):
        if name not in planned:
            yield name, "not in the plan of this job; other readers would take its rows, too"


def _wrong(path: Path, lines: list[Line], settings: Settings) -> str:
    if not path.is_file():
        return "gone, though the manifest has it"
    line = true_line(path, lines, hashed=True)
    if line is None:
        return "changed after it was written: its sha256 differs"
    try:
        table = read_table(path, ["input", "fingerprint", "target", "status"])
    except JobError as error:
        return error.message
    digest = Digest()
    for name, fingerprint, target, _ in zip(*(column.to_pylist() for column in table.columns), strict=True):
        digest.add(str(name), str(fingerprint), target)
    if digest.hex() != line.inputs or table.num_rows != line.rows:
        return "its rows are not those of its inputs"
    failed = sum(status != "ok" for status in table["status"].to_pylist())
    if failed != sum(line.errors.values()):
        return f"{failed} rows have no answer; the manifest says {sum(line.errors.values())}"
    other = settings.unlike(table.schema)
    return f"the answers of another job: another {other}" if other else ""
