"""`classify`, `embed` and `features` into a folder: the messages of a job."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from weevit.cli import answers, options
from weevit.cli.app import EXIT_INTERRUPTED
from weevit.cli.console import EXIT_NOTHING, EXIT_SOME_FAILED, is_terminal, tell
from weevit.cli.progress import counted_progress
from weevit.errors import UsageError
from weevit.images.parquet import pyarrow
from weevit.jobs.folder import VANISHED, check_folder
from weevit.jobs.on_ray import parse_on
from weevit.jobs.places import place_of
from weevit.jobs.run import Progress, check_share, run_job
from weevit.jobs.settings import JOB
from weevit.store.folder import FAILURES
from weevit.text import kinds, span, typed

if TYPE_CHECKING:
    from weevit.jobs.run import Watcher
    from weevit.store.place import Place


def answer_many(
    verb: str,
    inputs: tuple[str, ...],
    loading: options.Loading,
    output: Path | str | None,
    job: options.Job,
    *,
    quiet: bool,
    strict: bool,
    json_lines: bool = False,
    **own: Any,
) -> int:
    """Run or resume a job; returns the exit code."""
    assert output is not None
    if json_lines:
        raise UsageError(
            f"--json prints answers, and the folder {str(output)!r} keeps them: both at once is not possible.",
            f"Leave --json out; weevit jobs status {typed(output)} --json   says how far it is",
        )
    shard = check_share(options.parse_shard(job.shard))  # before the model is loaded
    on = None if job.on is None else parse_on(job.on, loading.threads)
    pyarrow()
    place = place_of(output)
    check_folder(place, shard, (*inputs, loading.model))
    answers.check_there(inputs, loading.model)
    sources = answers.read_inputs(inputs)
    predictor = answers.load_model(loading, quiet)
    if place.size(JOB) is None:  # printed at the start
        answers.tell_reduction(predictor, sources)
    with _watching(quiet) as watch, _ctrl_c() as asked_to_stop:
        done = run_job(
            predictor,
            sources,
            place,
            verb,
            shard=shard,
            shard_size=job.shard_size,
            retry_failed=job.retry_failed,
            watch=watch,
            should_stop=asked_to_stop,
            on=on,
            **own,
        )
    if not quiet:
        _summary(done, place)
        answers.tell_left_out(done.left_out)
    if done.interrupted:
        return EXIT_INTERRUPTED
    if done.finished and done.errors.total() == done.finished:
        return EXIT_NOTHING
    return EXIT_SOME_FAILED if strict and done.errors else 0


def _summary(done: Progress, place: Place) -> None:
    good = done.finished - done.errors.total()
    words = [f"{good:,} done"]
    if done.errors:
        where = "" if done.rest or done.interrupted else f"{place}/{FAILURES}: "
        words.append(f"{done.errors.total():,} failed ({where}{kinds(done.errors)})")
    if done.computed:
        words.append(f"{done.computed / max(done.seconds, 1e-9):.1f} images/s")
    if done.there == done.total:
        words.insert(0, "all of it was there already")
        words.append("every byte is as it was written")
    elif done.finished > done.computed:
        words.append(f"{done.finished - done.computed:,} were there already")
    tell(" · ".join(words))
    if done.lost:
        tell(f"{done.lost:,} files were missing or had changed; they were written again.")
    if done.vanished:
        tell(f"{done.vanished:,} of the inputs of an earlier run are gone, and so are their rows: {place}/{VANISHED}")
    if done.interrupted:
        tell(f"Stopped with {done.total - done.finished:,} rows left. Rerun the command to resume.")
    elif done.rest:
        tell(f"This share is done; {done.rest:,} rows of others are not: weevit jobs status {typed(place)}")
    else:
        tell(f'next: weevit.read_results("{place}")')


@contextmanager
def _ctrl_c() -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C finishes the current shard; the second stops at once, and that shard is lost."""
    asked = False

    def heard(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        del number, frame
        if asked:
            raise KeyboardInterrupt
        asked = True
        tell("", "Finishing the shard in work. Ctrl-C again stops at once; then this shard is done again next time.")

    before = signal.signal(signal.SIGINT, heard)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _watching(quiet: bool) -> Iterator[Watcher]:
    with counted_progress(quiet) as moved:

        def watch(progress: Progress) -> None:
            left = "" if is_terminal() else f" · {_left(progress)}"  # a bar shows the time
            moved(progress.finished, progress.total, _rate(progress) + left)

        yield watch


def _rate(progress: Progress) -> str:
    speed = f"{progress.computed / max(progress.seconds, 1e-9):.1f} images/s"
    return f"{speed} · {progress.errors.total():,} failed" if progress.errors else speed


def _left(progress: Progress) -> str:
    if not progress.answered:
        return "just started"
    return f"{span(progress.seconds / progress.answered * (progress.total - progress.finished))} left"
