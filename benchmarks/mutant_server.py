"""Runs pytest in children of a process that has loaded the slow libraries already: seconds per change of `mutants.py`.

Nothing of the package under test is loaded before the child is there. POSIX only: children are forks.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

SLOW = ("numpy", "PIL.Image", "scipy.stats", "sklearn.linear_model", "pyarrow.parquet", "torch", "jinja2")
"""Not onnxruntime: it may begin a thread when it is imported, which a fork would lose. Not what pytest rewrites."""


class Server:
    """A process that runs pytest on request.

    Args:
        folder: where pytest is run.
        own: its environment.
    """

    def __init__(self, folder: Path, own: Mapping[str, str]) -> None:
        self._folder, self._own = folder, dict(own)
        self._start()

    def _start(self) -> None:
        command, pipe = [sys.executable, str(Path(__file__).resolve())], subprocess.PIPE
        self._process = subprocess.Popen(command, cwd=self._folder, env=self._own, stdin=pipe, stdout=pipe, text=True)

    def run(self, words: Sequence[str], said: Path, own: Mapping[str, str], limit: float) -> int | None:
        """The exit code of pytest; None where it was ended after `limit` seconds, with all that it had started.

        Args:
            words: of pytest's command line.
            said: the file for its output.
            own: additions to the environment.
            limit: seconds.
        """
        assert self._process.stdin is not None
        print(json.dumps([list(words), str(said), dict(own)]), file=self._process.stdin, flush=True)
        child = int(self._line())
        ready = select.select([self._process.stdout], [], [], limit)[0]
        with contextlib.suppress(ProcessLookupError):  # what a test has left behind ends too
            os.killpg(child, signal.SIGKILL)
        code = self._line()
        if not code:  # a change made the child end its parent
            self.close()
            self._start()
        return int(code or 3) if ready else None

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


def serve() -> None:
    """Answer requests, a line of JSON each, by two lines: the child's process group, and its exit code."""
    for name in SLOW:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    import pytest

    answers = os.fdopen(os.dup(1), "w")
    sys.path.insert(0, "")  # as `python -m pytest` has it
    for line in sys.stdin:
        words, said, own = json.loads(line)
        child = os.fork()
        if child == 0:
            os.setpgid(0, 0)
            os.environ.update(own)
            output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            for number, handle in enumerate((os.open(os.devnull, os.O_RDONLY), output, output)):
                os.dup2(handle, number)
            code = 3
            try:
                code = int(pytest.main(words))
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        with contextlib.suppress(OSError):
            os.setpgid(child, child)
        print(child, file=answers, flush=True)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(code, file=answers, flush=True)


if __name__ == "__main__":
    serve()
