"""Locks of folders: one process at a time. A lock is gone with its process, however that ends.

They hold between machines only as far as the file system's locks do.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from weevit.errors import WeevitError
from weevit.extras import missing

if TYPE_CHECKING:
    from filelock import BaseFileLock


def take_lock(path: Path, busy: WeevitError) -> BaseFileLock:
    """Take a lock at once, or not at all; `release()` gives it back.

    Args:
        path: of the lock's file, in a folder that is there.
        busy: is raised where another process has it.

    Raises:
        OSError: the file cannot be made; what that means to a user, and what helps, each room says itself.
        MissingExtraError: filelock is not installed.
    """
    filelock = _filelock()
    lock: BaseFileLock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise busy from None
    return lock


def is_taken(path: Path) -> bool:
    """Whether a process has the lock at this moment.

    Raises:
        MissingExtraError: filelock is not installed.
    """
    if not path.exists():
        return False
    lock = _filelock().FileLock(path)
    try:
        lock.acquire(timeout=0)
    except (_filelock().Timeout, OSError):
        return True
    lock.release()
    return False


def _filelock() -> Any:
    try:
        import filelock
    except ImportError as error:
        raise missing("data", "A folder is held with filelock.") from error
    return filelock
