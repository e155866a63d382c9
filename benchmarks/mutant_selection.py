"""Which tests are run for a change of `mutants.py`, and in which order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mutant_changes import Change
from mutant_coverage import CoverageMap, Covering

FIRST = 20.0
"""Seconds of tests, as recorded, that are run first: most changes are noticed by the tests of their own room."""

BATCH = 60.0
"""Of those that are run then, at once: collecting takes seconds too."""


def room(file: str) -> str:
    """Of `src/weevit/jobs/run.py`, `jobs`; of `src/weevit/errors.py`, `errors`."""
    _, name, part, *_ = file.split("/")
    return name if part.startswith("_") else part.removesuffix(".py")


def selection(change: Change, tests: CoverageMap, copy: Path) -> list[Covering]:
    """The tests that run a change: those of its own room first, and of those the fastest.

    What is run at import (a constant, a default) is in no test's record: those that run a line with its name are meant,
    or where there is none, all that run its file.
    """
    if change.names:
        found = _by_name(change, tests, copy) or tests.of_file(change.file)
    else:
        found = tests.of_lines(change.file, [change.line]) or tests.of_lines(change.file, [change.statement])
    own = room(change.file)
    near = (f"tests/{own}/", f"tests/test_{own}")
    return sorted(found, key=lambda test: (not test.name.startswith(near), test.seconds, test.name))


def mentioning(change: Change, copy: Path) -> list[str]:
    """The test files that name the changed module, and those of its room: without any recording.

    First those of the room that name it, then the others of the room, then whatever else names it; short ones first.
    """
    parts = Path(change.file).with_suffix("").parts[1:]
    module, own = ".".join(parts), room(change.file)

    def rank(path: Path) -> tuple[int, int]:
        near = path.relative_to(copy).as_posix().startswith((f"tests/{own}/", f"tests/test_{own}"))
        text = path.read_text(encoding="utf-8")
        named = module in text or (f"from {'.'.join(parts[:-1])} import" in text and parts[-1] in text)
        named = (
            named or parts[-1] in path.stem or (own == "cli" and f'"{parts[-1]}' in text and "tests/cli" in str(path))
        )
        return (0 if near and named else 1 if near else 2 if named else 3), len(text)

    ranked = sorted((rank(path), path) for path in (copy / "tests").rglob("test_*.py"))
    return [path.relative_to(copy).as_posix() for (place, _), path in ranked if place < 3]


def _by_name(change: Change, tests: CoverageMap, copy: Path) -> list[Covering]:
    name = change.names[-1]
    found: dict[str, Covering] = {}
    for path in sorted((copy / "src").rglob("*.py")) if name else []:
        text = path.read_text(encoding="utf-8")
        if name in text:
            lines = [place for place, line in enumerate(text.splitlines(), 1) if name in line]
            found |= {test.name: test for test in tests.of_lines(path.relative_to(copy).as_posix(), lines)}
    return list(found.values())


def batches(tests: list[Covering], limit: float) -> Iterator[list[Covering]]:
    """A short one, then longer ones, until the limit (seconds, as recorded) is reached; at least one test."""
    batch: list[Covering] = []
    total, size, most = 0.0, 0.0, FIRST
    for test in tests:
        if batch and total + test.seconds > limit:
            continue
        if batch and size + test.seconds > most:
            yield batch
            batch, size, most = [], 0.0, BATCH
        batch.append(test)
        total, size = total + test.seconds, size + test.seconds
    if batch:
        yield batch
