"""Which tests run which lines of the source, kept in a temporary folder: what `mutants.py` chooses tests by.

One recording per test file, made with coverage.py. A recording is made anew when the test file or a source file that it
ran has changed; so after a change to one room only the tests that run it are recorded again.
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
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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

    def add(self, recording: dict[str, Any], without: set[str] = frozenset()) -> None:
        """The tests of a recording but those that fail without any change."""
        for name, test in recording["tests"].items():
            if test["outcome"] == "skipped" or name in without:
                continue
            self.seconds[name] = test["seconds"]
            for context in (name, *test["fixtures"]):
                for file, lines in recording["lines"].get(context, {}).items():
                    self._files[file].add(name)
                    for line in lines:
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


def cache_folder(root: Path) -> Path:
    """Of the recordings of a checkout."""
    folder = Path(tempfile.gettempdir()) / f"weevit-mutants-{hashlib.sha256(str(root).encode()).hexdigest()[:12]}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def environment(root: Path) -> dict[str, str]:
    """For tests of a copy of the checkout: its own sources come first, whatever is installed."""
    paths = [str(root / "src"), str(HERE), os.environ.get("PYTHONPATH", "")]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "HYPOTHESIS_STORAGE_DIRECTORY": "/dev/null",
    }


def coverage_map(root: Path, copy: Path, tests: list[Path], jobs: int = 1) -> CoverageMap:
    """Every recording that is missing or stale is made; then all of them together.

    Args:
        root: the checkout, by whose path the recordings are kept.
        copy: of the checkout, in which the tests are run.
        tests: the test files, relative to both.
        jobs: how many are recorded at once.
    """
    folder = cache_folder(root)
    found = CoverageMap()

    def one(test: Path) -> dict[str, Any]:
        path = folder / f"{str(test).replace('/', '+')}.json"
        recording = _read(path, copy, test)
        if recording is None:
            start = time.monotonic()
            recording = _record(copy, test) | {"schema": SCHEMA, "test": sha(copy / test)}
            path.write_text(json.dumps(recording), encoding="utf-8")
            failed = f", {len(recording['failing'])} fail unchanged" if recording["failing"] else ""
            print(
                f"recorded {test}: {len(recording['tests'])} tests, {time.monotonic() - start:.0f} s{failed}",
                flush=True,
            )
        return recording

    with ThreadPoolExecutor(jobs) as pool:
        for recording in pool.map(one, tests):
            found.add(recording, set(recording["failing"]))
    return found


def _read(path: Path, copy: Path, test: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    recording: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if recording.get("schema") != SCHEMA or recording["test"] != sha(copy / test):
        return None
    return recording if all(sha(copy / file) == digest for file, digest in recording["sources"].items()) else None


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
