"""A job on Ray: what actors make is what this process makes, whatever happens to them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import labelled
import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("filelock")
pytest.importorskip("ray")

import ray
from job_orders import job_contents
from ray_actors import actors

import weevit
from weevit.jobs.manifest import read_lines
from weevit.jobs.on_ray import Ray, parse_on
from weevit.jobs.results import verify_job
from weevit.jobs.run import Progress, run_job
from weevit.store.place import Disk

COUNT, SHARD = 60, 4

ENVIRONMENT = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Ray]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        yield Ray(threads=1)
        ray.shutdown()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = labelled.noise(tmp_path_factory.mktemp("images"), COUNT)
    (folder / "5.png").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def whole(digits: weevit.Predictor, images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("jobs") / "whole"
    run_job(digits, images, folder, shard_size=SHARD)
    return job_contents(folder)


def test_the_same_bytes_as_here(
    cluster: Ray, digits: weevit.Predictor, images: Path, whole: dict[str, bytes], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(images.parent)
    relative = Path(images.name)
    done = run_job(digits, relative, tmp_path / "out", shard_size=SHARD, on=cluster)
    assert (done.computed, done.errors) == (COUNT, {"not an image": 1})
    assert weevit.read_results(tmp_path / "out")["status"].to_pylist().count("ok") == COUNT - 1
    again = run_job(digits, images, tmp_path / "absolute", shard_size=SHARD, on=cluster)
    assert again.finished == COUNT
    assert job_contents(tmp_path / "absolute") == whole
    assert run_job(digits, images, tmp_path / "absolute", shard_size=SHARD, on=cluster).computed == 0
    retried = run_job(digits, images, tmp_path / "absolute", shard_size=SHARD, on=cluster, retry_failed=True)
    assert (retried.computed, retried.errors) == (1, {"not an image": 1})
    assert job_contents(tmp_path / "absolute") == whole


def test_actors_that_are_killed(
    cluster: Ray, digits: weevit.Predictor, images: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    """In short; ten times over 2,000 photos: `benchmarks/ray_jobs.py kills`."""
    killed: list[int] = []

    def watch(progress: Progress) -> None:
        if progress.computed in (SHARD, 6 * SHARD) and len(killed) < 2:
            killed.append(actors()[0])
            os.kill(killed[-1], signal.SIGKILL)

    done = run_job(digits, images, tmp_path / "out", shard_size=SHARD, on=cluster, watch=watch)
    assert len(killed) == 2
    assert (done.computed, done.finished) == (COUNT, COUNT)
    assert job_contents(tmp_path / "out") == whole
    lines = read_lines(Disk(tmp_path / "out"))
    assert sorted(line.shard for line in lines) == list(range(COUNT // SHARD))  # none twice
    assert not list(verify_job(tmp_path / "out"))


def test_asked_to_stop_it_ends_what_was_begun(
    cluster: Ray, digits: weevit.Predictor, images: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    done = run_job(digits, images, tmp_path / "out", shard_size=SHARD, on=cluster, should_stop=lambda: True)
    assert done.interrupted
    assert SHARD <= done.finished <= 5 * SHARD
    assert run_job(digits, images, tmp_path / "out", shard_size=SHARD).there == done.finished
    assert job_contents(tmp_path / "out") == whole


def test_an_error_of_an_actor_is_that_of_this_process(
    cluster: Ray, digits: weevit.Predictor, images: Path, tmp_path: Path
) -> None:
    def spoil(progress: Progress) -> None:
        (tmp_path / "out" / "data").rmdir()
        (tmp_path / "out" / "data").write_text("no folder")

    with pytest.raises(weevit.OutputError, match="cannot be written: Not a directory") as caught:
        run_job(digits, images, tmp_path / "out", shard_size=SHARD, on=cluster, watch=spoil)
    assert "to resume" in caught.value.hint


def test_no_machine_has_so_many_processors(
    cluster: Ray, digits: weevit.Predictor, images: Path, tmp_path: Path
) -> None:
    with pytest.raises(weevit.UsageError, match="No machine of the Ray cluster has 64 CPUs") as caught:
        run_job(digits, images, tmp_path / "out", on=Ray(threads=64))
    assert caught.value.hint == "--threads 1"


def test_an_actor_that_waits_for_processors_holds_nothing_up(
    cluster: Ray, digits: weevit.Predictor, images: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    """Another job has one of the two CPUs, for as long as this one takes."""

    class Other:
        def ready(self) -> None:
            """Begun."""

    other = ray.remote(Other).options(num_cpus=1).remote()
    ray.get(other.ready.remote())
    try:
        done = run_job(digits, images, tmp_path / "out", shard_size=SHARD, on=cluster)
    finally:
        ray.kill(other)
    assert done.finished == COUNT
    assert job_contents(tmp_path / "out") == whole


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".parquet"])
def test_archives_and_tables(
    cluster: Ray, digits: weevit.Predictor, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.chdir(tmp_path)
    files = [images / f"{number}.png" for number in range(6)]
    if ending == ".parquet":
        from pyarrow import parquet, table

        parquet.write_table(table({"image": [path.read_bytes() for path in files]}), "some.parquet")
    else:
        with tarfile.open(f"some{ending}", "w:gz" if ending == ".tar.gz" else "w") as tar:
            for path in files:
                tar.add(path, path.name)
    if ending == ".tar.gz":
        with pytest.raises(weevit.UsageError, match="cannot be read by another process") as caught:
            run_job(digits, f"some{ending}", "out", shard_size=SHARD, on=cluster)
        assert "leave --on out" in caught.value.hint
        return
    run_job(digits, f"some{ending}", "out", shard_size=SHARD, on=cluster)
    run_job(digits, f"some{ending}", "whole", shard_size=SHARD)
    assert job_contents(Path("out")) == job_contents(Path("whole"))


@pytest.mark.parametrize("text", ["spark", "ray=", "Ray", ""])
def test_other_clusters(text: str) -> None:
    with pytest.raises(weevit.UsageError, match="--on is ray, or ray=ADDRESS"):
        parse_on(text)
    assert parse_on("ray=10.0.0.1:6379", 2) == Ray("10.0.0.1:6379", 2)


def test_ctrl_c_on_the_command_line(images: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    """On a cluster of its own, which ends with it."""
    words = [sys.executable, "-m", "weevit", "embed", str(images), "-m", "digits", "-o", str(tmp_path / "out")]
    words += ["--shard-size", str(SHARD)]
    with subprocess.Popen(
        [*words, "--on", "ray", "--threads", "1"], stderr=subprocess.PIPE, text=True, env=os.environ | ENVIRONMENT
    ) as process:
        while not list((tmp_path / "out" / "data").glob("*")):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        said = process.stderr.read()
    assert "Traceback" not in said
    if process.returncode != 0:  # else it was done before
        assert process.returncode == 130
        assert "Rerun the command to resume." in said
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert job_contents(tmp_path / "out") == whole
