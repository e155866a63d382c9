"""A writer of an index: versions, one after another, each complete.

    rows ── buffered ── data/shard-....safetensors ── index.json, the next version: the new shard is there, and the rows
    that it replaces are not

A writer that is killed leaves the last version and perhaps a shard that no version names; the next writer deletes that.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from weevit.errors import MalformedFileError
from weevit.images.source import stamp
from weevit.search.manifest import DATA, INDEX, MAX_NUMBER, Line, Manifest, open_shard, write_manifest
from weevit.search.shards import Bools, Rows, Shard, error_of, write_shard
from weevit.zoo.records import MAX_COUNT

SHARD_ROWS = 1 << 16
"""Rows of a full shard: 50 MB of the default model."""

SECONDS = 30.0
"""What a killed writer loses at most."""

MOST_LEFT = 0.2
"""Share of a shard's rows that may have left before it is rewritten."""

MOST_SMALL = 8
"""Shards of less than half the rows of a full one, before they are joined."""


class Writer:
    """Adds rows to an index, and takes rows out of it; only for the holder of the folder.

    Args:
        folder: of the index.
        manifest: its current version.
        at_once: readers see nothing before `publish`.

    Attributes:
        manifest: the current version.
        shards: the shards of the version that was there at first, mapped.
        leaving: for each of them, the rows that are to leave with the next version.
        lost: rows of damaged shards, which are not in the index any more.
    """

    def __init__(self, folder: Path, manifest: Manifest, at_once: bool = False) -> None:
        self.folder, self._at_once = folder, at_once
        with INDEX.writing(folder):
            (folder / DATA).mkdir(exist_ok=True)
        self.manifest, self.lost = manifest, 0
        self.shards: list[Shard] = []
        self._first: list[Line] = []
        self._added: list[Line] = []
        for line in manifest.shards:
            try:
                self.shards.append(open_shard(folder, line, manifest.space.width, hashed=True))
                self._first.append(line)
            except (FileNotFoundError, MalformedFileError):
                self.lost += line.alive
        self._tidy()
        self.leaving = [np.zeros(line.rows, bool) for line in self._first]
        self._rows: list[Rows] = []
        self._waiting = 0
        self._written = time.monotonic()
        self._changed = len(self._first) < len(manifest.shards) or manifest.version == 0

    def left(self) -> list[Bools]:
        """For each of the first shards, the rows that left in earlier versions."""
        return [line.left() for line in self._first]

    def add(self, rows: Rows) -> None:
        """Add images; readers see them some seconds later, or after `publish`."""
        self._rows.append(rows)
        self._waiting += len(rows.names)
        if self._waiting >= SHARD_ROWS or time.monotonic() - self._written > SECONDS:
            self._flush() if self._at_once else self.publish()

    def remove(self, shard: int, row: int) -> None:
        """Take out a row of one of the first shards, with the next version."""
        self.leaving[shard][row] = True

    def rebase(self, base: Path) -> None:
        """Set the folder that relative names start from, with the next version."""
        if str(base) != self.manifest.base:
            self.manifest, self._changed = replace(self.manifest, base=str(base)), True

    def publish(self) -> None:
        """Make a version of all that was added and removed. OutputError where the disk does not take it."""
        self._flush()
        if not (self._changed or any(rows.any() for rows in self.leaving)):
            return
        self._first = [line.without(rows) for line, rows in zip(self._first, self.leaving, strict=True)]
        self.leaving = [np.zeros(line.rows, bool) for line in self._first]
        self._publish((*self._first, *self._added))
        self._changed = False

    def _flush(self) -> None:
        """Write what was added; no version names it yet."""
        self._written = time.monotonic()
        if self._waiting:
            self._added += [self._write(rows) for rows in _shards_of(self._rows)]
            self._rows, self._waiting, self._changed = [], 0, True

    def discard(self) -> None:
        """Delete the shards that no version names, and the folder of shards where there is no version."""
        self._tidy()
        if self.manifest.version == 0:
            with suppress(OSError):
                (self.folder / DATA).rmdir()

    def compact(self) -> None:
        """Rewrite shards that many rows left, and join small ones; then every shard that no version names is deleted.

        Afterwards the folder has at most 1.3 times the bytes of its rows.
        """
        lines = self.manifest.shards
        small = [line for line in lines if line.rows < SHARD_ROWS // 2]
        chosen = [
            line
            for line in lines
            if line.alive < (1 - MOST_LEFT) * line.rows or (line in small and len(small) > MOST_SMALL)
        ]
        if chosen:
            kept = tuple(line for line in lines if line not in chosen)
            made = tuple(self._write(rows) for rows in self._rewritten(chosen))
            self._publish((*kept, *made))
        self.shards = []
        self._tidy()

    def _rewritten(self, lines: Iterable[Line]) -> Iterator[Rows]:
        """The rows of some shards that did not leave, in full shards."""
        waiting: list[Rows] = []
        for line in lines:
            shard = open_shard(self.folder, line, self.manifest.space.width)
            waiting.append(shard.rows(np.flatnonzero(~line.left())))
            while sum(len(rows.names) for rows in waiting) >= SHARD_ROWS:
                every = _concatenated(waiting)
                yield _cut(every, 0, SHARD_ROWS)
                waiting = [_cut(every, SHARD_ROWS, len(every.names))]
        rest = _concatenated(waiting)
        if rest.names:
            yield rest

    def _write(self, rows: Rows) -> Line:
        name = f"shard-{self.manifest.next:06d}-{secrets.token_hex(4)}.safetensors"
        path = self.folder / DATA / name
        with INDEX.writing(self.folder):
            digest = write_shard(path, rows)
            size = path.stat().st_size
        self.manifest = replace(self.manifest, next=(self.manifest.next + 1) % (MAX_NUMBER + 1))
        return Line(name, len(rows.names), size, digest, stamp(path), error_of(rows.vectors))

    def _publish(self, lines: tuple[Line, ...]) -> None:
        version = self.manifest.version % MAX_COUNT + 1
        self.manifest = replace(self.manifest, version=version, shards=tuple(line for line in lines if line.alive))
        write_manifest(self.folder, self.manifest)

    def _tidy(self) -> None:
        """Delete what no version names. Windows keeps a file that a reader has mapped: the next writer deletes it."""
        named = {line.file for line in self.manifest.shards}
        for path in (self.folder / DATA).iterdir():
            if path.name not in named:
                with suppress(OSError):
                    path.unlink()


def _shards_of(parts: Sequence[Rows]) -> Iterator[Rows]:
    """The rows in full shards, and the rest."""
    every = _concatenated(parts)
    for start in range(0, len(every.names), SHARD_ROWS):
        yield _cut(every, start, start + SHARD_ROWS)


def _concatenated(parts: Sequence[Rows]) -> Rows:
    return Rows(
        [name for part in parts for name in part.names],
        np.concatenate([part.keys for part in parts]),
        np.concatenate([part.stamps for part in parts]),
        np.concatenate([part.vectors for part in parts]),
    )


def _cut(rows: Rows, start: int, end: int) -> Rows:
    own = slice(start, end)
    return Rows(rows.names[own], rows.keys[own], rows.stamps[own], rows.vectors[own])
