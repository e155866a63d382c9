"""The user's home folder, which there need not be: a container may run as a user without a name and without HOME."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
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


def give_matplotlib_a_home() -> None:
    """Where there is no home folder, let matplotlib keep its font list in a temporary one; else importing it fails."""
    if home() is None and not {"MPLCONFIGDIR", "XDG_CACHE_HOME"} & set(os.environ):
        os.environ["MPLCONFIGDIR"] = tempfile.mkdtemp(prefix="weevit-")
        atexit.register(shutil.rmtree, os.environ["MPLCONFIGDIR"], ignore_errors=True)
