"""After a power cut every folder of weevit's holds what was there before or what came after: seen by what was synced.

`disk` replays each of these as a file system may: without whatever was not synced, and with new names of empty files.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import disk
import labelled
import numpy as np
import pytest

import weevit
from weevit.engine.cache import GraphCache
from weevit.errors import OutputError, WeevitError
from weevit.images.source import Source
from weevit.store.files import replace_file
from weevit.zoo.checkpoint import read_checkpoint
from weevit.zoo.manifest import write_manifest
from weevit.zoo.writing import write_checkpoint

pytestmark = disk.needs_posix

Folders = Callable[[disk.Tree], Path]


@pytest.fixture
def built(tmp_path: Path) -> Folders:
    """Makes a folder of what a power cut left."""
    numbers = iter(range(1_000_000))
    return lambda tree: disk.build(tree, tmp_path / "left" / str(next(numbers)))


def whole(seen: disk.Watch) -> list[disk.Tree]:
    """What a power cut leaves when it comes after the end: both ways of a file system."""
    return list(seen.left[-1])


@pytest.fixture
def old(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a").write_bytes(b"old")
    return folder


# ---- one file


def test_a_replaced_file_is_the_old_or_the_new_one(old: Path) -> None:
    with disk.watch(old) as seen:
        replace_file(old / "a", lambda tmp: tmp.write_bytes(b"new"))
    assert {tree["a"] for tree in seen.trees()} == {b"old", b"new"}
    assert whole(seen) == [{"a": b"new"}] * 2
    order = [event for event in seen.events if event.startswith(("sync", "rename"))]
    assert order == ["sync .a.tmp", "rename .a.tmp a", "sync ."]


def test_a_new_file_has_its_name(old: Path) -> None:
    with disk.watch(old) as seen:
        write_manifest(old, {"a": "0" * 64})
    assert all(set(tree) == {"a", "weevit-manifest.json"} for tree in whole(seen))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails_at_any_moment_leaves_the_old_or_the_new_file(old: Path, code: int) -> None:
    with disk.watch(old) as seen:
        replace_file(old / "a", lambda tmp: tmp.write_bytes(b"old"))
    for place, event in enumerate(seen.events):
        with pytest.raises(OSError, match=r".") as caught, disk.watch(old, fail_at=place, code=code) as failed:
            replace_file(old / "a", lambda tmp: tmp.write_bytes(b"new"))
        assert caught.value.errno == code
        assert all(tree["a"] in (b"old", b"new") for tree in failed.trees())
        if not event.startswith("remove"):
            assert [path.name for path in old.iterdir()] == ["a"], event
        (old / "a").write_bytes(b"old")


# ---- a checkpoint


def test_a_checkpoint_in_the_place_of_another_is_one_of_both_or_refused(tmp_path: Path, built: Folders) -> None:
    first = weevit.load("digits").checkpoint
    arrays = first.tensors()
    second = {name: array + np.float32(1) for name, array in arrays.items()}
    folder = tmp_path / "model"
    write_checkpoint(folder, first.architecture, arrays, first.preprocessing)
    with disk.watch(folder) as seen:
        write_checkpoint(folder, first.architecture, second, first.preprocessing)

    def bias(tree: disk.Tree) -> float | None:
        try:
            return float(read_checkpoint(built(tree)).tensors()["head.bias"][0])
        except WeevitError:
            return None

    before, after = float(arrays["head.bias"][0]), float(second["head.bias"][0])
    assert {bias(tree) for tree in seen.trees()} == {before, None, after}
    assert [bias(tree) for tree in whole(seen)] == [after, after]


# ---- a job


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return labelled.noise(tmp_path_factory.mktemp("images"), 5)


def test_what_a_job_says_is_there_is_there(
    digits: weevit.Predictor, images: Path, tmp_path: Path, built: Folders
) -> None:
    pytest.importorskip("pyarrow")
    from weevit.jobs.results import verify_job
    from weevit.jobs.run import run_job

    folder = tmp_path / "job"
    folder.mkdir()
    with disk.watch(folder) as seen:
        run_job(digits, images, folder, shard_size=2)
    for tree in seen.trees():
        if "plan.jsonl" in tree:
            problems = list(verify_job(built(tree)))
            assert all(problem.startswith("not there yet") for _, problem in problems), (problems, sorted(tree))
    for tree in whole(seen):
        left = built(tree)
        assert not list(verify_job(left))
        again = run_job(digits, images, left, shard_size=2)
        assert (again.there, again.computed) == (5, 0)


def test_shards_that_are_made_again_keep_the_name_of_their_folder(
    digits: weevit.Predictor, images: Path, tmp_path: Path, built: Folders
) -> None:
    """`data/` may be new where manifest and plan are old, and nothing else syncs the folder that holds its name."""
    pytest.importorskip("pyarrow")
    from weevit.jobs.results import verify_job
    from weevit.jobs.run import run_job

    folder = tmp_path / "job"
    run_job(digits, images, folder, shard_size=2)
    shutil.rmtree(folder / "data")
    with disk.watch(folder) as seen:
        run_job(digits, images, folder, shard_size=2, should_stop=lambda: True)
    for tree in whole(seen):
        assert sum(name.startswith("data/part-") for name in tree) == 1
        assert [problem for _, problem in verify_job(built(tree))] == ["gone, though the manifest has it"] * 2


def test_a_job_on_a_disk_that_fails_says_so_and_is_resumed(
    digits: weevit.Predictor, images: Path, tmp_path: Path
) -> None:
    pytest.importorskip("pyarrow")
    from weevit.jobs.results import verify_job
    from weevit.jobs.run import run_job

    (tmp_path / "first").mkdir()
    with disk.watch(tmp_path / "first") as seen:
        run_job(digits, images, tmp_path / "first", shard_size=2)
    events = [place for place, event in enumerate(seen.events) if "manifest" in event or "data" in event]
    for place in events:
        folder = tmp_path / str(place)
        folder.mkdir()
        with disk.watch(folder, fail_at=place), pytest.raises(OutputError, match="No space left"):
            run_job(digits, images, folder, shard_size=2)
        run_job(digits, images, folder, shard_size=2)
        assert not list(verify_job(folder))


# ---- a training


def test_a_replaced_folder_is_the_old_or_the_new_one(tmp_path: Path, old: Path) -> None:
    from weevit.store.files import replacing_folder

    with disk.watch(tmp_path) as seen, replacing_folder(old) as tmp:
        (tmp / "a").write_bytes(b"new")
        with (tmp / "a").open("rb") as file:
            os.fsync(file.fileno())
    assert {tree.get("folder/a") for tree in seen.trees()} == {b"old", None, b"new"}  # None: between two renames
    assert [tree["folder/a"] for tree in whole(seen)] == [b"new", b"new"]


def test_a_training_state_is_the_one_before_or_the_one_after(tmp_path: Path, built: Folders) -> None:
    torch = pytest.importorskip("torch")
    from weevit.training.state import State, load, newest, save

    def state(step: int) -> State:
        torch.manual_seed(step)
        model = torch.nn.Linear(3, 2)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        return State(model, optimizer, None, torch.amp.GradScaler("cpu", enabled=False), "a run", step=step)

    folder = tmp_path / "state"
    save(state(1), folder, keep=1)
    with disk.watch(folder) as seen:
        save(state(2), folder, keep=1)

    def found(tree: disk.Tree) -> int:
        left = built(tree)
        read = state(9)
        load(read, newest(left, lambda text: None))
        assert torch.equal(read.model.weight, state(read.step).model.weight)
        return read.step

    assert {found(tree) for tree in seen.trees()} == {1, 2}
    assert [found(tree) for tree in whole(seen)] == [2, 2]


# ---- a fit, and what caches keep


def test_a_fit_that_says_it_is_done_is_whole(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    digits = Path(__file__).resolve().parents[1] / "examples" / "digits"
    for name in "01":
        for split in ("train", "test"):
            own = tmp_path / "data" / split / name
            own.mkdir(parents=True)
            for path in sorted((digits / split / name).iterdir())[:8]:
                (own / path.name).write_bytes(path.read_bytes())
    folder = tmp_path / "fit"
    folder.mkdir()

    def state(tree: disk.Tree) -> str:
        data = tree.get("run.json")
        return json.loads(data)["status"] if data else "none"

    finished: list[disk.Tree] = []
    for _ in range(2):  # into an empty folder, then in the place of the first, with fewer images
        with disk.watch(folder) as seen:
            weevit.fit(tmp_path / "data", folder, "digits", folds=2, cache=tmp_path / "embeddings")
        finished.append({name: data for name, data in whole(seen)[0].items() if not name.endswith(".lock")})
        assert state(finished[-1]) == "done"
        assert finished[-1]["model/model.safetensors"]
        for tree in filter(lambda tree: state(tree) == "done", seen.trees()):
            (own,) = (one for one in finished if one["run.json"] == tree["run.json"])
            assert [name for name, data in own.items() if tree.get(name) != data] == []
        for path in sorted((tmp_path / "data" / "train" / "1").iterdir())[4:]:
            path.unlink()
    assert finished[0]["model/model.safetensors"] != finished[1]["model/model.safetensors"]


def test_kept_embeddings_are_on_the_disk(digits: weevit.Predictor, images: Path, tmp_path: Path) -> None:
    from weevit.datasets.dataset import Split
    from weevit.search.embeddings import embed_split

    paths = sorted(images.iterdir())
    split = Split("all", tuple(Source(str(path), path) for path in paths), np.zeros(len(paths), np.int64))
    cache = tmp_path / "cache"
    first = embed_split(digits, split, cache=cache)
    (own,) = cache.iterdir()
    for path in own.iterdir():
        path.unlink()
    with disk.watch(cache) as seen:
        embed_split(digits, split, cache=cache)
    for number, tree in enumerate(whole(seen)):
        left = disk.build(tree, tmp_path / "left" / str(number))
        again = embed_split(digits, split, cache=left)
        assert (again.cached, again.computed) == (len(paths), 0)
        assert np.array_equal(again.vectors, first.vectors)


def test_a_kept_graph_is_on_the_disk_or_is_no_entry(tmp_path: Path, built: Folders) -> None:
    folder = tmp_path / "graphs"
    folder.mkdir(mode=0o700)
    GraphCache(folder).put("key", lambda path: path.write_bytes(b"old") and None)
    with disk.watch(folder) as seen:
        GraphCache(folder).put("key", lambda path: path.write_bytes(b"new") and None)

    def found(tree: disk.Tree) -> bytes | None:
        path = GraphCache(built(tree)).get("key")
        return path.read_bytes() if path else None

    assert {found(tree) for tree in seen.trees()} <= {b"old", b"new", None}
    assert [found(tree) for tree in whole(seen)] == [b"new", b"new"]
