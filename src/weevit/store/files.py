"""Files and folders that appear whole or not at all, and the error where the disk does not take them.

A file is written as tmp -> fsync -> rename -> fsync of its folder, so a file with a final name is whole, after a power
cut too. These functions raise the operating system's errors; `writing` turns them into an OutputError.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from weevit.errors import OutputError

HINT = "Free some room or choose another --output."

_CHUNK = 1 << 20


@contextmanager
def writing(
    path: object, kept: str = "", hint: str = HINT, errors: tuple[type[Exception], ...] = (OSError,)
) -> Iterator[None]:
    """Turn the operating system's errors about writing into an OutputError: a full disk, no permission, a name too
    long.

    Args:
        path: the file or folder that is written.
        kept: a sentence about what is kept.
        hint: what to do.
        errors: further error types of libraries.
    """
    try:
        yield
    except errors as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"{path} cannot be written: {reason}.{kept and f' {kept}'}", hint) from error


Content = bytes | str | Mapping[str, object]
"""Bytes, text (written as UTF-8), or an object (written as JSON)."""


def write_file(path: Path, content: Content) -> None:
    """Write a file, whole or not at all, and its folder; OutputError where the disk does not take it."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, lambda tmp: tmp.write_bytes(as_bytes(content)))


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> Path:
    """Write a file that appears under its name only when it is complete and on the disk; returns that name.

    Args:
        path: the final name.
        write: writes the content to an open file.

    Raises:
        OutputError: the disk is full or the folder cannot be written; nothing is left behind.
    """

    def fill(tmp: Path) -> None:
        with tmp.open("wb") as file:
            write(file)

    with writing(path):
        replace_file(path, fill)
    return path


def stamped(text: str) -> str:
    """Lines of a log, each with the time; names of files that are no text are spelled out."""
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    return "".join(f"{now}  {line}\n" for line in text.splitlines()).encode("utf-8", "backslashreplace").decode()


def as_bytes(content: Content) -> bytes:
    """The bytes of a file; names of files that are no text are spelled out."""
    if isinstance(content, Mapping):
        content = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return content if isinstance(content, bytes) else content.encode("utf-8", "backslashreplace")


def finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """Plain data with None in place of NaN and infinity, which JSON does not have."""
    return {name: _finite(value) for name, value in values.items()}


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return finite(value)
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def replace_file(path: Path, write: Callable[[Path], object], beside: Path | None = None) -> None:
    """Write a file so that its name never leads to a half-written one.

    Args:
        path: the final name.
        write: writes the content to a temporary path.
        beside: the folder of that path, on the same file system; by default the file's own.
    """
    tmp = (beside or path.parent) / f".{path.name}.{secrets.token_hex(4)}.tmp"
    try:
        write(tmp)
        sync(tmp)
        tmp.replace(path)
    finally:
        tmp.unlink(missing_ok=True)
    sync(path.parent)


@contextmanager
def replacing_folder(final: Path) -> Iterator[Path]:
    """Yields a new folder that replaces `final` when the block ends without an error: all of it or nothing.

    The block syncs its files. An existing folder is absent for the moment between two renames.
    """
    tag = secrets.token_hex(4)
    tmp, old = (final.with_name(f".{final.name}.{tag}.{kind}") for kind in ("tmp", "old"))
    tmp.mkdir()
    try:
        yield tmp
        sync(tmp)
        if final.exists():
            final.rename(old)
        tmp.rename(final)
        sync(final.parent)
    finally:
        for leftover in (tmp, old):
            shutil.rmtree(leftover, ignore_errors=True)


def append_line(path: Path, line: bytes) -> None:
    """Append a line (with its line break) to a file, synced to the disk, as is a new file's name."""
    new = not path.exists()
    with path.open("ab") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    if new:
        sync(path.parent)


def sync(path: Path) -> None:
    """Flush a file or a folder to the disk."""
    if path.is_dir() and os.name == "nt":  # Windows cannot open a folder, and keeps renames in order
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's bytes (about 1.4 GB/s)."""
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_CHUNK))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
    return digest.hexdigest()
