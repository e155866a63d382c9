"""Row P2 of the scorecard: an answer that is NaN or infinite is a status of its own, whoever asks and however."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import fakes
import numpy as np
import pytest
from PIL import Image

import weevit
from weevit.answers.results import refuse_not_finite, unit_length
from weevit.cli.app import _run
from weevit.errors import ImageError, NotFiniteError
from weevit.explain.relevance import deletion, explain_source
from weevit.images.source import Source
from weevit.images.sources import expand
from weevit.predict import Predictor
from weevit.search.embeddings import embed_split
from weevit.zoo.architectures import get_architecture
from weevit.zoo.labels import Label
from weevit.zoo.weights import Preprocessing
from weevit.zoo.writing import write_checkpoint

SIDE = 32
STATUS = "not_finite"


@pytest.fixture(scope="module")
def bright(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with finite weights that overflows on every bright image, and on no black one."""
    arch = get_architecture(fakes.TINY)
    tensors = fakes.tensors(arch, 2, (2, 2))
    tensors["patch_embed.proj.weight"] = np.full_like(tensors["patch_embed.proj.weight"], 1e36)
    seen = Preprocessing(SIDE, SIDE, 1.0, "center", "bicubic", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    folder = tmp_path_factory.mktemp("models") / "bright"
    write_checkpoint(folder, arch, tensors, seen, [Label("day", "day"), Label("night", "night")])
    return folder


@pytest.fixture(scope="module")
def model(bright: Path) -> Predictor:
    return weevit.load(bright, threads=1, batch_size=3, cache=False)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """day/0.png and day/1.png (white), night/0.png and night/1.png (black); no two files are the same."""
    for name, value in (("day", 255), ("night", 0)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for index in range(2):
            image = Image.new("RGB", (SIDE, SIDE), (value,) * 3)
            image.save(tmp_path / "images" / name / f"{index}.png", compress_level=index)
    return tmp_path / "images"


def paths(images: Path) -> list[Path]:
    return sorted(images.glob("*/*.png"))


@pytest.mark.parametrize(
    "outputs", [("logits",), ("embedding",), ("features",), ("attention",), ("logits", "embedding", "features")]
)
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_p2_a_row_fails_alone(bright: Path, images: Path, outputs: tuple[str, ...], batch: int, engine: str) -> None:
    if engine == "openvino":
        pytest.importorskip("openvino")
    model = weevit.load(bright, threads=1, batch_size=batch, cache=False, engine=engine)
    results = model.run(paths(images), outputs=outputs)
    assert [result.status for result in results] == [STATUS, STATUS, "ok", "ok"]
    for result in results[:2]:
        assert (result.width, result.height) == (SIDE, SIDE)
        assert result.error is not None
        assert result.error.startswith("not_finite: NaN or infinity in ")
        assert result.logits is result.embedding is result.present is None
        assert (result.top, result.features, result.prefix, result.attention) == ((), {}, {}, {})
        assert not result.unknown
    alone = model.run(paths(images)[0], outputs=outputs)
    assert alone == results[0]


def test_p2_arrays_are_refused_and_say_which_row(model: Predictor, images: Path) -> None:
    with pytest.raises(weevit.InputsFailedError, match="2 of 4 inputs") as raised:
        model.embed(paths(images))
    assert all(reason.startswith("not_finite: ") for _, reason in raised.value.failures)
    pixels = np.stack([model.crop(Source(str(path), path)) for path in paths(images)])
    with pytest.raises(weevit.InputsFailedError, match="2 of 4 inputs") as raised:
        model.forward(pixels)
    assert [name for name, _ in raised.value.failures] == ["row 0", "row 1"]
    assert np.isfinite(model.forward(pixels[2:])["logits"]).all()


def test_p2_evaluation_counts_it_as_failed(model: Predictor, images: Path) -> None:
    pytest.importorskip("jinja2")
    found = weevit.evaluate(model, images)
    assert [row.status for row in found.rows] == [STATUS, STATUS, "ok", "ok"]
    assert [row.answer for row in found.rows[:2]] == [None, None]
    assert not any(row.right for row in found.rows[:2])
    assert all(np.isfinite(value) for name, value in found.metrics.items() if name.startswith("top1"))
    assert found.metrics["top1_worst"] <= 0.5


def test_p2_embeddings_are_neither_kept_nor_taken_from_the_cache(
    model: Predictor, images: Path, tmp_path: Path
) -> None:
    from weevit.datasets.read import read_dataset
    from weevit.search import kept

    split = read_dataset(images).split("all")
    found = embed_split(model, split, tmp_path / "cache")
    assert found.ok.tolist() == [False, False, True, True]
    assert [status for _, status, _ in found.failures] == [STATUS, STATUS]
    assert np.isfinite(found.vectors).all()
    # rows that another version kept before there was such a status
    rows = kept.Kept(model, tmp_path / "old")
    for digest in found.hashes:
        rows.put(digest, np.full(192, np.nan, np.float32))
    rows.write()
    again = embed_split(model, split, tmp_path / "old")
    assert (again.cached, again.computed, len(again.failures)) == (0, 2, 2)
    assert (again.vectors == found.vectors).all()


@pytest.mark.parametrize("verb", ["classify", "embed", "features"])
def test_p2_jobs_have_a_row_for_it(model: Predictor, images: Path, tmp_path: Path, verb: str) -> None:
    pytest.importorskip("pyarrow")
    pytest.importorskip("filelock")
    done = weevit.run_job(model, images, tmp_path / "job", verb)
    assert dict(done.errors) == {STATUS: 2}
    table = weevit.read_results(tmp_path / "job")
    assert table["status"].to_pylist() == [STATUS, STATUS, "ok", "ok"]
    with (tmp_path / "job" / "failures.csv").open(newline="") as file:
        assert [row["status"] for row in csv.DictReader(file)] == [STATUS, STATUS]


def test_p2_an_embedding_that_float16_cannot_hold(tmp_path: Path, images: Path, fake_tiny: Path) -> None:
    pytest.importorskip("pyarrow")
    pytest.importorskip("filelock")
    base = weevit.load(fake_tiny, cache=False).checkpoint
    tensors = base.tensors()
    tensors["norm.weight"] = tensors["norm.weight"] * 1e7
    write_checkpoint(tmp_path / "wide", base.architecture, tensors, base.preprocessing)
    model = weevit.load(tmp_path / "wide", image_size=SIDE, threads=1, cache=False)
    assert np.abs(model.embed(paths(images))).max() > 65_504
    done = weevit.run_job(model, images, tmp_path / "half", "embed", dtype="float16")
    assert dict(done.errors) == {STATUS: 4}
    assert all("as float16" in error for error in weevit.read_results(tmp_path / "half")["error"].to_pylist())
    assert not weevit.run_job(model, images, tmp_path / "unit", "embed", dtype="float16", normalize=True).errors
    assert not weevit.run_job(model, images, tmp_path / "whole", "embed").errors


def test_p2_nothing_is_drawn_of_it(model: Predictor, images: Path) -> None:
    white, _, black, _ = expand(paths(images))
    with pytest.raises(NotFiniteError, match="NaN or infinity in "):
        explain_source(model, white)
    explained = explain_source(model, black)
    assert np.isfinite(explained.relevance).all()
    with pytest.raises(ImageError, match="with patches removed, NaN or infinity"):
        deletion(model, explained)  # a removed patch is grey, which is bright


@pytest.mark.parametrize("verb", ["classify", "embed", "features", "explain"])
def test_p2_exit_codes(
    bright: Path, images: Path, tmp_path: Path, verb: str, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyarrow")
    good, bad = str(images / "night" / "0.png"), str(images / "day" / "0.png")
    runs: list[tuple[list[str], int]] = [([bad], 1), ([good, bad], 0), ([good, bad, "--strict"], 3)]
    for number, (inputs, code) in enumerate(runs):
        (tmp_path / f"{number}").mkdir()  # for `explain`, which writes an image each
        output = (
            tmp_path / f"{number}" / {"classify": "a.csv", "embed": "a.parquet", "features": "new", "explain": ""}[verb]
        )
        assert _run([verb, "--model", str(bright), *inputs, "-o", str(output)]) == code
        assert "not_finite" in capfd.readouterr().err
    assert not list((tmp_path / "0").glob("*.png"))


def test_p2_tables_and_lines(bright: Path, images: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    good, bad = str(images / "night" / "0.png"), str(images / "day" / "0.png")
    assert _run(["classify", "--model", str(bright), good, bad, "-o", str(tmp_path / "a.csv")]) == 0
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["ok", STATUS]
    assert [row["probability1"] != "" for row in rows] == [True, False]
    capfd.readouterr()
    assert _run(["classify", "--model", str(bright), bad, "--json"]) == 1
    assert json.loads(capfd.readouterr().out)["status"] == STATUS


def test_p2_reduced_jpegs_are_measured_on_what_has_an_answer(bright: Path, tmp_path: Path) -> None:
    for name, value in (("white", 255), ("black", 0)):
        Image.new("RGB", (512, 512), (value,) * 3).save(tmp_path / f"{name}.jpg")
    model = weevit.load(bright, threads=1, cache=False, reduced_jpeg=True)
    found = weevit.measure_reduction(model, tmp_path)
    assert (found.looked_at, found.reduced) == (2, 1)
    assert found.cosine > 0.99
    assert weevit.measure_reduction(model, tmp_path / "white.jpg").reduced == 0


@pytest.mark.parametrize("name", ["blocks.0.norm1.weight", "blocks.0.attn.qkv.weight", "blocks.3.attn.qkv.weight"])
def test_p2_weights_that_are_finite_and_overflow(name: str, tmp_path: Path) -> None:
    arch = get_architecture(fakes.TINY)
    tensors = fakes.tensors(arch, 3)
    tensors[name] = np.sign(tensors[name]) * np.float32(1e30)
    raw = fakes.config(num_classes=3, top={"num_classes": 3})
    model = weevit.load(fakes.folder(tmp_path / "m", raw, tensors), image_size=SIDE, threads=1, cache=False)
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    assert model.classify(noise).status == STATUS


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_p2_weights_that_are_not_finite_are_refused(value: float, tmp_path: Path) -> None:
    arch = get_architecture(fakes.TINY)
    tensors = fakes.tensors(arch, 3)
    tensors["head.bias"][1] = value
    folder = fakes.folder(tmp_path / "m", fakes.config(num_classes=3, top={"num_classes": 3}), tensors)
    with pytest.raises(weevit.CheckpointError, match=r"head.bias holds NaN or infinity"):
        weevit.load(folder, cache=False).classify(np.zeros((SIDE, SIDE, 3), np.uint8))


def test_p2_what_a_refusal_says() -> None:
    fine, bad = np.ones(3, np.float32), np.array([1, np.inf], np.float32)
    refuse_not_finite({"logits": fine})
    with pytest.raises(NotFiniteError, match="infinity in embedding, block_3: the"):
        refuse_not_finite({"logits": fine, "embedding": bad, "block_3": np.full((2, 2), np.nan)})


@pytest.mark.parametrize("scale", [1e-38, 1e-25, 1.0, 1e25, 1e37])
def test_p2_unit_length_of_any_finite_row(scale: float) -> None:
    """In float32 the squares of such rows overflow or vanish: rows of zeros, or rows that were left as they are."""
    rows = np.array([[3, 4, 0], [0, 0, 0]], np.float32) * np.float32(scale)
    assert unit_length(rows) == pytest.approx(np.array([[0.6, 0.8, 0], [0, 0, 0]]), rel=1e-5)
    assert unit_length(rows).dtype == np.float32
