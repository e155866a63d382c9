"""Versions, machine and command of a result, for its repetition."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from weevit._version import __version__


def provenance(packages: Iterable[str]) -> dict[str, Any]:
    """`versions` of weevit, Python and these packages (None where not installed), the `machine`, the `command`."""
    return {
        "versions": {"weevit": __version__, "python": platform.python_version()}
        | {package: installed(package) for package in packages},
        "machine": {"system": platform.platform(), "processor": _processor(), "cores": os.cpu_count()},
        "command": sys.argv,
    }


def installed(package: str) -> str | None:
    """The version of a package; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
