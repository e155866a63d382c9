"""The user's home folder, which may be absent: a container may run as a user without a name and without HOME."""

from __future__ import annotations

import os
from pathlib import Path

from weevit.errors import UsageError


def home() -> Path | None:
    """The home folder; None without one."""
    try:
        found = Path.home()
    except RuntimeError:
        return None
    return found if found.is_absolute() else None


def given_path(name: str, given: object) -> Path:
    """A path as a caller in Python gave it, with `~` expanded, which no shell did.

    Raises:
        UsageError: neither text nor a path; `name` is that of the argument.
    """
    if not isinstance(given, str | os.PathLike):
        raise UsageError(f"{name} is a path: {given!r:.60} was given.")
    return expand_home(os.fsdecode(given))


def expand_home(path: str | Path) -> Path:
    """The path with `~` expanded; unchanged without a home folder."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)
