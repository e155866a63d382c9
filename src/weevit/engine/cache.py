"""Built graphs on disk: found by what went into them, checked before use, bounded in size, safe under two processes.

An entry is two files. `KEY.HASH.onnx` is named after its own content, so that two processes that build the same graph
at once can never mix their bytes; `KEY.json` names it and is written last. What has no `KEY.json` does not exist.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from weevit.errors import OutputError
from weevit.zoo.manifest import sha256_file

DEFAULT_LIMIT = 4 * 1024**3
"""Bytes; the least recently used graphs go first."""

_ORPHAN_AGE = 3600.0
"""Seconds after which a file without an entry is taken for the rest of a killed process."""


def cache_folder() -> Path:
    """`$WEEVIT_CACHE`, else `$XDG_CACHE_HOME/weevit`, else `~/.cache/weevit`."""
    own = os.environ.get("WEEVIT_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "weevit"


class GraphCache:
    """A folder of built graphs.

    Args:
        folder: made on first use.
        limit: bytes that all graphs together may take; one graph is kept even if it alone is larger.
    """

    def __init__(self, folder: Path | None = None, limit: int = DEFAULT_LIMIT) -> None:
        self.folder = folder or cache_folder() / "graphs"
        self.limit = limit

    def get(self, key: str) -> Path | None:
        """The graph's file, its bytes checked; None where there is none. A damaged entry is removed."""
        entry = self.folder / f"{key}.json"
        try:
            record = json.loads(entry.read_bytes())
            path = self.folder / str(record["file"])
            if sha256_file(path) == record["sha256"]:
                os.utime(entry)  # the time of last use, for eviction
                return path
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            pass  # unreadable or not ours: the same as damaged
        self._remove(entry)
        return None

    def put(self, key: str, write: Callable[[Path], None]) -> Path:
        """Store what `write` writes to the path it is given.

        Raises:
            OutputError: the folder cannot be written; the message names it and how to choose another.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.folder, prefix=f"{key}.", suffix=".tmp")
            os.close(handle)
            unfinished = Path(name)
            try:
                write(unfinished)
                digest = sha256_file(unfinished)
                path = self.folder / f"{key}.{digest[:16]}.onnx"
                unfinished.replace(path)
            finally:
                unfinished.unlink(missing_ok=True)
            self._record(key, path, digest)
        except OSError as error:
            raise OutputError(
                f"The cache of built graphs cannot be written: {self.folder} ({error.strerror or error}).",
                "Set WEEVIT_CACHE to a folder with room, or pass cache=False.",
            ) from error
        self._evict(keep=path)
        return path

    def _record(self, key: str, path: Path, digest: str) -> None:
        record = {"file": path.name, "sha256": digest, "bytes": path.stat().st_size}
        unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        unfinished.write_text(json.dumps(record), encoding="utf-8")
        unfinished.replace(self.folder / f"{key}.json")

    def entries(self) -> list[tuple[Path, int]]:
        """(entry, bytes), the least recently used first."""
        found = []
        for entry in self.folder.glob("*.json"):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                found.append((entry.stat().st_mtime, entry, int(json.loads(entry.read_bytes())["bytes"])))
        return [(entry, size) for _, entry, size in sorted(found)]

    def _evict(self, keep: Path) -> None:
        """Drop the least recently used until the limit holds, and what killed processes left behind."""
        entries = self.entries()
        total = sum(size for _, size in entries)
        for entry, size in entries:
            if total <= self.limit:
                break
            if not keep.name.startswith(entry.stem):
                self._remove(entry)
                total -= size
        kept = {entry.stem for entry, _ in entries}
        for path in [*self.folder.glob("*.tmp"), *self.folder.glob("*.onnx")]:
            with contextlib.suppress(OSError):
                if path.name.partition(".")[0] not in kept and time.time() - path.stat().st_mtime > _ORPHAN_AGE:
                    path.unlink()

    def _remove(self, entry: Path) -> None:
        for path in [entry, *self.folder.glob(f"{entry.stem}.*.onnx")]:
            with contextlib.suppress(OSError):
                path.unlink()
