"""The folder that a verb writes: one protocol for all verbs, and a `Kind` for the differences.

    UsageError     an address; a file; an input, or a folder that contains one; a folder with links that lead out of
                   it, or with other contents
    OutputError    another process works in it; it may not be written; the disk is full

The lock of a folder ends with its process.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path
from typing import Any

from weevit.errors import MalformedFileError, OutputError, UsageError
from weevit.store.files import HINT, Content, as_bytes, replace_file, writing
from weevit.store.locks import is_taken, require_filelock, take_lock
from weevit.store.outputs import local, refuse_foreign, refuse_inputs, refuse_read_only
from weevit.store.own import read_own, refuse_links
from weevit.text import csv_row, typed

LOCK = ".lock"
FAILURES = "failures.csv"
FAILURE_COLUMNS = ("input", "split", "status", "error")

Failure = tuple[str, str | None, str, str | None]
"""An input without an answer: name, split or None, status, and the reason in full."""

RECORDS = frozenset({"job.json", "run.json", "begun.json"})
"""Files that name the verb of a folder."""

_RECORD_BYTES = 64 << 20
_LEFTOVER = re.compile(r"\..+\.[0-9a-f]{8}\.(tmp|old)")
_SHOWN = 200


@dataclass(frozen=True)
class Kind:
    """What differs between the folders of verbs.

    Attributes:
        name: of what lies in it: `fit`.
        record: the file that says so; a folder that has one is whole, or can resume.
        schemas: of the record, without versions.
        files: patterns of what the verb keeps in the folder (key: empty) and in folders in it (key: their name).
            Nothing of that is a link, a pipe or a device.
        unfinished: pattern -> whether a file of that name is the verb's own, where there is no record yet, or no more.
        contents: folder in it -> pattern of all names there, where a bucket has no record yet, or no more.
        resumed: what is there is used again, so that a damaged record is a damaged folder, and not somebody else's.
        done: the file of a finished folder, into which nothing more is written.
        next: the hint then; in all hints `{0}` stands for the folder.
        kept: what is there all the same when something could not be written.
        again: the hint then.
        errors: what a library may raise then.
        wait: the hint where another process works in it.
    """

    name: str
    record: str
    schemas: tuple[str, ...]
    files: Mapping[str, tuple[str, ...]]
    unfinished: Mapping[str, Callable[[Path], bool]] = field(default_factory=dict)
    contents: Mapping[str, str] = field(default_factory=dict)
    resumed: bool = False
    done: str = ""
    next: str = ""
    kept: str = ""
    again: str = HINT
    errors: tuple[type[Exception], ...] = (OSError,)
    wait: str = "Wait for it, or choose another --output."

    @property
    def one(self) -> str:
        """The name with its article."""
        return f"{'an' if self.name[0] in 'aeiou' else 'a'} {self.name}"

    def writing(self, folder: object) -> AbstractContextManager[None]:
        """Turn errors about writing into the folder, a path or a place, into ours; as `weevit.store.files.writing`."""
        record = Path(str(folder), self.record)
        begun = "{0}" not in self.again or os.path.isfile(record)  # noqa: PTH113 - a name may be too long
        return writing(folder, self.kept, self.again.format(typed(folder)) if begun else HINT, self.errors)

    def write(self, folder: Path, name: str, content: Content) -> None:
        """Write a file of the folder, whole or not at all; OutputError where the disk does not take it."""
        with self.writing(folder):
            replace_file(folder / name, lambda tmp: tmp.write_bytes(as_bytes(content)))

    def write_failures(self, folder: Path, failures: Iterable[Failure]) -> None:
        """Write `failures.csv` with the inputs without an answer, or delete it where there are none."""
        write = failures_writer(failures)
        with self.writing(folder):
            if write is None:
                (folder / FAILURES).unlink(missing_ok=True)
            else:
                replace_file(folder / FAILURES, write)

    def is_ours(self, folder: Path) -> bool:
        """Whether the verb wrote the contents of a folder: by its record, else by every file."""
        if not folder.is_dir():
            return False
        there = visible(folder)
        if RECORDS & set(there) - {self.record}:
            return False
        if self.record in there:
            schema = _schema(folder / self.record)
            return self.resumed if schema is None else schema in self.schemas
        return all(self._is_left(folder / name) for name in there)

    def _is_left(self, path: Path) -> bool:
        plain = not path.is_symlink() and (path.is_file() or path.is_dir())  # reading a pipe would wait for ever
        return plain and any(fnmatchcase(path.name, name) and own(path) for name, own in self.unfinished.items())


def failures_writer(failures: Iterable[Failure]) -> Callable[[Path], None] | None:
    """A function that writes `failures.csv` to a path, as a stream; None where there are no failures."""
    rows = iter(failures)
    first = next(rows, None)

    def write(path: Path) -> None:
        with path.open("wb") as file:
            for row in chain((FAILURE_COLUMNS, first or ()), rows):
                file.write(as_bytes(csv_row(row)))

    return None if first is None else write


def visible(folder: Path) -> list[str]:
    """The names in a folder that do not begin with a dot, sorted."""
    return sorted(name for name in os.listdir(folder) if not name.startswith("."))  # noqa: PTH208 - names, not paths


def _schema(record: Path) -> str | None:
    """The schema of a record, without its version; None where it cannot be read."""
    try:
        return str(json.loads(read_own(record, _RECORD_BYTES))["schema"]).partition("/")[0]
    except (OSError, MalformedFileError, ValueError, LookupError, TypeError, RecursionError):
        return None


def check_folder(folder: Path, kind: Kind, inputs: Iterable[object] = (), lock: str = LOCK) -> None:
    """Refuse a folder that a verb could not write, or would destroy something in, before anything is computed.

    Args:
        folder: need not exist; nothing is made.
        kind: kind of the verb.
        inputs: models and data; only paths are looked at.
        lock: name of the lock that will be taken.

    Raises:
        UsageError, OutputError: as in the module's docstring.
        MissingExtraError: filelock is not installed.
    """
    local(folder)
    with kind.writing(folder):
        with suppress(FileNotFoundError, NotADirectoryError):
            folder.lstat()  # fails for a name that is too long, and in a parent without permission
        if os.path.lexists(folder) and not folder.is_dir():
            raise UsageError(f"{folder} is a file; {kind.one} is a folder.", "Choose another --output.")
        refuse_inputs(folder, [one for one in inputs if isinstance(one, str | Path)], inside=True)
        refuse_foreign(folder, kind.is_ours, kind.name)
        refuse_strange(folder, kind)
        refuse_read_only(folder, *(folder / name for name in kind.files if name and (folder / name).exists()))
    require_filelock()
    if is_taken(folder / lock):
        raise _busy(folder, kind)


def refuse_strange(folder: Path, kind: Kind) -> None:
    """Refuse a folder with links that lead out of it, or with a file in place of a subfolder; UsageError."""
    for name, patterns in kind.files.items():
        part = folder / name
        try:
            refuse_links(part, patterns)
        except MalformedFileError as error:
            raise UsageError(error.message, error.hint) from error
        if name and part.exists() and not part.is_dir():
            raise UsageError(f"{part} is a file; {kind.one} keeps a folder of that name.", "Move it elsewhere.")


@contextmanager
def held(folder: Path, kind: Kind, inputs: Iterable[object] = (), lock: str = LOCK) -> Iterator[None]:
    """Hold a folder against other processes; it is made if needed, and removed again if it stays empty.

    Args:
        folder, kind, inputs: as for `check_folder`.
        lock: name of the lock's file; workers that share a folder take one each.

    Raises:
        UsageError, OutputError: as in the module's docstring.
        MissingExtraError: filelock is not installed.
    """
    check_folder(folder, kind, inputs, lock)
    made = not folder.exists()
    with kind.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        taken = take_lock(folder / lock, _busy(folder, kind))
    try:
        with kind.writing(folder):
            refuse_foreign(folder, kind.is_ours, kind.name)  # again: another process may have replaced it
            if kind.done and (folder / kind.done).exists():
                raise UsageError(f"{folder} holds {kind.one} already.", kind.next.format(typed(folder)))
            if lock == LOCK:
                clear_leftovers(folder)
        yield
    finally:
        with suppress(OSError):
            if made and {path.name for path in folder.iterdir()} <= {lock}:
                (folder / lock).unlink(missing_ok=True)
                folder.rmdir()
        taken.release()


def _busy(folder: Path, kind: Kind) -> OutputError:
    return OutputError(
        f"Another process works in {folder}; two would overwrite each other.", kind.wait.format(typed(folder))
    )


def clear_leftovers(folder: Path) -> None:
    """Delete half-written files of a killed process; only for the holder of the whole folder."""
    for path in folder.glob(".*"):
        if _LEFTOVER.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """A line per difference; of nested objects, per key.

    Args:
        then: recorded values.
        now: current values; absent keys are not compared.
    """
    lines = []
    for name, value in now.items():
        old = then.get(name)
        pairs = {name: (old, value)}
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            pairs = {f"{name}.{own}": (old.get(own), value.get(own)) for own in {**value, **old}}
        lines += [
            f"  {key}: {_short(before)} then, {_short(after)} now"
            for key, (before, after) in pairs.items()
            if before != after
        ]
    return lines


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
