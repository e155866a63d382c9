"""The folder that copies are moved to, and the list that undoes it.

`undo.csv` has a line per move (from, to, sha256), which is on the disk before the file moves: whatever happens in
between, either the file is where it was, or the list says where it is. `to` is relative to the folder. Line ends and
backslashes in names are escaped, so that a line is a move, and a line that a power cut tore is none.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated

from weevit.duplicates.groups import MOST
from weevit.errors import MalformedFileError, UsageError
from weevit.store.folder import Kind
from weevit.store.own import read_own
from weevit.text import csv_row, list_line, plain_cell
from weevit.zoo.records import items, read_record_file, words

SCHEMA = "weevit.trash/1"
RECORD, UNDO = "trash.json", "undo.csv"
COLUMNS = ("from", "to", "sha256")

KIND = Kind("trash of weevit dedup", RECORD, (SCHEMA.partition("/")[0],), {"": (RECORD, UNDO)})

_MAX_LIST_BYTES = 1 << 31
_ESCAPED = re.compile(r"\\(\\|n|r|x[0-9a-f]{2}|u[0-9a-f]{4})")


@dataclass(frozen=True)
class Move:
    """One file that was moved, or is about to be.

    Attributes:
        source: absolute path that it had.
        target: path below the trash, with `/`.
        sha256: of its bytes.
    """

    source: str
    target: str
    sha256: str


@dataclass(frozen=True)
class Record:
    """`trash.json`.

    Attributes:
        roots: absolute paths of the folders whose files were moved here.
    """

    roots: Annotated[tuple[str, ...], items(words(), MOST)]


def add_roots(trash: Path, roots: tuple[str, ...]) -> None:
    """Record the folders whose files are about to be moved; OutputError where the disk does not take it."""
    there = os.path.lexists(trash / RECORD)
    known = read_record_file(Record, trash / RECORD, SCHEMA).roots if there else ()
    merged = tuple(dict.fromkeys((*known, *roots)))
    if merged != known or not there:
        KIND.write(trash, RECORD, {"schema": SCHEMA, "roots": list(merged)})


def read_roots(trash: Path) -> tuple[str, ...]:
    """The recorded folders; UsageError where the folder is no trash of weevit's."""
    if not os.path.lexists(trash / RECORD):
        raise UsageError(
            f"{trash} is no folder that weevit dedup apply moved files to: it has no {RECORD}.",
            "weevit dedup undo trash   with the folder that --move-to named",
        )
    return read_record_file(Record, trash / RECORD, SCHEMA).roots


def append(trash: Path, move: Move) -> None:
    """Put a line on the disk; OutputError where the disk does not take it."""
    with KIND.writing(trash):
        handle = os.open(trash / UNDO, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0), 0o644)
        try:
            size = os.fstat(handle).st_size
            if not size:
                _write(handle, csv_row(COLUMNS).encode())
            elif os.pread(handle, 1, size - 1) != b"\n":  # a torn line
                _write(handle, b"\n")
            _write(handle, csv_row((list_line(move.source), list_line(move.target), move.sha256)).encode())
            os.fsync(handle)
        finally:
            os.close(handle)


def _write(handle: int, data: bytes) -> None:
    while data:
        data = data[os.write(handle, data) :]


def read_moves(trash: Path) -> Iterator[Move]:
    """The moves of the list, in their order; torn lines are left out.

    Raises:
        MalformedFileError: it cannot be read, or a target leads out of the trash.
    """
    try:
        content = read_own(trash / UNDO, _MAX_LIST_BYTES)
    except FileNotFoundError:
        return
    for line in content.decode("utf-8", "replace").split("\n")[1:]:
        cells = [plain_cell(cell) for cell in next(csv.reader([line]), [])]
        if len(cells) != len(COLUMNS) or not re.fullmatch("[0-9a-f]{64}", cells[2]):
            continue
        source, target = map(_unescaped, cells[:2])
        if not is_below(target):
            raise MalformedFileError(f"{trash / UNDO} names a file outside of the folder: {target[:200]}.")
        yield Move(source, target, cells[2])


def _unescaped(text: str) -> str:
    """What `list_line` made a line of."""
    return _ESCAPED.sub(lambda found: found[0].encode().decode("unicode_escape"), text)


def is_below(path: str) -> bool:
    """Whether a relative path with `/` stays below where it begins, and has no part that two systems read apart."""
    parts = path.split("/")
    plain = all(part not in ("", ".", "..") and "\0" not in part for part in parts)
    return plain and not PurePosixPath(path).is_absolute() and (os.sep == "/" or os.sep not in path)
