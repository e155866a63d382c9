"""Do the tests notice small changes to the code? The share that they notice, by room.

    python benchmarks/mutants.py --count 100 --seed 0              # 100 changes, evenly over all rooms
    python benchmarks/mutants.py --short                           # a handful, in minutes
    python benchmarks/mutants.py --rooms jobs images --count 40 --resume found.jsonl
    python benchmarks/mutants.py --guards --count 60               # only what refuses input or keeps files safe
    python benchmarks/mutants.py --at locks.py:48                  # every change of one line
    python benchmarks/mutants.py --list                            # what would be changed; nothing is run

Each change (`mutant_changes.py`: a flipped comparison, a number off by one, a dropped call, an argument that is not
passed on, ...) is made in a temporary copy of the checkout. The tests that run the changed line are run there, the
room's own first and of those the fastest, up to the first that fails (`mutant_selection.py`, `mutant_server.py`).
`killed` and `timeout` were noticed, `survived` was not; `untested` is a line that no test runs. Which tests run which
lines is recorded once (`mutant_coverage.py`: the whole suite under coverage.py, as long as two runs of it) and kept in
a temporary folder; tests that change are recorded again.

The draw depends on the seed and the text of the lines alone: what is not touched is drawn again after a merge.
With `--by-name` nothing is recorded: the test files that name the changed module are run, the room's own first, for at
most `--limit` seconds. Other tests may notice what those do not, so its share is a lower bound, had in half the time.

`--resume FILE` adds a line of JSON per change to a file and skips what has one there; `--again` runs those once more
that were not noticed. What cannot be noticed, since the program does the same, stands in `mutants_equivalent.json` with
the reason, and others are drawn in its place.

Tests that skip notice nothing: the reports' tests want Chromium, many others `../shared`. At the end the tests that
noticed something are run on the unchanged code; one that fails there is called DOUBTFUL, as it would be on a busy
machine. Needs the `dev` extra, coverage.py and a POSIX system. The kept tools, mutmut and cosmic-ray, were not tried:
what is wanted here is a seeded draw by room, tests in processes of their own, and one room at a time.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import queue
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mutant_changes import Change, changes
from mutant_coverage import CoverageMap, Covering, copy_checkout, coverage_map, environment
from mutant_plugin import SELECT
from mutant_selection import batches, mentioning, room, selection
from mutant_server import Server

ROOT = Path(__file__).resolve().parents[1]
EQUIVALENT = "benchmarks/mutants_equivalent.json"

KILLED, TIMEOUT, SURVIVED, UNTESTED = "killed", "timeout", "survived", "untested"
NOTICED = (KILLED, TIMEOUT)


@dataclass(frozen=True)
class Outcome:
    """What became of a change: `outcome`, the first test that failed, how many ran, in how many seconds."""

    outcome: str
    by: str
    tests: int
    seconds: float
    complete: bool = True

    def words(self) -> str:
        """For people."""
        left_out = "" if self.complete else ", the limit left others out"
        what = {KILLED: f"by {self.by}", TIMEOUT: "it does not end", UNTESTED: "no test runs it"}
        return f"{what.get(self.outcome, f'{self.tests} tests run it{left_out}')}, {self.seconds:.0f} s"


# ---- what is changed


def package(root: Path) -> Path:
    """The one package in `src/`."""
    (found,) = (path.parent for path in (root / "src").glob("*/__init__.py"))
    return found


def candidates(root: Path, rooms: Sequence[str], guards: bool = False) -> dict[str, list[Change]]:
    """Room -> all changes of it, or those of its guards."""
    found: dict[str, list[Change]] = defaultdict(list)
    for path in sorted(package(root).rglob("*.py")):
        own = room(path.relative_to(root).as_posix())
        if path.name != "_version.py" and (not rooms or own in rooms):
            found[own] += [change for change in changes(root, path) if change.guard or not guards]
    return {own: changes for own, changes in found.items() if changes}


def draw(root: Path, found: dict[str, list[Change]], count: int, seed: int) -> list[Change]:
    """As many of each room and, in a room, of each kind, as there are; equivalents are left out."""
    known = equivalents(root)
    turns = [_in_turn(changes, seed) for _, changes in sorted(found.items())]
    drawn = (change for change in _one_of_each(turns) if _key(change) not in known and _changes(root, change))
    return [change for change, _ in zip(drawn, range(count), strict=False)]


def _changes(root: Path, change: Change) -> bool:
    return change.apply((root / change.file).read_text(encoding="utf-8")) is not None


def _in_turn(found: list[Change], seed: int) -> Iterator[Change]:
    def dice(text: str) -> str:
        return hashlib.sha256(f"{seed} {text}".encode()).hexdigest()

    kinds: dict[str, list[Change]] = defaultdict(list)
    for change in sorted(found, key=lambda change: dice(change.key)):
        kinds[change.kind].append(change)
    order = sorted(kinds, key=lambda kind: dice(f"{found[0].file} {kind}"))
    return _one_of_each([iter(kinds[kind]) for kind in order])


def _one_of_each(turns: Iterable[Iterator[Change]]) -> Iterator[Change]:
    """The first of each, the second of each, ... to the end of the longest."""
    rest = list(turns)
    while rest:
        for turn in list(rest):
            if (change := next(turn, None)) is None:
                rest.remove(turn)
            else:
                yield change


def _key(change: Change) -> tuple[str, str, str]:
    return change.file, change.before, change.after


def equivalents(root: Path) -> dict[tuple[str, str, str], str]:
    """(file, line before, line after) of changes that no test can notice -> why."""
    path = root / EQUIVALENT
    rows = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    return {(row["file"], row["before"], row["after"]): row["reason"] for row in rows}


# ---- one change


class Copy:
    """A copy of the checkout, in which one change at a time is made."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root = copy_checkout(root, folder)
        self.server = Server(self.root, environment(self.root))

    def judge(self, change: Change, tests: CoverageMap, limit: float) -> Outcome:
        """Make a change, run tests until one fails, and take it back."""
        chosen = selection(change, tests, self.root)
        if not chosen:
            return Outcome(UNTESTED, "", 0, 0.0)
        start, ran = time.monotonic(), 0
        with self._made(change):
            for batch in batches(chosen, limit):
                outcome, by = self.run(batch)
                ran += len(batch)
                if outcome != SURVIVED:
                    return Outcome(outcome, by, ran, time.monotonic() - start)
            return Outcome(SURVIVED, "", ran, time.monotonic() - start, ran == len(chosen))

    def judge_named(self, change: Change, limit: float) -> Outcome:
        """Make a change, run the test files that name its module, and take it back."""
        files = mentioning(change, self.root)
        if not files:
            return Outcome(UNTESTED, "", 0, 0.0)
        start = time.monotonic()
        with self._made(change), tempfile.TemporaryDirectory() as name:
            said = Path(name) / "said"
            words = ["-x", "-q", f"--timeout={limit / 2:.0f}", f"--basetemp={name}/t", *files]
            code = self.server.run(words, said, {}, limit)
            text = said.read_text(encoding="utf-8", errors="replace")
        seconds = time.monotonic() - start
        if code is None or code in (0, 5):
            return Outcome(SURVIVED, "", len(files), seconds, code is not None)
        if code == _INTERNAL:
            return Outcome(KILLED, "pytest itself", len(files), seconds)
        failed = [line.split(" - ")[0].partition(" ")[2] for line in text.splitlines() if line.startswith(_FAILED)]
        return Outcome(KILLED, failed[-1] if failed else f"exit code {code}", len(files), seconds)

    @contextmanager
    def _made(self, change: Change) -> Iterator[None]:
        """The change stands while the block runs; `draw` gives only changes that can be made."""
        path = self.root / change.file
        original = path.read_text(encoding="utf-8")
        self._write(path, change.apply(original) or original)
        try:
            yield
        finally:
            self._write(path, original)

    def _write(self, path: Path, text: str) -> None:
        path.write_text(text, encoding="utf-8")
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
            compiled.unlink()  # a change of the same length in the same second would go unseen

    def run(self, batch: Sequence[Covering]) -> tuple[str, str]:
        """(outcome, the first test that failed) of these tests in this order."""
        files = list(dict.fromkeys(test.name.partition("::")[0] for test in batch))
        longest, total = max(test.seconds for test in batch), sum(test.seconds for test in batch)
        with tempfile.TemporaryDirectory() as name:
            chosen = Path(name) / "chosen.json"
            chosen.write_text(json.dumps([test.name for test in batch]), encoding="utf-8")
            words = [
                "-x",
                "-q",
                "-p",
                "mutant_plugin",
                f"--timeout={120 + 10 * longest:.0f}",
                f"--basetemp={name}/t",
                *files,
            ]
            code = self.server.run([*words, *files], Path(name) / "said", {SELECT: str(chosen)}, 600 + 10 * total)
            said = (Path(name) / "said").read_text(encoding="utf-8", errors="replace")
        if code is None:
            return TIMEOUT, ""
        if code == _INTERNAL:
            sys.exit(f"pytest itself failed:\n{said[-3000:]}")
        failed = [line.split(" - ")[0].partition(" ")[2] for line in said.splitlines() if line.startswith(_FAILED)]
        return (SURVIVED, "") if code in (0, 5) else (KILLED, failed[-1] if failed else f"exit code {code}")


_FAILED = ("FAILED ", "ERROR ")
_INTERNAL = 3
"""Pytest's exit code for an error of its own, or of a plugin."""


# ---- all of them


def run_all(options: argparse.Namespace, wanted: list[Change]) -> dict[str, dict[str, Any]]:
    """Key -> row of every change that was asked for, those from an earlier run included."""
    before = _read(options.resume) if options.resume else {}
    done = {key: row for key, row in before.items() if not (options.again and row["outcome"] not in NOTICED)}
    todo = [change for change in wanted if change.key not in done]
    if not todo:
        return done
    with tempfile.TemporaryDirectory(prefix="weevit-mutants-") as name, ThreadPoolExecutor(options.jobs) as pool:
        copies: queue.Queue[Copy] = queue.Queue()
        for number in range(options.jobs):
            copies.put(Copy(options.root, Path(name) / str(number)))
        tests = None
        if not options.by_name:
            tests = coverage_map(copies.queue[0].root, _test_files(options), options.jobs, options.fresh)
            first = min(tests.seconds, key=tests.seconds.__getitem__)
            if copies.queue[0].run([Covering(first, tests.seconds[first])]) != (SURVIVED, ""):
                sys.exit(f"{first} fails without any change: nothing could be told by these tests")

        def one(change: Change) -> dict[str, Any]:
            copy = copies.get()
            try:
                found = (
                    copy.judge_named(change, options.limit)
                    if tests is None
                    else copy.judge(change, tests, options.limit)
                )
            finally:
                copies.put(copy)
            row = {"key": change.key, "room": room(change.file), "file": change.file, "line": change.line}
            row |= {
                "kind": change.kind,
                "guard": change.guard,
                "before": change.before,
                "after": change.after,
                **vars(found),
            }
            if options.resume:
                with options.resume.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
            print(f"{shown(row)}\n    {found.words()}", flush=True)
            return row

        done |= {row["key"]: row for row in pool.map(one, todo)}
        _doubt(copies.queue[0], done, tests)
        for copy in copies.queue:
            copy.server.close()
    return done


def _doubt(copy: Copy, done: dict[str, dict[str, Any]], tests: CoverageMap | None) -> None:
    """Run the tests that noticed something on the unchanged code: one that fails there has noticed nothing."""
    noticing = {row["by"] for row in done.values() if row["by"].startswith("tests/")}
    seconds = dict.fromkeys(noticing, 10.0) if tests is None else tests.seconds
    names = noticing & seconds.keys()
    wrong = []
    while names and (found := copy.run([Covering(name, seconds[name]) for name in sorted(names)]))[0] != SURVIVED:
        wrong.append(found[1])
        if found[1] not in names:
            break
        names.remove(found[1])
    for name in wrong:
        print(f"DOUBTFUL: {name or 'a test'} fails without any change too; run what it noticed again")


def _test_files(options: argparse.Namespace) -> list[Path]:
    found = {path for pattern in options.tests for path in options.root.glob(pattern)}
    return [path.relative_to(options.root) for path in sorted(found)]


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """Key -> the last whole line about it."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            row = json.loads(line)
        except ValueError:  # half a line, of a run that was stopped
            continue
        found[row["key"]] = row
    return found


def shown(row: dict[str, Any]) -> str:
    """A change and what became of it."""
    return (
        f"{row['outcome']:<9} {row['file']}:{row['line']} [{row['kind']}]\n    - {row['before']}\n    + {row['after']}"
    )


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """What was not noticed, and the share by room."""
    missed = [row for row in rows if row["outcome"] not in NOTICED]
    lines = ["", "Not noticed:" if missed else "All were noticed.", *map(shown, missed), ""]
    total, noticed = Counter(row["room"] for row in rows), Counter(row["room"] for row in rows)
    noticed.subtract(Counter(row["room"] for row in missed))
    lines += [f"{name:<12} {noticed[name]:>3} of {total[name]:>3}" for name in sorted(total)]
    for name, chosen in (("guards", [row for row in rows if row["guard"]]), ("all rooms", rows)):
        seen, of = sum(row["outcome"] in NOTICED for row in chosen), len(chosen)
        lines.append(f"{name:<12} {seen:>3} of {of:>3}: {100 * seen / max(of, 1):.0f} %")
    return "\n".join(lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100, help="changes in all (100)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (0)")
    parser.add_argument("--rooms", nargs="+", default=[], help="these alone")
    parser.add_argument("--guards", action="store_true", help="only what refuses input or sees files onto the disk")
    parser.add_argument("--at", metavar="FILE:LINE", help="every change of this line; the end of a path is enough")
    parser.add_argument("--short", action="store_true", help="8 changes")
    parser.add_argument("--list", action="store_true", help="say what would be changed, and run nothing")
    parser.add_argument("--tests", nargs="+", default=["tests/**/test_*.py"], help="test files to choose from (all)")
    parser.add_argument("--fresh", action="store_true", help="record anew which tests run which lines")
    parser.add_argument("--by-name", action="store_true", help="record nothing: the test files that name the module")
    parser.add_argument("--jobs", type=int, default=1, help="at once (1)")
    parser.add_argument("--limit", type=float, default=150, help="seconds of tests per change, as recorded (150)")
    parser.add_argument("--resume", type=Path, metavar="FILE.jsonl", help="a line per change; what is there is skipped")
    parser.add_argument("--again", action="store_true", help="with --resume: what was not noticed is run again")
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout")
    options = parser.parse_args()
    options.root = options.root.resolve()
    os.environ.setdefault("WEEVIT_SHARED", str(options.root.parent / "shared"))  # tests look beside the checkout
    return options


def main() -> None:
    options = _options()
    found = candidates(options.root, options.rooms, options.guards)
    if options.at:
        file, _, line = options.at.rpartition(":")
        flat = [change for changes in found.values() for change in changes]
        wanted = [
            one for one in flat if one.file.endswith(file) and one.line == int(line) and _changes(options.root, one)
        ]
    else:
        wanted = draw(options.root, found, 8 if options.short else options.count, options.seed)
    if options.list:
        for change in wanted:
            print(f"{change.file}:{change.line} [{change.kind}]\n    - {change.before}\n    + {change.after}")
        return
    done = run_all(options, wanted)
    print(summary([done[change.key] for change in wanted]))


if __name__ == "__main__":
    main()
