"""A hub on loopback that does everything wrong: nothing unverified stays in the cache, and offline means offline."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import fakes
import huggingface_hub
import pytest
from huggingface_hub import constants, file_download
from loopback_hub import COMMIT, Fault, LoopbackHub

from weevit.errors import CheckpointError, ChecksumError, HubError, UsageError
from weevit.zoo.checkpoint import read_checkpoint
from weevit.zoo.hub import cache_folder, fetch
from weevit.zoo.manifest import MANIFEST
from weevit.zoo.resolve import needs_fetching

REPO = f"timm/{fakes.TINY_TAG}"
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.folder(tmp_path_factory.mktemp("published"))


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """huggingface_hub waits a second before it resumes; the wait is all that is left out here."""
    monkeypatch.setattr(file_download, "time", SimpleNamespace(sleep=lambda seconds: None))


@pytest.fixture
def hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    with LoopbackHub() as hub:
        hub.add(REPO, folder)
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield hub


def cached_files() -> list[str]:
    """Everything in the cache that anybody could take for a model's file."""
    return sorted(
        item.name
        for item in cache_folder().rglob("*")
        if (item.is_file() or item.is_symlink()) and {"blobs", "snapshots"} & set(item.parts)
    )


def blob(content: bytes) -> Path:
    return cache_folder() / f"models--{REPO.replace('/', '--')}" / "blobs" / hashlib.sha256(content).hexdigest()


def test_a_download_is_verified_recorded_and_used_again(hub: LoopbackHub, folder: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    found = fetch(REPO, progress=lambda *report: seen.append(report))
    assert (found.name, found.parent.name) == (COMMIT, "snapshots")
    assert (found / WEIGHTS).read_bytes() == (folder / WEIGHTS).read_bytes()
    assert (found / MANIFEST).is_file()
    size = (folder / WEIGHTS).stat().st_size
    assert seen[-1] == (WEIGHTS, size, size)
    hub.requests.clear()
    assert fetch(REPO) == found
    assert fetch(REPO, COMMIT) == found
    assert hub.requests == []
    assert read_checkpoint(found).name == fakes.TINY_TAG


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_cut_connection_is_resumed(share: float, hub: LoopbackHub, folder: Path) -> None:
    hub.faults[WEIGHTS] = Fault(cut=share)
    found = fetch(REPO)
    content = (folder / WEIGHTS).read_bytes()
    assert (found / WEIGHTS).read_bytes() == content
    # It goes on from the last whole chunk, of 10 MB, that had arrived.
    first, second = hub.asked("GET", WEIGHTS)
    arrived = int(len(content) * share) // constants.DOWNLOAD_CHUNK_SIZE * constants.DOWNLOAD_CHUNK_SIZE
    assert (first.range, second.range) == ("", f"bytes={arrived}-" if arrived else "")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_connection_that_stays_cut_leaves_nothing(share: float, hub: LoopbackHub) -> None:
    hub.faults[WEIGHTS] = Fault(cut=0.0, times=1000)
    hub.faults["config.json"] = Fault(cut=share, times=1)
    with pytest.raises(HubError, match="could not be used"):
        fetch(REPO)
    assert [name for name in cached_files() if "incomplete" in name or name == WEIGHTS] == []
    hub.faults.clear()
    assert (fetch(REPO) / WEIGHTS).is_file()


@pytest.mark.parametrize("name", [WEIGHTS, "config.json"])
def test_other_bytes_than_promised_are_deleted(name: str, hub: LoopbackHub, folder: Path) -> None:
    content = bytearray((folder / name).read_bytes())
    content[-3] ^= 1
    hub.faults[name] = Fault(content=bytes(content))
    with pytest.raises(ChecksumError, match="is not what"):
        fetch(REPO)
    assert name not in cached_files()
    assert MANIFEST not in cached_files()
    assert not any(hashlib.sha256(item.read_bytes()).digest() == hashlib.sha256(content).digest()
                   for item in cache_folder().rglob("*") if item.is_file())  # fmt: skip
    hub.faults.clear()
    assert (fetch(REPO) / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize("difference", [-1000, 1000])
def test_another_size_than_promised_leaves_nothing(difference: int, hub: LoopbackHub, folder: Path) -> None:
    size = (folder / WEIGHTS).stat().st_size
    hub.faults[WEIGHTS] = Fault(promised_size=size + difference)
    with pytest.raises(HubError):
        fetch(REPO)
    assert WEIGHTS not in cached_files()


def test_a_file_over_the_limit_is_not_downloaded(hub: LoopbackHub) -> None:
    hub.faults[WEIGHTS] = Fault(promised_size=10 << 30)
    with pytest.raises(CheckpointError, match="the limit"):
        fetch(REPO)
    assert hub.asked("GET", WEIGHTS) == []


@pytest.mark.parametrize("status", [500, 502, 503])
def test_a_hub_that_fails(status: int, hub: LoopbackHub) -> None:
    hub.faults[WEIGHTS] = Fault(head_status=status)
    start = time.perf_counter()
    with pytest.raises(HubError, match=f"answered {status}"):
        fetch(REPO)
    assert time.perf_counter() - start < 2
    hub.faults[WEIGHTS] = Fault(status=status)
    with pytest.raises(HubError, match=f"answered {status}"):
        fetch(REPO)
    assert WEIGHTS not in cached_files()
    assert (fetch(REPO) / WEIGHTS).is_file()


def test_a_redirect_elsewhere_is_verified_and_gets_no_token(
    hub: LoopbackHub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with LoopbackHub() as other:
        other.add(REPO, folder)
        hub.faults[WEIGHTS] = Fault(elsewhere=f"{other.url}/{REPO}/resolve/main/{WEIGHTS}")
        content = bytearray((folder / WEIGHTS).read_bytes())
        content[-3] ^= 1
        other.faults[WEIGHTS] = Fault(content=bytes(content))
        with pytest.raises(ChecksumError):
            fetch(REPO)
        assert WEIGHTS not in cached_files()
        other.faults.clear()
        assert (fetch(REPO) / WEIGHTS).read_bytes() == (folder / WEIGHTS).read_bytes()
        assert {request.authorization for request in other.requests} == {""}
    assert {request.authorization for request in hub.requests} == {"Bearer hf_secret"}


def test_models_that_are_not_there(hub: LoopbackHub) -> None:
    with pytest.raises(HubError) as caught:
        fetch("timm/vit_pwee_patch16_reg1_gap_256.sbb_in1")
    assert "timm/vit_pwee_patch16_reg1_gap_256.sbb_in1k" in caught.value.hint
    with pytest.raises(HubError, match="no such revision"):
        fetch(REPO, "v2")
    hub.faults["config.json"] = Fault(head_status=403, error_code="GatedRepo")
    with pytest.raises(HubError) as caught:
        fetch(REPO)
    assert "HF_TOKEN" in caught.value.hint
    assert cached_files() == []


def test_a_repository_of_pickles(hub: LoopbackHub, folder: Path) -> None:
    files = {"config.json": (folder / "config.json").read_bytes(), "pytorch_model.bin": b"\x80\x04"}
    hub.add("some/body", files)
    with pytest.raises(CheckpointError, match=r"no model\.safetensors"):
        fetch("some/body")
    assert hub.asked("GET", "pytorch_model.bin") == []


@pytest.mark.parametrize("repo_id", ["", "x", "a/b/c", "../x", "a/..", "a b/c", "/etc/passwd", "a/b\n"])
def test_ids_that_cannot_be_meant(repo_id: str, hub: LoopbackHub) -> None:
    with pytest.raises(UsageError):
        fetch(repo_id)
    with pytest.raises(UsageError):
        fetch(REPO, "../../x")
    assert hub.requests == []


def test_a_new_version_is_taken_when_asked_for(hub: LoopbackHub, folder: Path, tmp_path: Path) -> None:
    before = fetch(REPO)
    newer = fakes.folder(tmp_path, fakes.config(license="mit"))
    hub.add(REPO, newer, commit="d" * 40)
    assert fetch(REPO) == before
    hub.faults[WEIGHTS] = Fault(head_status=500)
    with pytest.raises(HubError):
        fetch(REPO, refresh=True)
    assert fetch(REPO) == before  # an update that failed leaves what was there in use
    hub.faults.clear()
    after = fetch(REPO, refresh=True)
    assert after.name == "d" * 40
    assert read_checkpoint(after).license == "mit"
    assert fetch(REPO, COMMIT) == before


def test_a_file_that_rots_in_the_cache(hub: LoopbackHub, folder: Path) -> None:
    snapshot = fetch(REPO)
    content = (folder / WEIGHTS).read_bytes()
    blob(content).write_bytes(content[:-3] + b"\x01" + content[-2:])
    with pytest.raises(ChecksumError) as caught:
        read_checkpoint(fetch(REPO), f"hf-hub:{REPO}").tensors()
    assert "refresh=True" in caught.value.hint
    assert (fetch(REPO, refresh=True) / WEIGHTS).read_bytes() == content
    assert read_checkpoint(snapshot).name == fakes.TINY_TAG


def test_what_another_program_cached_is_verified_first(hub: LoopbackHub, folder: Path) -> None:
    """timm shares the cache and verifies nothing; a link or a kill may also have left it half done."""
    snapshot = fetch(REPO)
    (snapshot / MANIFEST).unlink()
    hub.requests.clear()
    assert fetch(REPO) == snapshot
    assert (snapshot / MANIFEST).is_file()
    assert hub.requests == []
    (snapshot / MANIFEST).unlink()
    content = (folder / WEIGHTS).read_bytes()
    blob(content).write_bytes(content[:1000])
    assert (fetch(REPO) / WEIGHTS).read_bytes() == content
    assert len(hub.asked("GET", WEIGHTS)) == 1


def test_files_without_links_have_no_hash_to_verify_by(hub: LoopbackHub, folder: Path) -> None:
    snapshot = fetch(REPO)
    content = (folder / WEIGHTS).read_bytes()
    (snapshot / WEIGHTS).unlink()
    (snapshot / WEIGHTS).write_bytes(content)
    (snapshot / MANIFEST).unlink()
    hub.requests.clear()
    assert fetch(REPO) == snapshot
    assert hub.asked("HEAD", WEIGHTS)  # asked what it should be,
    assert not hub.asked("GET", WEIGHTS)  # and it is


# Offline.


def test_the_cache_answers_without_a_connection(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = fetch(REPO)
    hub.requests.clear()

    def no_sockets(*args: object, **kwargs: object) -> None:
        raise AssertionError("a socket was opened")

    with monkeypatch.context() as patch:
        patch.setattr(socket.socket, "connect", no_sockets)
        patch.setattr(socket, "getaddrinfo", no_sockets)
        assert fetch(REPO) == snapshot
        patch.setenv("HF_HUB_OFFLINE", "1")
        assert fetch(REPO, refresh=True) == snapshot
    assert hub.requests == []


SCRIPT = """
import sys, time
from weevit.errors import HubError
from weevit.zoo.hub import fetch
start = time.perf_counter()
try: fetch(sys.argv[1])
except HubError as error: print(time.perf_counter() - start, "huggingface_hub" in sys.modules, bool(error.hint))
"""


def absent() -> tuple[float, bool, bool]:
    """Ask for a model in a process of its own: seconds, whether the client was imported, whether there is a hint."""
    done = subprocess.run([sys.executable, "-c", SCRIPT, REPO], capture_output=True, text=True, check=True)
    seconds, imported, hinted = done.stdout.split()
    return float(seconds), imported == "True", hinted == "True"


@pytest.mark.parametrize("how", ["refused", "silent", "unknown host"])
def test_an_absent_model_is_refused_within_two_seconds(
    how: str, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.faults["config.json"] = Fault(silent=10)
    if how != "silent":
        monkeypatch.setenv("HF_ENDPOINT", {"refused": "http://127.0.0.1:9", "unknown host": "http://hub.invalid"}[how])
    seconds, _, hinted = min(absent() for _ in range(2))  # the better of two: others may be busy on the machine
    assert seconds < 2
    assert hinted
    assert {request.path.split("/")[-1] for request in hub.requests} == ({"config.json"} if how == "silent" else set())


def test_offline_is_refused_without_even_importing_the_client(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    seconds, imported, hinted = absent()
    assert seconds < 0.5
    assert (imported, hinted) == (False, True)
    assert hub.requests == []


def test_offline_the_next_command_has_the_revision(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for asked, typed in (("v2", "hf-hub:a/b@v2"), (None, "hf-hub:a/b")):
        with pytest.raises(HubError) as failed:
            fetch("a/b", asked, cache_dir=tmp_path)
        assert f"weevit info {typed}\n" in failed.value.hint


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "huggingface" / "hub"
    for name, wanted in {
        "XDG_CACHE_HOME": tmp_path / "x" / "huggingface" / "hub",
        "HF_HOME": tmp_path / "x" / "hub",
        "HF_HUB_CACHE": tmp_path / "x",
    }.items():
        monkeypatch.setenv(name, str(tmp_path / "x"))
        assert cache_folder() == wanted


def test_a_hub_that_lacks_what_is_published(hub: LoopbackHub) -> None:
    name = "timm/vit_pwee_patch16_reg1_gap_256.sbb_in1k"
    with pytest.raises(HubError) as caught:
        fetch(name)
    assert "HF_ENDPOINT says which hub is asked" in caught.value.hint
    assert name not in caught.value.hint  # it is what was given


def test_a_cache_that_cannot_be_written_is_no_dead_connection(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
    with pytest.raises(HubError, match="could not be kept in the cache at") as caught:
        fetch(REPO)
    assert "onnection" not in str(caught.value)
    assert "HF_HOME" in caught.value.hint


@pytest.mark.parametrize(
    ("number", "named", "hint"),
    [
        (errno.ENOSPC, False, "Free some room"),
        (errno.EDQUOT, True, "Free some room"),
        (errno.EROFS, False, "Make it writable"),
        (errno.EACCES, True, "Make it writable"),
        (errno.ECONNREFUSED, False, "Check the connection"),
        (errno.ENETUNREACH, False, "Check the connection"),
        (errno.EACCES, False, "Check the connection"),  # of a socket, in a sandbox
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_what_the_system_says_is_told(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, number: int, named: bool, hint: str, wrapped: bool
) -> None:
    def fails(*args: object, **kwargs: object) -> None:
        error = OSError(number, os.strerror(number), *(["/cache/blob"] if named else []))
        if not wrapped:
            raise error
        raise RuntimeError("of another kind") from error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fails)
    with pytest.raises(HubError) as caught:
        fetch(REPO)
    assert hint in caught.value.hint
    assert ("--model digits" in caught.value.hint) == (hint == "Check the connection")


def test_a_full_disk_at_the_last_step(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("weevit.zoo.hub.replace_file", full)
    with pytest.raises(HubError, match="No space left"):
        fetch(REPO)


def test_whether_a_model_is_at_hand(hub: LoopbackHub, folder: Path) -> None:
    assert needs_fetching(f"hf-hub:{REPO}")
    assert needs_fetching("pwee")
    assert needs_fetching("hf-hub:../x@y")
    fetch(REPO)
    for here in (f"hf-hub:{REPO}", f"hf-hub:{REPO}@main", "digits", str(folder), folder, "./nowhere", "nothing"):
        assert not needs_fetching(here)


@pytest.mark.parametrize(
    ("repo", "revision"),
    [(REPO, "../../other"), (REPO, "refs/../../../x"), (REPO, ".."), ("..", None), ("a/..", None), ("../a", None)],
)
def test_names_that_lead_out_of_the_cache_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repo: str, revision: str | None
) -> None:
    """Even where something lies there: a branch's file is read before the hub is asked."""
    asked = []
    monkeypatch.setattr("weevit.zoo.hub._ref", lambda *given: asked.append(given) or "")
    with pytest.raises(UsageError, match="cannot be a model on the hub"):
        fetch(repo, revision, cache_dir=tmp_path)
    assert asked == []
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_printed_while_a_model_is_fetched(hub: LoopbackHub, capfd: pytest.CaptureFixture[str]) -> None:
    told: list[str] = []
    fetch(REPO, progress=lambda name, done, total: told.append(name))
    assert WEIGHTS in told
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")
