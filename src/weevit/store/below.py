"""Files below a folder, reached part by part and never through a link: what was checked is what is opened.

Each part of a path is opened from the folder before it, so that a link made in between leads nowhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
FILE = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)

CAN = os.open in os.supports_dir_fd and os.rename in os.supports_dir_fd
"""Whether the system opens and moves files from an open folder; Windows does not."""


@contextmanager
def opened_below(root: str | Path, parts: Sequence[str], flags: int = FOLDER, make: bool = False) -> Iterator[int]:
    """A file or folder below a folder, as a handle.

    Args:
        root: a folder; a link to one is followed.
        parts: names below it; empty for the root itself.
        flags: of `os.open` for the last part: `FILE` or `FOLDER`.
        make: whether absent folders are made.

    Raises:
        OSError: nothing there, or a part is a link (ELOOP, or ENOTDIR for what should be a folder).
    """
    with ExitStack() as held:
        handle = os.open(root, FOLDER & ~getattr(os, "O_NOFOLLOW", 0))
        held.callback(os.close, handle)
        for number, part in enumerate(parts):
            if make:
                with suppress(FileExistsError):
                    os.mkdir(part, dir_fd=handle)
            handle = os.open(part, flags if number == len(parts) - 1 else FOLDER, dir_fd=handle)
            held.callback(os.close, handle)
        yield handle
