"""Jobs: every input its row, whatever happens on the way."""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pa = pytest.importorskip("pyarrow")

from job_orders import job_contents as contents  # noqa: E402 - after the skip

import weevit  # noqa: E402
from weevit.images.formats import EXTENSIONS  # noqa: E402
from weevit.jobs import run as jobs_run  # noqa: E402
from weevit.jobs import tasks as jobs_tasks  # noqa: E402
from weevit.jobs.manifest import read_lines  # noqa: E402
from weevit.jobs.results import job_status, verify_job  # noqa: E402
from weevit.jobs.run import Progress, run_job  # noqa: E402
from weevit.jobs.settings import read_settings  # noqa: E402
from weevit.jobs.shards import vectors  # noqa: E402
from weevit.store.place import Disk  # noqa: E402

SIZE = 32
"""A ViT-Ti at 32 px is as right or wrong as at 224, and fifty times as fast."""

COUNT = 41


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> weevit.Predictor:
    import fakes

    folder = fakes.folder(tmp_path_factory.mktemp("models") / fakes.TINY_TAG)
    return weevit.load(folder, image_size=SIZE, cache=False)


def draw(path: Path, seed: int) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (40 + seed % 7, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for seed in range(COUNT):
        draw(folder / f"{seed}.png", seed)
    (folder / "17.png").write_bytes((folder / "17.png").read_bytes()[:300])
    (folder / "notes.md").write_text("no image")
    return folder


def run(predictor: weevit.Predictor, inputs: Any, folder: Path, verb: str = "embed", **more: Any) -> Progress:
    return run_job(predictor, inputs, folder, verb, **{"shard_size": 8, **more})


def stop_after(shards: int) -> Callable[[], bool]:
    asked = iter(range(1, 1000))
    return lambda: next(asked) >= shards


# ---- rows


def test_every_input_has_its_row(predictor: weevit.Predictor, images: Path, tmp_path: Path) -> None:
    done = run(predictor, images, tmp_path / "out")
    assert (done.total, done.finished, done.computed, done.rest) == (COUNT, COUNT, COUNT, 0)
    assert done.errors == {"truncated": 1}
    assert done.left_out == {".md": 1}
    table = weevit.read_results(tmp_path / "out")
    assert table["input"].to_pylist() == [str(images / f"{seed}.png") for seed in range(COUNT)]  # natural order
    statuses = table["status"].to_pylist()
    assert [index for index, status in enumerate(statuses) if status != "ok"] == [17]
    assert statuses[17] == "decode_error"
    assert table["error"][17].as_py().startswith("truncated")
    assert table["embedding"][17].as_py() is None
    assert (table["width"][0].as_py(), table["height"][3].as_py()) == (50, 43)
    metadata = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    assert metadata["weevit.checkpoint_sha256"] == predictor.checkpoint.sha256
    assert metadata["weevit.normalized"] == "false"
    assert metadata["weevit.version"] == weevit.__version__
    listed = (tmp_path / "out" / "failures.csv").read_text().splitlines()
    assert len(listed) == 2
    assert "17.png,,decode_error" in listed[1]


def test_good_answers_are_those_of_the_image_alone(predictor: weevit.Predictor, images: Path, tmp_path: Path) -> None:
    run(predictor, images, tmp_path / "out")
    table = weevit.read_results(tmp_path / "out")
    for index in (0, 16, 18, 40):
        run(predictor, images / f"{index}.png", tmp_path / f"alone{index}")
        alone = weevit.read_results(tmp_path / f"alone{index}")
        assert alone["embedding"][0] == table["embedding"][index]  # to the last bit
        near = predictor.embed(images / f"{index}.png")[0]
        np.testing.assert_allclose(vectors(table, "embedding")[index], near, atol=1e-5)


def test_numpy_without_a_copy(predictor: weevit.Predictor, images: Path, tmp_path: Path) -> None:
    run(predictor, images, tmp_path / "out", normalize=True, dtype="float16")
    table = weevit.read_results(tmp_path / "out")
    flat = table["embedding"].chunk(0).values.to_numpy(zero_copy_only=True)
    assert flat.dtype == np.float16
    rows = flat.reshape(COUNT, -1)
    assert not rows[17].any()
    np.testing.assert_allclose(np.linalg.norm(np.delete(rows, 17, 0).astype(np.float32), axis=1), 1, atol=1e-3)
    assert np.shares_memory(rows, vectors(table, "embedding"))


@pytest.mark.parametrize("verb", ["classify", "features"])
def test_the_other_verbs(predictor: weevit.Predictor, images: Path, tmp_path: Path, verb: str) -> None:
    options: dict[str, Any] = {"topk": 3} if verb == "classify" else {"layers": [-1, 2]}
    run(predictor, images, tmp_path / "out", verb, **options)
    table = weevit.read_results(tmp_path / "out")
    one = predictor.run(images / "5.png", outputs=("logits", "features"), layers=[-1, 2], topk=3)
    if verb == "classify":
        assert table["class_name"][5].as_py() == list(one.labels)
        np.testing.assert_allclose(vectors(table, "probability")[5], one.probabilities, atol=1e-6)
        assert table["class_name"][17].as_py() is None
        assert vectors(table, "class_index")[5].tolist() == [p.index for p in one.top]
    else:
        shape = json.loads(table.schema.metadata[b"weevit.shapes"])["block_2"]
        assert tuple(shape) == one.features[2].shape
        np.testing.assert_allclose(vectors(table, "block_2")[5].reshape(shape), one.features[2], atol=1e-4)


def test_the_same_bytes_for_every_batch_and_thread_count(
    predictor: weevit.Predictor, images: Path, tmp_path: Path
) -> None:
    """Row J8."""
    run(predictor, images, tmp_path / "usual")
    expected = contents(tmp_path / "usual")
    for batch, threads in ((1, 1), (7, 2), (64, 4)):
        folder = tmp_path / f"{batch}-{threads}"
        other = weevit.Predictor(predictor.checkpoint, image_size=SIZE, batch_size=batch, threads=threads, cache=False)
        run(other, images, folder)
        assert contents(folder) == expected


def test_equal_names_become_ids_of_their_own(predictor: weevit.Predictor, images: Path, tmp_path: Path) -> None:
    one = str(images / "0.png")
    run(predictor, [one, one, str(images / "nothing.png"), one], tmp_path / "out")
    table = weevit.read_results(tmp_path / "out")
    assert table["input"].to_pylist() == [one, f"{one}#2", str(images / "nothing.png"), f"{one}#3"]
    assert table["status"].to_pylist() == ["ok", "ok", "missing", "ok"]


def test_manifests_give_ids_and_targets(predictor: weevit.Predictor, images: Path, tmp_path: Path) -> None:
    listed = images / "list.csv"
    listed.write_text("path,id,label\n0.png,first,cat\n1.png,second,\n")
    run(predictor, listed, tmp_path / "out")
    table = weevit.read_results(tmp_path / "out")
    assert table["input"].to_pylist() == ["first", "second"]
    assert table["target"].to_pylist() == ["cat", None]
    listed.write_text("path,id,label\n0.png,first,dog\n1.png,second,\n")
    assert run(predictor, listed, tmp_path / "out").computed == 0
    assert weevit.read_results(tmp_path / "out")["target"].to_pylist() == ["dog", None]


def test_what_was_left_out_is_counted_to_the_end(predictor: weevit.Predictor, images: Path, tmp_path: Path) -> None:
    (images / "zz").mkdir()
    (images / "zz" / "last.doc").touch()
    done = run(predictor, images, tmp_path / "out", shard_size=COUNT, should_stop=stop_after(1))
    assert done.left_out == {".md": 1, ".doc": 1}


# ---- exactly once


def test_stopped_and_gone_on_with(predictor: weevit.Predictor, images: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(predictor, images, whole)
    first = run(predictor, images, parts, should_stop=stop_after(2))
    assert (first.interrupted, first.finished) == (True, 16)
    with pytest.raises(weevit.JobError, match="25 of 41 rows are not there"):
        weevit.read_results(parts)
    assert weevit.read_results(parts, partial=True).num_rows == 16
    second = run(predictor, images, parts)
    assert (second.there, second.computed, second.rest) == (16, 25, 0)
    assert contents(parts) == contents(whole)
    third = run(predictor, images, parts)
    assert (third.there, third.answered) == (COUNT, 0)


COMMAND = (sys.executable, "-m", "weevit", "embed")


def test_killed_at_random_times(fake_tiny: Path, images: Path, tmp_path: Path) -> None:
    """Row J3 in short; in full: `benchmarks/jobs.py kills`."""
    for seed in range(COUNT, 200):
        draw(images / f"{seed}.png", seed)
    words = [str(images), "--model", str(fake_tiny), "--image-size", "64", "--shard-size", "16"]
    subprocess.run([*COMMAND, *words, "-o", str(tmp_path / "whole")], check=True, capture_output=True)
    dice = random.Random(0)
    folder = tmp_path / "killed"
    kills = before = 0
    while kills < 4:
        with subprocess.Popen([*COMMAND, *words, "-o", str(folder)], stderr=subprocess.DEVNULL) as process:
            time.sleep(dice.uniform(0.3, 0.9))
            process.kill()
        kills += 1
        there = sum(line.rows for line in read_lines(Disk(folder))) if folder.exists() else 0
        assert there >= before  # what has its line stays
        before = there
    done = subprocess.run([*COMMAND, *words, "-o", str(folder)], check=True, capture_output=True, text=True)
    assert "199 done" in done.stderr
    assert contents(folder) == contents(tmp_path / "whole")
    assert len({(line.shard, line.inputs) for line in read_lines(Disk(folder))}) == len(read_lines(Disk(folder))) == 13


def test_a_kill_costs_at_most_one_shard(
    predictor: weevit.Predictor, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever it comes: however slowly shards are written, no more than one shard's answers are not on the disk."""
    real, folder, redone = jobs_tasks.write_shard, tmp_path / "out", []

    def slowly(*args: Any) -> None:
        time.sleep(0.1)
        real(*args)

    def watch(progress: Progress) -> None:
        redone.append(progress.answered - sum(line.rows for line in read_lines(Disk(folder))))

    monkeypatch.setattr(jobs_tasks, "write_shard", slowly)
    run(predictor, images, folder, watch=watch)
    assert len(redone) > COUNT
    assert max(redone) == 7  # of 8: with the last one the shard is there


@pytest.mark.parametrize("moment", ["shard", "line"])
def test_a_crash_between_two_steps(
    predictor: weevit.Predictor, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """The file is there and its line is not; or half a line is."""
    run(predictor, images, tmp_path / "whole")
    folder = tmp_path / "out"
    run(predictor, images, folder, should_stop=stop_after(2))
    real = jobs_run.append

    def crash(place: Disk, name: str, line: Any) -> None:
        if moment == "line":
            real(place, name, line)
            os.truncate(place.path / name, (place.path / name).stat().st_size - 20)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(jobs_run, "append", crash)
        with pytest.raises(KeyboardInterrupt):
            run(predictor, images, folder)
    assert run(predictor, images, folder).there == 16
    assert contents(folder) == contents(tmp_path / "whole")
    assert not list(verify_job(folder))


def test_a_file_that_was_lost_or_cut_is_made_again(predictor: weevit.Predictor, images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    run(predictor, images, folder)
    expected = contents(folder)
    first, second, third = sorted(folder.glob("data/part-*"))[:3]
    first.unlink()
    second.write_bytes(second.read_bytes()[:-10])
    third.write_bytes(third.read_bytes()[:-10] + bytes(10))
    problems = dict(verify_job(folder))
    assert "gone" in problems[f"data/{first.name}"]
    assert {"sha256" in problems[f"data/{path.name}"] for path in (second, third)} == {True}
    with pytest.raises(weevit.JobError, match=r"sha256 differs"):
        weevit.read_results(folder, partial=True)
    third.unlink()
    assert run(predictor, images, folder).computed == 24
    assert contents(folder) == expected


def test_changed_inputs(predictor: weevit.Predictor, images: Path, tmp_path: Path) -> None:
    """Row J5: only what changed is computed, and the end is that of a job that never knew another folder."""
    folder = tmp_path / "out"
    run(predictor, images, folder)
    (images / "3.png").unlink()
    draw(images / "20.png", 999)
    draw(images / "17.png", 17)
    draw(images / "5a.png", 500)
    done = run(predictor, images, folder, should_stop=stop_after(1))
    assert done.interrupted
    again = run(predictor, images, folder)
    assert done.computed + again.computed == 3
    assert again.vanished == 1
    assert (folder / "vanished.txt").read_text() == f"{images / '3.png'}\n"
    run(predictor, images, tmp_path / "fresh")
    assert contents(folder) == contents(tmp_path / "fresh")
    assert not list(verify_job(folder))


def test_inputs_that_change_while_it_runs(predictor: weevit.Predictor, images: Path, tmp_path: Path) -> None:
    def change(progress: Progress) -> None:
        if progress.computed == 1:  # before the stream, which is some images ahead, has come to it
            draw(images / "30.png", 30_000)

    small = weevit.load(predictor.checkpoint.path.parent, image_size=SIZE, batch_size=2, cache=False)
    with pytest.raises(weevit.JobError, match="changed while"):
        run(small, images, tmp_path / "out", watch=change)
    assert run(predictor, images, tmp_path / "out").there >= 24
    run(predictor, images, tmp_path / "fresh")
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


def test_failed_rows_are_asked_again_on_request(predictor: weevit.Predictor, images: Path, tmp_path: Path) -> None:
    run(predictor, images, tmp_path / "out")
    expected = contents(tmp_path / "out")
    assert run(predictor, images, tmp_path / "out").computed == 0
    assert run(predictor, images, tmp_path / "out", retry_failed=True).computed == 1
    assert contents(tmp_path / "out") == expected


# ---- refusals


def test_another_job_in_the_folder(predictor: weevit.Predictor, images: Path, tmp_path: Path) -> None:
    """Row J7."""
    folder = tmp_path / "out"
    run(predictor, images, folder, should_stop=stop_after(1))
    expected = contents(folder)
    bigger = weevit.Predictor(predictor.checkpoint, image_size=48, cache=False)
    for other, more, word in (
        (bigger, {}, "preprocessing"),
        (predictor, {"shard_size": 9}, "shard_size"),
        (predictor, {"normalize": True}, "options"),
        (predictor, {"verb": "classify"}, "verb"),
    ):
        with pytest.raises(weevit.UsageError, match=word):
            run(other, images, folder, **more)
    job = json.loads((folder / "job.json").read_text())
    for key in ("checkpoint", "weevit", "model", "engine", "precision", "device"):
        (folder / "job.json").write_text(json.dumps({**job, key: "another"}))
        with pytest.raises(weevit.UsageError, match=f"{key}: another then"):
            run(predictor, images, folder)
    (folder / "job.json").write_bytes(expected["job.json"])
    assert contents(folder) == expected


def test_a_job_of_an_earlier_version_was_fp32_on_the_cpu(
    predictor: weevit.Predictor, images: Path, tmp_path: Path
) -> None:
    """Neither `job.json` nor the files named precision or device."""
    pyarrow = pytest.importorskip("pyarrow.parquet")
    folder = tmp_path / "out"
    run(predictor, images, folder)
    job = json.loads((folder / "job.json").read_text())
    old = {key: value for key, value in job.items() if key not in ("precision", "device")}
    assert len(old) == len(job) - 2
    (folder / "job.json").write_text(json.dumps(old))
    assert run(predictor, images, folder).computed == 0
    schema = pyarrow.read_schema(next((folder / "data").iterdir()))
    own = {key: value for key, value in schema.metadata.items() if key not in (b"weevit.precision", b"weevit.device")}
    assert len(own) == len(schema.metadata) - 2
    settings = read_settings(Disk(folder))
    assert settings.unlike(schema.with_metadata(own)) == ""
    assert replace(settings, precision="bf16").unlike(schema.with_metadata(own)) == "precision"


def test_folders_that_are_no_jobs(predictor: weevit.Predictor, images: Path, tmp_path: Path) -> None:
    before = sorted(images.iterdir())
    with pytest.raises(weevit.UsageError, match="would be lost"):
        run(predictor, images, images)
    with pytest.raises(weevit.UsageError, match="holds no job"):
        run(predictor, sorted(images.iterdir()), images)
    assert sorted(images.iterdir()) == before
    with pytest.raises(weevit.UsageError, match="is a file"):
        run(predictor, images, images / "0.png")
    for ask in (weevit.read_results, job_status, lambda path: list(verify_job(path))):
        with pytest.raises(weevit.JobError, match="no job"):
            ask(images)


def test_two_processes_in_one_folder(predictor: weevit.Predictor, images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    seen: list[str] = []

    def meanwhile(progress: Progress) -> None:
        if progress.computed == 1:
            for shard in ((1, 1), (1, 2)):
                with pytest.raises(weevit.OutputError, match="Another process works") as caught:
                    run(predictor, images, folder, shard=shard)
                seen.append(str(caught.value))
            assert job_status(folder).running == ["1/1"]

    run(predictor, images, folder, watch=meanwhile)
    assert len(seen) == 2
    assert job_status(folder).running == []


def test_shares_make_the_whole(predictor: weevit.Predictor, images: Path, tmp_path: Path) -> None:
    run(predictor, images, tmp_path / "whole")
    folder = tmp_path / "shares"
    rests = [run(predictor, images, folder, shard=(worker, 3)).rest for worker in (2, 1, 3)]
    assert rests[0] > rests[1] > rests[2] == 0
    assert contents(folder) == contents(tmp_path / "whole")
    draw(images / "40.png", 77)

    def late(progress: Progress) -> None:
        if progress.computed == 1:
            draw(images / "41.png", 88)
            with pytest.raises(weevit.JobError, match="differ from those of the other workers"):
                run(predictor, images, folder, shard=(1, 3))

    run(predictor, images, folder, shard=(3, 3), watch=late)


def test_a_share_asks_for_the_sizes_of_its_own_inputs_only(
    predictor: weevit.Predictor, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With addresses in a list, each of them is a request."""
    from weevit.images.source import Source

    asked: list[str] = []
    real = Source.fingerprint
    monkeypatch.setattr(Source, "fingerprint", lambda self: (asked.append(Path(self.name).stem), real(self))[1])
    done = run(predictor, images, tmp_path / "out", shard=(2, 3))
    assert sorted(set(asked), key=int) == [str(seed) for seed in (*range(8, 16), *range(32, 40))]
    assert (done.total, done.rest) == (16, COUNT - 16)
    status = job_status(tmp_path / "out")
    assert (status.done, status.total) == (16, COUNT)
    assert dict(verify_job(tmp_path / "out")) == {
        "plan.jsonl": "not there yet: 4 shards (25 rows) are of shares that have not run"
    }
    with pytest.raises(weevit.JobError, match="25 of 41 rows are not there"):
        weevit.read_results(tmp_path / "out")
    assert weevit.read_results(tmp_path / "out", partial=True).num_rows == 16


def test_shares_of_other_inputs_are_told_apart(predictor: weevit.Predictor, images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    run(predictor, images, folder, shard=(1, 2))
    draw(images / "41.png", 41)
    done = run(predictor, images, folder, shard=(2, 2))
    assert not (folder / "plan-1-of-2.jsonl").exists()  # it counts 41 inputs
    assert done.rest == COUNT + 1 - done.total
    run(predictor, images, folder, shard=(1, 2))
    run(predictor, images, tmp_path / "whole")
    assert contents(folder) == contents(tmp_path / "whole")


def test_a_name_that_repeats_is_found_after_the_reading(
    predictor: weevit.Predictor, images: Path, tmp_path: Path
) -> None:
    """In the order of the inputs, whatever names others get: as if every name were kept in memory."""
    listed = images / "list.csv"
    names = ["a", "b", "a", "a#2", "c", "b#2", "b", "a", "b#2"]
    listed.write_text("path,id\n" + "".join(f"{number}.png,{name}\n" for number, name in enumerate(names)))
    run(predictor, listed, tmp_path / "out", shard_size=2)
    found = weevit.read_results(tmp_path / "out")["input"].to_pylist()
    assert found == ["a", "b", "a#2", "a#2#2", "c", "b#2", "b#3", "a#3", "b#2#2"]


def test_a_full_disk(
    predictor: weevit.Predictor, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(predictor, images, tmp_path / "whole")
    folder = tmp_path / "out"
    real, calls = jobs_tasks.write_shard, iter(range(100))

    def full(path: Path, *rest: Any) -> None:
        if next(calls) == 2:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(path, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(jobs_tasks, "write_shard", full)
        with pytest.raises(weevit.OutputError, match="No space left on device") as caught:
            run(predictor, images, folder)
    assert "rerun the command to resume" in caught.value.hint
    assert run(predictor, images, folder).there == 16
    assert contents(folder) == contents(tmp_path / "whole")


def test_what_cannot_be_meant(predictor: weevit.Predictor, images: Path, tmp_path: Path) -> None:
    for more, word in (
        ({"shard": (3, 2)}, "3/2"),
        ({"shard_size": 0}, "at least one row"),
        ({"dtype": "int8"}, "float32 or float16"),
        ({"topk": 3}, "No option 'topk'"),
        ({"verb": "classify", "topk": 0}, "topk is 1 or more"),
        ({"verb": "emded"}, "No job 'emded'"),
        ({"shard": "1/2"}, "shard is a list of whole numbers: '1/2'"),
        ({"shard": (1.0, 2.0)}, "shard is a list of whole numbers"),
        ({"shard": (1, 2, 3)}, "1/2/3"),
        ({"normalize": "no"}, "normalize is True or False: 'no'"),
        ({"verb": "features", "layers": 3}, "layers is a list of whole numbers: 3"),
    ):
        with pytest.raises(weevit.UsageError, match=word):
            run(predictor, images, tmp_path / "out", **more)
    with pytest.raises(weevit.UsageError, match="in memory only"):
        run(predictor, [Image.new("RGB", (9, 9))], tmp_path / "out")
    for model, folder, word in (
        (predictor, None, "folder of a job is a path"),
        ("tiny", tmp_path / "out", "loaded model"),
    ):
        with pytest.raises(weevit.UsageError, match=word):
            weevit.run_job(model, images, folder)  # type: ignore[arg-type]


def test_settings_are_numbers_of_any_kind(predictor: weevit.Predictor, images: Path, tmp_path: Path) -> None:
    """numpy's, and Python's own: the same job."""
    first = run(predictor, images, tmp_path / "out", verb="classify", topk=np.int64(3), shard_size=np.int64(8))
    again = run(predictor, images, tmp_path / "out", verb="classify", topk=3, shard_size=8)
    assert (first.computed, again.computed) == (COUNT, 0)


def test_an_iterator_may_be_given(predictor: weevit.Predictor, images: Path, tmp_path: Path) -> None:
    def paths() -> Iterator[Path]:
        yield from (images / "1.png", images / "2.png")

    assert run(predictor, paths(), tmp_path / "out").finished == 2


def test_the_zoo_among_photos(vit_tiny: Path, shared: Path, photos: list[Path], tmp_path: Path) -> None:
    """Row J1 as a job: every bad file has its row, and no good one is another for its company."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    for path in photos[:50]:
        (folder / path.name).symlink_to(path)
    (folder / "zoo").symlink_to(shared / "data" / "image_zoo")
    (folder / "empty.jpg").touch()
    (folder / "dangling.png").symlink_to(tmp_path / "nowhere")
    (folder / "folder.jpg").mkdir()
    os.mkfifo(folder / "pipe.jpg")
    tiny = weevit.load(vit_tiny, image_size=64, cache=False)
    run(tiny, folder, tmp_path / "out", shard_size=32)
    table = weevit.read_results(tmp_path / "out")
    status = dict(zip(table["input"].to_pylist(), table["status"].to_pylist(), strict=True))
    zoo = [path for path in (shared / "data" / "image_zoo").rglob("*") if path.is_file()]
    looked_at = [path for path in zoo if path.suffix.lower() in EXTENSIONS]
    assert len(status) == 50 + len(looked_at) + 3  # a folder has a row only if nothing else is in it or beside it
    for path in looked_at:
        own = status[str(folder / "zoo" / path.relative_to(shared / "data" / "image_zoo"))]
        assert (own == "ok") == (path.parent.name != "bad"), path
    assert [status[str(folder / name)] for name in ("empty.jpg", "dangling.png", "pipe.jpg")] == [
        "decode_error", "missing", "unreadable",
    ]  # fmt: skip
    good = [name for name, own in status.items() if own == "ok"]
    for name in good[::9]:
        run(tiny, name, tmp_path / "alone" / str(good.index(name)))
        alone = weevit.read_results(tmp_path / "alone" / str(good.index(name)))
        assert alone["embedding"][0] == table["embedding"][table["input"].to_pylist().index(name)]
