"""Running a job: plan, find the missing shards, answer them one after another.

    inputs ── plan ── missing shards ── decode, compute ── data/part-....parquet ── manifest line
                           └── rows of older versions

A shard with a line in a manifest is whole and on the disk; every other shard is redone. A job may therefore be killed
at any moment: the next run redoes at most the current shard.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace

from weevit.arguments import wholes
from weevit.errors import JobError, UsageError
from weevit.images.names import Names
from weevit.images.parquet import pyarrow
from weevit.images.source import Source
from weevit.images.sources import Expansion, Inputs, expand
from weevit.jobs.folder import JOBS, VANISHED, hold, plan_of, tidy, write_failures
from weevit.jobs.manifest import Line, Lines, append, done, manifest_name, read_lines, true_line
from weevit.jobs.on_ray import OnRay, Ray, parse_on
from weevit.jobs.places import Folder, place_of
from weevit.jobs.plan import (
    Digest,
    Plan,
    Shard,
    Share,
    cuts,
    groups,
    is_mine,
    join_plans,
    make_plan,
    read_plan,
    write_plan,
)
from weevit.jobs.reuse import OldRows, lost
from weevit.jobs.runners import Here, Runner
from weevit.jobs.settings import DEFAULT_SHARD_SIZE, Settings, settings_of
from weevit.jobs.shards import Row
from weevit.jobs.tasks import ASKED, Task, answer_shard
from weevit.jobs.verbs import VERBS
from weevit.memory import keep_flat
from weevit.predict import Predictor
from weevit.store.files import as_bytes
from weevit.store.place import Place
from weevit.text import list_line


@dataclass
class Progress:
    """The progress of a job.

    Attributes:
        total: inputs of this worker's share.
        there: rows that were there at the start, every byte as written.
        lost: recorded files of this share that were missing or damaged; they are made again.
        answered: rows made since, by the model or from older versions.
        computed: rows made by the model.
        errors: kind -> number of rows without an answer, among all of these.
        rest: missing rows of other workers, at the end.
        vanished: inputs of an earlier run that are gone.
        interrupted: whether it was asked to stop before the end.
        seconds: time since the first image.
        left_out: files in folders that are no images, by ending.
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


def run_job(
    predictor: Predictor,
    inputs: Inputs,
    folder: Folder,
    verb: str = "embed",
    *,
    shard: tuple[int, int] = (1, 1),
    shard_size: int = DEFAULT_SHARD_SIZE,
    retry_failed: bool = False,
    watch: Watcher = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
    on: str | Ray | None = None,
    **options: object,
) -> Progress:
    """Answer many inputs into a folder of Parquet files, or resume the job that is there.

    Args:
        predictor: a loaded model.
        inputs: as for `Predictor.stream`, but no images in memory. It is read twice; an iterator is kept as a list.
        folder: made if it is not there; a path, or an address in a bucket (`s3://bucket/answers`).
        verb: `classify`, `embed` or `features`.
        shard: (3, 16) does the third of 16 equal shares; the others may run at the same time, on other machines too.
        shard_size: rows in a file.
        retry_failed: ask again for rows that have no answer.
        watch: told after each answer.
        should_stop: asked after each shard.
        on: the cluster that answers the shards: `ray`, `ray=ADDRESS`, or a `Ray`; None for this process.
        options: topk for `classify`; normalize and dtype (`float32`, `float16`) for `embed`; layers for `features`.

    Returns:
        What was done.

    Raises:
        UsageError: an invalid option, or a folder that holds something else or another job.
        JobError: the folder's records are damaged, or the inputs changed while the job ran.
        OutputError: the folder is in use or cannot be written; what was finished is kept.
        MissingExtraError: pyarrow is not installed.
    """
    pyarrow()
    check_loaded(predictor)
    shard = check_share(shard)
    settings = settings_of(predictor, verb, dict(options), shard_size)
    place = place_of(folder)
    lasting = list(inputs) if isinstance(inputs, Iterator) else inputs
    keep_flat()
    cluster = parse_on(on) if isinstance(on, str) else on
    runner: Runner = OnRay(cluster, predictor) if cluster else Here(predictor, settings)
    sources = expand(lasting)
    with hold(place, settings, shard, [inputs]) as alone:
        job = _Job(predictor, runner, settings, place, sources, shard, retry_failed)
        job.prepare(alone)
        job.run(watch, should_stop)
        job.finish()
    return job.progress


def check_loaded(predictor: object) -> None:
    """Refuse the name of a model, and whatever else is no loaded one, with a UsageError."""
    if not isinstance(predictor, Predictor):
        given = f"{predictor!r:.60}"
        raise UsageError(f"predictor is a loaded model: {given} was given.", 'weevit.load("digits")   loads one')


def check_share(shard: Share) -> Share:
    """The share; a UsageError for another than 1/1, 1/2, 2/2, 1/3, ...."""
    share = wholes("shard", shard)
    if len(share) != 2 or not 1 <= share[0] <= share[1]:
        given = "/".join(map(str, share))[:60]
        raise UsageError(f"--shard is a share like 3/16, from 1/16 to 16/16: {given} was given.", "--shard 1/2")
    return share


@dataclass
class _Job:
    """One run of one worker."""

    predictor: Predictor
    runner: Runner
    settings: Settings
    place: Place
    sources: Expansion
    share: Share
    retry_failed: bool
    order: int = 1
    progress: Progress = field(default_factory=Progress)
    plan: Plan = field(default_factory=lambda: Plan([], 0, 0))
    missing: dict[int, Shard] = field(default_factory=dict)
    repeated: set[int] = field(default_factory=set)
    old: OldRows | None = None

    def inputs(self) -> Iterator[Source]:
        """The inputs, read again, with the names that the plan gave them."""
        return Names(self.repeated).unique(self.sources)

    def prepare(self, alone: bool) -> None:
        """Make the plan, and find the finished shards."""
        own, self.repeated = make_plan(self.sources, self.settings.shard_size, self.share)
        self.progress.left_out = Counter(self.sources.left_out)  # reading the sources again begins a new count
        with JOBS.writing(self.place):
            plan = self._record_plan(own, alone)
        lines = read_lines(self.place)
        self.order = 1 + max((line.order for line in lines), default=0)
        whole = {shard.number: line for shard, line in done(self.place, own.shards, lines, not self.place.checks_bytes)}
        self.progress.lost = sum(1 for shard in own.shards if shard.number not in whole and lines.of(shard))
        for shard in own.shards:
            line = whole.get(shard.number)
            if line is None or (self.retry_failed and line.errors):
                self.missing[shard.number] = shard
                continue
            self.progress.there += line.rows
            self.progress.errors.update(line.errors)
        others = (shard for shard in plan.shards if not is_mine(shard.number, self.share))
        kept = {line.file for number, line in whole.items() if number not in self.missing}
        self._find_old_rows(lines, kept | {line.file for _, line in done(self.place, others, lines)})
        self.progress.total = sum(shard.rows for shard in own.shards)
        self.plan = plan

    def _record_plan(self, own: Plan, alone: bool) -> Plan:
        """Record the plan of this share; returns that of the folder."""
        recorded = None
        try:
            recorded = read_plan(self.place)
        except JobError:  # damaged, or of several inputs: rewritten, unless another worker uses it
            if not alone:
                raise
        shared = cuts(self.place)
        if recorded is not None and recorded.covers(own) and shared <= {self.share[1]}:
            return recorded
        if recorded is not None and not alone and recorded.listing != own.listing and shared:
            raise JobError(
                f"The inputs differ from those of the other workers on {self.place}.",
                "Give every worker the same inputs; if they changed, wait for the others and start again.",
            )
        if recorded is None or recorded.listing != own.listing:
            self._refuse_to_lose_all(own)
        write_plan(self.place, own, self.share)
        return own if self.share[1] == 1 else read_plan(self.place) or own

    def _refuse_to_lose_all(self, own: Plan) -> None:
        """Refuse inputs of which none has an answer here, before the answers to others are deleted.

        The name of the inputs may be misspelt, or their disk not be there, and the answers may have taken days.
        """
        lines = read_lines(self.place)
        if any(done(self.place, own.shards, lines)):
            return
        answers = lost(self.place, self._whole_files(lines), (source.name for source in self.inputs()))
        if answers:
            raise UsageError(
                f"{self.place} has the answers to {answers:,} images, and these inputs are others: all of them would "
                "be deleted.",
                "Give the inputs as before, spelt as before, or another --output.",
            )

    def _whole_files(self, lines: Iterable[Line]) -> list[str]:
        """The files that are there as the lines say."""
        hashed = not self.place.checks_bytes
        return sorted({line.file for line in lines if true_line(self.place, [line], hashed)})

    def _find_old_rows(self, lines: Lines, current: set[str]) -> None:
        """Index the replaced versions of shards, and list vanished inputs."""
        files = self._whole_files(line for line in lines if line.file not in current)
        vanished = list[str]()
        if files:
            columns = VERBS[self.settings.verb].columns(self.settings.options, self.predictor)
            self.old = OldRows(self.place, files, columns, only_ok=self.retry_failed)
            vanished = self.old.vanished(source.name for source in self.inputs())
        self.progress.vanished = len(vanished)
        with JOBS.writing(self.place):
            if vanished:
                self.place.write(VANISHED, as_bytes("".join(f"{list_line(name)}\n" for name in vanished)))
            elif self.missing and self.place.size(VANISHED) is not None:
                self.place.remove(VANISHED)  # of an earlier change: it would name inputs that may be back

    def run(self, watch: Watcher, should_stop: Callable[[], bool]) -> None:
        """Answer the missing shards, and record each when it is written."""
        start, progress = time.perf_counter(), self.progress
        left = set(self.missing)

        def record(line: Line) -> None:
            with JOBS.writing(self.place):
                append(self.place, manifest_name(*self.share), replace(line, order=self.order))
            self.order += 1
            left.discard(line.shard)
            progress.interrupted = bool(left) and should_stop()

        watch(progress)
        with closing(self.runner.answer(self._tasks(left, record))) as answers:
            for step in answers:
                self._count(step.rows, step.errors)
                progress.computed += step.rows
                progress.seconds = time.perf_counter() - start
                if step.line:
                    record(step.line)
                watch(progress)
                if progress.interrupted and not self.runner.ends_begun:
                    break
        watch(progress)
        if left and not progress.interrupted:
            raise JobError(
                "The inputs changed while the job ran: the current shard would differ from the plan.",
                "Give the same command again: finished shards are kept, and changed inputs are answered again.",
            )

    def _tasks(self, left: set[int], record: Callable[[Line], None]) -> Iterator[Task]:
        """The shards that need the model; a shard of older rows only is written here."""
        last = max(self.missing, default=-1)
        for number, group in groups(self.inputs() if left else (), self.settings.shard_size):
            if number in self.missing:
                task = self._task(self.missing[number], list(group))
                if task is None:
                    return
                if task.sources:
                    yield task
                else:
                    record(answer_shard(task, self.predictor))
                if number == last or self.progress.interrupted:
                    return

    def _task(self, shard: Shard, inputs: list[Source]) -> Task | None:
        """The shard with its older rows; None where its inputs changed since the plan."""
        digest, rows, asked = Digest(), [], []
        for source in inputs:
            fingerprint = source.fingerprint()
            digest.add(source.name, fingerprint, source.target)
            row = self.old.find(source.name, fingerprint) if self.old else None
            if row is None:
                row = Row(source.name, fingerprint, status=ASKED)
                asked.append(source)
            row.target = source.target
            rows.append(row)
        if digest.hex() != shard.inputs:
            return None
        known = [row for row in rows if row.status != ASKED]
        self._count(len(known), Counter(row.failure for row in known if row.status != "ok"))
        return Task(self.place, self.settings, shard, rows, asked)

    def _count(self, rows: int, errors: Counter[str]) -> None:
        """Count rows, and those without an answer among them."""
        self.progress.answered += rows
        self.progress.errors.update(errors)

    def finish(self) -> None:
        """After the last shard of all: join the plans, list the failures, and delete replaced shards."""
        plan = self.plan if self.share[1] == 1 else plan_of(self.place)
        self.missing.clear()
        lines = read_lines(self.place)
        self.progress.rest = plan.rows - sum(shard.rows for shard in plan.shards if lines.of(shard))
        if self.progress.rest or self.progress.interrupted:  # nobody asks for every file's size while others work
            return
        failed = []
        self.progress.rest = plan.rows
        for shard, line in done(self.place, plan.shards, lines):
            self.progress.rest -= line.rows
            if line.errors:
                failed.append(shard.file)
        if self.progress.rest:
            return
        with JOBS.writing(self.place):
            join_plans(self.place, plan)
            write_failures(self.place, failed)
            tidy(self.place, plan)
