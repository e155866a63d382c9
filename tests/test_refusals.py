"""Refusals that no other test reaches: each by its cause, with the words that tell it from every other."""

from __future__ import annotations

import io
import json
import struct
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import labelled
import numpy as np
import pytest
from PIL import Image

import weevit
from weevit.datasets.dataset import Dataset, Split
from weevit.datasets.splitting import with_validation
from weevit.engine.session import _onnxruntime_session
from weevit.errors import (
    DatasetError,
    EngineError,
    JobError,
    MissingExtraError,
    MissingImageError,
    OutputError,
    TruncatedImageError,
    UnreadableImageError,
    UsageError,
)
from weevit.explain.relevance import explain_source
from weevit.images.decode import decode
from weevit.images.files import LocalFile, Slice
from weevit.images.source import Source
from weevit.predict import Predictor
from weevit.zoo.checkpoint import Checkpoint


@pytest.fixture(scope="module")
def headless(digits: Predictor) -> Checkpoint:
    return replace(digits.checkpoint, num_classes=0, labels=None)


# ---- models


def test_a_model_without_a_classifier_classifies_nothing(headless: Checkpoint, tmp_path: Path) -> None:
    image = labelled.put(tmp_path / "a.png", labelled.png())
    model = Predictor(headless, cache=False)
    with pytest.raises(UsageError, match="has no classifier"):
        model.classify(image)
    from weevit.evaluation.model import labels_of

    with pytest.raises(UsageError, match="nothing to evaluate"):
        labels_of(headless)
    pytest.importorskip("pyarrow")
    from weevit.jobs.run import run_job

    with pytest.raises(UsageError, match="has no classifier"):
        run_job(model, image, tmp_path / "job", "classify")
    assert not (tmp_path / "job").exists()


def test_a_model_whose_classes_nobody_knows_is_not_evaluated(digits: Predictor) -> None:
    from weevit.evaluation.model import labels_of

    with pytest.raises(UsageError, match="names none of its 10 classes"):
        labels_of(replace(digits.checkpoint, labels=None))
    assert [label.id for label in labels_of(digits.checkpoint)] == list("0123456789")


@pytest.mark.parametrize(("given", "words"), [({"batch_size": 0}, "at least one image"), ({"batch_size": -3}, "-3")])
def test_a_batch_of_nothing(digits: Predictor, given: dict[str, int], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Predictor(digits.checkpoint, cache=False, **given)
    assert Predictor(digits.checkpoint, cache=False, batch_size=1)


def test_bytes_that_are_no_graph(digits: Predictor) -> None:
    with pytest.raises(EngineError, match="could not load the graph"):
        _onnxruntime_session(b"no graph", 1)


def test_blocks_that_a_model_does_not_have(digits: Predictor, tmp_path: Path) -> None:
    source = Source("a", labelled.png(1, (64, 64)))
    depth = digits.checkpoint.architecture.depth
    for layer in (depth, -depth - 1):
        with pytest.raises(UsageError, match=f"there is no block {layer}"):
            explain_source(digits, source, layer)
    for layer in (depth - 1, -depth):
        assert explain_source(digits, source, layer).result.ok
    gone = MissingImageError("gone: no such file")
    with pytest.raises(MissingImageError, match="gone"):
        explain_source(digits, Source("gone", gone), -1)


# ---- images


def tiff(offset: int, compression: int = 5) -> bytes:
    """One strip of a grey image of 4 x 4 pixels that is said to lie there."""
    tags = [(256, 4), (257, 4), (258, 8), (259, compression), (262, 1), (273, offset), (277, 1), (278, 4), (279, 16)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II" + struct.pack("<H", 42) + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0) + bytes(64)


def test_a_tiff_whose_strip_lies_behind_its_end() -> None:
    with pytest.raises(TruncatedImageError):
        decode(tiff(offset=10_000))


def test_a_box_with_a_long_size_is_measured(tmp_path: Path) -> None:
    """AVIF may write the size of a box in 64 bits; one that is longer than the file is a file cut off."""
    buffer = io.BytesIO()
    try:
        Image.new("RGB", (32, 32), (90, 10, 10)).save(buffer, "AVIF")
    except (KeyError, OSError):
        pytest.skip("this Pillow writes no AVIF")
    data = buffer.getvalue()
    assert decode(data).size == (32, 32)
    from weevit.images import boxes

    long = struct.pack(">I4sQ", 1, b"free", 16 + 8) + bytes(8)
    assert not boxes.end_early(data + long)
    assert boxes.end_early(data + long[:-1])
    assert not boxes.end_early(data + struct.pack(">I4s", 0, b"free"))


def test_what_a_slice_promises_and_the_file_does_not_have(tmp_path: Path) -> None:
    path = labelled.put(tmp_path / "a.tar", b"0123456789")
    from weevit.images.decode import Limits

    assert Slice(LocalFile(path), 4, 6, "x").read(Limits()) == b"456789"
    with pytest.raises(TruncatedImageError, match="ends in the middle"):
        Slice(LocalFile(path), 4, 7, "x").read(Limits())


def test_a_file_whose_way_is_shut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = labelled.put(tmp_path / "a.csv", "path\n")

    def shut(*given: Any, **more: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", shut)
    with pytest.raises(UnreadableImageError, match="Permission denied"):
        LocalFile(path).open()


def test_an_answer_that_is_known_already_has_its_status_as_fingerprint() -> None:
    assert Source("x", MissingImageError("gone")).fingerprint() == "missing"
    assert len(Source("x", b"abc").fingerprint()) == 32
    with pytest.raises(UsageError, match="in memory only"):
        Source("x", Image.new("RGB", (2, 2))).fingerprint()


# ---- data sets


def test_a_data_set_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(DatasetError):
        _read(tmp_path / "nowhere")
    (tmp_path / "t.csv").symlink_to(tmp_path / "nowhere.csv")
    with pytest.raises(DatasetError, match="cannot be read"):
        _read(tmp_path / "t.csv")


def _read(path: Path) -> Dataset:
    from weevit.datasets.read import read_dataset

    return read_dataset(str(path))


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, float("nan")])
def test_a_share_that_is_none(share: float) -> None:
    split = Split("train", tuple(Source(str(n), labelled.png(n)) for n in range(9)), np.zeros(9, np.int64))
    with pytest.raises(UsageError, match="more than 0 and less than 1"):
        with_validation(Dataset("x", ("a",), {"train": split}), share, 0)


def test_one_image_is_too_few_to_cut_off_a_part() -> None:
    split = Split("train", (Source("0", labelled.png(0)),), np.zeros(1, np.int64))
    with pytest.raises(DatasetError, match="too few"):
        with_validation(Dataset("x", ("a",), {"train": split}), 0.2, 0)
    only = Dataset("x", ("a",), {"test": replace(split, name="test")})
    with pytest.raises(DatasetError, match="to learn from"):
        with_validation(only, 0.2, 0)


# ---- transforms


SPEC = {"interpolation": "bicubic", "mean": (0.5,) * 3, "std": (0.5,) * 3, "crop_pct": 1.0, "crop_mode": "center"}


def test_a_transform_is_told_everything_and_nothing_else() -> None:
    from weevit.data import create_transform, resolve_data_config

    with pytest.raises(UsageError, match=r"takes no 'crop_pckt'.*|crop_pct"):
        create_transform(32, crop_pckt=0.9, **SPEC)
    with pytest.raises(UsageError, match="for evaluation"):
        create_transform(32, is_training=True, **SPEC)
    with pytest.raises(UsageError, match="std are missing"):
        resolve_data_config(
            {}, {name: value for name, value in {**SPEC, "input_size": (3, 32, 32)}.items() if name != "std"}
        )


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"crop_pct": 0}, "crop_pct is a number from 0.1 to 10: 0 was given"),
        ({"crop_pct": "0.9"}, "crop_pct is a number from 0.1 to 10: '0.9' was given"),
        ({"crop_pct": float("nan")}, "crop_pct is a number from 0.1 to 10: nan was given"),
        ({"crop_mode": "centre"}, "crop_mode is center or squash or border: 'centre' was given"),
        ({"interpolation": None}, "interpolation is nearest or bilinear or bicubic or lanczos: None was given"),
        ({"mean": 0.5}, "mean has 3 numbers, or one for all channels: 0.5 was given"),
        ({"mean": (0.5, 0.5)}, r"mean has 3 numbers, or one for all channels: \(0.5, 0.5\) was given"),
        ({"mean": (0.5, 0.5, float("inf"))}, "mean is a number from -10 to 10: inf was given"),
        ({"std": (0, 0, 0)}, "std is a number from 0.001 to 10: 0.0 was given"),
        ({"std": ("a", "b", "c")}, "std has 3 numbers"),
        ({"input_size": 0}, "input_size is 1 or more: 0 was given"),
        ({"input_size": "32"}, "input_size is a list of whole numbers: '32' was given"),
        ({"input_size": (1, 3, 32, 32)}, r"input_size is \(channels, height, width\), \(height, width\) or the side"),
    ],
)
def test_a_transform_that_could_not_be_one_is_refused_when_it_is_made(changed: dict[str, Any], told: str) -> None:
    """It divided by zero, made every number infinite, or told of it with the first image."""
    from weevit.data import create_transform

    with pytest.raises(UsageError, match=told):
        create_transform(**{"input_size": 32, **SPEC, **changed})


def test_a_transform_takes_one_number_for_all_channels() -> None:
    pytest.importorskip("torch")
    from weevit.data import create_transform

    image = Image.new("RGB", (40, 40), (10, 200, 30))
    one = create_transform(32, **{**SPEC, "mean": [0.5], "std": np.array([0.25])})
    three = create_transform((3, 32, 32), **{**SPEC, "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)})
    assert (one(image) == three(image)).all()


# ---- files that cannot be written


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file can be put in its place any more."""

    def no_room(*given: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_room)


def _csv(path: Path) -> None:
    from weevit.answers.columns import COMMON
    from weevit.cli.writers import write_csv

    write_csv(path.with_suffix(".csv"), [], COMMON)


def _saved(path: Path) -> None:
    from weevit.store.files import write_file

    write_file(path, b"x")


@pytest.mark.parametrize("write", [_csv, _saved])
def test_a_full_disk_is_told_in_one_sentence_and_leaves_nothing(
    tmp_path: Path, full: None, write: Callable[[Path], None]
) -> None:
    with pytest.raises(OutputError, match="No space left") as caught:
        write(tmp_path / "out")
    assert "--output" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


# ---- folders that others wrote


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("plan.jsonl", b'{"number": 0}\n'),
        ("plan.jsonl", b"\xff\xfe"),
        ("job.json", b"{}"),
        ("job.json", b'{"schema": "weevit.job/9"}'),
        ("job.json", b"[1]"),
    ],
)
def test_a_job_whose_records_are_no_records(digits: Predictor, tmp_path: Path, file: str, content: bytes) -> None:
    pytest.importorskip("pyarrow")
    from weevit.jobs.results import job_status
    from weevit.jobs.run import run_job

    image = labelled.put(tmp_path / "a.png", labelled.png())
    run_job(digits, image, tmp_path / "job")
    assert (tmp_path / "job" / file).exists()
    (tmp_path / "job" / file).write_bytes(content)
    with pytest.raises(JobError):
        job_status(tmp_path / "job")
    if file == "plan.jsonl":  # which says nothing that the inputs do not say: it is written anew
        run_job(digits, image, tmp_path / "job")
        found = job_status(tmp_path / "job")
        assert (found.done, found.total) == (1, 1)
    else:
        with pytest.raises(JobError):
            run_job(digits, image, tmp_path / "job")


def test_a_job_that_has_not_seen_its_inputs(digits: Predictor, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    from weevit.jobs.results import verify_job
    from weevit.jobs.run import run_job

    image = labelled.put(tmp_path / "a.png", labelled.png())
    run_job(digits, image, tmp_path / "job")
    (tmp_path / "job" / "plan.jsonl").unlink()
    with pytest.raises(JobError):
        list(verify_job(tmp_path / "job"))
    for path in (tmp_path / "job" / "data").glob("*.parquet"):
        path.unlink()
    for path in (tmp_path / "job").glob("manifest*"):
        path.unlink()
    with pytest.raises(JobError):
        weevit.read_results(tmp_path / "job")


def test_an_evaluation_that_is_not_whole(digits: Predictor, tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    from weevit.evaluation.saved import read_evaluation

    labelled.folder(tmp_path / "data", {str(place): 2 for place in range(10)})
    weevit.evaluate(digits, tmp_path / "data", tmp_path / "out")
    assert len(read_evaluation(tmp_path / "out").rows) == 20
    report = tmp_path / "out" / "report.json"
    good = json.loads(report.read_bytes())
    for broken in ({**good, "metrics": None}, {**good, "classes": [{}]}, {"schema": good["schema"]}):
        report.write_text(json.dumps(broken))
        with pytest.raises(UsageError, match="holds no whole evaluation"):
            read_evaluation(tmp_path / "out")


# ---- words on the command line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["classify", "x.png", "-o", "out/", "--shard", "half"], "--shard is two numbers"),
        (["classify", "x.png", "-o", "out/", "--shard", "3/2"], "3/2"),
        (["features", "x.png", "-o", "out.npz", "--layers", "1,a"], "list of block numbers"),
        (["eval", "digits", "data", "--min-top1", "90"], "share from 0 to 1"),
        (["eval", "digits"], "either DATA or --suite"),
        (["embed", "x.png"], "Where should the vectors go"),
        (["explain", "x.png"], "--output"),
        (["fit", "data"], "--output says which"),
    ],
)
def test_words_that_cannot_be_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, words: list[str], said: str
) -> None:
    from weevit.cli.app import _run

    labelled.put(tmp_path / "x.png", labelled.png())
    monkeypatch.chdir(tmp_path)
    assert _run([*words, *(["-m", "digits"] if words[0] != "eval" else [])]) == 2
    assert said in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.png"]


# ---- the last value that is allowed, and the first that is not


def test_as_many_threads_as_there_may_be() -> None:
    from weevit.engine.threads import choose_threads

    assert choose_threads(1).count == 1
    for count in (0, -1):
        with pytest.raises(UsageError, match="1 or more"):
            choose_threads(count)


@pytest.mark.parametrize(("name", "good", "bad"), [("coverage", 1.0, 1.01), ("coverage", 0.01, 0.0), ("folds", 2, 1)])
def test_the_settings_of_a_fit(name: str, good: float, bad: float) -> None:
    from weevit.fitting.results import Settings

    Settings(**{name: good}).check()
    with pytest.raises(UsageError, match=f"{bad:g} was given"):
        Settings(**{name: bad}).check()


@pytest.mark.parametrize("k", [1, 0])
def test_one_fold_is_none(k: int) -> None:
    from weevit.datasets.splitting import folds

    split = Split("train", tuple(Source(str(n), labelled.png(n)) for n in range(9)), np.zeros(9, np.int64))
    with pytest.raises(UsageError, match="2 or more"):
        folds(split, k, 0)
    assert len(folds(split, 2, 0)) == 2


def test_a_fit_does_not_go_into_a_file(tmp_path: Path) -> None:
    pytest.importorskip("filelock")
    from weevit.fitting.folder import FIT
    from weevit.store.folder import held

    with pytest.raises(UsageError), held(labelled.put(tmp_path / "out", "mine"), FIT):
        pytest.fail("it was held")
    assert (tmp_path / "out").read_text() == "mine"


# ---- what is not installed


@pytest.mark.parametrize("module", ["filelock", "sklearn", "jinja2"])
def test_what_is_not_installed_is_named_with_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: str
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError) as caught:
        _uses(module, tmp_path)
    assert "weevit[data]" in caught.value.hint
    assert module.replace("sklearn", "scikit-learn") in caught.value.message


def _uses(module: str, folder: Path) -> None:
    if module == "filelock":
        from weevit.store.locks import take_lock

        take_lock(folder / ".lock", UsageError("busy"))
    elif module == "sklearn":
        from weevit.fitting.heads import _model

        _model(balanced=False)
    else:
        from weevit.reports.page import _environment

        _environment.__wrapped__()
