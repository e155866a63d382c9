"""Running a job: plan, look what is there, answer what is not, one shard after another.

    inputs ── plan ── shards that are not there ── decode, compute ── data/part-....parquet ── manifest line
                              └── rows of older versions

A shard that has its line in a manifest is whole and on the disk; everything else is done again. So a job may be killed
at any moment: the next run redoes at most the shard that was in work.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from weevit.answers.results import Result
from weevit.errors import JobError, NotFiniteError, UsageError
from weevit.images.names import Names, id_hash, rename
from weevit.images.parquet import pyarrow
from weevit.images.source import Source
from weevit.images.sources import Expansion, Inputs, expand
from weevit.jobs.columns import VERBS, Column
from weevit.jobs.folder import VANISHED, hold, tidy, write_errors, writing
from weevit.jobs.manifest import Line, append, claims, done, manifest_name, mend, read_lines, true_line
from weevit.jobs.plan import DATA, Digest, Shard, groups, make_plan, read_plan, write_plan
from weevit.jobs.reuse import OldRows
from weevit.jobs.settings import DEFAULT_SHARD_SIZE, Settings, settings_of
from weevit.jobs.shards import Row, write_shard
from weevit.memory import keep_flat
from weevit.outputs import local
from weevit.predict import Predictor
from weevit.text import list_line
from weevit.zoo.manifest import replace_file, sha256_file


@dataclass
class Progress:
    """How far a job is.

    Attributes:
        total: inputs of this worker's share.
        there: of them, rows that were there when it began, every byte of them as it was written.
        lost: files of this share that were recorded, and were gone or not what was written; they are made again.
        answered: rows that have been made since, from the model or from older versions.
        computed: of them, those that the model was asked for.
        errors: kind -> how many of all these have no answer.
        rest: rows of other workers that are not there yet (as of the end).
        vanished: ids that had a row and are no input any more.
        interrupted: whether it stopped before its end because it was asked to.
        seconds: since the first image.
        left_out: files in folders that are no images by their ending.
    """

    total: int = 0
    there: int = 0
    lost: int = 0
    answered: int = 0
    computed: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    rest: int = 0
    vanished: int = 0
    interrupted: bool = False
    seconds: float = 0.0
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def finished(self) -> int:
        """Rows that are there."""
        return self.there + self.answered


Watcher = Callable[[Progress], None]

ASKED = "asked"
"""The status of a row whose answer is awaited; it is never written."""


def run_job(
    predictor: Predictor,
    inputs: Inputs,
    folder: str | Path,
    verb: str = "embed",
    *,
    shard: tuple[int, int] = (1, 1),
    shard_size: int = DEFAULT_SHARD_SIZE,
    retry_failed: bool = False,
    watch: Watcher = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
    **options: object,
) -> Progress:
    """Answer many inputs into a folder of Parquet files, or go on with it.

    Args:
        predictor: a loaded model.
        inputs: as for `Predictor.stream`, but no images in memory. It is read twice; an iterator is kept as a list.
        folder: made if it is not there.
        verb: `classify`, `embed` or `features`.
        shard: (3, 16) does the third of 16 equal shares; the others may run at the same time, on other machines too.
        shard_size: rows in a file.
        retry_failed: ask again for rows that have no answer.
        watch: told after each answer.
        should_stop: asked after each shard.
        options: topk for `classify`; normalize and dtype (`float32`, `float16`) for `embed`; layers for `features`.

    Returns:
        What was done.

    Raises:
        UsageError: an option that cannot be meant.
        JobError: the folder holds another job, is in use, or the inputs changed while the job ran.
        OutputError: the folder cannot be written; what was finished is kept.
        MissingExtraError: pyarrow is not installed.
    """
    pyarrow()
    check_share(*shard)
    settings = settings_of(predictor, verb, dict(options), shard_size)
    folder = local(folder)
    lasting = list(inputs) if isinstance(inputs, Iterator) else inputs
    keep_flat()
    sources = expand(lasting)
    with hold(folder, settings, *shard) as alone:
        job = _Job(predictor, settings, folder, sources, shard, retry_failed)
        job.prepare(alone)
        job.run(watch, should_stop)
        job.finish()
    return job.progress


def check_share(worker: int, workers: int) -> None:
    """Refuse a share that is none.

    Raises:
        UsageError: not one of 1/1, 1/2, 2/2, 1/3, ...
    """
    if not 1 <= worker <= workers:
        raise UsageError(
            f"--shard is a share like 3/16, from 1/16 to 16/16: {worker}/{workers} was given.", "--shard 1/2"
        )


@dataclass
class _Work:
    """A shard that is being answered.

    Attributes:
        shard: which.
        rows: its rows so far, in order.
        began: when.
        awaited: how many of the rows have no answer yet.
        computed: for how many of them the model was asked.
        errors: kind -> how many of the others failed.
    """

    shard: Shard
    rows: list[Row]
    began: float
    awaited: int = 0
    computed: int = 0
    errors: Counter[str] = field(default_factory=Counter)

    def count(self, row: Row, progress: Progress) -> None:
        """A row has its answer, or is known to have none."""
        progress.answered += 1
        if row.status != "ok":
            kind = (row.error or row.status).partition(":")[0]
            self.errors[kind] += 1
            progress.errors[kind] += 1


class _Job:
    """One run of one worker."""

    def __init__(
        self,
        predictor: Predictor,
        settings: Settings,
        folder: Path,
        sources: Expansion,
        share: tuple[int, int],
        retry_failed: bool,
    ) -> None:
        verb = VERBS[settings.verb]
        self.predictor, self.folder, self.sources = predictor, folder, sources
        self.columns: list[Column] = verb.columns(settings.options, predictor)
        self.outputs = verb.outputs
        self.metadata = settings.metadata(self.columns)
        self.options, self.shard_size = settings.options, settings.shard_size
        self.share, self.retry_failed = share, retry_failed
        self.manifest = folder / manifest_name(*share)
        self.order = 1
        self.progress = Progress()
        self.plan: list[Shard] = []
        self.missing: dict[int, Shard] = {}
        self.renamed: dict[int, str] = {}
        self.old: OldRows | None = None

    def prepare(self, alone: bool) -> None:
        """Plan, and find out what is there."""
        names = Names()
        self.plan = make_plan(self.sources, self.shard_size, names)
        self.renamed = names.renamed
        self.progress.left_out = Counter(self.sources.left_out)  # reading the sources again begins a new count
        with writing(self.folder):
            self._record_plan(alone)
            mend(self.manifest)
        lines = read_lines(self.folder)
        self.order = 1 + max((line.order for line in lines), default=0)
        worker, workers = self.share
        mine = [shard for shard in self.plan if shard.number % workers == worker - 1]
        there = done(self.folder, self.plan, lines) | (whole := done(self.folder, mine, lines, hashed=True))
        lost = claims(mine, lines).keys() - whole
        there = {number: line for number, line in there.items() if number not in lost}
        self.progress.lost = len(lost)
        again = {number for number, line in there.items() if self.retry_failed and line.errors}
        self.missing = {shard.number: shard for shard in mine if shard.number not in there or shard.number in again}
        self._find_old_rows(lines, there, names)
        kept = [there[shard.number] for shard in mine if shard.number not in self.missing]
        self.progress.total = sum(shard.rows for shard in mine)
        self.progress.there = sum(line.rows for line in kept)
        for line in kept:
            self.progress.errors.update(line.errors)

    def _record_plan(self, alone: bool) -> None:
        recorded = None
        try:
            recorded = read_plan(self.folder)
        except JobError:  # damaged: it is known anew, and those who work by it now would have read it
            if not alone:
                raise
        if recorded == self.plan:
            return
        if recorded is not None and not alone:
            raise JobError(
                f"The inputs are not those that the other workers on {self.folder} see.",
                "Give every worker the same inputs; if they changed, wait for the others and start again.",
            )
        write_plan(self.folder, self.plan)

    def _find_old_rows(self, lines: list[Line], there: dict[int, Line], names: Names) -> None:
        """Index the versions that are no longer wanted as they stand, and list what vanished."""
        current = {line.file for number, line in there.items() if number not in self.missing}
        files = sorted({line.file for line in lines if line.file not in current and _is_sound(self.folder, line)})
        if not files:
            return
        self.old = OldRows(self.folder / DATA, files, self.columns, only_ok=self.retry_failed)
        vanished = sorted({name for name in self.old.ids() if id_hash(name) not in names.seen})
        self.progress.vanished = len(vanished)
        text = "".join(f"{list_line(name)}\n" for name in vanished)
        with writing(self.folder):
            replace_file(self.folder / VANISHED, lambda tmp: tmp.write_text(text, encoding="utf-8"))

    def run(self, watch: Watcher, should_stop: Callable[[], bool]) -> None:
        """Answer what is missing: one stream through all shards, so that no thread waits where one ends."""
        start = time.perf_counter()
        watch(self.progress)
        awaited: deque[tuple[_Work, Row]] = deque()
        left = set(self.missing)
        with closing(self._stream(self._ask(awaited, left, should_stop))) as results:
            for result in results:
                work, row = awaited.popleft()
                self._fill(row, result)
                work.count(row, self.progress)
                work.awaited -= 1
                self.progress.computed += 1
                self.progress.seconds = time.perf_counter() - start
                if not work.awaited:
                    self._keep(work)
                    left.discard(work.shard.number)
                    self.progress.interrupted = bool(left) and should_stop()
                watch(self.progress)
                if self.progress.interrupted:
                    break
        watch(self.progress)
        if left and not self.progress.interrupted:
            raise JobError(
                "The inputs changed while the job ran: the shard in work would not be what was planned.",
                "Give the same command again: what is finished is kept, and what changed is asked anew.",
            )

    def _ask(
        self, awaited: deque[tuple[_Work, Row]], left: set[int], should_stop: Callable[[], bool]
    ) -> Iterator[Source]:
        """The sources that the model has to be asked for, each with its row in `awaited`, in the same order."""
        for number, group in groups(rename(self.sources if left else (), self.renamed), self.shard_size):
            if number in self.missing:
                sources = list(group)
                work = self._begin(self.missing[number], sources)
                if work is None:
                    return
                if not work.awaited:  # every row is an older one
                    self._keep(work)
                    left.discard(number)
                    self.progress.interrupted = bool(left) and should_stop()
                for row, source in zip(work.rows, sources, strict=True):
                    if row.status == ASKED:
                        awaited.append((work, row))
                        yield source
                if number == max(self.missing) or self.progress.interrupted:
                    return

    def _begin(self, shard: Shard, sources: list[Source]) -> _Work | None:
        """The shard with its older rows; None if its inputs are not those that were planned."""
        rows, inputs = self._rows_so_far(sources)
        if inputs != shard.inputs:
            return None
        work = _Work(shard, rows, time.perf_counter())
        for row in work.rows:
            if row.status == ASKED:
                work.awaited += 1
            else:
                work.count(row, self.progress)
        work.computed = work.awaited
        return work

    def _rows_so_far(self, sources: list[Source]) -> tuple[list[Row], str]:
        """A row for each source, an older one of the same image or one that is awaited; and the digest of all."""
        rows, digest = [], Digest()
        for source in sources:
            fingerprint = source.fingerprint()
            digest.add(source.name, fingerprint, source.target)
            old = self.old.find(source.name, fingerprint) if self.old else None
            row = old or Row(source.name, fingerprint, status=ASKED)
            row.target = source.target
            rows.append(row)
        return rows, digest.hex()

    def _stream(self, sources: Iterator[Source]) -> Generator[Result, None, None]:
        return self.predictor.stream(
            sources,
            outputs=self.outputs,
            layers=self.options.get("layers"),
            topk=self.options.get("topk", 1),
            steady=True,
        )

    def _fill(self, row: Row, result: Result) -> None:
        row.status, row.error = result.status, result.error
        row.width, row.height = result.width, result.height
        if not result.ok:
            return
        try:
            row.answers = [column.value(result) for column in self.columns]
        except NotFiniteError as error:
            row.status, row.error = error.status, f"{error.kind}: {error.message}"

    def _keep(self, work: _Work) -> None:
        """Write a shard, before an answer of the next one is taken: a kill costs no more than one of them.

        It costs no time that could be measured: the model is at work on the next batches meanwhile.
        """
        shard = work.shard
        path = self.folder / DATA / shard.file
        with writing(self.folder):
            # Written beside `data/`, where there are only ever whole shards: Polars refuses a folder with other files.
            replace_file(path, lambda tmp: write_shard(tmp, work.rows, self.columns, self.metadata), self.folder)
            line = Line(
                shard=shard.number,
                inputs=shard.inputs,
                file=shard.file,
                rows=len(work.rows),
                bytes=path.stat().st_size,
                sha256=sha256_file(path),
                computed=work.computed,
                seconds=round(time.perf_counter() - work.began, 3),
                errors=dict(sorted(work.errors.items())),
                order=self.order,
            )
            self.order += 1
            append(self.manifest, line)

    def finish(self) -> None:
        """Where the last shard of all is there: list the errors, and clear away what was replaced."""
        there = done(self.folder, self.plan, read_lines(self.folder))
        self.progress.rest = sum(shard.rows for shard in self.plan if shard.number not in there)
        if self.progress.rest or self.progress.interrupted:
            return
        current = [there[shard.number] for shard in self.plan]
        with writing(self.folder):
            write_errors(self.folder, [line.file for line in current if line.errors])
            tidy(self.folder, {line.file for line in current})


def _is_sound(folder: Path, line: Line) -> bool:
    return true_line(folder / DATA / line.file, [line], hashed=True) is not None
