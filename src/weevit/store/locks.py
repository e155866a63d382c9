"""Locks of folders: one process at a time. A lock ends with its process.

Between machines they hold only as far as the file system's locks do.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weevit.errors import WeevitError
from weevit.store.extras import needed

if TYPE_CHECKING:
    from filelock import BaseFileLock


def take_lock(path: Path, busy: WeevitError) -> BaseFileLock:
    """Take a lock at once, or not at all; `release()` gives it back.

    Args:
        path: the lock's file, in an existing folder.
        busy: raised where another process has it.

    Raises:
        OSError: the file cannot be made; the caller translates it.
        MissingExtraError: filelock is not installed.
    """
    filelock = require_filelock()
    if path.is_symlink():  # the library would create or empty the link's target
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    lock: BaseFileLock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise busy from None
    return lock


def is_taken(path: Path) -> bool | None:
    """Whether a process holds the lock now; None where that cannot be determined. Writes nothing."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        return False
    except OSError:
        return None
    try:
        return _is_taken(path, handle)
    finally:
        os.close(handle)


def _is_taken(path: Path, handle: int) -> bool | None:
    try:
        import fcntl
    except ImportError:  # Windows has other locks, and no read-only mounts
        return _can_take(path)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)  # filelock's lock; this one works on a read-only file
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False


def _can_take(path: Path) -> bool | None:
    lock = require_filelock().FileLock(path)
    try:
        lock.acquire(timeout=0)
    except require_filelock().Timeout:
        return True
    except OSError:
        return None
    lock.release()
    return False


def require_filelock() -> Any:
    """The filelock module; MissingExtraError where it is not installed."""
    return needed("filelock", "data", "A folder is held with filelock.")
