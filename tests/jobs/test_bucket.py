"""A job in a bucket: a real client, a server on loopback, and what goes wrong between the two."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import labelled
import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("filelock")
pytest.importorskip("s3fs")
pytest.importorskip("moto.server")

import bucket_faults
import buckets
from bucket_faults import TOP
from job_orders import job_contents

import weevit
from weevit.jobs.places import place_of
from weevit.jobs.results import job_status, verify_job
from weevit.jobs.run import Progress, run_job
from weevit.store import bucket
from weevit.store.bucket import Bucket

COUNT, SHARD = 10, 4


@pytest.fixture(scope="module")
def proxy() -> Iterator[buckets.Proxy]:
    with buckets.serving() as proxy:
        yield proxy


@pytest.fixture(autouse=True)
def _well(proxy: buckets.Proxy) -> None:
    proxy.begin()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = labelled.noise(tmp_path_factory.mktemp("images"), COUNT)
    (folder / "5.png").write_bytes(b"no image")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """An address of the test's own."""
    return f"{TOP}/{tmp_path.name}"


def run(predictor: weevit.Predictor, images: Path, folder: object, **more: object) -> Progress:
    return run_job(predictor, images, folder, shard_size=SHARD, **more)  # type: ignore[arg-type]


def weevit_says(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "weevit", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


# ---- the same as on a disk


def test_it_holds_what_a_folder_holds(digits: weevit.Predictor, images: Path, folder: str, tmp_path: Path) -> None:
    done = run(digits, images, folder)
    run(digits, images, tmp_path / "whole")
    assert (done.finished, done.errors) == (COUNT, {"not an image": 1})
    place = place_of(folder)
    names = [name for name in place.names() if name != "data"] + [f"data/{name}" for name in place.names("data")]
    there = {name: place.read(name, 1 << 20) for name in names if not name.startswith("manifest")}
    assert there == job_contents(tmp_path / "whole")  # and no lease is left
    assert weevit.read_results(folder).equals(weevit.read_results(tmp_path / "whole"))
    assert list(verify_job(folder)) == []
    assert not any(b"secret" in place.read(name, 1 << 20) for name in names)


def test_stopped_and_resumed(digits: weevit.Predictor, images: Path, folder: str) -> None:
    first = run(digits, images, folder, should_stop=lambda: True)
    assert (first.interrupted, first.finished) == (True, SHARD)
    status = job_status(folder)
    assert (status.done, status.total, status.running) == (SHARD, COUNT, [])
    with pytest.raises(weevit.JobError, match="6 of 10 rows are not there"):
        weevit.read_results(folder)
    second = run(digits, images, folder)
    assert (second.there, second.computed) == (SHARD, COUNT - SHARD)
    assert run(digits, images, folder, retry_failed=True).computed == 1
    assert list(verify_job(folder)) == []


def test_shares_and_changed_inputs(digits: weevit.Predictor, tmp_path: Path, folder: str) -> None:
    images = labelled.noise(tmp_path / "images", 12)
    for share in ((1, 2), (2, 2)):
        run(digits, images, folder, shard=share)
    assert weevit.read_results(folder).num_rows == 12
    assert "plan.jsonl" in place_of(folder).names()
    (images / "0.png").unlink()
    done = run(digits, images, folder)
    assert (done.computed, done.vanished) == (0, 1)
    assert weevit.read_results(folder).num_rows == 11
    assert list(verify_job(folder)) == []  # nor a replaced shard


def test_damage_is_found_and_mended(digits: weevit.Predictor, images: Path, folder: str) -> None:
    run(digits, images, folder)
    place = place_of(folder)
    first, second, *_ = (f"data/{name}" for name in place.names("data"))
    whole = weevit.read_results(folder)
    place.remove(first)
    place.write(second, place.read(second, 1 << 20)[:-7])
    told = dict(verify_job(folder))
    assert ("gone" in told[first], "sha256 differs" in told[second]) == (True, True)
    assert run(digits, images, folder).lost == 2
    assert weevit.read_results(folder).equals(whole)


def test_many_lines_are_kept_in_several_objects(
    digits: weevit.Predictor, images: Path, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket, "PART", 800)
    run_job(digits, images, folder, shard_size=1)
    manifests = [name for name in place_of(folder).names() if name.startswith("manifest")]
    assert len(manifests) > 3
    assert job_status(folder).done == COUNT
    assert run_job(digits, images, folder, shard_size=1).there == COUNT


def test_from_the_command_line(images: Path, folder: str) -> None:
    made = weevit_says("embed", images, "-m", "digits", "-o", folder, "--shard-size", SHARD)
    assert made.returncode == 0, made.stderr
    assert f"9 done · 1 failed ({folder}/failures.csv: 1 not an image)" in made.stderr
    assert f'next: weevit.read_results("{folder}")' in made.stderr
    status = json.loads(weevit_says("jobs", "status", folder, "--json").stdout)
    assert (status["done"], status["left"], status["running"]) == (COUNT, 0, [])
    assert "3 files, 10 rows: all as they were written" in weevit_says("jobs", "verify", folder).stdout
    other = weevit_says("classify", images, "-m", "digits", "-o", folder)
    assert other.returncode == 2
    assert "holds another job" in other.stderr
    file = weevit_says("classify", images, "-m", "digits", "-o", f"{folder}/answers.csv")
    assert file.returncode == 2
    assert "is an address" in file.stderr


# ---- what is refused


def test_what_others_keep_there(digits: weevit.Predictor, images: Path, folder: str) -> None:
    place = place_of(folder)
    for name in ("thesis.tex", "run.json", "data/train.parquet"):
        place.write(name, b"mine")
        with pytest.raises(weevit.UsageError, match="is not empty and holds no job, but") as caught:
            run(digits, images, folder)
        assert caught.value.hint == f"--output {folder}-2"
        assert place.read(name, 9) == b"mine"
        place.remove(name)
    with pytest.raises(weevit.UsageError, match="is that folder, or lies in it"):
        run_job(digits, f"{folder}/photos/", folder)


def test_a_bucket_that_does_not_exist(digits: weevit.Predictor, images: Path) -> None:
    with pytest.raises(weevit.OutputError, match=r"cannot be written: .*bucket does not exist"):
        run(digits, images, "s3://no-such-bucket/x")
    with pytest.raises(weevit.JobError, match="holds no job"):
        job_status("s3://no-such-bucket/x")


def test_without_the_extra_it_is_named(images: Path) -> None:
    code = "import sys; sys.modules['s3fs'] = None; from weevit.cli.app import _run; sys.exit(_run(sys.argv[1:]))"
    words = [sys.executable, "-c", code, "embed", str(images), "-m", "digits", "-o", "s3://weevit-test/x"]
    said = subprocess.run(words, capture_output=True, text=True, check=False)
    assert said.returncode == 1
    assert "s3:// addresses: Install s3fs" in said.stderr
    assert "[remote]" in said.stderr
    assert "Traceback" not in said.stderr


def test_capitals_in_the_protocol(digits: weevit.Predictor, images: Path, folder: str) -> None:
    run(digits, images, folder.replace("s3://", "S3://"))
    assert job_status(folder).done == COUNT


def test_absent_credentials_are_told_at_once(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As botocore says it; no repetition brings any."""
    place, asked = place_of(folder), []
    assert isinstance(place, Bucket)

    def info(path: str) -> None:
        asked.append(path)
        raise type("NoCredentialsError", (Exception,), {})("Unable to locate credentials")

    monkeypatch.setattr(place._system, "info", info)
    with pytest.raises(weevit.JobError, match="cannot be read: NoCredentialsError: Unable to locate") as caught:
        job_status(place)
    assert "credentials" in caught.value.hint
    assert len(asked) == 1


# ---- one holder at a time


def test_two_processes_in_one_folder(digits: weevit.Predictor, images: Path, folder: str) -> None:
    refused = []

    def meanwhile(progress: Progress) -> None:
        if progress.computed == 1:
            for share in ((1, 1), (1, 2)):
                with pytest.raises(weevit.OutputError, match="Another process works in"):
                    run(digits, images, folder, shard=share)
                refused.append(share)
            assert job_status(folder).running == ["1/1"]

    run(digits, images, folder, watch=meanwhile)
    assert len(refused) == 2
    assert job_status(folder).running == []


def test_of_many_that_ask_at_once_one_gets_it(folder: str) -> None:
    from concurrent.futures import ThreadPoolExecutor
    from threading import Barrier

    ready = Barrier(8)

    def ask(number: int) -> bool:
        place = place_of(folder)
        assert isinstance(place, Bucket)
        ready.wait()
        return place.create(".worker-1-of-1.lock.000001", f"holder {number}".encode())

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(ask, range(8))) == 1


def test_a_holder_elsewhere_that_fell_silent_is_replaced(
    digits: weevit.Predictor, images: Path, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = place_of(folder)
    place.write(".worker-1-of-1.lock.000004", b'{"token": "x", "machine": "another one", "pid": 1, "began": "1"}')
    with pytest.raises(weevit.OutputError, match="ended there less than 90 s ago") as caught:
        run(digits, images, folder)
    assert caught.value.hint == f"Wait for it, or watch it: weevit jobs status {folder}"
    time.sleep(1.1)  # the store's clock counts seconds
    monkeypatch.setattr(bucket, "EXPIRES", 1.0)
    assert run(digits, images, folder).finished == COUNT
    assert not [name for name in place.names() if "lock" in name]


def test_a_lease_is_renewed(
    digits: weevit.Predictor, images: Path, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket, "RENEWED", 0.05)
    place, times = place_of(folder), set()
    assert isinstance(place, Bucket)

    def watch(progress: Progress) -> None:
        if progress.computed == 1 and not times:
            for _ in range(2):
                times.add(bucket._modified(place._info(".worker-1-of-1.lock.000001")))
                time.sleep(1.1)

    run(digits, images, folder, watch=watch)
    assert len(times) == 2


def test_a_killed_job_is_resumed_at_once(images: Path, folder: str, digits: weevit.Predictor) -> None:
    code = (
        "import sys, weevit\n"
        "model = weevit.load('digits', cache=False)\n"
        "weevit.run_job(model, sys.argv[1], sys.argv[2], shard_size=4,\n"
        "               watch=lambda done: print(done.computed, flush=True))"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(images), folder], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        while process.stdout.readline().strip() != b"5":
            pass
        process.kill()
    assert any("lock" in name for name in place_of(folder).names())
    assert job_status(folder).running == []
    done = run(digits, images, folder)
    assert done.there in (SHARD, 2 * SHARD)
    assert list(verify_job(folder)) == []


# ---- what goes wrong on the way


@pytest.fixture(scope="module")
def sweep(proxy: buckets.Proxy, digits: weevit.Predictor, images: Path) -> bucket_faults.Sweep:
    return bucket_faults.Sweep(proxy, digits, images, SHARD)


@pytest.mark.long
@pytest.mark.parametrize("fault", buckets.FAULTS)
def test_j14_every_change_goes_wrong_once(sweep: bucket_faults.Sweep, fault: str) -> None:
    """In one run: every second request fails, and those between repeat it. One at a time: `reliability/bucket.py`."""
    with bucket_faults.impatient():
        assert (
            sweep.once(fault, range(0, 14) if fault == "slow" else range(0, 1000, 2)) == 1
        )  # mended by the run itself
    assert sweep.failed[fault] >= len(sweep.mutations)
    assert sweep.read > 0


@pytest.mark.long
@pytest.mark.parametrize("number", [0, 4])
def test_j14_the_store_is_gone_from_some_change_on(sweep: bucket_faults.Sweep, number: int) -> None:
    with bucket_faults.impatient():
        assert sweep.once("lost", range(number % len(sweep.mutations), 10_000)) > 1
