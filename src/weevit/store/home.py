"""The user's home folder, which may be absent: a container may run as a user without a name and without HOME."""

from __future__ import annotations

from pathlib import Path


def home() -> Path | None:
    """The home folder; None without one."""
    try:
        found = Path.home()
    except RuntimeError:
        return None
    return found if found.is_absolute() else None


def expand_home(path: str | Path) -> Path:
    """The path with `~` expanded; unchanged without a home folder."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)
