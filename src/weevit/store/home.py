"""The user's home folder, which there need not be: a container may run as a user without a name and without HOME."""

from __future__ import annotations

from pathlib import Path


def home() -> Path | None:
    """The home folder; None where there is none."""
    try:
        found = Path.home()
    except RuntimeError:
        return None
    return found if found.is_absolute() else None


def expand_home(path: str | Path) -> Path:
    """The path with `~` written out; as it is where there is no home folder."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)
