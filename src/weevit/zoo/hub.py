"""Fetch a model from the hub into huggingface_hub's own cache, and accept no byte that does not match its hash.

A verified snapshot in the cache is used without the network: it answers at once and offline, and cannot change under a
running experiment. `refresh=True` asks the hub for a newer one.

huggingface_hub downloads (progress, retries within a download, HF_TOKEN, redirects, Xet) but checks only the size.
The name of each file in its cache is the hub's hash of it, sha256 for large files and git's sha1 for small ones;
weevit computes both, deletes what differs, and then records the sha256 in `weevit-manifest.json` beside the files,
which `read_checkpoint` checks at every load. A snapshot without that record counts as absent.

HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE have huggingface_hub's meaning, but are read at each
request.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weevit.errors import CheckpointError, ChecksumError, HubError, UsageError, did_you_mean
from weevit.store.files import replace_file, sha256_file
from weevit.store.home import expand_home
from weevit.zoo.config import MAX_CONFIG_BYTES
from weevit.zoo.manifest import CONFIG_FILE, MANIFEST, WEIGHTS_FILE, write_manifest
from weevit.zoo.safetensors_file import CONVERT_HINT, MAX_FILE_BYTES
from weevit.zoo.weights import BY_NAME

Progress = Callable[[str, int, int], None]
"""Called with the file's name, bytes done, bytes in all (0 where not known)."""

FILES = {CONFIG_FILE: MAX_CONFIG_BYTES, WEIGHTS_FILE: MAX_FILE_BYTES}
"""The files of a model, and their maximum sizes."""

ANSWER_SECONDS = 1.2
"""Seconds that the hub may take to locate a file; HF_HUB_ETAG_TIMEOUT overrides it."""

DEFAULT_ENDPOINT = "https://huggingface.co"

_WITHOUT = "Without the hub: --model digits, which comes with weevit (handwritten digits), or the folder of a model."

_FULL = {errno.ENOSPC, errno.EDQUOT}
_SHUT = {errno.EROFS, errno.EACCES, errno.EPERM}
_IN_THE_WAY = {errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENOENT, errno.ELOOP, errno.EIO, errno.ENAMETOOLONG}

_REPO_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def fetch(
    repo_id: str,
    revision: str | None = None,
    refresh: bool = False,
    progress: Progress | None = None,
    cache_dir: str | Path | None = None,
) -> Path:
    """The folder of a verified snapshot, from the cache or from the hub.

    Args:
        repo_id: `organisation/name`.
        revision: branch, tag or commit; `main` where None.
        refresh: ask the hub even if there is a snapshot, and replace files that no longer match their hash;
            HF_HUB_OFFLINE overrides it.
        progress: called with the progress of the download; nothing is printed.
        cache_dir: folder of the models; by default huggingface_hub's.

    Returns:
        A folder with `config.json`, `model.safetensors` and the manifest.

    Raises:
        HubError: not in the cache, and the hub is offline, unreachable, or has no such model.
        ChecksumError: the hub sent other bytes than it promised; they have been deleted.
        CheckpointError: the repository has no `model.safetensors`, or a file is over the size limit.
    """
    revision = revision or "main"
    if not _REPO_ID.fullmatch(repo_id) or not _REVISION.fullmatch(revision) or ".." in repo_id + revision:
        raise UsageError(
            f"{repo_id!r} at {revision!r} cannot be a model on the hub.", "hf-hub:organisation/name@revision"
        )
    cache = expand_home(cache_dir) if cache_dir else cache_folder()
    cached = cached_snapshot(repo_id, revision, cache) if is_offline() or not refresh else None
    if cached:
        return cached
    if is_offline():
        named = repo_id if revision == "main" else f"{repo_id}@{revision}"
        raise HubError(
            f"{named} is not in the cache at {cache}, and HF_HUB_OFFLINE says not to ask the hub.",
            f"Once with a connection: HF_HUB_OFFLINE=0 weevit info hf-hub:{named}\n{_WITHOUT}",
        )
    try:
        return _download(repo_id, revision, progress, cache)
    except OSError as error:
        raise _disk_error(error, repo_id, cache) from error


def cached_snapshot(repo_id: str, revision: str, cache: Path) -> Path | None:
    """The verified snapshot in the cache, or None. Uses no network.

    Files of other programs (timm shares this cache) are verified by the hashes in their names.
    """
    folder = _repo_folder(repo_id, cache)
    commit = revision if _COMMIT.fullmatch(revision) else _ref(folder, revision)
    snapshot = folder / "snapshots" / commit
    if not _COMMIT.fullmatch(commit) or not all((snapshot / name).is_file() for name in FILES):
        return None
    if (snapshot / MANIFEST).is_file():
        return snapshot
    # A blob's name is the hub's hash of it; a plain file (no symlinks on this system) has no name to check by.
    hashes = {name: (snapshot / name).resolve().name for name in FILES if (snapshot / name).is_symlink()}
    if set(hashes) != set(FILES) or not all(_matches(snapshot / name, digest) for name, digest in hashes.items()):
        return None
    _record(snapshot, repo_id)
    return snapshot


def _ref(folder: Path, revision: str) -> str:
    """The commit of a branch or tag when it was fetched; empty if it was not."""
    path = folder / "refs" / revision
    return path.read_text(errors="replace").strip() if path.is_file() else ""


def cache_folder() -> Path:
    """The folder in which huggingface_hub keeps models, by the environment; HubError where there is none."""
    env = os.environ
    home = env.get("HF_HOME") or str(Path(env.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    cache = env.get("HF_HUB_CACHE") or env.get("HUGGINGFACE_HUB_CACHE") or str(Path(home) / "hub")
    folder = expand_home(os.path.expandvars(cache))
    if folder.parts[:1] == ("~",):
        raise HubError(
            "There is no home folder that models from the hub could be kept in, or found in.",
            "Set HF_HOME to a folder. The model `digits` comes with weevit, and a folder with a model needs no hub.",
        )
    return folder


def is_offline() -> bool:
    """Whether the environment forbids the network."""
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.upper() in {"1", "ON", "YES", "TRUE"}


def endpoint() -> str:
    """The hub's address, without a slash at the end."""
    return (os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")


def _client() -> Any:
    """huggingface_hub, imported with its telemetry off, which would fetch a list before the first request.

    On a dead connection that alone costs three seconds. A program that has imported it before keeps its own setting.
    """
    name = "HF_HUB_DISABLE_TELEMETRY"
    before = os.environ.get(name)
    os.environ[name] = before or "1"
    try:
        import huggingface_hub.constants  # reads the environment once, at import
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
    return huggingface_hub


def _answer_seconds() -> float:
    value = os.environ.get("HF_HUB_ETAG_TIMEOUT", "")
    return float(value) if value.isdigit() else ANSWER_SECONDS


@dataclass(frozen=True)
class _Remote:
    """The hub's promise about a file: its commit, its hash and its size."""

    commit: str
    digest: str
    size: int | None


def _download(repo_id: str, revision: str, progress: Progress | None, cache: Path) -> Path:
    first = _ask(repo_id, CONFIG_FILE, revision)
    # Both files from one commit, even if the branch moves meanwhile.
    remotes = {CONFIG_FILE: first, WEIGHTS_FILE: _ask(repo_id, WEIGHTS_FILE, first.commit)}
    folder = _repo_folder(repo_id, cache)
    snapshot = folder / "snapshots" / first.commit
    for name, remote in remotes.items():
        if remote.size is not None and remote.size > FILES[name]:
            raise CheckpointError(f"{name} of {repo_id} has {remote.size:,} bytes; the limit is {FILES[name]:,}.")
        for path in (snapshot / name, folder / "blobs" / remote.digest):
            if path.exists() and not _matches(path, remote.digest):
                _discard(path, cache)  # or huggingface_hub would take it for the file
        _get(repo_id, name, remote.commit, progress, cache)
        if not _matches(snapshot / name, remote.digest, remote.size):
            _discard(snapshot / name, cache)
            raise ChecksumError(
                f"{name} of {repo_id} is not what {endpoint()} promised: its hash should be {remote.digest}. "
                "It has been deleted.",
                "Try again; if it stays so, a proxy or a mirror on the way changes the file.",
            )
    _record(snapshot, repo_id)
    if not _COMMIT.fullmatch(revision):
        ref = folder / "refs" / revision
        ref.parent.mkdir(parents=True, exist_ok=True)
        # Last: an interrupted download leaves the previous snapshot in use.
        replace_file(ref, lambda tmp: tmp.write_text(first.commit))
    return snapshot


def _ask(repo_id: str, name: str, revision: str) -> _Remote:
    """The hub's answer about a file, or an error at once; huggingface_hub itself would retry for a minute."""
    try:
        url = _client().hf_hub_url(repo_id, name, revision=revision, endpoint=endpoint())
        answer = _client().get_hf_file_metadata(
            url, timeout=_answer_seconds(), endpoint=endpoint(), library_name="weevit"
        )
    except Exception as error:  # huggingface_hub's HTTP client and its errors change with versions
        raise _hub_error(error, repo_id, name) from error
    digest, commit = answer.etag or "", answer.commit_hash or ""
    if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", digest) or not _COMMIT.fullmatch(commit):
        raise HubError(f"{endpoint()} gives no hash for {name} of {repo_id}, so the download could not be verified.")
    return _Remote(commit, digest, answer.size)


def _get(repo_id: str, name: str, commit: str, progress: Progress | None, cache: Path) -> None:
    try:
        _client().hf_hub_download(
            repo_id,
            name,
            revision=commit,
            cache_dir=cache,
            endpoint=endpoint(),
            etag_timeout=_answer_seconds(),
            tqdm_class=_bar(name, progress),
            library_name="weevit",
        )
    except Exception as error:
        raise _hub_error(error, repo_id, name) from error


def _bar(name: str, progress: Progress | None) -> Any:
    """A silent progress bar for huggingface_hub that reports to a function."""
    from tqdm.auto import tqdm

    class Bar(tqdm):  # type: ignore[misc]  # tqdm has no types
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)
            super().__init__(*args, **{**kwargs, "disable": True})

        def update(self, n: float | None = 1) -> None:
            self.n += n or 0
            if progress:
                progress(name, int(self.n), int(self.total or 0))

        # Xet counts received and rebuilt bytes; a class with these two gets both on one bar, and only one counts.
        def update_transfer(self, n: float | None = 1) -> None: ...

        def set_transfer_postfix_str(self, *args: Any, **kwargs: Any) -> None: ...

    return Bar


def _matches(path: Path, digest: str, size: int | None = None) -> bool:
    """Whether a file has the hub's hash: sha256 (64 digits), or git's sha1 of a blob (40)."""
    if size is not None and path.stat().st_size != size:
        return False
    if len(digest) == 64:
        return sha256_file(path) == digest
    content = path.read_bytes()  # only small files have the short hash
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == digest


def _discard(path: Path, cache: Path) -> None:
    """Delete a file of the cache and every link to it on the path."""
    (path.parent / MANIFEST).unlink(missing_ok=True)
    while path.is_symlink():
        target = path.parent / path.readlink()
        path.unlink()
        path = target
    if path.resolve().is_relative_to(cache.resolve()):
        path.unlink(missing_ok=True)


def _record(snapshot: Path, repo_id: str) -> None:
    digests = {name: sha256_file(snapshot / name) for name in FILES}
    try:
        write_manifest(snapshot, digests, source=f"hf-hub:{repo_id}", revision=snapshot.name)
    except OSError:
        # A read-only cache (a container's image) also works: its names are verified each time.
        return


def _repo_folder(repo_id: str, cache: Path) -> Path:
    return cache / f"models--{repo_id.replace('/', '--')}"


def _hub_error(error: Exception, repo_id: str, name: str) -> CheckpointError | HubError:
    """The error of huggingface_hub or its HTTP client in one line, with a remedy."""
    disk = _on_disk(error)
    if disk is not None:
        return _disk_error(disk, repo_id, cache_folder())
    kinds = {kind.__name__ for kind in type(error).__mro__}
    status = getattr(getattr(error, "response", None), "status_code", None)
    if "RevisionNotFoundError" in kinds:
        return HubError(f"{repo_id} has no such revision.", f"The revisions it has: {endpoint()}/{repo_id}/tree/main")
    if "EntryNotFoundError" in kinds and status == 404 and name == WEIGHTS_FILE:
        return CheckpointError(
            f"{repo_id} has no {WEIGHTS_FILE}; weights of any other kind are not opened.", CONVERT_HINT
        )
    if "GatedRepoError" in kinds or status == 403:
        return HubError(
            f"The hub does not show {repo_id} to everybody.",
            f"Ask for access at {endpoint()}/{repo_id}, then set HF_TOKEN to a token of your account.",
        )
    if status in (401, 404):
        published = {weight.hub_id for weight in BY_NAME.values()}
        if repo_id in published:
            hint = "It is published at https://huggingface.co: HF_ENDPOINT says which hub is asked."
        else:
            hint = did_you_mean(repo_id, published) or "If it is private, set HF_TOKEN to a token that may read it."
        return HubError(f"The hub at {endpoint()} has no {name} of {repo_id}, or does not show it to you.", hint)
    return HubError(
        f"{repo_id} is not in the cache, and {endpoint()} could not be used: {_reason(error, status)}.",
        "Check the connection and HF_ENDPOINT; on a slow line, set HF_HUB_ETAG_TIMEOUT to some seconds more. "
        f"A model that was fetched once needs no connection.\n{_WITHOUT}",
    )


def _on_disk(error: BaseException | None) -> OSError | None:
    """The cause of an error that concerns a file; errors of a connection have the same class, but no file name."""
    while error is not None:
        number = error.errno if isinstance(error, OSError) else None
        named = isinstance(error, OSError) and error.filename is not None
        if isinstance(error, OSError) and (
            number in _FULL | {errno.EROFS} or (named and number in _SHUT | _IN_THE_WAY)
        ):
            return error
        error = error.__cause__ or error.__context__
    return None


def _disk_error(error: OSError, repo_id: str, cache: Path) -> HubError:
    """The error for an unusable cache."""
    where = f" ({error.filename})" if error.filename is not None else ""
    hint = "Free some room there, or set" if error.errno in _FULL else "Make it writable, or set"
    return HubError(
        f"{repo_id} could not be kept in the cache at {cache}: {error.strerror or error}{where}.",
        f"{hint} HF_HOME to a folder with room that may be written.",
    )


def _reason(error: Exception, status: int | None) -> str:
    if status is not None:
        return f"it answered {status}"
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
