"""From a model's name to a verified checkpoint."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from weevit.errors import CheckpointError, UnknownModelError, UsageError, did_you_mean
from weevit.store.home import expand_home
from weevit.zoo.architectures import ARCHITECTURES
from weevit.zoo.checkpoint import Checkpoint, read_checkpoint
from weevit.zoo.hub import Progress, cache_folder, cached_snapshot, fetch
from weevit.zoo.safetensors_file import PICKLE_ENDINGS
from weevit.zoo.weights import ALIASES, BY_NAME, Weight, find_weight

HUB_PREFIXES = ("hf-hub:", "hf_hub:")
FOLDER_PREFIX = "local-dir:"

EMBEDDED = Path(__file__).with_name("embedded")
"""The models in weevit's package, a folder each in the hub's format."""

_LIST = "weevit models   lists them all"


def resolve(
    model: str | Path,
    revision: str | None = None,
    refresh: bool = False,
    progress: Progress | None = None,
    cache_dir: str | Path | None = None,
) -> Checkpoint:
    """Find a model, fetch it if needed, and verify it.

    A name that weevit knows means the published model, even where a folder of that name exists (write `./tiny` for the
    folder): a command means the same in every folder.

    Args:
        model: an alias (`pwee`), a full tag (`architecture.tag`), an architecture (for its default tag),
            `hf-hub:organisation/name[@revision]`, a folder in the hub's format (with or without `local-dir:`),
            a run folder, or a `.safetensors` file.
        revision: revision of a model on the hub.
        refresh: ask the hub even if the model is in the cache.
        progress: called with the progress of a download.
        cache_dir: folder of the hub's models; by default huggingface_hub's.

    Raises:
        UnknownModelError: no model has this name.
        UsageError: a revision of a local model, or two revisions.
        HubError: not in the cache, and not to be had from the hub.
        CheckpointError: the model cannot be trusted or used.
    """
    check_name(model)
    if isinstance(model, str):
        repo_id, weight = _on_hub(model)
        if weight and weight.embedded:
            return _from_package(weight, revision)
        if repo_id:
            chosen = _one_revision(model, repo_id, revision)
            repo_id = repo_id.partition("@")[0]
            return _from_hub(repo_id, weight, chosen, fetch(repo_id, chosen, refresh, progress, cache_dir))
        path = _as_path(model)
    else:
        path = Path(model)
    if revision:
        raise UsageError(f"{path} is a local path and has no revision {revision!r}.")
    return read_checkpoint(path)


def check_name(model: object) -> None:
    """UsageError for a model that is neither text nor a path."""
    if not isinstance(model, str | os.PathLike):
        raise UsageError(f"A model is a name or a path: {model!r} was given.", _LIST)


def needs_fetching(model: str | Path) -> bool:
    """Whether `resolve` would ask the hub; uses no network."""
    if not isinstance(model, str):
        return False
    repo_id, weight = _on_hub(model)
    name, _, revision = repo_id.partition("@")
    if not name or (weight and weight.embedded):
        return False
    try:
        return cached_snapshot(name, revision or "main", cache_folder()) is None
    except (OSError, ValueError, RuntimeError):  # an invalid name or an unreadable folder: `resolve` raises
        return True


def _on_hub(model: str) -> tuple[str, Weight | None]:
    """The repository of a name, with its revision if any, and the weight; empty for a local model."""
    for prefix in HUB_PREFIXES:
        if model.startswith(prefix):
            return model.removeprefix(prefix), None
    weight = find_weight(model)
    return (weight.hub_id, weight) if weight else ("", None)


def _one_revision(model: str, repo_id: str, revision: str | None) -> str | None:
    inline = repo_id.partition("@")[2]
    if inline and revision and inline != revision:
        raise UsageError(f"{model!r} names one revision and revision={revision!r} another.")
    return inline or revision


def _from_hub(repo_id: str, weight: Weight | None, revision: str | None, snapshot: Path) -> Checkpoint:
    source = f"hf-hub:{repo_id}"
    checkpoint = read_checkpoint(snapshot, source)
    if weight and checkpoint.architecture.name != weight.architecture.name:
        raise CheckpointError(f"{source} holds {checkpoint.architecture.name}, and not {weight.architecture.name}.")
    if weight and revision is None:
        return replace(checkpoint, name=weight.name)
    return checkpoint


def _from_package(weight: Weight, revision: str | None) -> Checkpoint:
    if revision:
        raise UsageError(f"{weight.alias} comes with weevit and has no revision {revision!r}.")
    found = read_checkpoint(EMBEDDED / weight.embedded)
    return replace(found, name=weight.name, license=weight.license, notes=(*found.notes, weight.about))


def _as_path(model: str) -> Path:
    """The local path of a name, if it can be one."""
    path = expand_home(model.removeprefix(FOLDER_PREFIX))
    looks_like_one = model.startswith((FOLDER_PREFIX, ".", "~", os.sep))
    there = bool(model) and os.path.exists(path)  # noqa: PTH110 - raises for no path
    if looks_like_one or there or path.suffix.lower() in (".safetensors", *PICKLE_ENDINGS):
        return path
    raise _unknown(model)


def _unknown(model: str) -> UnknownModelError:
    name, _, tag = model.partition(".")
    if model.startswith(("http://", "https://")):
        repo_id = "/".join(model.split("/")[3:5])
        return UnknownModelError(f"{model!r} is an address; models have names.", f"hf-hub:{repo_id}")
    if "/" in model or os.sep in model:
        return UnknownModelError(f"There is no folder {model!r}.", f"On the hub it would be: hf-hub:{model}")
    if name in ARCHITECTURES and not tag:
        return UnknownModelError(
            f"No weights are published for {name}.", f"Weights of your own: name their folder.   {_LIST}"
        )
    if name in ARCHITECTURES:
        tags = [row.name for row in BY_NAME.values() if row.name.startswith(f"{name}.")]
        return UnknownModelError(
            f"{name} is known, its tag {tag!r} is not. Known: {', '.join(tags) or 'none'}.",
            f"If timm has it on the hub: hf-hub:timm/{model}",
        )
    near = did_you_mean(model, [*ALIASES, *BY_NAME, *ARCHITECTURES])
    return UnknownModelError(
        f"No model {model!r}: not an alias, a tag or an architecture of this family, and no folder of that name.",
        f"{near}   {_LIST}" if near else _LIST,
    )
