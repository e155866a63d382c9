"""A folder in a bucket, through fsspec: every write is one request, and nothing is renamed or appended to.

    lease       .worker-1-of-1.lock.000001       made by a conditional put (`If-None-Match: *`), renewed by its holder
    lines       manifest-1-of-1.3f2a9c01-000001.jsonl    of one holder alone; put again with every line, up to 64 KB
    the rest    one object, whole

A request that failed is repeated: it may have been carried out all the same, and to carry it out twice is to carry it
out once. No two holders write one object, except such whose content does not depend on the holder. So the lease spares
work that would be done twice; what is kept does not rest on it. A holder that dies leaves its lease, which the next one
takes over: at once where the process is known to be gone, else `EXPIRES` seconds after it was renewed last.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import secrets
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from threading import Event, Thread
from typing import Any, BinaryIO, TypeVar

from weevit.errors import MalformedFileError, OutputError, UsageError
from weevit.store.folder import RECORDS, Kind
from weevit.text import typed

EXPIRES = 90.0
"""Seconds after which a lease that nobody renewed is free."""

RENEWED = 20.0
"""Seconds between two renewals."""

_MAX_BYTES = 1 << 40

PART = 64 << 10
"""Bytes of lines in an object, after which the next one begins."""

WAITS = (0.2, 1.0, 3.0, 10.0)
"""Seconds before each repetition of a request; fsspec's packages repeat some by themselves."""

_FINAL = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, MalformedFileError)
"""Errors that no repetition mends."""

_FINAL_NAMES = ("NoCredentialsError", "PartialCredentialsError", "ParamValidationError", "DefaultCredentialsError")
"""Those of the stores' own packages, which need not be installed; half a minute passed before they were told."""

T = TypeVar("T")


_held: set[str] = set()
"""Tokens of the leases that this process holds."""


class Bucket:
    """A folder in a bucket.

    Args:
        address: the address as the user gave it.
        system: fsspec's file system.
        path: the folder's name in it.
    """

    checks_bytes = True

    def __init__(self, address: str, system: Any, path: str) -> None:
        self._address, self._system, self._path = address.rstrip("/"), system, path.rstrip("/")
        self._holder = secrets.token_hex(4)
        self._lines: dict[str, tuple[int, bytes]] = {}

    def __str__(self) -> str:
        return self._address

    def __reduce__(self) -> tuple[type[Bucket], tuple[str, Any, str]]:
        """A copy writes lines of its own."""
        return Bucket, (self._address, self._system, self._path)

    # ---- requests

    def _at(self, name: str) -> str:
        return f"{self._path}/{name}" if name else self._path

    def names(self, part: str = "") -> list[str]:
        """The names in the folder, or in a folder in it; hidden ones too."""
        return sorted(self._listed(part))

    def _listed(self, part: str = "") -> dict[str, Any]:
        def ask() -> list[Any]:
            self._system.invalidate_cache()  # fsspec keeps listings for ever
            found: list[Any] = self._system.ls(self._at(part), detail=True)
            return found

        try:
            entries = _patiently(ask)
        except FileNotFoundError:
            return {}
        inside = f"{self._at(part)}/"
        names = {str(entry["name"]).rstrip("/"): entry for entry in entries}
        return {name.removeprefix(inside): own for name, own in names.items() if name.startswith(inside)}

    def size(self, name: str) -> int | None:
        """Bytes of an object; None where there is none."""
        try:
            found = self._info(name)
        except FileNotFoundError:
            return None
        return int(found["size"]) if found.get("type") == "file" else None

    def _info(self, name: str) -> Any:
        def ask() -> Any:
            self._system.invalidate_cache()
            return self._system.info(self._at(name))

        return _patiently(ask)

    def read(self, name: str, limit: int) -> bytes:
        """An object's bytes; MalformedFileError for more than `limit`."""

        size = int(self._info(name)["size"])
        if size > limit:
            raise MalformedFileError(f"{self}/{name} has {size:,} bytes; the limit for such a file is {limit:,}.")

        def ask() -> bytes:
            return bytes(self._system.cat_file(self._at(name), start=0, end=size))  # without a size it would ask again

        return _patiently(ask) if size else b""

    def lines(self, name: str, limit: int) -> Iterator[bytes]:
        """An object's lines."""
        yield from io.BytesIO(self.read(name, limit))

    def open(self, name: str) -> BinaryIO:
        """An object, in memory: shards are written and read whole."""
        return io.BytesIO(self.read(name, _MAX_BYTES))

    def sha256(self, name: str) -> str:
        """Hex sha256 of an object's bytes."""
        with self.open(name) as file:
            return hashlib.sha256(file.read()).hexdigest()

    def write(self, name: str, content: bytes) -> None:
        """Write an object, or replace it."""
        _patiently(lambda: self._system.pipe_file(self._at(name), content))

    def create(self, name: str, content: bytes) -> bool:
        """Write an object that nobody else has written; whether it is there now with this content."""

        def ask() -> None:
            self._system.pipe_file(self._at(name), content, mode="create")

        with suppress(FileExistsError):  # perhaps by our own request, whose response was lost
            _patiently(ask)
        try:  # read back in any case: a store that does not know the condition lets two create it
            return self.read(name, len(content)) == content
        except (FileNotFoundError, MalformedFileError):
            return False

    def make(self, name: str, write: Callable[[Path], object]) -> tuple[int, str]:
        """Write an object whose content `write` writes to a temporary file; returns its bytes and their sha256."""
        with tempfile.TemporaryDirectory(prefix="weevit-") as folder:
            path = Path(folder, name.rpartition("/")[2])
            write(path)
            content = path.read_bytes()
        self.write(name, content)
        return len(content), hashlib.sha256(content).hexdigest()

    def append(self, name: str, line: bytes) -> None:
        """Put a line behind the earlier ones of this holder."""
        number, lines = self._lines.get(name, (1, b""))
        if len(lines) + len(line) > PART and lines:
            number, lines = number + 1, b""
        stem, _, ending = name.rpartition(".")
        self.write(f"{stem}.{self._holder}-{number:06d}.{ending}", lines + line)
        self._lines[name] = (number, lines + line)

    def remove(self, name: str) -> None:
        """Delete an object, if it is there."""
        with suppress(FileNotFoundError):
            _patiently(lambda: self._system.rm_file(self._at(name)))

    # ---- the folder

    def check(self, kind: Kind, inputs: Iterable[object], lock: str) -> None:
        """Refuse an address that is an input or holds one, the work of others, and a folder that is held.

        Raises:
            UsageError, OutputError: as `weevit.store.folder.check_folder`.
        """
        for given in (text.rstrip("/") for text in inputs if isinstance(text, str)):
            if given == self._address or given.startswith(f"{self._address}/"):
                raise UsageError(
                    f"--output is {str(self)!r}, and the input {given!r} is that folder, or lies in it.",
                    f"--output {typed(f'{self}-out')}",
                )
        with kind.writing(self):
            self._refuse_foreign(kind)
            if self.is_taken(lock):
                raise self._busy(kind)

    def _refuse_foreign(self, kind: Kind) -> None:
        there = [name for name in self.names() if not name.startswith(".")]
        foreign = [name for name in there if name in RECORDS - {kind.record}]
        if kind.record not in there:
            foreign += [name for name in there if not any(fnmatchcase(name, own) for own in kind.unfinished)]
            for part, pattern in kind.contents.items():
                inside = self.names(part) if part in there and not foreign else []
                foreign += [f"{part}/{name}" for name in inside if not fnmatchcase(name, pattern)]
        if foreign:
            shown = ", ".join(foreign[:3]) + (", ..." if len(foreign) > 3 else "")
            raise UsageError(
                f"{self} is not empty and holds no {kind.name}, but {shown}.", f"--output {typed(f'{self}-2')}"
            )

    def refuse_strange(self, kind: Kind) -> None:
        """Nothing in a bucket leads out of it."""

    def ready(self, part: str, alone: bool) -> None:
        """A bucket has no folders, and nothing half-written."""

    # ---- one holder at a time

    @contextmanager
    def held(self, kind: Kind, inputs: Iterable[object], lock: str) -> Iterator[None]:
        """Hold the folder by a lease, which is renewed meanwhile.

        Raises:
            UsageError, OutputError: as `check`.
        """
        self.check(kind, inputs, lock)
        _held.add(self._holder)
        over, renewing = Event(), None
        try:
            with kind.writing(self):
                name, content = self._take(lock, kind)
            renewing = Thread(target=self._renew, args=(name, content, over), name="weevit-lease", daemon=True)
            renewing.start()
            yield
        finally:
            over.set()
            _held.discard(self._holder)
            if renewing:
                renewing.join()
                self._release(lock)

    def _release(self, lock: str) -> None:
        with suppress(OSError):  # what is left expires
            for number in self._leases(lock):
                self.remove(_lease(lock, number))

    def _take(self, lock: str, kind: Kind) -> tuple[str, bytes]:
        """The name and content of a lease of ours; of several processes that ask at once one gets it."""
        content = json.dumps({"token": self._holder, **_process()}).encode()
        if self.is_taken(lock):
            raise self._busy(kind)
        name = _lease(lock, 1 + max(self._leases(lock), default=0))
        if not self.create(name, content):
            raise self._busy(kind)
        return name, content

    def _leases(self, lock: str) -> list[int]:
        found = (re.fullmatch(rf"{re.escape(lock)}\.([0-9]{{6}})", name) for name in self.names())
        return [int(one[1]) for one in found if one]

    def _renew(self, name: str, content: bytes, over: Event) -> None:
        while not over.wait(RENEWED):
            with suppress(OSError):
                self.write(name, content)

    def is_taken(self, lock: str) -> bool | None:
        """Whether a process holds the lease: it was renewed lately, and is not known to have ended."""
        last = max(self._leases(lock), default=0)
        if not last:
            return False
        name = _lease(lock, last)
        try:
            age = (datetime.now(UTC) - _modified(self._info(name))).total_seconds()
            holder = json.loads(self.read(name, 4096))
        except FileNotFoundError:
            return False
        except (ValueError, MalformedFileError):
            return True
        return age < EXPIRES and not _has_ended(holder)

    def _busy(self, kind: Kind) -> OutputError:
        return OutputError(
            f"Another process works in {self}, or one ended there less than {EXPIRES:.0f} s ago without a word; two "
            "would do the same work.",
            kind.wait.format(typed(self)),
        )


def _patiently(ask: Callable[[], T]) -> T:
    """A request, repeated where that may help; OSError in the end."""
    for wait in (*WAITS, None):
        try:
            return ask()
        except _FINAL:
            raise
        except Exception as error:  # fsspec's packages raise their own, of any class
            if wait is None or type(error).__name__ in _FINAL_NAMES:
                raise OSError(errno.EIO, f"{type(error).__name__}: {error}") from error
            time.sleep(wait)
    raise AssertionError("unreachable")


def _lease(lock: str, number: int) -> str:
    return f"{lock}.{number:06d}"


def _modified(info: Any) -> datetime:
    """The time in an object's entry, by any of the names that fsspec's packages have for it."""
    for key in ("LastModified", "last_modified", "updated", "mtime", "created"):
        value = info.get(key)
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        if isinstance(value, int | float):
            value = datetime.fromtimestamp(value, UTC)
        if isinstance(value, datetime):
            return value if value.tzinfo else value.replace(tzinfo=UTC)
    return datetime.now(UTC)


def _process() -> dict[str, Any]:
    """This process, so that another one on the same machine can tell whether it still runs."""
    return {"machine": _machine(), "pid": os.getpid(), "began": _began(os.getpid())}


def _has_ended(holder: Any) -> bool:
    """Whether a process of this machine is known to have ended."""
    if not isinstance(holder, dict) or not _machine() or holder.get("machine") != _machine():
        return False
    if not isinstance(holder.get("pid"), int):
        return False
    if _began(holder["pid"]) != holder.get("began"):
        return True
    return bool(holder["pid"] == os.getpid() and holder.get("token") not in _held)  # the store was gone at its end


def _machine() -> str:
    """Linux since it was started, and its space of process numbers: a container has one of its own; else empty."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _began(pid: int) -> str:
    """When a process began, in ticks since the machine was started; empty where there is none, or only its corpse."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]
