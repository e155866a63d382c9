"""`weevit doctor`: what this machine offers, and what weevit makes of it."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import click

from weevit._version import __version__
from weevit.cli import options
from weevit.cli.console import say, say_json
from weevit.extras import install
from weevit.provenance import installed

_PARTS = {
    "core": ("numpy", "pillow", "onnx", "onnxruntime", "safetensors", "huggingface_hub"),
    "data": ("pyarrow", "scikit-learn"),
    "train": ("torch", "torchvision"),
    "openvino": ("openvino",),
}
"""Extra -> what it installs."""

HUB_SECONDS = 2.0
"""How long the hub may take to answer."""


@click.command()
@options.json_lines
def doctor(json_lines: bool) -> None:
    """Say what is installed, how many threads are used and why, where the caches are, whether the hub answers."""
    facts = examine()
    if json_lines:
        say_json(facts)
        return
    for title, values in facts.items():
        say(title)
        for name, value in values.items():
            say(f"  {name:<16} {value}")


def examine() -> dict[str, dict[str, Any]]:
    """All of it as plain data."""
    return {
        "weevit": {
            "version": __version__,
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "installed": {name: installed(name) or "not installed" for part in _PARTS.values() for name in part},
        "extras": {extra: _extra(extra) for extra in _PARTS if extra != "core"},
        "engines": _engines(),
        "threads": _threads(),
        "caches": _caches(),
        "hub": _hub(),
    }


def _extra(extra: str) -> str:
    there = all(installed(name) for name in _PARTS[extra])
    return "installed" if there else install(extra)


def _engines() -> dict[str, str]:
    import onnxruntime

    engines = {
        "onnxruntime": f"{onnxruntime.__version__} (default): {', '.join(onnxruntime.get_available_providers())}"
    }
    return engines | {"openvino": installed("openvino") or _extra("openvino")}


def _threads() -> dict[str, Any]:
    from weevit.engine.threads import choose_threads, cpu_quota, usable_cores

    chosen, quota = choose_threads(), cpu_quota()
    return {
        "CPUs": os.cpu_count(),
        "allowed CPUs": usable_cores(),
        "CPU quota": "none" if quota is None else f"{quota:g}",
        "chosen": chosen.count,
        "because": chosen.reason,
    }


def _caches() -> dict[str, str]:
    from weevit import embeddings
    from weevit.engine import cache
    from weevit.zoo.hub import cache_folder as hub_folder

    graphs = cache.GraphCache()
    return {
        "built graphs": _cache(graphs.folder, "graphs", graphs.entries(), graphs.limit),
        "embeddings": _cache(embeddings.default_cache(), "models", embeddings.kept(), embeddings.DEFAULT_LIMIT),
        "hub": f"{hub_folder()} · {_writable(hub_folder())}",
    }


def _cache(folder: Path, what: str, entries: list[tuple[Path, int]], limit: int) -> str:
    used = sum(size for _, size in entries) / 1e6
    return f"{folder} · {len(entries)} {what}, {used:.0f} of at most {limit / 1e6:.0f} MB · {_writable(folder)}"


def _writable(folder: Path) -> str:
    """Whether files can be put there; a folder that is not there yet counts by its nearest parent."""
    there = next(parent for parent in [folder.absolute(), *folder.absolute().parents] if parent.exists())
    return "writable" if os.access(there, os.W_OK) else "NOT writable"


def _hub() -> dict[str, str]:
    from weevit.zoo.hub import endpoint, is_offline

    if is_offline():
        return {"address": endpoint(), "answers": "not asked: HF_HUB_OFFLINE is set"}
    return {"address": endpoint(), "answers": _ask(endpoint())}


def _ask(address: str) -> str:
    import urllib.error
    import urllib.request

    request = urllib.request.Request(address, method="HEAD", headers={"User-Agent": f"weevit/{__version__}"})
    try:
        with urllib.request.urlopen(request, timeout=HUB_SECONDS):
            return "yes"
    except urllib.error.HTTPError as error:
        return f"yes (HTTP {error.code})"
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return f"no: {reason}. Models in the cache work without it."
