"""A shard as one task: its inputs and its file, and the function that answers it.

    Task ── known rows, sources of the others ── the model ── data/part-....parquet ── Line

A task is a value. Any process with the model and access to the folder can do it; the result is a line for a manifest,
which makes the shard count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from time import perf_counter

from weevit.answers.known import ask_for
from weevit.answers.results import Result
from weevit.errors import NotFiniteError
from weevit.images.source import Source
from weevit.jobs.folder import JOBS
from weevit.jobs.manifest import Line
from weevit.jobs.plan import DATA, Shard
from weevit.jobs.settings import Settings
from weevit.jobs.shards import Row, write_shard
from weevit.jobs.verbs import VERBS
from weevit.predict import Predictor
from weevit.store.place import Place

ASKED = "asked"
"""The status of a row without its answer yet; it is never written."""


@dataclass(frozen=True)
class Task:
    """A shard to answer. It can be pickled, unless a source lies in a compressed archive.

    Attributes:
        place, settings: of the job.
        shard: the shard.
        rows: a row per input, in order: an older one, or one with the status `ASKED`.
        sources: sources of the rows with the status `ASKED`, in order.
    """

    place: Place
    settings: Settings
    shard: Shard
    rows: list[Row]
    sources: list[Source]


def answer_shard(task: Task, predictor: Predictor) -> Line:
    """Answer one shard and write its file; OutputError or EngineError where that fails."""
    lines = [line for _, line in answer_shards([task], predictor, task.settings) if line]
    return lines[0] if lines else _write(task, predictor, perf_counter())


def answer_shards(
    tasks: Iterable[Task], predictor: Predictor, settings: Settings
) -> Generator[tuple[Row, Line | None], None, None]:
    """Answer the shards of a job in one stream, so that no thread waits between shards.

    A shard is written before an answer of the next one is taken: a kill costs at most one shard. Writing costs no
    measurable time, because the model works on the next batches meanwhile.

    Yields:
        Each computed row, and with the last one of a shard its line.
    """
    verb, options = VERBS[settings.verb], settings.options
    columns = verb.columns(options, predictor)

    def unknown() -> Generator[tuple[tuple[Row, tuple[Task, float] | None], Source], None, None]:
        for task in tasks:
            began, rows = perf_counter(), [row for row in task.rows if row.status == ASKED]
            for row, source in zip(rows, task.sources, strict=True):
                yield (row, (task, began) if row is rows[-1] else None), source

    def stream(sources: Iterator[Source]) -> Generator[Result, None, None]:
        return predictor.stream(sources, verb.outputs, options.get("layers"), options.get("topk", 1), steady=True)

    with closing(ask_for(unknown(), stream)) as answers:
        for (row, ended), result in answers:
            row.status, row.error, row.width, row.height = result.status, result.error, result.width, result.height
            try:
                row.answers = [column.value(result) for column in columns] if result.ok else None
            except NotFiniteError as error:
                row.status, row.error = error.status, f"{error.kind}: {error.message}"
            yield row, _write(ended[0], predictor, ended[1]) if ended else None


def _write(task: Task, predictor: Predictor, began: float) -> Line:
    """Write the file of a shard whose rows are complete."""
    shard, settings = task.shard, task.settings
    columns = VERBS[settings.verb].columns(settings.options, predictor)
    said = settings.metadata(columns)
    with JOBS.writing(task.place):
        size, digest = task.place.make(f"{DATA}/{shard.file}", lambda path: write_shard(path, task.rows, columns, said))
        return Line(
            shard=shard.number,
            inputs=shard.inputs,
            file=shard.file,
            rows=len(task.rows),
            bytes=size,
            sha256=digest,
            computed=len(task.sources),
            seconds=round(perf_counter() - began, 3),
            errors=dict(sorted(Counter(row.failure for row in task.rows if row.status != "ok").items())),
        )
