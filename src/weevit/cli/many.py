"""`classify`, `embed` and `features` into a folder: what a person sees of a job."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from weevit.cli import answers, options
from weevit.cli.app import EXIT_INTERRUPTED
from weevit.cli.console import EXIT_NOTHING, EXIT_SOME_FAILED, is_terminal, tell
from weevit.cli.progress import PLAIN_EVERY, counting_bar
from weevit.errors import UsageError
from weevit.images.parquet import pyarrow
from weevit.jobs.folder import VANISHED, check_folder
from weevit.jobs.run import Progress, check_share, run_job
from weevit.jobs.settings import JOB
from weevit.store.folder import FAILURES
from weevit.text import typed

if TYPE_CHECKING:
    from weevit.jobs.run import Watcher


def answer_many(
    verb: str,
    inputs: tuple[str, ...],
    loading: options.Loading,
    output: Path | None,
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
    shard = options.parse_shard(job.shard)
    check_share(*shard)  # before the model is loaded
    pyarrow()
    check_folder(output, shard, (*inputs, loading.model))
    answers.check_there(inputs, loading.model)
    sources = answers.read_inputs(inputs)
    predictor = answers.load_model(loading, quiet)
    if not (output / JOB).exists():  # said when it began
        answers.tell_reduction(predictor, sources)
    with _watching(quiet) as watch, _ctrl_c() as asked_to_stop:
        done = run_job(
            predictor,
            sources,
            output,
            verb,
            shard=shard,
            shard_size=job.shard_size,
            retry_failed=job.retry_failed,
            watch=watch,
            should_stop=asked_to_stop,
            **own,
        )
    if not quiet:
        _summary(done, output)
        answers.tell_left_out(done.left_out)
    if done.interrupted:
        return EXIT_INTERRUPTED
    if done.finished and done.errors.total() == done.finished:
        return EXIT_NOTHING
    return EXIT_SOME_FAILED if strict and done.errors else 0


def _summary(done: Progress, output: Path) -> None:
    good = done.finished - done.errors.total()
    words = [f"{good:,} done"]
    if done.errors:
        where = "" if done.rest or done.interrupted else f"{output / FAILURES}: "
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
        tell(f"{done.lost:,} files were gone or not what had been written; they were made again.")
    if done.vanished:
        tell(f"{done.vanished:,} of the inputs of an earlier run are gone, and so are their rows: {output / VANISHED}")
    if done.interrupted:
        tell(f"Stopped with {done.total - done.finished:,} rows left. Rerun the command to resume.")
    elif done.rest:
        tell(f"This share is done; {done.rest:,} rows of others are not: weevit jobs status {typed(output)}")
    else:
        tell(f'next: weevit.read_results("{output}")')


def kinds(errors: Counter[str]) -> str:
    """`2 truncated, 1 missing`."""
    return ", ".join(f"{count:,} {kind}" for kind, count in errors.most_common())


@contextmanager
def _ctrl_c() -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C lets the shard in work be finished; the second stops at once, and that shard is lost."""
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
    if quiet:
        yield lambda progress: None
    elif is_terminal():
        with counting_bar() as bar:
            task = bar.add_task("", total=None)
            yield lambda progress: bar.update(
                task, total=progress.total, completed=progress.finished, description=_rate(progress)
            )
    else:
        yield _plain()


def _plain() -> Watcher:
    last = time.monotonic()

    def watch(progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= PLAIN_EVERY:
            last = now
            tell(f"{progress.finished:,} of {progress.total:,} · {_rate(progress)} · {_left(progress)}")

    return watch


def _rate(progress: Progress) -> str:
    speed = f"{progress.computed / max(progress.seconds, 1e-9):.1f} images/s"
    return f"{speed} · {progress.errors.total():,} failed" if progress.errors else speed


def _left(progress: Progress) -> str:
    if not progress.answered:
        return "just begun"
    seconds = progress.seconds / progress.answered * (progress.total - progress.finished)
    minutes = seconds / 60
    if minutes < 2:
        return f"{seconds:.0f} s left"
    return f"{minutes:.0f} min left" if minutes < 120 else f"{minutes / 60:.1f} h left"
