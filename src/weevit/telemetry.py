"""No telemetry and no files left behind: settings for dependencies, made before they are imported; later is too late.

Measured without these settings (2026-11-27): onnxruntime, since 1.29, writes a device id below `~/.cache/Microsoft`
and connects to its maker after some seconds; openvino's import writes an id below `~/intel` and connects to an
analytics service. `tests/test_telemetry.py` runs every verb under a watched home folder and a listening proxy.

A user's own setting of any of these variables is kept.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

SETTINGS = {
    "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime; read when it is imported
    "HF_HUB_DISABLE_TELEMETRY": "1",  # huggingface_hub: library names in its requests to the hub
    "RAY_USAGE_STATS_ENABLED": "0",
    "DO_NOT_TRACK": "1",  # several other libraries
}
"""Environment variables, which child processes inherit."""

BLOCKED = ("openvino_telemetry",)
"""Modules that cannot be imported in this process: openvino has no setting, and works without this one."""

CACHES = {"MPLCONFIGDIR": "matplotlib", "TORCHINDUCTOR_CACHE_DIR": "torchinductor", "TRITON_CACHE_DIR": "triton"}
"""Variable with the folder of a dependency's files -> its name in ours."""


def disable() -> None:
    """Apply the settings; called by `import weevit`, before anything else is imported."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    for name in BLOCKED:
        sys.modules.setdefault(name, cast("ModuleType", None))  # None makes an import fail (docs of `sys.modules`)


def keep_caches_in(folder: str | Path | None) -> None:
    """Keep the dependencies' files in a folder of ours; without one in a folder that ends with this process.

    Without a home folder, importing matplotlib fails otherwise.
    """
    if folder is None and not set(CACHES) <= set(os.environ):
        import atexit
        import tempfile

        kept = tempfile.TemporaryDirectory(prefix="weevit-")
        atexit.register(kept.cleanup)
        folder = kept.name
    for name, own in CACHES.items():
        os.environ.setdefault(name, os.path.join(folder or "", own))  # noqa: PTH118 - pathlib is not imported at start
