"""Reading a job: its rows as one table, its progress, and the check of its files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from weevit.answers.columns import is_vector
from weevit.arguments import one_of
from weevit.errors import JobError, UsageError
from weevit.images.parquet import pyarrow
from weevit.jobs.folder import JOBS, in_data, plan_of, running
from weevit.jobs.manifest import Line, done, read_lines, true_line
from weevit.jobs.places import Folder, place_of
from weevit.jobs.plan import DATA, PLAN, Digest, read_plan
from weevit.jobs.settings import Settings, read_settings
from weevit.jobs.shards import read_schema, read_table, vectors
from weevit.store.folder import FAILURES
from weevit.store.place import Place
from weevit.text import typed

if TYPE_CHECKING:
    from pyarrow import Table


def read_results(folder: Folder, columns: list[str] | None = None, partial: bool = False, verify: bool = True) -> Table:
    """The rows of a job as one Arrow table, in the order of the inputs.

    Vectors are lists of a fixed size; `table["embedding"].chunk(0).values.to_numpy()` has all of them end to end
    without a copy, with zeros where the row has no answer (its `status` is not `ok`). `.to_pandas()` works too.

    Args:
        folder: the job's folder, or its address in a bucket.
        columns: columns to read; all by default.
        partial: read the finished rows of an unfinished job.
        verify: compare every file with its sha256 in the manifest.

    Returns:
        `pyarrow.Table`; the schema's metadata names model, checkpoint, preprocessing and version.

    Raises:
        JobError: no job, an unfinished job, or a file whose sha256 differs.
        UsageError: a column that there is not.
    """
    arrow = pyarrow()
    place = place_of(folder)
    place.refuse_strange(JOBS)
    settings = read_settings(place)
    plan = plan_of(place)
    there = {shard.number: line for shard, line in done(place, plan.shards, read_lines(place))}
    left = plan.rows - sum(line.rows for line in there.values())
    if left and not partial:
        raise JobError(
            f"{place} is not finished: {left:,} of {plan.rows:,} rows are not there.",
            "Run the job to its end, or read what there is: read_results(folder, partial=True).",
        )
    if not there:
        raise JobError(f"{place} has no rows yet.")
    if columns is not None:
        _check_columns(columns, read_schema(place, there[min(there)].file).names)
    tables = []
    for number in sorted(there):
        name = there[number].file
        if verify and place.sha256(f"{DATA}/{name}") != there[number].sha256:
            raise JobError(
                f"{place}/{DATA}/{name} changed after it was written: its sha256 differs.",
                f"weevit jobs verify {typed(place)}",
            )
        tables.append(read_table(place, name, columns))
        _refuse_other(place, name, (tables[0].schema, tables[-1].schema), settings)
    return _of_fixed_size(arrow.concat_tables(tables).combine_chunks())


def _check_columns(columns: Sequence[str], there: Sequence[str]) -> None:
    """Refuse other columns than those that there are: Parquet's reader leaves them out without a word."""
    if isinstance(columns, str):
        raise UsageError(f"columns is a list of names: {columns!r:.60} was given.", f"For instance [{there[0]!r}].")
    for name in columns:
        one_of("A column", name, there)


def _refuse_other(place: Place, name: str, schemas: tuple[Any, Any], settings: Settings) -> None:
    first, schema = schemas
    other = settings.unlike(schema)
    if other or schema.remove_metadata() != first.remove_metadata():
        raise JobError(
            f"{place}/{DATA}/{name} holds the answers of another job: another {other or 'set of columns'}.",
            f"Delete it, and give the command that made {place} again.",
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
    error_list: str | None


def job_status(folder: Folder) -> Status:
    """The progress of the job in a folder, by the sizes of its files; JobError where there is none."""
    place = place_of(folder)
    place.refuse_strange(JOBS)
    settings = read_settings(place)
    plan = read_plan(place)
    there = [line for _, line in done(place, plan.shards, read_lines(place))] if plan is not None else []
    errors: Counter[str] = Counter()
    for line in there:
        errors.update(line.errors)
    held, unsure = ([f"{worker}/{workers}" for worker, workers in cuts] for cuts in running(place))
    return Status(
        settings=settings,
        total=plan.rows if plan is not None else None,
        done=sum(line.rows for line in there),
        errors=errors,
        computed=sum(line.computed for line in there),
        seconds=sum(line.seconds for line in there),
        running=held,
        unsure=unsure,
        error_list=f"{place}/{FAILURES}" if place.size(FAILURES) is not None else None,
    )


def verify_job(folder: Folder) -> Iterator[tuple[str, str]]:
    """Compare every shard with the plan and the manifest, and find other files in `data/`.

    Yields:
        (path relative to the folder, problem); nothing for a sound job.

    Raises:
        JobError: no job, or a job that was stopped before it had a plan.
    """
    place = place_of(folder)
    place.refuse_strange(JOBS)
    settings = read_settings(place)
    plan = plan_of(place)
    lines = read_lines(place)
    if not plan.complete:
        shards, rows = plan.count - len(plan.shards), plan.rows - sum(shard.rows for shard in plan.shards)
        yield PLAN, f"not there yet: {shards:,} shards ({rows:,} rows) are of shares that have not run"
    for shard in plan.shards:
        own = lines.of(shard)
        if not own:
            yield f"{DATA}/{shard.file}", f"not there yet ({shard.rows:,} rows)"
            continue
        wrong = _wrong(place, own, settings)
        if wrong:
            yield f"{DATA}/{shard.file}", wrong
    planned = {f"{DATA}/{shard.file}" for shard in plan.shards}
    for name in in_data(place):
        if name not in planned:
            yield name, "not in the plan of this job; other readers would take its rows, too"


def _wrong(place: Place, lines: list[Line], settings: Settings) -> str:
    name = lines[0].file
    if place.size(f"{DATA}/{name}") is None:
        return "gone, though the manifest has it"
    line = true_line(place, lines, hashed=True)
    if line is None:
        return "changed after it was written: its sha256 differs"
    try:
        table = read_table(place, name, ["input", "fingerprint", "target", "status"])
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
