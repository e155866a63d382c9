"""`weevit doctor`: what this machine offers, and what weevit makes of it."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import click

from weevit._version import __version__
from weevit.cli import options
from weevit.cli.console import say, say_json
from weevit.store.extras import install
from weevit.store.provenance import installed

CORE = (
    *("numpy", "pillow", "simplejpeg", "onnx", "onnxruntime", "safetensors", "huggingface_hub", "fsspec"),
    *("click", "rich", "pyyaml"),
)
EXTRAS = {
    "data": ("pyarrow", "scikit-learn", "filelock", "jinja2"),
    "train": ("torch", "torchvision", "matplotlib", "tensorboard"),
    "remote": ("aiohttp", "s3fs"),
    "heic": ("pillow-heif",),
    "openvino": ("openvino",),
    "serve": ("starlette", "uvicorn", "httptools", "python-multipart", "prometheus-client"),
    "mcp": ("mcp",),
    "ray": ("ray",),
}
"""Extra -> what it installs beside other extras."""

HUB_SECONDS = 2.0
"""How long the hub may take to answer."""


@click.command()
@options.json_lines
def doctor(json_lines: bool) -> None:
    """Say what is installed, and what runs where.

    Which instructions the processor has and which precisions are allowed for it, how many threads are used and why,
    where the caches are, whether the hub answers.
    """
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
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "weevit": _weevit,
        "installed": _installed,
        "extras": lambda: {extra: _extra(extra) for extra in EXTRAS},
        "engines": _engines,
        "processor": _processor,
        "precisions": _precisions,
        "threads": _threads,
        "caches": _caches,
        "hub": _hub,
    }
    return {title: _found(part) for title, part in parts.items()}


def _found(part: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a part says, or what it ran into: whoever asks a doctor has something that is broken."""
    try:
        return part()
    except Exception as error:
        return {"could not be found out": f"{type(error).__name__}: {error}"}


def _weevit() -> dict[str, Any]:
    system = f"{platform.system()} {platform.machine()}"
    return {"version": __version__, "python": platform.python_version(), "system": system}


def _installed() -> dict[str, Any]:
    return {name: installed(name) or "not installed" for name in CORE}


def _extra(extra: str) -> str:
    """The versions of its packages, or the command that installs those that are not there."""
    found = {name: installed(name) for name in EXTRAS[extra]}
    return ", ".join(f"{name} {version}" for name, version in found.items()) if all(found.values()) else install(extra)


def _engines() -> dict[str, str]:
    import onnxruntime

    engines = {
        "onnxruntime": f"{onnxruntime.__version__} (default): {', '.join(onnxruntime.get_available_providers())}"
    }
    return engines | {
        "openvino": installed("openvino") or _extra("openvino"),
        "torch": installed("torch") or _extra("train"),
    }


def _processor() -> dict[str, str]:
    from weevit.engine.machine import cpu

    found = cpu()
    return {"instruction set": found.name} | {f"{kind} kernels": said for kind, said in found.kernels().items()}


def _precisions() -> dict[str, str]:
    """What `--precision` and `--device` choose here, each with its reason, or why it is refused."""
    from weevit.engine.choice import WAYS, refusal

    found: dict[str, str] = {}
    for way in WAYS:
        refused = refusal(way)
        said = f"{way.engine}: {way.why}" if refused is None else f"refused: {refused.message}"
        found.setdefault(f"{way.precision} on {way.device}", said)
    return found


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
    from weevit.engine import cache
    from weevit.search import kept
    from weevit.zoo.hub import cache_folder as hub_folder

    def graphs() -> str:
        kept = cache.GraphCache()
        return _cache(kept.folder, "graphs", kept.entries(), kept.limit)

    def vectors() -> str:
        return _cache(kept.default_cache(), "models", kept.kept_folders(), kept.DEFAULT_LIMIT)

    def hub() -> str:
        return f"{hub_folder()} · {_writable(hub_folder())}"

    asked: dict[str, Callable[[], str]] = {"built graphs": graphs, "embeddings": vectors, "hub": hub}
    return {name: str(_found(lambda own=own: {"": own()}).popitem()[1]) for name, own in asked.items()}  # type: ignore[misc]  # a lambda's default


def _cache(folder: Path | None, what: str, entries: list[tuple[Path, int]], limit: int) -> str:
    if folder is None:
        return "none: there is no home folder; WEEVIT_CACHE names another"
    used = sum(size for _, size in entries) / 1e6
    return f"{folder} · {len(entries)} {what}, {used:.0f} of at most {limit / 1e6:.0f} MB · {_writable(folder)}"


def _writable(folder: Path) -> str:
    """Whether files can be put there; a folder that is not there yet counts by its nearest parent."""
    there = next(parent for parent in [folder.absolute(), *folder.absolute().parents] if parent.exists())
    if not there.is_dir():
        return f"NOT writable: {there} is no folder"
    return "writable" if os.access(there, os.W_OK) else "NOT writable"


def _hub() -> dict[str, str]:
    from weevit.zoo.hub import endpoint, is_offline

    if is_offline():
        return {"address": endpoint(), "answers": "not asked: HF_HUB_OFFLINE is set"}
    return {"address": endpoint(), "answers": _ask_shortly(endpoint())}


def _ask_shortly(address: str) -> str:
    """As `_ask`, within twice `HUB_SECONDS`: a name server that is silent, or an answer in drops, has no limit else."""
    found: list[str] = []
    asking = Thread(target=lambda: found.append(_ask(address)), daemon=True)
    asking.start()
    asking.join(2 * HUB_SECONDS)
    return found[0] if found else "no: timed out. Models in the cache work without it."


def _ask(address: str) -> str:
    import urllib.error
    import urllib.request

    try:
        request = urllib.request.Request(address, method="HEAD", headers={"User-Agent": f"weevit/{__version__}"})
        with urllib.request.urlopen(request, timeout=HUB_SECONDS):
            return "yes"
    except urllib.error.HTTPError as error:
        return f"yes (HTTP {error.code})"
    except Exception as error:  # a proxy, a certificate or an address of any kind
        reason = getattr(error, "reason", error)
        return f"no: {reason}. Models in the cache work without it."
