"""Built graphs on disk: found by what went into them, checked before use, bounded in size, safe under two processes.

An entry is two files. `KEY.HASH.onnx` is named after its key and its content, so that two processes that build the same
graph at once can never mix their bytes; `KEY.json` has the hash and is written last. What has no `KEY.json` does not
exist, and a graph of another key, from elsewhere, or of another user's is not taken.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from weevit.errors import CheckpointError, OutputError
from weevit.store.cache import cache_folder, evict, is_ours, make_own
from weevit.store.files import replace_file, sha256_file, writing
from weevit.store.own import read_own
from weevit.zoo.strict_json import parse_json_object

DEFAULT_LIMIT = 4 * 1024**3
"""Bytes; the least recently used graphs go first."""

_ORPHAN_AGE = 3600.0
"""Seconds after which a file without an entry is taken for the rest of a killed process."""

_RECORD_BYTES = 4096


class GraphCache:
    """A folder of built graphs.

    Args:
        folder: made on first use; by default `graphs` under weevit's cache.
        limit: bytes that all graphs together may take; one graph is kept even if it alone is larger.
    """

    def __init__(self, folder: Path | None = None, limit: int = DEFAULT_LIMIT) -> None:
        default = cache_folder()
        self.folder = folder or (default / "graphs" if default else None)
        self.limit = limit

    def get(self, key: str) -> Path | None:
        """The graph's file, its bytes checked; None where there is none. A damaged entry is removed."""
        if self.folder is None:
            return None
        entry = self.folder / f"{key}.json"
        try:
            digest = parse_json_object(read_own(entry, _RECORD_BYTES), str(entry))["sha256"]
            path = self.folder / _name(key, digest)
            if all(map(is_ours, (self.folder, entry, path))) and _digest(key, path) == digest:
                with contextlib.suppress(OSError):  # a cache that may only be read is as good
                    os.utime(entry)  # the time of last use, for eviction
                return path
        except FileNotFoundError:
            return None
        except (OSError, CheckpointError, KeyError, TypeError):
            pass  # unreadable or not ours: the same as damaged
        self._remove(entry)
        return None

    def put(self, key: str, write: Callable[[Path], None]) -> Path:
        """Store what `write` writes to the path it is given.

        Raises:
            OutputError: the folder cannot be written; the message names it and how to choose another.
        """
        if self.folder is None:
            raise OutputError("There is no home folder to keep built graphs in.", _CHOOSE)
        entry = self.folder / f"{key}.json"
        with writing(self.folder, hint=_CHOOSE):
            make_own(self.folder)
            unfinished = self.folder / f"{key}.{secrets.token_hex(8)}.tmp"
            try:
                write(unfinished)
                digest = _digest(key, unfinished)
                path = self.folder / _name(key, digest)
                replace_file(path, unfinished.replace)
            finally:
                unfinished.unlink(missing_ok=True)
            record = json.dumps({"sha256": digest, "bytes": path.stat().st_size}).encode()
            replace_file(entry, lambda tmp: tmp.write_bytes(record))
        entries = self.entries()
        evict(entries, self.limit, entry, self._remove)
        self._sweep({own.stem for own, _ in entries})
        return path

    def entries(self) -> list[tuple[Path, int]]:
        """(entry, bytes), the least recently used first."""
        found = []
        for entry in self.folder.glob("*.json") if self.folder else ():
            with contextlib.suppress(OSError, CheckpointError, KeyError, TypeError, ValueError):
                record = parse_json_object(read_own(entry, _RECORD_BYTES), str(entry))
                found.append((entry.stat().st_mtime, entry, int(record["bytes"])))
        return [(entry, size) for _, entry, size in sorted(found)]

    def _sweep(self, kept: set[str]) -> None:
        """Delete what killed processes left behind: files of keys without an entry."""
        assert self.folder is not None
        for path in [*self.folder.glob("*.tmp"), *self.folder.glob(".*.tmp"), *self.folder.glob("*.onnx")]:
            with contextlib.suppress(OSError):
                if path.name.partition(".")[0] not in kept and time.time() - path.stat().st_mtime > _ORPHAN_AGE:
                    path.unlink()

    def _remove(self, entry: Path) -> None:
        for path in [entry, *entry.parent.glob(f"{entry.stem}.*.onnx")]:
            with contextlib.suppress(OSError):
                path.unlink()


_CHOOSE = "Set WEEVIT_CACHE to a folder with room, or pass cache=False."


def _digest(key: str, path: Path) -> str:
    """Of key and content: the same bytes under another key have another."""
    return hashlib.sha256(f"{key}\n{sha256_file(path)}".encode()).hexdigest()


def _name(key: str, digest: str) -> str:
    return f"{key}.{digest[:16]}.onnx"
