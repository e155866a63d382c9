"""`weevit quantize`: what is written, what is refused, and who is told what."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import replace
from itertools import chain
from pathlib import Path

import fakes
import numpy as np
import pytest

import weevit
from weevit import CheckpointError, DatasetError, UsageError
from weevit.answers.results import unit_length
from weevit.cli.answers import model_line
from weevit.cli.app import main
from weevit.engine.machine import Cpu
from weevit.engine.timing import Ratio
from weevit.quantization.gate import agree
from weevit.quantization.images import choose_images
from weevit.quantization.observe import Observed, observe
from weevit.quantization.results import Agreement, Gate, Speed, misses
from weevit.zoo.architectures import get_architecture
from weevit.zoo.quantized import MARK
from weevit.zoo.writing import write_checkpoint

for needed in ("filelock", "jinja2", "sklearn"):
    pytest.importorskip(needed)

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "examples" / "digits"
LAX = {"min_speedup": 0.0, "min_agreement": 50.0, "max_drop": 50.0}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> weevit.quantization.results.Quantized:
    """The model of digits in int8: real weights, real images. With 8 bits on every processor: 7 have no scores."""
    folder = tmp_path_factory.mktemp("int8") / "digits"
    return weevit.quantize("digits", DIGITS, folder, images=64, held_out=64, bits=8, **LAX)


def test_a_model_that_passes_is_one_like_any_other(made) -> None:
    assert made.passed
    assert made.agreement.images == 64
    assert made.agreement.labelled == 64
    assert made.agreement.share > 0.95
    checkpoint = made.checkpoint
    assert checkpoint.quantization.images == 64
    assert checkpoint.quantization.original == weevit.load("digits").checkpoint.sha256
    assert made.size[1] < 0.4 * made.size[0]  # a small model, of which norms and positions are a larger part
    first, second = weevit.load("digits"), weevit.load(made.folder)
    assert [label.id for label in checkpoint.labels] == [label.id for label in first.checkpoint.labels]
    image = DIGITS / "test" / "3" / "0175.png"
    assert second.classify(image).labels == first.classify(image).labels
    assert second.run(image, ("features", "attention")).attention
    report = json.loads((made.folder / "report.json").read_text())
    assert report["schema"] == "weevit.quantization/1"
    assert report["agreement"]["same"] == made.agreement.same
    page = (made.folder / "report.html").read_text()
    assert "faster, by processor time" in page
    assert "int8 (" in page


def test_every_verb_takes_it(made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image, model = str(DIGITS / "test" / "3" / "0175.png"), str(made.folder)
    commands = [
        ["classify", image, "--model", model],
        ["embed", image, "--model", model, "-o", str(tmp_path / "v.npy")],
        ["features", image, "--model", model, "-o", str(tmp_path / "f.npz")],
        ["explain", image, "--model", model, "-o", str(tmp_path / "e.png")],
        ["eval", model, str(DIGITS / "test"), "-o", str(tmp_path / "report")],
        ["classify", str(DIGITS / "test" / "3"), "--model", model, "-o", str(tmp_path / "job")],
        ["fit", str(DIGITS), "--model", model, "-o", str(tmp_path / "fit")],
        ["info", model],
        ["compare", "digits", model, str(DIGITS / "test")],
        ["bench", model, "--rounds", "1", "--batch", "2"],
    ]
    for words in commands:
        assert _code(words) == 0, (words, capsys.readouterr().err)
    said = capsys.readouterr().out
    assert made.checkpoint.quantization.original in said  # by info
    assert "recommended:" in said  # by bench
    fitted = weevit.load(tmp_path / "fit").checkpoint
    assert fitted.quantization == made.checkpoint.quantization  # a new head on the same int8 backbone


def test_every_line_that_names_it_says_int8(made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _code(["eval", str(made.folder), str(DIGITS / "test"), "-o", str(tmp_path)]) == 0
    named = "64 px · int8 (8-bit weights, calibrated on 64 images) · onnxruntime, "
    assert named in capsys.readouterr().err
    assert named in (tmp_path / "report.html").read_text()
    assert json.loads((tmp_path / "report.json").read_text())["model"]["quantization"].startswith("int8 (8-bit")
    plain = weevit.evaluate("digits", DIGITS)
    assert "quantization" not in plain.model


def test_an_engine_promises_timms_numbers_for_timms_weights_only(made, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr("weevit.engine.session.cpu", lambda: Cpu("VNNI", known=True, avx_vnni=True))
    line = model_line(weevit.load(made.folder, engine="openvino"))
    assert "openvino" in line
    assert "timm" not in line
    assert "openvino (timm's numbers)" in model_line(weevit.load("digits", engine="openvino"))


def _code(words: list[str]) -> int:
    with pytest.raises(SystemExit) as ended:
        main(words)
    return int(ended.value.code or 0)


def test_answers_in_fp32_and_int8_are_never_mixed(made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = str(tmp_path / "job")
    words = ["embed", str(DIGITS / "test" / "3"), "-o", job, "--model"]
    assert _code([*words, "digits"]) == 0
    assert _code([*words, str(made.folder)]) != 0
    assert "then," in capsys.readouterr().err


def test_a_fit_in_int8(tmp_path: Path) -> None:
    first = weevit.fit(DIGITS, tmp_path / "fit", "digits", int8=True)
    assert first.checkpoint.quantization is not None
    assert first.metrics["top1"] > 0.9
    assert not list((tmp_path / "fit").glob(".int8*"))
    again = weevit.fit(DIGITS, tmp_path / "again", "digits", int8=True)
    assert again.computed == 0  # the backbone is the same file, and its embeddings are known
    assert again.checkpoint.sha256 == first.checkpoint.sha256


def test_quantised_twice_the_file_is_the_same(made, tmp_path: Path) -> None:
    again = weevit.quantize("digits", DIGITS, tmp_path / "again", images=64, held_out=64, bits=8, **LAX)
    assert again.checkpoint.sha256 == made.checkpoint.sha256


def test_what_misses_the_gate_is_not_written(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    found = weevit.quantize("digits", DIGITS, folder, images=8, held_out=64, min_speedup=1000.0)
    assert any("times as fast here; 1000" in line for line in found.failed)
    assert found.checkpoint is None
    assert not folder.exists()


def test_an_earlier_model_stays_where_another_misses_the_gate(made, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(made.folder, folder)
    found = weevit.quantize("digits", DIGITS, folder, images=64, held_out=64, min_speedup=1000.0)
    assert not found.passed
    assert weevit.load(folder).checkpoint.sha256 == made.checkpoint.sha256


def test_conditions_of_the_gate() -> None:
    fast = Speed(1, (1.0, 0.5), (1.0, 0.5), Ratio(2.0, 2.0, 2.0, 1.0))
    slow = Speed(1, (1.0, 1.0), (1.0, 1.0), Ratio(1.0, 1.0, 1.0, 0.0))
    good = Agreement(1000, 970, 0.96, 0.98, 0.1, 1.0, 0.99, 0.98, 1000, (800, 796), 0.3)
    assert list(misses(Gate(), good, fast)) == []
    assert list(misses(Gate(), None, fast)) == []
    assert "1.00 times as fast" in next(misses(Gate(), good, slow))
    assert "95.9%" in next(misses(Gate(), Agreement(1000, 959, 0.9, 1, 0, 0, 1, 1), fast))
    assert "0.60 points" in next(misses(Gate(), Agreement(1000, 999, 0.9, 1, 0, 0, 1, 1, 1000, (800, 794)), fast))
    headless = Agreement(10, None, *[float("nan")] * 4, 0.97, 0.9)
    assert "cosine is 0.9700" in next(misses(Gate(), headless, fast))


def test_without_data_each_row_has_its_range(tmp_path: Path) -> None:
    found = weevit.quantize("digits", None, tmp_path / "rows", min_speedup=0.0)
    assert found.quantization.kind == "rows"
    assert found.agreement is None
    first, second = weevit.load("digits"), weevit.load(tmp_path / "rows")
    images = sorted((DIGITS / "test").rglob("*.png"))[:40]
    agree = [a.labels[0] == b.labels[0] for a, b in zip(first.classify(images), second.classify(images), strict=True)]
    assert sum(agree) >= 39


def test_images_without_classes(tmp_path: Path) -> None:
    for path in sorted((DIGITS / "test").rglob("*.png"))[:60]:
        shutil.copy(path, tmp_path / f"{path.parent.name}-{path.name}")
    (tmp_path / "broken.png").write_bytes(b"no image")
    found = weevit.quantize("digits", tmp_path, tmp_path / "out", images=20, **LAX)
    assert found.agreement.labelled == 0
    assert found.left_out == 1
    assert "judged without classes" in found.notes[0]
    assert found.notes[0].endswith("no images with classes.")
    chosen = choose_images(str(tmp_path / "*.png"), weevit.load("digits"), (20, 20), 0)
    assert chosen.notes[0].endswith("images have no class.")


# ---- invalid


@pytest.mark.parametrize("weight", [3e38, 1e30])
def test_a_model_that_overflows_has_no_ranges(weight: float, tmp_path: Path) -> None:
    digits = weevit.load("digits").checkpoint
    tensors = {name: array.copy() for name, array in digits.tensors().items()}
    tensors["blocks.1.mlp.fc1.weight"][0, 0] = weight
    write_checkpoint(tmp_path / "large", digits.architecture, tensors, digits.preprocessing, digits.labels)
    with pytest.raises(CheckpointError, match="computes NaN, infinity or numbers above 1e"):
        weevit.quantize(tmp_path / "large", DIGITS, tmp_path / "out", images=16, **LAX)
    assert not (tmp_path / "out").exists()


def test_calibration_holds_a_batch_of_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And tokens of a limited number of images: with 100,000 images both were all in memory."""
    done: list[str] = []
    at_first: list[int] = []

    def observed(predictor: weevit.Predictor, batches: Iterable[np.ndarray]) -> Observed:
        iterator = iter(batches)
        first = next(iterator)
        at_first.append(len(done))
        found = observe(predictor, chain([first], iterator))
        assert found.images == 40
        assert {len(own) for own in found.tokens.values()} == {11 * 12}
        return found

    monkeypatch.setattr("weevit.quantization.quantize.observe", observed)
    monkeypatch.setattr("weevit.quantization.observe.MOST_TOKENS", 11)
    told = {**LAX, "images": 40, "watch": lambda number, total, stage: done.append(stage)}
    assert weevit.quantize("digits", DIGITS, tmp_path / "new", **told).passed
    assert at_first == [8]


def test_agreement_is_that_of_all_answers_at_once(made) -> None:
    first, second = weevit.load("digits"), weevit.load(made.folder)
    images = np.random.default_rng(0).integers(0, 256, (37, 64, 64, 3), dtype=np.uint8)
    one, other = first.forward(images), second.forward(images)
    truth = one["logits"].argmax(axis=1)
    found = agree(first, second, zip(images, [None, *truth[1:].tolist()], strict=True))
    apart = np.abs(one["logits"] - other["logits"])
    cosine = (unit_length(one["embedding"]) * unit_length(other["embedding"])).sum(axis=1)
    assert (found.images, found.same) == (37, (truth == other["logits"].argmax(axis=1)).sum())
    assert found.mean_difference == pytest.approx(apart.mean(), rel=1e-5)
    assert found.max_difference == pytest.approx(apart.max(), rel=1e-5)
    assert found.mean_cosine == pytest.approx(cosine.mean())
    assert found.min_cosine == pytest.approx(cosine.min())
    assert (found.labelled, found.right) == (36, (36, (truth == other["logits"].argmax(axis=1))[1:].sum()))


def test_a_model_of_other_channels_is_calibrated_on_no_images(tmp_path: Path) -> None:
    arch, grid = get_architecture("vit_micro_patch16_reg1_gap_64"), (4, 4)
    spec = replace(weevit.load("digits").preprocessing, mean=(0.5,), std=(0.5,))
    write_checkpoint(tmp_path / "grey", arch, fakes.tensors(arch, 0, grid, in_chans=1), spec)
    with pytest.raises(UsageError, match="takes 1 channels, and images are read with 3") as caught:
        weevit.quantize(tmp_path / "grey", DIGITS, tmp_path / "out", **LAX)
    assert caught.value.hint.startswith("--no-data")
    assert weevit.quantize(tmp_path / "grey", None, tmp_path / "out", **LAX).passed


def test_too_few_images(tmp_path: Path) -> None:
    for path in sorted((DIGITS / "test").rglob("*.png"))[:20]:
        shutil.copy(path, tmp_path / f"{path.parent.name}-{path.name}")
    with pytest.raises(DatasetError, match="8 and 16 are the fewest"):
        weevit.quantize("digits", tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_quantised_model_is_not_quantised_again(made, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="take floating point"):
        weevit.quantize(made.folder, None, tmp_path / "out")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", str(DIGITS)], "written into a folder"),
        (["-o", "x"], "either --data or --no-data"),
        (["-o", "x", "--no-data", "--data", str(DIGITS)], "either --data or --no-data"),
        (["-o", "x", "--no-data", "--bits", "4"], "7 or more"),
        (["-o", "x", "--no-data", "--min-speedup", "-1"], "a number from 0"),
        (["-o", "x", "--no-data", "--max-drop", "nan"], "a number from 0"),
    ],
)
def test_invalid_arguments(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert _code(["quantize", "digits", *words]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("data", ["", ["photos"], 3])
def test_data_that_is_no_path(data: object, tmp_path: Path) -> None:
    """Before a model is fetched."""
    with pytest.raises(UsageError, match="Data is one path or pattern, or a Dataset"):
        weevit.quantize("hf-hub:no/such", data, tmp_path / "new")  # type: ignore[arg-type]
    assert not (tmp_path / "new").exists()


def test_a_module_is_made_of_floating_point(made, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    with pytest.raises(UsageError, match="take floating point"):
        weevit.create_model(str(made.folder), pretrained=True)


def test_a_fine_tuning_takes_floating_point(made, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    with pytest.raises(UsageError, match="take floating point"):
        weevit.finetune(DIGITS, tmp_path / "tuned", str(made.folder))
    assert not (tmp_path / "tuned").exists()  # refused before a head was fitted


def test_timm_refuses_it_by_name(made) -> None:
    timm = pytest.importorskip("timm")
    with pytest.raises(RuntimeError, match=MARK):
        timm.create_model(f"local-dir:{made.folder / 'model'}", pretrained=True)


# ---- what a stranger's file may say

HARM = {
    "a scale of zero": lambda t: t["blocks.0.fc1.scale"].fill(0),
    "a scale below zero": lambda t: t["blocks.0.fc1.scale"].fill(-1),
    "a range without zero": lambda t: t["blocks.0.norm1.range"].__setitem__(slice(None), (1, 2)),
    "a range of nothing": lambda t: t["blocks.0.norm1.range"].fill(0),
    "a range backwards": lambda t: t["blocks.0.norm1.range"].__setitem__(slice(None), (1, -1)),
    "a range that is not finite": lambda t: t["blocks.0.norm1.range"].fill(np.inf),
    "a range narrower than a step": lambda t: t["blocks.0.norm1.range"].__setitem__(slice(None), (-1e-45, 0)),
    "scores smaller than a step": lambda t: t["blocks.0.scores"].fill(1e-45),
    "scores of zero": lambda t: t["blocks.0.scores"].fill(0),
    "the one weight without its negative": lambda t: t["blocks.0.fc1.weight"].__setitem__((0, 0), -128),
    "an outlier beyond the last input": lambda t: _outliers(t, [10_000]),
    "an outlier before the first": lambda t: _outliers(t, [-1]),
    "an outlier twice": lambda t: _outliers(t, [3, 3]),
    "more outliers than weights for them": lambda t: t.update({"blocks.0.fc2.outliers": np.array([1, 2], np.int32)}),
    "outliers of floats": lambda t: t.update({"blocks.0.fc2.outliers": np.array([1.0], np.float32)}),
    "a matrix of outliers": lambda t: t.update({"blocks.0.fc2.outliers": np.array([[1]], np.int32)}),
    "no scale": lambda t: t.pop("blocks.0.fc1.scale"),
    "no range": lambda t: t.pop("blocks.0.norm1.range"),
    "no patch embedding": lambda t: [t.pop(name) for name in list(t) if name.startswith("patch_embed")],
    "weights of another shape": lambda t: t.update({"blocks.0.fc1.weight": t["blocks.0.fc1.weight"][:-1]}),
    "weights as integers of 32 bits": lambda t: t.update(
        {"blocks.0.fc1.weight": t["blocks.0.fc1.weight"].astype("i4")}
    ),
    "a tensor too many": lambda t: t.update({"blocks.0.more": np.zeros(3, np.int8)}),
    "a tensor of a block too many": lambda t: t.update({"blocks.99.norm1.weight": np.zeros(3, np.float32)}),
}


def _outliers(tensors: dict[str, np.ndarray], indices: list[int]) -> None:
    width = tensors["blocks.0.fc2.weight"].shape[1]
    tensors["blocks.0.fc2.outliers"] = np.array(indices, np.int32)
    tensors["blocks.0.fc2.outlier_weight"] = np.zeros((len(indices), width), np.float32)


@pytest.mark.parametrize("harm", HARM)
def test_tensors_that_no_quantisation_gives(made, harm: str, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    folder = tmp_path / "model"
    shutil.copytree(made.folder / "model", folder)
    (folder / "weevit-manifest.json").unlink()
    tensors = load_file(folder / "model.safetensors")
    HARM[harm](tensors)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError):
        weevit.load(folder, cache=False).classify(DIGITS / "test" / "3" / "0175.png")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("int8", "is not an object"),
        ({}, "lacks kind, bits, original, images"),
        ({"kind": "dynamic"}, "kind"),
        ({"bits": 4}, "bits"),
        ({"bits": True}, "bits"),
        ({"original": "../x"}, "original"),
        ({"images": -1}, "images"),
        ({"kind": "rows"}, "do not agree on whether calibration chose the ranges"),
        ({"bits": 7}, "do not agree on the bits"),
        (None, "architecture"),
    ],
)
def test_a_config_that_says_nothing_of_use(made, value: object, message: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(made.folder / "model", folder)
    (folder / "weevit-manifest.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    partial = isinstance(value, dict) and value
    config["quantization"] = {**config["quantization"], **value} if partial else value
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(weevit.WeevitError, match=message):
        weevit.load(folder)


def test_a_config_and_weights_that_do_not_agree(made, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    fakes.folder(folder)
    config = json.loads((folder / "config.json").read_text())
    config["quantization"] = made.checkpoint.quantization.as_json()
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="do not agree"):
        weevit.load(folder)
