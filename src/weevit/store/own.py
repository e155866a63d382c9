"""Folders of weevit that may come from strangers: nothing in them leads out of them.

A link or a pipe in place of a file could make weevit read, overwrite or delete files elsewhere, or wait for ever.
Whoever opens such a folder calls `refuse_links` first, and reads its files with `read_own`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO

from weevit.errors import MalformedFileError


def refuse_links(folder: Path, names: Iterable[str]) -> None:
    """Refuse a folder with links, pipes or devices among weevit's files.

    Args:
        folder: may be absent.
        names: names of weevit's files in it; `*` stands for anything.

    Raises:
        MalformedFileError: there is one.
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
        f"{path} is a link, a pipe or a device, not a file: it could lead out of the folder.",
        "Replace it by the file itself, or delete it.",
    )


def read_own(path: Path, limit: int) -> bytes:
    """The bytes of a file in such a folder.

    Raises:
        FileNotFoundError: it does not exist.
        MalformedFileError: no plain file, larger than `limit` bytes, or unreadable.
    """
    with open_own(path, limit) as file:
        return file.read(min(limit, os.fstat(file.fileno()).st_size))


def open_own(path: Path, limit: int) -> BinaryIO:
    """A file in such a folder, open for reading; errors as of `read_own`."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        raise
    except NotADirectoryError as error:  # what should be the folder is a file
        raise FileNotFoundError(error.errno, error.strerror, str(path)) from None
    except OSError as error:
        if path.is_symlink():
            raise _not_plain(path) from None
        raise MalformedFileError(f"{path} cannot be read: {error.strerror or error}.") from None
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
        os.close(handle)
        if not stat.S_ISREG(status.st_mode):
            raise _not_plain(path)
        raise MalformedFileError(f"{path} has {status.st_size:,} bytes; the limit for such a file is {limit:,}.")
    return os.fdopen(handle, "rb")
