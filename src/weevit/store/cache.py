"""Caches between runs: for this user alone, bounded in size, and without influence on an answer.

Where a cache cannot be read or written, its contents are computed again, and one line says so.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from weevit.store.home import expand_home, home

_told: set[str] = set()


def tell_unkept(what: str, why: object, instead: str = "computed") -> None:
    """Say once that a cache is unusable. By the log, whose lines go to stderr: no setting of it can cost an answer."""
    text = f"note: {what} are not cached, and are {instead} each time: {why}"
    if text not in _told:
        _told.add(text)
        logging.getLogger("weevit").warning(text)


def cache_folder() -> Path | None:
    """`$WEEVIT_CACHE`, else `$XDG_CACHE_HOME/weevit`, else `~/.cache/weevit`; None where there is no home folder."""
    own, shared, at_home = os.environ.get("WEEVIT_CACHE"), os.environ.get("XDG_CACHE_HOME"), home()
    if own:
        return expand_home(own)  # a unit or container file that sets it has no shell that would
    if shared:
        return expand_home(shared) / "weevit"
    return at_home / ".cache" / "weevit" if at_home else None


def make_own(folder: Path) -> None:
    """Make a folder of the cache, accessible to this user only; OSError if it is another user's."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not is_ours(folder):
        raise PermissionError(f"{folder} belongs to another user")
    if os.name == "posix" and stat.S_IMODE(folder.stat().st_mode) & 0o077:
        folder.chmod(0o700)


def is_ours(path: Path) -> bool:
    """Whether a file or folder is no link and belongs to this user or to root; OSError where it does not exist."""
    status = path.lstat()
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        return False
    return os.name != "posix" or status.st_uid in (os.geteuid(), 0)


def evict(entries: Sequence[tuple[Path, int]], limit: int, keep: Path, remove: Callable[[Path], None]) -> None:
    """Remove entries until the limit holds; one is kept even if it alone is larger.

    Args:
        entries: (path, bytes), the least recently used first.
        limit: bytes of all entries together.
        keep: the entry in use.
        remove: deletes an entry as far as possible.
    """
    total = sum(size for _, size in entries)
    for entry, size in entries:
        if total <= limit:
            break
        if entry != keep:
            remove(entry)
            total -= size
