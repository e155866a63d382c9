"""The folder of a job: `data/` holds the shards and nothing else, and is what weevit made or is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import labelled
import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("filelock")

from job_orders import job_contents

import weevit
from weevit.jobs import shards
from weevit.jobs.plan import PARTS, read_plan
from weevit.jobs.results import job_status, verify_job
from weevit.jobs.run import Progress, run_job
from weevit.jobs.shards import read_table
from weevit.store.place import Disk

COUNT, SHARD = 14, 4

ASK: tuple[Callable[[Path], object], ...] = (
    job_status,
    lambda folder: list(verify_job(folder)),
    lambda folder: weevit.read_results(folder, partial=True),
)
"""Everything that reads a job."""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = labelled.noise(tmp_path_factory.mktemp("images"), COUNT)
    (folder / "5.png").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def whole(digits: weevit.Predictor, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("jobs") / "whole"
    run_job(digits, images, folder, shard_size=SHARD)
    return folder


@pytest.fixture
def job(whole: Path, tmp_path: Path) -> Path:
    """A finished job of one's own."""
    return Path(shutil.copytree(whole, tmp_path / "job"))


@pytest.fixture
def run(digits: weevit.Predictor, images: Path) -> Callable[..., Progress]:
    return lambda folder, **more: run_job(digits, images, folder, shard_size=SHARD, **more)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def weevit_says(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "weevit", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


# ---- what lies where


def test_shards_lie_in_data_and_records_beside_it(job: Path) -> None:
    plan = read_plan(Disk(job))
    assert plan is not None
    assert names(job / "data") == [shard.file for shard in plan.shards]
    assert all(fnmatchcase(name, PARTS) for name in names(job / "data"))
    seen = [name for name in names(job) if not name.startswith(".")]
    assert seen == ["data", "failures.csv", "job.json", "manifest-1-of-1.jsonl", "plan.jsonl"]
    lines = (job / "manifest-1-of-1.jsonl").read_text().splitlines()
    assert [json.loads(line)["file"] for line in lines] == names(job / "data")


def test_data_holds_whole_shards_at_every_moment(
    run: Callable[..., Progress], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reads it while the job runs: Polars refuses a folder in which one name ends differently."""
    from weevit.jobs import tasks

    seen: list[list[str]] = []
    real = tasks.write_shard

    def look(path: Path, *rest: Any) -> None:
        real(path, *rest)
        found = list((tmp_path / "out" / "data").iterdir())
        seen.append([path.name for path in found])
        assert all(read_table(Disk(tmp_path / "out"), path.name).num_rows == SHARD for path in found)

    monkeypatch.setattr(tasks, "write_shard", look)
    run(tmp_path / "out")
    assert [len(own) for own in seen] == [0, 1, 2, 3]
    assert all(fnmatchcase(name, PARTS) for own in seen for name in own)


@pytest.mark.parametrize("name", [".part-000001-0123456789abcdef.parquet.0123abcd.tmp", ".job.json.0123abcd.tmp"])
def test_what_a_kill_left_is_cleared_away(run: Callable[..., Progress], job: Path, name: str) -> None:
    (job / name).write_bytes(b"half")
    before = job_contents(job)
    assert run(job).computed == 0
    assert not list(job.glob(".*.tmp"))
    assert job_contents(job) == before


def test_data_that_is_gone_is_made_again(run: Callable[..., Progress], job: Path, whole: Path) -> None:
    shutil.rmtree(job / "data")
    assert job_status(job).done == 0
    assert {problem for _, problem in verify_job(job)} == {"gone, though the manifest has it"}
    with pytest.raises(weevit.JobError, match="is not finished"):
        weevit.read_results(job)
    assert run(job).lost == 4
    assert job_contents(job) == job_contents(whole)


def test_a_damaged_shard_is_named_with_the_command_for_its_job(job: Path) -> None:
    shard = min((job / "data").iterdir())
    shard.write_bytes(bytes(shard.stat().st_size))
    with pytest.raises(weevit.JobError, match=f"{shard} cannot be read") as caught:
        weevit.read_results(job, verify=False)
    assert caught.value.hint == f"weevit jobs verify {job}"


# ---- what weevit did not make


@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe", "file"])
def test_data_that_is_no_folder_is_refused(run: Callable[..., Progress], job: Path, tmp_path: Path, kind: str) -> None:
    outside = tmp_path / "outside"
    shutil.move(job / "data", outside)
    if kind == "pipe":
        os.mkfifo(job / "data")
    elif kind == "file":
        (job / "data").write_bytes(b"kept")
    else:
        (job / "data").symlink_to(outside if kind == "link" else tmp_path / "nowhere")
    before = {path.name: path.read_bytes() for path in outside.iterdir()}
    for ask in (*ASK, run):
        with pytest.raises(weevit.UsageError, match="is a file; a job" if kind == "file" else "is a link, a pipe"):
            ask(job)
    (job / "job.json").unlink()
    with pytest.raises(weevit.WeevitError, match="data"):
        run(job)
    assert {path.name: path.read_bytes() for path in outside.iterdir()} == before
    assert not (tmp_path / "nowhere").exists()
    assert kind != "file" or (job / "data").read_bytes() == b"kept"


def test_data_that_may_not_be_written_is_told_before_the_model_is_asked(
    run: Callable[..., Progress], job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != job / "data")
    with pytest.raises(weevit.OutputError, match=r"The folder '.*data' may not be written"):
        run(job)


def test_a_link_in_data_is_refused(run: Callable[..., Progress], job: Path, tmp_path: Path) -> None:
    shard = min((job / "data").iterdir())
    shutil.move(shard, tmp_path / "outside")
    before = (tmp_path / "outside").read_bytes()
    for link in (shard, job / "data" / "more.parquet"):
        link.symlink_to(tmp_path / "outside")
        for ask in (*ASK, run):
            with pytest.raises(weevit.UsageError, match="is a link"):
                ask(job)
        link.unlink()
    assert (tmp_path / "outside").read_bytes() == before


@pytest.mark.parametrize(
    "name", ["train-00000-of-00001.parquet", "part-00000-5f8c2c4e-c000.snappy.parquet", "0.png", "more/a.parquet"]
)
def test_the_data_of_others_is_no_job(run: Callable[..., Progress], tmp_path: Path, name: str) -> None:
    """A folder of the hub's or of Spark's has a `data/`, too."""
    folder = tmp_path / "theirs"
    (folder / "data" / name).parent.mkdir(parents=True)
    (folder / "data" / name).write_bytes(b"theirs")
    with pytest.raises(weevit.UsageError, match="holds no job, but data"):
        run(folder)
    assert [path.relative_to(folder).as_posix() for path in folder.rglob("*.*")] == [f"data/{name}"]
    assert (folder / "data" / name).read_bytes() == b"theirs"


def test_what_others_put_into_data_is_told_and_kept(run: Callable[..., Progress], job: Path) -> None:
    own = min((job / "data").iterdir())
    strange = job / "data" / "part-00000-5f8c2c4e-c000.snappy.parquet"
    strange.write_bytes(own.read_bytes())
    assert run(job).computed == 0
    assert strange.exists()
    assert weevit.read_results(job).num_rows == COUNT
    assert list(verify_job(job)) == [
        (f"data/{strange.name}", "not in the plan of this job; other readers would take its rows, too")
    ]
    said = weevit_says("jobs", "verify", job)
    assert said.returncode == 1
    assert f"{strange}: not in the plan" in said.stdout
    assert "1 file is not as it should be; the job has 4." in said.stdout


def test_replaced_shards_are_told_until_they_are_gone(digits: weevit.Predictor, images: Path, tmp_path: Path) -> None:
    """Between the two the folder holds rows of both, and whoever reads `data/` by another reader should know."""
    inputs, folder = Path(shutil.copytree(images, tmp_path / "images")), tmp_path / "job"
    run_job(digits, inputs, folder, shard_size=SHARD)
    old = set(names(folder / "data"))
    (inputs / "0.png").unlink()
    run_job(digits, inputs, folder, shard_size=SHARD, should_stop=lambda: True)
    told = dict(verify_job(folder))
    stale = {name for name, problem in told.items() if "not in the plan" in problem}
    assert {f"data/{name}" for name in old} == stale
    assert sum("not there yet" in problem for problem in told.values()) == 3
    run_job(digits, inputs, folder, shard_size=SHARD)
    assert not list(verify_job(folder))
    assert not old & set(names(folder / "data"))


# ---- folders of before


@pytest.fixture(params=["weevit.job/2", "weevit.job/3"])
def old(request: pytest.FixtureRequest, job: Path) -> Path:
    """As it was: other names of columns, and up to weevit.job/2 without `data/`."""
    from pyarrow import parquet

    for path in (job / "data").iterdir():
        table = parquet.read_table(path)
        said = {key: value for key, value in table.schema.metadata.items() if key != b"weevit.schema"}
        renamed = table.rename_columns(["id" if name == "input" else name for name in table.column_names])
        parquet.write_table(renamed.replace_schema_metadata(said), path, compression="none", use_dictionary=False)
    settings = json.loads((job / "job.json").read_text())
    (job / "job.json").write_text(json.dumps({**settings, "schema": request.param}))
    if request.param == "weevit.job/2":
        for path in (job / "data").iterdir():
            path.rename(job / path.name)
        (job / "data").rmdir()
    return job


def test_an_older_folder_is_named_and_left_as_it_is(run: Callable[..., Progress], old: Path, images: Path) -> None:
    before = job_contents(old)
    kind = json.loads((old / "job.json").read_text())["schema"]
    where = old / "data" if kind == "weevit.job/3" else old
    for ask in (*ASK, run):
        with pytest.raises(weevit.JobError, match=rf"a job of an older kind \({kind}\)") as caught:
            ask(old)
        assert "Choose another --output to answer its inputs again." in caught.value.hint
        assert f"Its rows are in {where}, " in caught.value.hint
    said = weevit_says("embed", images, "-o", old, "-m", "vit_tiny_patch16_224")
    assert said.returncode == 1
    assert kind in said.stderr  # before a model is looked for
    (old / "job.json").unlink()
    without = (weevit.JobError, weevit.UsageError)  # `data/` may be of a job of today with other settings
    with pytest.raises(without, match=r"older kind \(weevit\.job/2\)|is of another job: another schema"):
        run(old)
    assert job_contents(old) == {name: content for name, content in before.items() if name != "job.json"}


@pytest.mark.parametrize("how", [{"compression": {"status": "zstd"}}, {"use_dictionary": ["input"]}])
def test_one_packed_column_of_a_shard_is_refused(job: Path, how: dict[str, Any]) -> None:
    from pyarrow import parquet

    path = next((job / "data").iterdir())
    table = parquet.read_table(path)
    others = dict.fromkeys(table.column_names, "none")
    settings = {"use_dictionary": False, **how, "compression": others | how.get("compression", {})}
    parquet.write_table(table, path, **settings)
    with pytest.raises(weevit.JobError, match="it is packed, and might unpack to any size"):
        read_table(Disk(job), path.name, ["input", "status"])


def test_a_job_without_a_plan_says_so(job: Path) -> None:
    (job / "plan.jsonl").unlink()
    for ask in (lambda: list(verify_job(job)), lambda: weevit.read_results(job)):
        with pytest.raises(weevit.JobError, match=r"has no plan\.jsonl yet: the job was stopped before"):
            ask()


def test_a_file_named_nearly_as_a_shard_is_left_there(job: Path, run: Callable[..., Progress]) -> None:
    other = min((job / "data").iterdir()).rename(job / "data" / "part-000000 (1)-0123456789abcdef.parquet")
    assert run(job).computed == SHARD
    assert other.exists()
    assert dict(verify_job(job)).keys() == {f"data/{other.name}"}


def test_a_column_that_there_is_not_is_refused(job: Path) -> None:
    """Parquet's reader leaves it out without a word."""
    with pytest.raises(weevit.UsageError, match="'clas_name' was given") as caught:
        weevit.read_results(job, columns=["input", "clas_name"])
    assert "class_name" in caught.value.message or "embedding" in caught.value.message
    with pytest.raises(weevit.UsageError, match="columns is a list of names: 'input'"):
        weevit.read_results(job, columns="input")  # type: ignore[arg-type]
    assert weevit.read_results(job, columns=["status", "input"]).column_names == ["status", "input"]


def test_a_column_of_too_many_numbers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa

    table = pa.table({"embedding": pa.array([[1.0, 2.0, 3.0, 4.0]] * 2, pa.list_(pa.float32()))})
    monkeypatch.setattr(shards, "MAX_NUMBERS", 8)
    assert shards.vectors(table, "embedding").shape == (2, 4)
    monkeypatch.setattr(shards, "MAX_NUMBERS", 7)
    with pytest.raises(weevit.JobError, match="'embedding' differ in size, or are too long"):
        shards.vectors(table, "embedding")
