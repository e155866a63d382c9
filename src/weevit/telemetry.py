"""Nothing is sent anywhere or left behind: what dependencies are told before they are imported; later is too late.

Measured on what they do otherwise (2026-11-27): onnxruntime, since 1.29, writes a device id below `~/.cache/Microsoft`
and connects to its maker after some seconds; openvino's import writes an id below `~/intel` and connects to an
analytics service. `tests/test_telemetry.py` runs every verb under a watched home folder and a listening proxy.

A user's own setting of any of these variables is left alone.
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
    "DO_NOT_TRACK": "1",  # what several others look at
}
"""Variables of the environment, which processes that are started here inherit."""

BLOCKED = ("openvino_telemetry",)
"""Modules that nobody in this process can import: openvino has no setting, and does without where this is missing."""

CACHES = {"MPLCONFIGDIR": "matplotlib", "TORCHINDUCTOR_CACHE_DIR": "torchinductor", "TRITON_CACHE_DIR": "triton"}
"""Variables that name the folder where a dependency keeps files between runs, and what it is called in ours."""


def disable() -> None:
    """Tell all of them; called by `import weevit`, before anything else is imported."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    for name in BLOCKED:
        sys.modules.setdefault(name, cast("ModuleType", None))  # None makes an import fail (docs of `sys.modules`)


def keep_caches_in(folder: str | Path | None) -> None:
    """Have dependencies keep their files in a folder of ours; in one that ends with this process where there is none.

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
