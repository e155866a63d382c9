"""Optional parts, and the command that installs each from where weevit itself came."""

from __future__ import annotations

import json
import os
import shlex
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from weevit.errors import MissingExtraError


def missing(extra: str, message: str, more: str = "") -> MissingExtraError:
    """The error for a part that is not installed.

    Args:
        extra: `data`, `train`, `remote`, `openvino`, ...
        message: what needs which package.
        more: an alternative, after the command.
    """
    return MissingExtraError(message, install(extra) + (f"   {more}" if more else ""))


def needed(module: str, extra: str, message: str, more: str = "") -> Any:
    """A module of an optional part; the error of `missing` where it is not installed."""
    try:
        return import_module(module)
    except ImportError as error:
        raise missing(extra, message, more) from error


def install(extra: str) -> str:
    """The command that installs a part: by its name on the index, or from the folder, archive or repository of weevit.

    pip records the origin (PEP 610).
    """
    origin = _origin() or {}
    address, folder = str(origin.get("url", "")), origin.get("dir_info")
    if isinstance(folder, dict) and (path := _path(address)) is not None:
        editable = "-e " if folder.get("editable") else ""
        return f"pip install {editable}" + _quoted(f"{path}[{extra}]")
    version_control = origin.get("vcs_info")
    if isinstance(version_control, dict) and address:
        commit = version_control.get("commit_id")
        at = f"@{commit}" if isinstance(commit, str) else ""
        kind = version_control.get("vcs", "git")
        return "pip install " + _quoted(f"weevit[{extra}] @ {kind}+{address}{at}")
    archive = _path(address)
    if "archive_info" in origin and (address.startswith("https://") or archive is not None):
        return "pip install " + _quoted(f"weevit[{extra}] @ {address}")
    return "pip install " + _quoted(f"weevit[{extra}]")


def _origin() -> dict[str, Any] | None:
    """pip's record of an installation from elsewhere than an index; None without one."""
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        found = json.loads(distribution("weevit").read_text("direct_url.json") or "null")
    except (PackageNotFoundError, OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _path(address: str) -> Path | None:
    """The file or folder of a `file://` address, if it still exists."""
    parts = urlsplit(address)
    if parts.scheme != "file":
        return None
    path = unquote(parts.path)
    path = path.lstrip("/") if os.name == "nt" else path
    return Path(path) if os.path.exists(path) else None  # noqa: PTH110 - before a Path is made of it


def _quoted(text: str) -> str:
    """In double quotes, which every shell takes, unless they would expand something."""
    return shlex.quote(text) if set(text) & set('"$`\\!') and os.name != "nt" else f'"{text}"'
