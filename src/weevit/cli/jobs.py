"""`weevit jobs`: the progress of a folder of results, and its check."""

from __future__ import annotations

import click

from weevit.cli import options
from weevit.cli.console import say, say_json
from weevit.text import kinds

SCHEMA = 1
"""Version of `weevit jobs status --json`."""

folder = click.argument("folder")


@click.group()
def jobs() -> None:
    """Look at a folder of results: its progress, and its bytes."""


@jobs.command()
@folder
@options.json_lines
@options.verbose
def status(folder: str, json_lines: bool) -> int:
    """Say what is done, left and failed, and how fast it goes."""
    from weevit.jobs.results import job_status

    found = job_status(folder)
    settings = found.settings
    speed = found.computed / found.seconds if found.seconds else None
    left = None if found.total is None else found.total - found.done
    if json_lines:
        values = {"schema": SCHEMA, "verb": settings.verb, "model": settings.model, "total": found.total}
        values |= {"done": found.done, "left": left, "errors": dict(found.errors), "running": found.running}
        values |= {"unsure": found.unsure} if found.unsure else {}
        say_json(values | {"images_per_second": speed and round(speed, 2)})
        return 0
    size = f"{settings.preprocessing['height']} x {settings.preprocessing['width']} px"
    say(f"{settings.verb} · {settings.model} · {size} · weevit {settings.weevit}")
    total = "not counted yet" if found.total is None else f"{found.total:,}"
    say(f"{found.done:,} of {total} rows done" + (f", {left:,} left" if left else ""))
    if found.errors:
        where = f"   {found.error_list}" if found.error_list else ""
        say(f"{found.errors.total():,} failed: {kinds(found.errors)}{where}")
    if speed:
        say(f"{speed:.1f} images/s in a worker")
    unsure = f" (it cannot be seen from here whether {', '.join(found.unsure)} is)" if found.unsure else ""
    say(f"running now: {', '.join(found.running) or 'nothing'}{unsure}")
    if not left:
        say(f'next: weevit.read_results("{folder}")')
    return 0


@jobs.command()
@folder
@options.verbose
def verify(folder: str) -> int:
    """Compare every file with the manifest; exit 1 on differences."""
    from weevit.jobs.folder import plan_of
    from weevit.jobs.places import place_of
    from weevit.jobs.results import verify_job

    place = place_of(folder)
    wrong = 0
    for name, problem in verify_job(place):
        say(f"{place}/{name}: {problem}")
        wrong += 1
    plan = plan_of(place)
    if wrong:
        files = "1 file is not as it" if wrong == 1 else f"{wrong:,} files are not as they"
        say(f"{files} should be; the job has {plan.count:,}.")
        say("Delete these files and give the job's command again: it writes the missing ones.")
        return 1
    files = "1 file" if plan.count == 1 else f"{plan.count:,} files"
    say(f"{files}, {plan.rows:,} rows: all as they were written")
    return 0
