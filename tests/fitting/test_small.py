"""Few images: a model or a clear refusal, and never a calibration that makes things worse (in full: fit_small.py)."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import colours
import numpy as np
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("filelock")
pytest.importorskip("jinja2")

import weevit
from weevit.datasets.dataset import TRAIN, VALIDATION, Dataset, Split
from weevit.datasets.splitting import folds
from weevit.fitting import calibration
from weevit.fitting import fit as module
from weevit.fitting.evidence import out_of_fold
from weevit.fitting.fit import fit
from weevit.fitting.floor import check_floor
from weevit.fitting.search import Images, final, search
from weevit.images.source import Source
from weevit.predict import Predictor

NAMES = tuple(colours.COLOURS)


def folder(top: Path, counts: Sequence[int], split: str = "", seed: int = 0) -> Path:
    """`counts[k]` images of the k-th colour."""
    for name, count in zip(NAMES, counts, strict=False):
        own = top / split / name
        own.mkdir(parents=True)
        for index in range(count):
            colours.image(name, seed + index).save(own / f"{index}.png")
    return top


def both(top: Path, counts: Sequence[int], validation: int = 4) -> Path:
    folder(top, counts, "train")
    return folder(top, [validation] * len(counts), "validation", seed=500)


# ---- the floor


def dataset(targets: Sequence[int], classes: int, multi_label: bool = False) -> Dataset:
    sources = tuple(Source(f"{place}.png", b"") for place in range(len(targets)))
    own: Any = np.eye(classes, dtype=np.uint8)[list(targets)] if multi_label else np.array(targets)
    names = tuple(f"c{place}" for place in range(classes))
    return Dataset("here", names, {TRAIN: Split(TRAIN, sources, own)}, multi_label)


def test_the_floor_names_classes_and_numbers() -> None:
    check_floor(dataset([0, 0, 1, 1], 2))
    with pytest.raises(weevit.DatasetError, match=r"2 of 4 classes have fewer than 2 .*: c1 \(1\), c3 \(0\)\."):
        check_floor(dataset([0, 0, 1, 2, 2], 4))
    with pytest.raises(weevit.DatasetError, match=r"c1 \(1\)"):  # copies count once, and what is not read not at all
        check_floor(dataset([0, 0, 1, 1], 2), [0, 1, 2, 3], ["a", "b", "c", "c"])
    with pytest.raises(weevit.DatasetError, match=r"c0 \(1\)"):
        check_floor(dataset([0, 0, 1, 1], 2), [0, 2, 3])
    check_floor(dataset([0, 0, 1, 1], 2), [0, 1, 2, 3], ["a", None, None, "b"])
    check_floor(dataset([0, 1], 2, multi_label=True))
    with pytest.raises(weevit.DatasetError, match=r"c9 \(1\) and 990 more") as raised:
        check_floor(dataset(range(1000), 1000))
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize(
    ("counts", "named"),
    [
        ([2] * 5, r"5 of 5 classes .*black \(1\), blue \(1\)"),  # one of two goes to validation
        ([1, 1], "too few to cut off a share"),
        ([20, 20, 1, 1, 1, 1], r"4 of 6 classes .*black \(1\)"),
    ],
)
def test_too_few_images_are_refused_and_leave_nothing(
    counts: Sequence[int], named: str, predictor: Predictor, tmp_path: Path
) -> None:
    with pytest.raises(weevit.DatasetError, match=named):
        fit(folder(tmp_path / "data", counts), tmp_path / "run", predictor, cache=tmp_path / "cache")
    assert not (tmp_path / "run").exists()


def test_broken_images_and_copies_count_for_nothing(predictor: Predictor, tmp_path: Path) -> None:
    both(tmp_path / "data", [6, 6, 3])
    blue = tmp_path / "data" / "train" / "blue"
    shutil.copy(blue / "0.png", blue / "1.png")
    (blue / "2.png").write_bytes(b"")
    with pytest.raises(weevit.DatasetError, match=r"1 of 3 classes .*blue \(1\)"):
        fit(tmp_path / "data", tmp_path / "run", predictor, cache=tmp_path / "cache")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("call", ["finetune", "plan_finetune"])
def test_finetune_has_the_floor_of_fit(call: str, backbone: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from weevit.finetuning.finetune import finetune, plan_finetune

    data = both(tmp_path / "data", [40, 40, 1])
    with pytest.raises(weevit.DatasetError, match=r"1 of 3 classes have fewer than 2 .*blue \(1\)"):
        finetune(data, tmp_path / "run", backbone) if call == "finetune" else plan_finetune(data, backbone)


def test_a_class_without_a_name(predictor: Predictor, tmp_path: Path) -> None:
    folder(tmp_path / "data", [4, 4])
    (tmp_path / "data" / "red").rename(tmp_path / "data" / "  ")
    with pytest.raises(weevit.DatasetError, match="a class has no name"):
        fit(tmp_path / "data", tmp_path / "run", predictor, cache=tmp_path / "cache")


# ---- models from few images


@pytest.mark.parametrize(
    ("counts", "settings", "said"),
    [
        ([2] * 5, {}, r"not calibrated: for 10 of 10 training images there are fewer than 2 others"),
        ([2, 2], {}, "4 folds: there are 4 different training images"),
        ([3, 3], {}, "not calibrated: 6 training images are too few, 10 are needed"),
        ([4, 4, 4], {}, "no answer is called unknown: 12 images cannot promise a coverage of 0.95"),
        ([1] * 4, {"allow_missing": True}, "nothing was compared in cross-validation"),
        ([1, 1], {"allow_missing": True, "calibrate": "validation"}, "not calibrated: 8 validation images are too few"),
        ([12, 12, 1, 1], {"allow_missing": True}, "cross-validation leaves out 2 of 26 images"),
        ([4, 4, 1], {"allow_missing": True, "class_weights": "balanced"}, "leaves out 1 of 9"),
    ],
    ids=["5x2", "2x2", "2x3", "3x4", "4x1", "2x1", "12,12,1,1", "balanced"],
)
def test_a_model_from_few_images(
    counts: Sequence[int], settings: dict[str, Any], said: str, predictor: Predictor, tmp_path: Path
) -> None:
    done = fit(both(tmp_path / "data", counts), tmp_path / "run", predictor, cache=tmp_path / "cache", **settings)
    assert re.search(said, "\n".join(done.notes)), done.notes
    found, decision = done.calibration, weevit.load(tmp_path / "run", cache=False).checkpoint.decision
    assert decision is not None
    assert decision.temperature == found.temperature
    assert 0.01 < found.temperature < 100
    if any(note.startswith("not calibrated") for note in done.notes):
        assert found.errors["after"] == found.errors["before"]
    if any(note.startswith("no answer is called unknown") for note in done.notes):
        assert decision.threshold is None
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "done"
    assert not list((tmp_path / "run").glob(".*.tmp"))
    results = weevit.load(tmp_path / "run", threads=1, cache=False).classify(tmp_path / "data" / "validation" / "red")
    assert all(np.isfinite(result.probabilities).all() for result in results)


def test_equal_embeddings(tmp_path: Path, predictor: Predictor) -> None:
    """Images of one colour that differ in their bytes alone: there is nothing to tell classes by."""
    from PIL import Image

    for split in ("train", "validation"):
        for name in ("a", "b"):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for index in range(4):
                path = tmp_path / "data" / split / name / f"{index}.png"
                Image.new("RGB", (40, 40), (9, 9, 9)).save(path, compress_level=index, dpi=(72 + ord(name), 72))
    done = fit(tmp_path / "data", tmp_path / "run", predictor, cache=tmp_path / "cache")
    tensors = done.checkpoint.tensors()
    assert np.abs(tensors["head.weight"]).max() < 1e-3
    assert done.metrics["top1"] == 0.5
    assert done.metrics["ece"] < 0.1


# ---- the statistics: never worse on other images


@pytest.mark.parametrize("shape", [(2,) * 5, (3,) * 5, (5,) * 5, (10,) * 4, (30,) * 3, (20, 20, 3, 3), (20, 20, 1, 1)])
def test_calibration_never_makes_it_worse_by_two_points(shape: tuple[int, ...]) -> None:
    """Clouds in many dimensions, as embeddings are; judged by 3,000 images that had no part in it."""
    for seed in range(6):
        rng = np.random.default_rng([seed, *shape])
        centres = rng.normal(0, 1, (len(shape), 64))

        def draw(targets: np.ndarray) -> np.ndarray:
            return (centres[targets] + rng.normal(0, 2.5, (len(targets), 64))).astype(np.float32)  # noqa: B023

        targets = np.repeat(np.arange(len(shape)), shape)
        images = Images(draw(targets), targets, len(shape))
        split = Split(TRAIN, tuple(Source(f"{place}", b"") for place in range(len(targets))), targets)
        found = search(images, folds(split, min(5, len(targets)), seed))
        judged = out_of_fold(found, images)
        heat = calibration.clear_temperature(judged.logits, judged.targets)
        others = np.arange(3000) % len(shape)
        logits = final(images, found.linear.settings["strength"]).logits(draw(others))
        before, after = (calibration.calibration_error(logits / one, others) for one in (1.0, heat))
        assert after <= before + 0.02, (seed, heat, before, after)


def test_what_no_fold_had_learned_is_not_judged() -> None:
    """It had a temperature of 9,999.96: one image a class, each judged by a head that did not know its class."""
    rng = np.random.default_rng(0)
    targets = np.array([0] * 30 + [1] * 30 + [2])
    vectors = (np.eye(3, 16)[targets] * 4 + rng.normal(0, 1, (61, 16))).astype(np.float32)
    images = Images(vectors, targets, 3)
    split = Split(TRAIN, tuple(Source(f"{place}", b"") for place in range(61)), targets)
    found = search(images, folds(split, 5))
    assert found.seen[-1] == 0
    assert found.seen[:-1].min() >= 20
    assert len(found.linear.right) == 60
    assert any("leaves out 1 of 61 images" in note for note in found.notes)
    assert len(out_of_fold(found, images).targets) == 60  # one of 61 is less than two points
    copies = Images(vectors, targets, 3, groups=np.repeat([0, 1, 2], [30, 30, 1]))
    assert search(copies, [(np.arange(30, 61), np.arange(30)), (np.arange(30), np.arange(30, 61))]).seen.max() == 0


# ---- nothing half-written


@pytest.mark.parametrize("where", ["_difference", "_judge", "write_checkpoint", "write_run"])
def test_an_error_leaves_no_model(
    where: str, shop: Path, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("Out of range float values are not JSON compliant: nan")

    with monkeypatch.context() as patched:
        patched.setattr(module, where, fail)
        with pytest.raises(ValueError, match="not JSON compliant"):
            fit(shop, tmp_path / "run", predictor, folds=3, cache=tmp_path / "cache")
    assert not list(tmp_path.rglob("model.safetensors"))
    with pytest.raises(weevit.CheckpointError):
        weevit.load(tmp_path / "run", cache=False)
    if where != "write_run":
        assert not (tmp_path / "run").exists()


def test_an_earlier_fit_stays_until_there_is_a_better_one(
    shop: Path, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("the lights went out")

    first = fit(shop, tmp_path / "run", predictor, folds=3, cache=tmp_path / "cache")
    before = {path.relative_to(tmp_path): path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with monkeypatch.context() as patched:
        patched.setattr(module, "_judge", fail)
        with pytest.raises(RuntimeError, match="lights"):
            fit(shop, tmp_path / "run", predictor, folds=4, cache=tmp_path / "cache")
    after = {path.relative_to(tmp_path): path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert after == before
    (tmp_path / "run" / ".model.0123abcd.tmp").mkdir()  # of a fit that was killed
    (tmp_path / "run" / ".model.0123abcd.tmp" / "model.safetensors").write_bytes(b"")
    again = fit(shop, tmp_path / "run", predictor, folds=3, cache=tmp_path / "cache")
    assert again.checkpoint.sha256 == first.checkpoint.sha256
    assert not list((tmp_path / "run").glob(".*.tmp"))


def test_what_is_evaluated_has_the_name_of_what_is_written(shop: Path, predictor: Predictor, tmp_path: Path) -> None:
    done = fit(shop, tmp_path / "mine", predictor, folds=3, cache=tmp_path / "cache")
    said = done.evaluations[VALIDATION].model
    assert (said["name"], said["source"]) == (done.checkpoint.name, done.checkpoint.source)
    assert said["sha256"] == done.checkpoint.sha256
