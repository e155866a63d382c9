"""Which tests run which lines of the source, kept in a temporary folder: what `mutants.py` chooses tests by.

One recording per test file, made with coverage.py, and made anew when the test file has changed. Where sources have
changed since, lines are found again by comparing the texts: a line that took another's place has that one's tests, a
new line those of the line above. That is good enough to choose tests by; `--fresh` records all of them again.
Processes that a test starts count as the test; one that is killed has left no record.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

from mutant_plugin import CONTEXT, RECORD

HERE = Path(__file__).resolve().parent
SCHEMA = 1

_RC = """[run]
parallel = true
concurrency = thread, multiprocessing
patch = _exit
data_file = {data}/coverage
source = {source}
context = ${{{context}-}}
disable_warnings = module-not-measured, no-data-collected, already-imported, trace-changed, no-sysmon, couldnt-parse
"""


@dataclass(frozen=True)
class Covering:
    """A test, and how long it takes (seconds, in the recording)."""

    name: str
    seconds: float


class CoverageMap:
    """From a line of the source to the tests that run it."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, int], set[str]] = defaultdict(set)
        self._files: dict[str, set[str]] = defaultdict(set)
        self.seconds: dict[str, float] = {}

    def add(self, recording: dict[str, Any], moved: Mapping[str, Mapping[int, Sequence[int]] | None]) -> None:
        """The tests of a recording but those that fail without any change; `moved`: file -> where its lines are now."""
        for name, test in recording["tests"].items():
            if test["outcome"] == "skipped" or name in recording["failing"]:
                continue
            self.seconds[name] = test["seconds"]
            for context in (name, *test["fixtures"]):
                for file, lines in recording["lines"].get(context, {}).items():
                    self._files[file].add(name)
                    now = moved.get(file)
                    for line in lines if now is None else chain.from_iterable(now.get(line, ()) for line in lines):
                        self._lines[file, line].add(name)

    def of_lines(self, file: str, lines: Iterable[int]) -> list[Covering]:
        """The tests that run one of these lines of a file."""
        return self._covering(set().union(*(self._lines.get((file, line), set()) for line in lines)))

    def of_file(self, file: str) -> list[Covering]:
        """The tests that run any line of a file in a function."""
        return self._covering(self._files.get(file, set()))

    def _covering(self, names: Iterable[str]) -> list[Covering]:
        return [Covering(name, self.seconds[name]) for name in names]


def sha(path: Path) -> str:
    """Of a file; of nothing where it is absent."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def copy_checkout(root: Path, to: Path) -> Path:
    """A copy of a checkout in which sources may be changed."""
    left_out = shutil.ignore_patterns(".git", ".venv*", ".*_cache", "__pycache__", "*.egg-info", "runs", "out")
    shutil.copytree(root, to, ignore=left_out, symlinks=True)
    return to


def cache_folder() -> Path:
    """Of all recordings: they are known by what they are of, so that checkouts of one machine share them."""
    user = hashlib.sha256(str(Path.home()).encode()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"weevit-mutants-{user}"
    (folder / "sources").mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def environment(root: Path) -> dict[str, str]:
    """For tests of a copy of the checkout: its own sources come first, whatever is installed."""
    paths = [str(root / "src"), str(HERE), os.environ.get("PYTHONPATH", "")]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "HYPOTHESIS_STORAGE_DIRECTORY": str(root / "hypothesis"),
    }


def coverage_map(copy: Path, tests: list[Path], jobs: int = 1, fresh: bool = False) -> CoverageMap:
    """Every recording that is missing is made; then all of them together.

    Args:
        copy: of the checkout, in which the tests are run.
        tests: the test files, relative to it.
        jobs: how many are recorded at once.
        fresh: make all of them.
    """
    folder = cache_folder()
    found = CoverageMap()

    def one(test: Path) -> dict[str, Any]:
        path = folder / f"{str(test).replace('/', '+')}-{sha(copy / test)[:12]}.json"
        recording = None if fresh else _read(path)
        if recording is None:
            start = time.monotonic()
            recording = _record(copy, test)
            for file, digest in recording["sources"].items():
                shutil.copyfile(copy / file, folder / "sources" / digest)
            path.write_text(json.dumps(recording), encoding="utf-8")
            failed = f", {len(recording['failing'])} fail unchanged" if recording["failing"] else ""
            seconds = time.monotonic() - start
            print(f"recorded {test}: {len(recording['tests'])} tests, {seconds:.0f} s{failed}", flush=True)
        return recording

    with ThreadPoolExecutor(jobs) as pool:
        for recording in pool.map(one, tests):
            found.add(recording, {file: _moved(copy / file, own) for file, own in recording["sources"].items()})
    return found


def _read(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    recording: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return recording if recording.get("schema") == SCHEMA else None


@cache
def _moved(path: Path, digest: str) -> dict[int, list[int]] | None:
    """Line of a source file as it was -> the lines that have its tests now; None where nothing changed."""
    old = cache_folder() / "sources" / digest
    if sha(path) == digest or not path.is_file() or not old.is_file():
        return None
    before, after = (one.read_text(encoding="utf-8").splitlines() for one in (old, path))
    found: dict[int, list[int]] = defaultdict(list)
    for _, top, end, new_top, new_end in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if end - top == new_end - new_top:
            for place in range(end - top):
                found[top + place + 1].append(new_top + place + 1)
        else:
            for line in range(top, end) if end > top else [top - 1]:
                found[line + 1] += range(new_top + 1, new_end + 1)
    return dict(found)


def _record(copy: Path, test: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rc, noted = folder / "rc", folder / "tests.json"
        rc.write_text(_RC.format(data=folder, source=copy / "src", context=CONTEXT), encoding="utf-8")
        (folder / "sitecustomize.py").write_text("import coverage\ncoverage.process_startup()\n", encoding="utf-8")
        own = environment(copy)
        own |= {"COVERAGE_PROCESS_START": str(rc), "PYTHONPATH": f"{folder}{os.pathsep}{own['PYTHONPATH']}"}
        said = _pytest([str(test)], copy, own | {RECORD: str(noted)})
        tests = json.loads(noted.read_text(encoding="utf-8")) if noted.is_file() else {}
        if not tests:
            print(f"{test}: no test ran\n{said[-2000:]}", flush=True)
        lines = _lines(folder, copy)
    failed = [name for name, outcome in tests.items() if outcome["outcome"] == "failed"]
    sources = {file for files in lines.values() for file in files}
    return {
        "schema": SCHEMA,
        "tests": tests,
        "failing": _failing(copy, test, failed),
        "lines": lines,
        "sources": {file: sha(copy / file) for file in sorted(sources)},
    }


def _failing(copy: Path, test: Path, failed: list[str]) -> list[str]:
    """Those of these tests that fail without a recorder too: a slow process fails tests that count seconds."""
    if not failed:
        return []
    said = _pytest([str(test)], copy, environment(copy))
    return [name for name in failed if f"FAILED {name}" in said or f"ERROR {name}" in said]


def _pytest(words: list[str], copy: Path, own: dict[str, str]) -> str:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "mutant_plugin", *words]
    done = subprocess.run(command, cwd=copy, env=own, capture_output=True, check=False)
    return done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace")


def _lines(folder: Path, copy: Path) -> dict[str, dict[str, list[int]]]:
    """Test or fixture -> file -> lines, from the data of all processes."""
    import coverage

    found: dict[str, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    for context, file, lines in _measured(folder, coverage.CoverageData):
        if context and Path(file).is_relative_to(copy):
            found[context][Path(file).relative_to(copy).as_posix()] |= set(lines)
    return {context: {file: sorted(lines) for file, lines in files.items()} for context, files in found.items()}


def _measured(folder: Path, data_of: Any) -> Iterator[tuple[str, str, list[int]]]:
    for path in folder.glob("coverage.*"):
        try:
            data = data_of(str(path))
            data.read()
            for file in data.measured_files():
                for line, contexts in data.contexts_by_lineno(file).items():
                    for context in contexts:
                        yield context, file, [line]
        except Exception as error:  # half a file, of a process that was killed while it wrote
            print(f"left out {path.name}: {error}", flush=True)
