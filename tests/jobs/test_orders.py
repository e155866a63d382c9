"""Row J9, short: whatever happens to the folder of a job, in whatever order, it ends complete, and status is true.

In full: `benchmarks/reliability/folders.py J9`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("filelock")

import fakes
import job_orders

import weevit
from weevit.jobs.manifest import Line, append, done, read_lines
from weevit.jobs.plan import read_plan
from weevit.jobs.results import job_status, verify_job
from weevit.store.locks import take_lock
from weevit.store.place import Disk


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> weevit.Predictor:
    folder = fakes.folder(tmp_path_factory.mktemp("models") / fakes.TINY_TAG)
    return weevit.load(folder, image_size=32, cache=False)


@pytest.fixture
def order(predictor: weevit.Predictor, tmp_path: Path) -> job_orders.Order:
    """A folder of images, one of them broken."""
    return job_orders.Order(predictor, tmp_path, 0)


@pytest.mark.parametrize("seed", range(100, 104))
def test_every_order_ends_complete_and_verified(predictor: weevit.Predictor, tmp_path: Path, seed: int) -> None:
    job_orders.play(predictor, tmp_path, seed, steps=8)


def test_retried_under_another_cut(order: job_orders.Order) -> None:
    """The lines of the shares stand behind those of the whole by the names of their files, and yet do not count."""
    for shard in ((1, 2), (2, 2)):
        order.run(shard)
    order._draw(5)
    os.utime(order.images / "5.png", (1, 1))
    for shard in ((1, 2), (2, 2)):
        order.run(shard)
    order._break(5)
    for shard in ((2, 2), (1, 2), (1, 1)):
        order.run(shard)
    order._draw(5)
    order.run(retry=True)
    status = job_status(order.folder)
    assert (status.done, status.total, status.errors) == (26, 26, {})
    assert not list(verify_job(order.folder))


def _redraw(order: job_orders.Order) -> None:
    order._draw(1)
    os.utime(order.images / "1.png", (1, 1))


def _rename(order: job_orders.Order) -> None:
    (order.images / "1.png").rename(order.images / "1a.png")


@pytest.mark.parametrize("change", [_redraw, _rename])
@pytest.mark.parametrize("before", [[(1, 1)], [(1, 3), (2, 3), (3, 3)], [(2, 3)]])
@pytest.mark.parametrize("shares", [(1, 2), (2, 1)])
def test_every_share_once_is_enough(
    order: job_orders.Order,
    change: Callable[[job_orders.Order], None],
    before: list[tuple[int, int]],
    shares: tuple[int, int],
) -> None:
    """The image is in the first share; the second has all that it needs, whenever it runs."""
    for shard in before:
        order.run(shard)
    change(order)
    for share in shares:
        order.run((share, 2))
    assert not list(verify_job(order.folder))
    plans = [path.name for path in order.folder.glob("plan*")]
    assert plans == ["plan.jsonl"]
    fresh = order.folder.with_name("fresh")
    weevit.run_job(order.predictor, order.images, fresh, shard_size=job_orders.SHARD)
    assert order.contents(order.folder) == order.contents(fresh)


def test_shares_that_begin_at_once_after_a_change(order: job_orders.Order) -> None:
    """The plan of the finished job is of other inputs than theirs, and of no other worker."""
    order.run()
    _rename(order)
    with take_lock(order.folder / ".worker-1-of-2.lock", weevit.JobError("busy")):
        order.run((2, 2))
    order.run((1, 2))
    assert not list(verify_job(order.folder))


@pytest.mark.parametrize("given", ["no such folder", "empty", "others", "others/*.jpg"])
@pytest.mark.parametrize("shard", [(1, 1), (1, 2), (2, 2)])
def test_inputs_of_which_none_is_there_delete_nothing(
    order: job_orders.Order, tmp_path: Path, given: str, shard: tuple[int, int]
) -> None:
    """A misspelt name, a disk that is not there, and another folder that its owner meant to add."""
    order.run()
    (tmp_path / "empty").mkdir()
    shutil.copytree(order.images, tmp_path / "others")
    before = job_orders.job_contents(order.folder)
    with pytest.raises(weevit.UsageError, match="has the answers to 25 images, and these inputs are others"):
        weevit.run_job(order.predictor, tmp_path / given, order.folder, shard_size=job_orders.SHARD, shard=shard)
    assert job_orders.job_contents(order.folder) == before
    assert not list(verify_job(order.folder))
    done = weevit.run_job(
        order.predictor, [tmp_path / "others", order.images / "1.png"], order.folder, shard_size=job_orders.SHARD
    )
    assert done.vanished == 25


def test_a_name_misspelt_at_first_is_no_loss(order: job_orders.Order, tmp_path: Path) -> None:
    """What is there has no answer."""
    weevit.run_job(order.predictor, tmp_path / "imagez", order.folder, shard_size=job_orders.SHARD)
    order.run()
    assert job_status(order.folder).done == 26


def test_an_input_that_came_back_has_not_vanished(order: job_orders.Order) -> None:
    """The last shard is of one image, and its file is deleted with it."""
    order.images.joinpath("25.png").unlink()
    order.run()
    order._draw(25)
    order.run()
    order.images.joinpath("25.png").unlink()
    order.run()
    vanished = order.folder / "vanished.txt"
    assert vanished.read_text() == f"{order.images / '25.png'}\n"
    order.run()  # nothing changed
    assert vanished.exists()
    order._draw(25)
    order.run()
    assert not vanished.exists()


@pytest.mark.parametrize("times", ["new", "kept"])
def test_a_flipped_byte_is_found_by_the_same_command(
    order: job_orders.Order, predictor: weevit.Predictor, times: str
) -> None:
    order.run()
    whole = order.contents(order.folder)
    path = sorted(order.folder.glob("data/part-*"))[2]
    was, content = path.stat(), bytearray(path.read_bytes())
    content[900] ^= 4
    path.write_bytes(content)
    if times == "kept":
        os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    progress = weevit.run_job(predictor, order.images, order.folder, shard_size=job_orders.SHARD)
    assert (progress.lost, progress.computed) == (1, job_orders.SHARD)
    assert order.contents(order.folder) == whole


def test_of_two_lines_the_one_that_is_true_of_the_bytes_counts(order: job_orders.Order) -> None:
    order.run()
    plan, lines = read_plan(Disk(order.folder)), read_lines(Disk(order.folder))
    assert plan is not None
    assert [line.order for line in lines] == list(range(1, 8))
    true = lines[3]
    later = replace(true, sha256="0" * 64, order=99, errors={"made up": 1})
    append(Disk(order.folder), "manifest-9-of-9.jsonl", later)
    for hashed in (False, True):  # both are of its size
        assert (
            dict(done(Disk(order.folder), plan.shards, read_lines(Disk(order.folder)), hashed))[plan.shards[3]] == true
        )
    again = replace(true, order=100, computed=0)
    append(Disk(order.folder), "manifest-0-of-9.jsonl", again)  # of two true ones the last
    assert dict(done(Disk(order.folder), plan.shards, read_lines(Disk(order.folder))))[plan.shards[3]] == again


def test_folders_without_an_order_are_read(order: job_orders.Order) -> None:
    """As they were written before: no order, no check of a line."""
    order.run((1, 2))
    order.run((2, 2))
    for path in [*order.folder.glob("manifest-*"), order.folder / "plan.jsonl"]:
        old = [{name: own for name, own in json.loads(line).items() if name not in ("order", "check")}
               for line in path.read_text().splitlines()]  # fmt: skip
        path.write_text("".join(json.dumps(values) + "\n" for values in old))
    assert job_status(order.folder).done == 26
    assert not list(verify_job(order.folder))
    order._draw(5)
    order.run(retry=True)
    assert not list(verify_job(order.folder))


@pytest.mark.parametrize(
    "change",
    [{"rows": "4"}, {"rows": -1}, {"shard": 10**400}, {"file": "../outside.parquet"}, {"errors": {"a": 9}},
     {"order": None}, {"sha256": None}, {"bytes": 1.5}, {"more": 1}],
)  # fmt: skip
def test_a_line_that_weevit_would_not_write_does_not_count(order: job_orders.Order, change: dict[str, object]) -> None:
    order.run()
    path = order.folder / "manifest-1-of-1.jsonl"
    lines = path.read_text().splitlines()
    line = {name: own for name, own in json.loads(lines[0]).items() if name != "check"}
    path.write_text("\n".join([json.dumps(line | change), *lines[1:]]) + "\n")
    assert len(read_lines(Disk(order.folder))) == 6
    order.run()
    assert not list(verify_job(order.folder))


def test_a_flipped_bit_in_a_line_is_no_other_number(tmp_path: Path) -> None:
    line = Line(0, "a" * 64, f"part-000000-{'a' * 16}.parquet", 9, 100, "b" * 64, 5, 0.5)
    append(Disk(tmp_path), "manifest-1-of-1.jsonl", line)
    assert read_lines(Disk(tmp_path)) == [line]
    path = tmp_path / "manifest-1-of-1.jsonl"
    path.write_text(path.read_text().replace('"computed": 5', '"computed": 7'))
    assert read_lines(Disk(tmp_path)) == []
    assert asdict(line)["computed"] == 5


def test_a_lost_or_damaged_job_json(order: job_orders.Order, predictor: weevit.Predictor) -> None:
    order.run()
    whole = order.contents(order.folder)
    job = order.folder / "job.json"
    for content in (b'{"schema": "weevit.job/4", "verb": 3}', b"\xff", b"[]", b'{"a": ' * 100_000):
        job.write_bytes(content)
        for ask in (job_status, weevit.read_results, lambda folder: order.run()):
            with pytest.raises(weevit.JobError, match="is not a job of the kind") as caught:
                ask(order.folder)
            assert f"Delete {job}" in caught.value.hint
    job.unlink()
    other = weevit.Predictor(predictor.checkpoint, image_size=48, cache=False)
    with pytest.raises(weevit.UsageError, match="another preprocessing"):
        weevit.run_job(other, order.images, order.folder, shard_size=job_orders.SHARD)
    progress = weevit.run_job(predictor, order.images, order.folder, shard_size=job_orders.SHARD)
    assert progress.computed == 0
    assert order.contents(order.folder) == whole


def test_a_flipped_bit_in_the_plan_is_no_other_plan(order: job_orders.Order) -> None:
    order.run()
    path = order.folder / "plan.jsonl"
    path.write_text(path.read_text().replace('"rows": 4', '"rows": 6', 1))
    with pytest.raises(weevit.JobError, match="changed after it was written"):
        job_status(order.folder)
    order.run()
    assert job_status(order.folder).total == 26


def test_a_plan_of_wrong_types(order: job_orders.Order) -> None:
    order.run()
    (order.folder / "plan.jsonl").write_text('{"number": "0", "rows": [], "inputs": 3}\n')
    for ask in (job_status, weevit.read_results, lambda folder: list(verify_job(folder))):
        with pytest.raises(weevit.JobError, match=r"plan\.jsonl is damaged: .*number is '0'"):
            ask(order.folder)
    order.run()
    assert not list(verify_job(order.folder))


def test_status_of_what_may_only_be_read(order: job_orders.Order, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a mount that may only be read no lock can be taken, and whether one is held can be seen all the same."""
    order.run()
    lock = order.folder / ".worker-1-of-1.lock"
    lock.touch()
    real = os.open

    def read_only(path: object, flags: int, *rest: object, **more: object) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and str(path).startswith(str(order.folder)):
            raise OSError(30, os.strerror(30))
        return real(path, flags, *rest, **more)  # type: ignore[arg-type]

    held = take_lock(lock, weevit.JobError("busy"))
    monkeypatch.setattr(os, "open", read_only)
    assert job_status(order.folder).running == ["1/1"]
    held.release()
    assert job_status(order.folder).running == []
    monkeypatch.setattr(os, "open", real)
    lock.unlink(missing_ok=True)
    lock.symlink_to("elsewhere")
    with pytest.raises(weevit.UsageError, match="is a link"):
        job_status(order.folder)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("https://host/x", "'https' is none of them"),
        ("s4://bucket/x", "'s4' is none of them"),
        ("s3://me:secret@bucket/x", "holds a password"),
        ("s3:///x", "names no bucket"),
    ],
)
def test_an_address_that_cannot_be_written(
    order: job_orders.Order, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(weevit.UsageError, match=message) as caught:
        weevit.run_job(order.predictor, order.images, address)
    assert "secret" not in str(caught.value)
    words = [sys.executable, "-m", "weevit", "embed", str(order.images), "-m", "digits", "-o", address]
    said = subprocess.run(words, capture_output=True, text=True, check=False)
    assert said.returncode == 2
    assert message in said.stderr
    assert "secret" not in said.stderr
    assert sorted(tmp_path.iterdir()) == before
