"""Where the files of a search are, so that they can be moved later: below which folder, and behind no link."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from weevit.duplicates.groups import Place
from weevit.images.source import Source

_BEHIND_LINKS = ""


class Places:
    """The places of files, and the folders that they are relative to.

    Args:
        words: paths that the user gave: the files of a folder among them are relative to it, all others to their own.

    Attributes:
        roots: absolute path of each folder, without links -> its index, in the order in which files were found in them.
    """

    def __init__(self, words: Iterable[str]) -> None:
        given = {os.path.abspath(word) for word in words if "://" not in word and os.path.isdir(word)}  # noqa: PTH100, PTH112 - text
        self._given = sorted(given, key=len, reverse=True)
        self.roots: dict[str, int] = {}
        self._real = cache(os.path.realpath)

    def of(self, source: Source) -> Place | None:
        """The place of a plain file; None for anything else, and for a name that is no text."""
        if not isinstance(source.value, str | Path):
            return None
        folder, name = os.path.split(os.path.abspath(source.value))  # noqa: PTH100 - text
        try:
            root, below = self._below(folder)
            status = os.lstat(source.value)
            f"{root}/{below}/{name}".encode()
        except (OSError, ValueError):  # gone since, or bytes that are no text
            return None
        if not stat.S_ISREG(status.st_mode) or root == _BEHIND_LINKS:
            return None
        return Place(
            self.roots.setdefault(root, len(self.roots)), f"{below}/{name}".removeprefix("/"), status.st_mtime_ns
        )

    def _below(self, folder: str) -> tuple[str, str]:
        """A folder as (root, path below it with `/`)."""
        for given in self._given:
            below = os.path.relpath(folder, given)
            if below == os.curdir or not below.startswith(os.pardir):
                root = self._real(given)
                inside = "" if below == os.curdir else below
                direct = self._real(folder) == os.path.join(root, inside).rstrip(os.sep)  # noqa: PTH118 - text
                return (root if direct else _BEHIND_LINKS), inside.replace(os.sep, "/")
        return self._real(folder), ""
