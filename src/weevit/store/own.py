"""Folders of our own, which may have been in other hands: nothing in them leads out of them.

A link or a pipe where weevit keeps a file could make it read, write over or delete what lies elsewhere, or wait for
ever. Whoever opens such a folder calls `refuse_links` first; whoever reads a file in it reads it with `read_own`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from weevit.errors import MalformedFileError


def refuse_links(folder: Path, names: Iterable[str]) -> None:
    """Refuse a folder of ours in which something is a link, a pipe or a device.

    Args:
        folder: one that may not be there yet.
        names: of what is ours in it; `*` stands for anything.

    Raises:
        MalformedFileError: so it is.
    """
    patterns = tuple(names)
    try:
        with os.scandir(folder) as entries:
            odd = [entry.name for entry in entries if not _is_plain(entry)]
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise MalformedFileError(f"{folder} cannot be read: {error.strerror or error}.") from None
    for name in sorted(odd):
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            raise _not_plain(folder / name)


def _is_plain(entry: os.DirEntry[str]) -> bool:
    return entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)


def _not_plain(path: Path) -> MalformedFileError:
    return MalformedFileError(
        f"{path} is a link, a pipe or the like, and no file of its own: it could lead out of the folder.",
        "Put in its place what it stands for, or delete it.",
    )


def read_own(path: Path, limit: int) -> bytes:
    """The bytes of a file in a folder of ours.

    Raises:
        FileNotFoundError: it is not there.
        MalformedFileError: no plain file, larger than `limit` bytes, or not to be read.
    """
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        raise
    except OSError as error:
        if path.is_symlink():
            raise _not_plain(path) from None
        raise MalformedFileError(f"{path} cannot be read: {error.strerror or error}.") from None
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        os.close(handle)
        raise _not_plain(path)
    with os.fdopen(handle, "rb") as file:
        if status.st_size > limit:
            raise MalformedFileError(f"{path} has {status.st_size:,} bytes; the limit for such a file is {limit:,}.")
        return file.read(limit)
