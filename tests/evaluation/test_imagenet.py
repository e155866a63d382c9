"""Suites made of random images under the sets' names; timm's lists and its ReaL evaluator are the oracle."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import fakes
import numpy as np
import pytest
from browsing import DESKTOP, PHONE, Browser
from PIL import Image

import weevit
from weevit.errors import DatasetError
from weevit.evaluation import imagenet
from weevit.evaluation.imagenet import SETS, find_sets
from weevit.evaluation.results import SuiteEvaluation
from weevit.evaluation.suite import suite_json, write_suite
from weevit.predict import Predictor
from weevit.zoo.architectures import get_architecture
from weevit.zoo.labels import imagenet_labels
from weevit.zoo.weights import BY_NAME, TEST_SETS

SYNSETS = [label.id for label in imagenet_labels(1000) or ()]


def timm_data() -> Path:
    """timm's lists, without the seconds that its import takes."""
    found = find_spec("timm")
    if found is None or found.origin is None:
        pytest.skip("needs timm")
    return Path(found.origin).parent / "data" / "_info"


@pytest.mark.parametrize("letter", ["a", "r"])
def test_subsets_are_timms(letter: str) -> None:
    own = imagenet._subset(f"imagenet_{letter}.txt")
    assert list(own) == (timm_data() / f"imagenet_{letter}_synsets.txt").read_text().split()
    indices = [int(line) for line in (timm_data() / f"imagenet_{letter}_indices.txt").read_text().split()]
    assert [SYNSETS.index(synset) for synset in own] == indices


def test_sets_are_those_with_published_figures() -> None:
    assert tuple(one.name for one in SETS) == TEST_SETS
    names = [name for one in SETS for name in one.folders.split()]
    assert len(set(names)) == len(names)
    labels = json.loads((timm_data() / "imagenet_real_labels.json").read_text())
    assert sum(1 for own in labels if own) == next(one.images for one in SETS if one.name == "imagenet-real")


@pytest.fixture(scope="module")
def thousand(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """A ViT-Ti for 32 pixels whose published figures are known, and whose head spreads its answers."""
    arrays = fakes.tensors(get_architecture(fakes.TINY), 1000)
    arrays["head.weight"] *= 50
    model = fakes.folder(tmp_path_factory.mktemp("thousand") / fakes.TINY_TAG, arrays=arrays)
    return weevit.load(model, image_size=32, threads=1, cache=False)


def _image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    low = Image.fromarray(rng.integers(0, 256, (3, 3, 3), dtype=np.uint8))
    low.resize((40, 40)).save(path.with_suffix(".png"))
    path.with_suffix(".png").rename(path)


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All sets, six to ten images each, under names that people use; one image of the validation set is broken."""
    root = tmp_path_factory.mktemp("suite")
    for number in range(10):
        _image(root / "val" / SYNSETS[number // 3 * 50] / f"ILSVRC2012_val_{number + 1:08d}.JPEG", number)
    broken = root / "val" / SYNSETS[0] / "ILSVRC2012_val_00000002.JPEG"
    broken.write_bytes(broken.read_bytes()[:60])
    for place, number in enumerate((0, 7, 10, 100, 999, 42)):
        _image(root / "imagenetv2-matched-frequency-format-val" / str(number) / f"{place}.jpeg", 20 + place)
    for place, letter in enumerate("ar"):
        for index, synset in enumerate(imagenet._subset(f"imagenet_{letter}.txt")[:180:30]):
            _image(root / f"ImageNet_{letter.upper()}" / synset / f"{index}.jpg", 40 + 10 * place + index)
    for index in range(6):
        _image(root / "sketch" / SYNSETS[index * 11] / f"sketch_{index}.JPEG", 70 + index)
    real = [[0, 50], [0], [], [SYNSETS.index(SYNSETS[50]), 999], [50], [3], [100], [100, 101, 102], [1], [150]]
    (root / "real.json").write_text(json.dumps(real))
    return root


@pytest.fixture(scope="module")
def evaluated(thousand: Predictor, suite: Path) -> SuiteEvaluation:
    return weevit.evaluate_suite(thousand, suite)


def logits_of(predictor: Predictor, paths: list[Path]) -> np.ndarray:
    return np.stack([predictor.run(path, outputs=("logits",)).logits for path in paths])


def files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob("*/*")) if path.name != "ILSVRC2012_val_00000002.JPEG"]


def share(logits: np.ndarray, targets: list[int], k: int) -> float:
    order = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    return float((order == np.array(targets)[:, None]).any(axis=1).mean())


def test_whole_sets(evaluated: SuiteEvaluation, thousand: Predictor, suite: Path) -> None:
    for name, folder in (("imagenet", "val"), ("imagenet-sketch", "sketch")):
        paths = files(suite / folder)
        targets = [SYNSETS.index(path.parent.name) for path in paths]
        for k in (1, 5):
            assert evaluated[name].evaluation.metrics[f"top{k}"] == share(logits_of(thousand, paths), targets, k)
    assert len(evaluated["imagenet"].evaluation.failures) == 1
    assert evaluated.absent == ()
    assert [one.name for one in evaluated.sets] == list(TEST_SETS)


def test_numbered_folders_are_classes_in_their_order(
    evaluated: SuiteEvaluation, thousand: Predictor, suite: Path
) -> None:
    paths = files(suite / "imagenetv2-matched-frequency-format-val")
    logits = logits_of(thousand, paths)
    found = evaluated["imagenetv2"].evaluation
    targets = [int(path.parent.name) for path in paths]
    assert found.metrics["top1"] == share(logits, targets, 1)
    assert {row.target for row in found.rows} == {SYNSETS[target] for target in targets}


@pytest.mark.parametrize("letter", ["a", "r"])
def test_only_the_subsets_classes_are_answers(
    evaluated: SuiteEvaluation, thousand: Predictor, suite: Path, letter: str
) -> None:
    indices = [int(line) for line in (timm_data() / f"imagenet_{letter}_indices.txt").read_text().split()]
    paths = files(suite / f"ImageNet_{letter.upper()}")
    masked = logits_of(thousand, paths)[:, indices]
    targets = [indices.index(SYNSETS.index(path.parent.name)) for path in paths]
    found = evaluated[f"imagenet-{letter}"].evaluation
    assert len(found.classes) == 200
    for k in (1, 5):
        assert found.metrics[f"top{k}"] == share(masked, targets, k)
    answers = [SYNSETS[indices[index]] for index in masked.argmax(axis=1)]
    assert [row.answer for row in sorted(found.rows, key=lambda row: row.input)] == answers


def test_real_labels_are_counted_as_timm_counts(evaluated: SuiteEvaluation, thousand: Predictor, suite: Path) -> None:
    torch = pytest.importorskip("torch")
    real = pytest.importorskip("timm.data.real_labels")
    every = sorted((suite / "val").glob("*/*"), key=lambda path: path.name)
    readable = [path for path in every if path in files(suite / "val")]
    oracle = real.RealLabelsImagenet([path.name for path in every], real_json=suite / "real.json")
    oracle.filenames = [path.name for path in readable]
    oracle.add_result(torch.from_numpy(logits_of(thousand, readable)))
    found = evaluated["imagenet-real"].evaluation
    for k in (1, 5):
        assert 100 * found.metrics[f"top{k}"] == pytest.approx(oracle.get_accuracy(k))
    assert len(found.answered) == 8  # ten, one of them broken, and one without a class that anybody agreed on
    assert len(found.failures) == 1
    several = next(row for row in found.rows if row.input.endswith("00000008.JPEG"))
    assert several.target == ";".join(SYNSETS[index] for index in (100, 101, 102))
    assert found.confusion.sum() == 8


def test_real_that_cannot_be_used(thousand: Predictor, suite: Path, tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    for name in SYNSETS[:2]:
        _image(tmp_path / "val" / name / "odd name.JPEG", 1)
    (tmp_path / "real.json").write_text("[[1], [2]]")
    found = weevit.evaluate_suite(thousand, tmp_path)
    assert [one.name for one in found.sets] == ["imagenet"]
    assert any("ReaL was left out" in note for note in found.notes)
    assert len(found.absent) == 5
    for bad in ('{"a": 1}', "[1]", "[[1000]]", "[[true]]", "[[", "\xff"):
        (tmp_path / "real.json").write_text(bad, encoding="latin-1")
        with pytest.raises(DatasetError, match="not ReaL's list"):
            weevit.evaluate_suite(thousand, tmp_path)


def test_folders_and_models_that_do_not_fit(
    thousand: Predictor, suite: Path, colour_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match="none of the sets"):
        find_sets(tmp_path)
    with pytest.raises(DatasetError, match="cannot be read"):
        find_sets(tmp_path / "gone")
    with pytest.raises(DatasetError, match="lacks 1000 of the 1000 classes"):
        weevit.evaluate_suite(colour_model, suite)
    _image(tmp_path / "imagenet-a" / SYNSETS[0] / "1.jpg", 0)
    with pytest.raises(DatasetError, match=rf"\+ {SYNSETS[0]}"):
        weevit.evaluate_suite(thousand, tmp_path)


def test_published_figures_and_differences(evaluated: SuiteEvaluation, suite: Path, fake_tiny: Path) -> None:
    weight = BY_NAME[fakes.TINY_TAG]
    for one in evaluated.sets:
        assert one.published == weight.metrics[one.name]
        assert one.differences is not None
        assert one.differences[0] == pytest.approx(100 * one.evaluation.metrics["top1"] - weight.metrics[one.name][0])
        assert not one.whole
    assert any("224 px" in note for note in evaluated.notes)  # measured at 32
    values = suite_json(evaluated)
    assert [one["published_percent"]["top1"] for one in values["sets"]] == [
        75.452,
        82.061,
        63.110,
        9.053,
        32.150,
        20.460,
    ]


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_the_page_in_a_browser(evaluated: SuiteEvaluation, tmp_path: Path, browser: Browser, width: int) -> None:
    pytest.importorskip("jinja2")
    write_suite(evaluated, tmp_path)
    seen = browser.look(tmp_path / "report.html", width)
    seen.check()
    assert "75.45\u00a0%" in seen.facts["text"]
    assert {item.name for item in tmp_path.iterdir()} == {"report.html", "report.json", *TEST_SETS}
    for name in TEST_SETS:
        assert f"{name}/report.html" in (tmp_path / "report.html").read_text()
    browser.look(tmp_path / "imagenet-a" / "report.html", width).check()


@pytest.mark.long
def test_vit_tiny_on_the_photos(photos: list[Path], vit_tiny: Path, tmp_path: Path) -> None:
    """The 500 photos as a validation folder: 413 and 478 are right, as timm says."""
    for path in photos:
        folder = tmp_path / "val" / path.name.partition("_")[0]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / path.name).symlink_to(path)
    found = weevit.evaluate_suite(weevit.load(vit_tiny, batch_size=16), tmp_path)
    (one,) = found.sets
    assert (one.published, one.whole) == ((75.452, 92.858), False)
    assert (round(500 * one.evaluation.metrics["top1"]), round(500 * one.evaluation.metrics["top5"])) == (413, 478)
    assert one.evaluation.metrics["top1"] == 413 / 500
