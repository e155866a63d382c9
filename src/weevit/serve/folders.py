"""Files of a client who may see some folders only: no way out by `..`, by a link, or by a link made in between.

Each part of a path is opened from the folder before it, and never through a link, so that what was checked is what is
read.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from weevit.errors import UsageError
from weevit.images.decode import Limits, check_bytes
from weevit.images.formats import EXTENSIONS
from weevit.store.below import FILE, FOLDER, opened_below
from weevit.text import one_line, typed

MAX_FOUND = 1000
"""Images that are taken from a folder."""


class Folders:
    """The folders that may be seen.

    Args:
        roots: folders of this machine; relative paths are looked up in the first.

    Raises:
        UsageError: one is no folder, or there is none.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        if not roots:
            raise UsageError("Which folders may be seen? None was given.", "weevit mcp photos")
        for root in roots:
            if not root.is_dir():
                raise UsageError(f"{root} is no folder.", f"mkdir -p {typed(root)}")
        self.roots = tuple(root.resolve() for root in roots)

    def read(self, path: str, limits: Limits) -> bytes:
        """The bytes of a file.

        Raises:
            UsageError: outside the folders, a link, or no plain file.
            ImageError: too large, or it cannot be read.
        """
        with self._opened(path, FILE) as handle:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise UsageError(f"{one_line(path)} is no plain file.")
            check_bytes(status.st_size, limits)
            with os.fdopen(os.dup(handle), "rb") as file:
                return file.read(limits.max_bytes)

    def images(self, path: str) -> list[str]:
        """The path itself if it is a file, else the images in the folder and below it, sorted, links left out.

        Raises:
            UsageError: as `read`; or more than `MAX_FOUND` images.
        """
        with self._opened(path, FILE) as handle:
            if not stat.S_ISDIR(os.fstat(handle).st_mode):
                return [path]
            found: list[str] = []
            for folder, _, names, at in os.fwalk(dir_fd=handle, follow_symlinks=False):
                plain = [name for name in names if Path(name).suffix.lower() in EXTENSIONS and _is_plain(name, at)]
                found += [os.path.normpath(os.path.join(path, folder, name)) for name in plain]  # noqa: PTH118 - as given
                if len(found) > MAX_FOUND:
                    raise UsageError(f"{one_line(path)} has more than {MAX_FOUND:,} images.", "weevit classify")
        return sorted(found)

    def folder(self, path: str) -> Path:
        """A folder without links in it, for readers of whole folders; UsageError otherwise."""
        with self._opened(path, FOLDER) as handle:
            for folder, folders, names, at in os.fwalk(dir_fd=handle, follow_symlinks=False):
                for name in (*folders, *names):
                    if stat.S_ISLNK(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode):
                        raise UsageError(f"{one_line(Path(path, folder, name))} is a link; links are not followed.")
        root, parts = self._place(path)
        return root.joinpath(*parts)

    def _place(self, path: str) -> tuple[Path, tuple[str, ...]]:
        """The folder that a path lies in, and its parts below it."""
        given = Path(path)
        if not path or "\0" in path:
            raise UsageError(f"{one_line(path)!r} is no path.", "`.` is the first of the folders itself.")
        if ".." in given.parts:
            raise UsageError(f"{one_line(path)}: no path with `..` is followed.")
        if not given.is_absolute():
            return self.roots[0], given.parts
        for root in self.roots:
            if given.is_relative_to(root):
                return root, given.relative_to(root).parts
        shown = ", ".join(map(one_line, self.roots))
        raise UsageError(f"{one_line(path)} lies outside of what may be seen: {shown}.")

    @contextmanager
    def _opened(self, path: str, flags: int) -> Iterator[int]:
        root, parts = self._place(path)
        with ExitStack() as held:
            try:
                handle = held.enter_context(opened_below(root, parts, flags))
            except OSError as error:
                why = "a link, or no folder" if error.errno in _LINKS else error.strerror
                raise UsageError(f"{one_line(path)} cannot be opened: {why}.") from None
            yield handle


_LINKS = (errno.ELOOP, errno.ENOTDIR)


def _is_plain(name: str, at: int) -> bool:
    return stat.S_ISREG(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode)
