"""The cache never gives back other bytes than were put in, whatever happens to its folder."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from weevit.engine.cache import GraphCache
from weevit.errors import OutputError
from weevit.store.files import sha256_file


def writes(data: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(data) and None


@pytest.fixture
def cache(tmp_path: Path) -> GraphCache:
    return GraphCache(tmp_path / "graphs", limit=100)


def test_in_and_out(cache: GraphCache) -> None:
    assert cache.get("a") is None
    path = cache.put("a", writes(b"graph"))
    assert cache.get("a") == path
    assert path.read_bytes() == b"graph"


@pytest.mark.parametrize("damage", [b"", b"grapi", b"graph and more"])
def test_a_damaged_graph_is_not_given_out(cache: GraphCache, damage: bytes) -> None:
    cache.put("a", writes(b"graph")).write_bytes(damage)
    assert cache.get("a") is None
    assert not list(cache.folder.iterdir()), "the damaged entry is removed"
    cache.put("a", writes(b"graph"))
    assert cache.get("a") is not None


@pytest.mark.parametrize("record", [b"", b"[]", b"{}", b'{"file": 3, "sha256": 4}', b"\xff"])
def test_a_damaged_record_is_no_entry(cache: GraphCache, record: bytes) -> None:
    cache.put("a", writes(b"graph"))
    (cache.folder / "a.json").write_bytes(record)
    assert cache.get("a") is None


@pytest.mark.parametrize("plant", [Path.mkdir, lambda path: path.symlink_to(path.with_name("elsewhere"))])
def test_a_record_that_is_no_file_is_no_entry(cache: GraphCache, plant: Callable[[Path], None]) -> None:
    cache.put("a", writes(b"graph"))
    record = cache.folder / "a.json"
    record.rename(record.with_name("elsewhere"))
    plant(record)
    assert cache.get("a") is None


def test_a_record_that_may_not_be_read_is_no_entry(cache: GraphCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(path: Path, limit: int) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    cache.put("a", writes(b"graph"))
    monkeypatch.setattr("weevit.engine.cache.read_own", refuses)
    assert cache.get("a") is None


def test_a_graph_that_vanished(cache: GraphCache) -> None:
    cache.put("a", writes(b"graph")).unlink()
    assert cache.get("a") is None


def test_the_least_recently_used_goes_first(cache: GraphCache) -> None:
    for number, key in enumerate("abc"):
        cache.put(key, writes(b"x" * 30))
        os.utime(cache.folder / f"{key}.json", (number, number))
    cache.get("a")  # used now: b is the oldest
    cache.put("d", writes(b"x" * 30))
    assert {entry.stem for entry, _ in cache.entries()} == {"a", "c", "d"}
    assert len(list(cache.folder.glob("*.onnx"))) == 3


def test_one_graph_over_the_limit_is_kept(cache: GraphCache) -> None:
    cache.put("a", writes(b"x" * 30))
    cache.put("b", writes(b"x" * 500))
    assert [entry.stem for entry, _ in cache.entries()] == ["b"]


def test_what_killed_processes_left_is_swept(cache: GraphCache) -> None:
    cache.put("a", writes(b"x"))
    for name in ("b.123.tmp", "b.0123456789abcdef.onnx"):
        (cache.folder / name).write_bytes(b"half")
        os.utime(cache.folder / name, (1, 1))
    (cache.folder / "c.456.tmp").write_bytes(b"still being written")
    cache.put("d", writes(b"x"))
    left = {path.name.partition(".")[0] for path in cache.folder.iterdir()}
    assert left == {"a", "c", "d"}


def test_a_failed_write_leaves_nothing(cache: GraphCache) -> None:
    def fails(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="No space left"):
        cache.put("a", fails)
    assert not list(cache.folder.iterdir())


def test_two_processes_at_once(tmp_path: Path) -> None:
    """Both put different bytes under one key and read it back, many times: never a mixture, never an exception."""
    program = """
import sys
from pathlib import Path
from weevit.engine.cache import GraphCache
from weevit.store.files import sha256_file
cache, own = GraphCache(Path(sys.argv[1]), limit=4_000_000), sys.argv[2].encode() * 100_000
for _ in range(60):
    path = cache.put("key", lambda path: path.write_bytes(own))
    found = cache.get("key")
    if found is not None:
        try:
            data = found.read_bytes()
        except FileNotFoundError:
            continue
        assert data in (b"a" * 100_000, b"b" * 100_000)
"""
    started = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path), own], stderr=subprocess.PIPE)
        for own in ("a", "b")
    ]
    for process in started:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors.decode()


# ---- row M13: what somebody else has put there


def _another_path(cache: GraphCache, outside: Path) -> None:
    outside.write_bytes(b"another graph")
    record = {"file": str(outside), "sha256": sha256_file(outside), "bytes": 13}
    (cache.folder / "a.json").write_text(json.dumps(record))


def _another_graph(cache: GraphCache, outside: Path) -> None:
    """Another valid graph, under its own hash."""
    (path,) = cache.folder.glob("a.*.onnx")
    path.write_bytes(b"another graph")
    record = {"file": path.name, "sha256": sha256_file(path), "bytes": 13}
    (cache.folder / "a.json").write_text(json.dumps(record))


def _another_key(cache: GraphCache, outside: Path) -> None:
    """A whole entry of another key, under this one's name."""
    other = cache.put("b", writes(b"another graph"))
    other.rename(other.with_name(other.name.replace("b.", "a.")))
    (cache.folder / "b.json").rename(cache.folder / "a.json")


def _a_link(cache: GraphCache, outside: Path) -> None:
    (path,) = cache.folder.glob("a.*.onnx")
    path.rename(outside)
    path.symlink_to(outside)


def _a_linked_record(cache: GraphCache, outside: Path) -> None:
    (cache.folder / "a.json").rename(outside)
    (cache.folder / "a.json").symlink_to(outside)


def _a_pipe(cache: GraphCache, outside: Path) -> None:
    (cache.folder / "a.json").unlink()
    os.mkfifo(cache.folder / "a.json")


def _another_owner(cache: GraphCache, outside: Path) -> None:
    (path,) = cache.folder.glob("a.*.onnx")
    if os.geteuid() != 0:
        pytest.skip("only root may give files away")
    os.chown(path, 12345, 12345)


PLANTED = [_another_path, _another_graph, _another_key, _a_link, _a_linked_record, _a_pipe, _another_owner]


@pytest.mark.parametrize("plant", PLANTED, ids=lambda own: own.__name__)
def test_a_graph_is_bound_to_its_key(
    cache: GraphCache, tmp_path: Path, plant: Callable[[GraphCache, Path], None]
) -> None:
    cache.put("a", writes(b"graph"))
    plant(cache, tmp_path / "outside")
    assert cache.get("a") is None
    path = cache.put("a", writes(b"graph"))
    assert cache.get("a") == path
    assert path.read_bytes() == b"graph"
    if (tmp_path / "outside").exists():
        assert (tmp_path / "outside").read_bytes() in (b"graph", b"another graph") or plant is _a_linked_record


def test_the_folder_is_ours_alone(cache: GraphCache) -> None:
    cache.folder.mkdir(mode=0o755, parents=True)
    cache.put("a", writes(b"graph"))
    assert stat.S_IMODE(cache.folder.stat().st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give folders away")
def test_a_folder_of_somebody_else_is_not_used(cache: GraphCache) -> None:
    cache.put("a", writes(b"graph"))
    os.chown(cache.folder, 12345, 12345)
    assert cache.get("a") is None
    with pytest.raises(OutputError, match="belongs to another user"):
        cache.put("a", writes(b"graph"))


@pytest.mark.parametrize(
    ("name", "value", "folder"), [("WEEVIT_CACHE", "~/own", "own"), ("XDG_CACHE_HOME", "~/all", "all/weevit")]
)
def test_a_home_folder_that_no_shell_expanded(
    name: str, value: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A unit file or a container sets it as it stands: a folder called `~` was made wherever weevit ran."""
    for other in ("WEEVIT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert GraphCache().folder == tmp_path / folder / "graphs"
