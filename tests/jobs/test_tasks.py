"""A shard is one task: a value that another process can do, with the bytes that a job would have written."""

from __future__ import annotations

import pickle
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import labelled
import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("filelock")

import weevit
from weevit.images.sources import expand
from weevit.jobs.folder import plan_of
from weevit.jobs.manifest import read_lines
from weevit.jobs.plan import groups
from weevit.jobs.reuse import OldRows
from weevit.jobs.settings import Settings, read_settings
from weevit.jobs.shards import Row
from weevit.jobs.tasks import ASKED, Task, answer_shard
from weevit.jobs.verbs import VERBS
from weevit.store.place import Disk

SHARD = 3


@pytest.fixture(scope="module")
def predictor() -> weevit.Predictor:
    return weevit.load("digits", cache=False)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = labelled.folder(tmp_path_factory.mktemp("images"), {"a": 7})
    (folder / "a" / "4.png").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module", params=["classify", "embed"])
def job(request: pytest.FixtureRequest, predictor: weevit.Predictor, images: Path,
        tmp_path_factory: pytest.TempPathFactory) -> Path:  # fmt: skip
    folder = tmp_path_factory.mktemp("job") / "out"
    weevit.run_job(predictor, images, folder, request.param, shard_size=SHARD)
    return folder


def tasks(job: Path, images: Path, elsewhere: Path, known: OldRows | None = None) -> list[Task]:
    """The shards of a job, to be answered into another folder."""
    (elsewhere / "data").mkdir(parents=True)
    settings, plan, found = read_settings(Disk(job)), plan_of(Disk(job)).shards, []
    for number, group in groups(expand(images), SHARD):
        sources = list(group)
        old = [known.find(source.name, source.fingerprint()) if known else None for source in sources]
        rows = [one or Row(own.name, own.fingerprint(), status=ASKED) for one, own in zip(old, sources, strict=True)]
        asked = [source for source, row in zip(sources, rows, strict=True) if row.status == ASKED]
        found.append(Task(Disk(elsewhere), settings, plan[number], rows, asked))
    return found


def test_in_another_process_a_shard_has_the_same_bytes(
    job: Path, images: Path, predictor: weevit.Predictor, tmp_path: Path
) -> None:
    own = tasks(job, images, tmp_path / "elsewhere")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        lines = list(pool.map(answer_shard, own, [predictor] * len(own)))
    recorded = [replace(line, seconds=0, order=0) for line in read_lines(Disk(job))]
    assert [replace(line, seconds=0) for line in lines] == recorded
    assert [line.errors for line in lines] == [{}, {"not an image": 1}, {}]
    for line in lines:
        assert (tmp_path / "elsewhere" / "data" / line.file).read_bytes() == (job / "data" / line.file).read_bytes()


def test_rows_that_are_known_are_not_asked_for(
    job: Path, images: Path, predictor: weevit.Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: Settings = read_settings(Disk(job))
    columns = VERBS[settings.verb].columns(settings.options, predictor)
    known = OldRows(Disk(job), [line.file for line in read_lines(Disk(job))[:2]], columns)
    first, second, third = pickle.loads(pickle.dumps(tasks(job, images, tmp_path / "elsewhere", known)))
    asked: list[str] = []
    real = predictor.open
    monkeypatch.setattr(predictor, "open", lambda source: (asked.append(source.name), real(source))[1])
    for task, line in zip((first, second, third), read_lines(Disk(job)), strict=True):
        assert answer_shard(task, predictor).sha256 == line.sha256
    assert [Path(name).name for name in asked] == ["6.png"]
