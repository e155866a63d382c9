"""JPEGs at a reduced scale: only where it was asked for, only where enough is left, and what it changes is measured."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import weevit
from weevit.errors import TruncatedImageError
from weevit.images.decode import decode, full_size, is_reduced
from weevit.images.preprocess import enough_pixels, preprocess
from weevit.zoo.weights import HALF, Preprocessing

SIZE = 32


def scene(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth, as photos are at the scale of a pixel, with something in every corner."""
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.fixture(scope="module")
def predictor(fake_tiny: Path) -> weevit.Predictor:
    return weevit.load(fake_tiny, image_size=SIZE, reduced_jpeg=True, cache=False)


@pytest.mark.parametrize(
    ("least", "size"),
    [
        ((100, 150), (150, 100)),
        ((101, 150), (300, 200)),
        ((50, 75), (75, 50)),
        ((1, 1), (75, 50)),
        ((401, 1), (600, 400)),
    ],
)
def test_a_jpeg_is_never_less_than_enough(least: tuple[int, int], size: tuple[int, int]) -> None:
    image = decode(encoded(scene(600, 400)), enough=lambda full: least)
    assert image.size == size
    assert full_size(image) == (400, 600)
    assert is_reduced(image) == (size != (600, 400))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_enough_is_meant_of_the_upright_image(orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    asked = []

    def keep_half(full: tuple[int, int]) -> tuple[int, int]:
        asked.append(full)
        return full[0] // 2, full[1] // 2

    data = encoded(scene(600, 400), exif=exif)
    whole, half = decode(data), decode(data, enough=keep_half)
    assert asked == [(whole.height, whole.width)] == [full_size(half)]
    assert (half.width * 2, half.height * 2) == whole.size
    smaller = np.asarray(whole.resize(half.size, Image.Resampling.BOX), np.int16)
    assert np.abs(smaller - np.asarray(half)).mean() < 2


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
@pytest.mark.parametrize("progressive", [False, True])
def test_every_kind_of_jpeg(mode: str, progressive: bool) -> None:
    data = encoded(scene(601, 399).convert(mode), progressive=progressive)
    image = decode(data, enough=lambda full: (90, 90))
    assert (image.mode, image.size, full_size(image)) == ("RGB", (151, 100), (399, 601))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "GIF"])
def test_other_formats_stay_whole(kind: str) -> None:
    data = encoded(scene(600, 400), kind)
    image = decode(data, enough=lambda full: (10, 10))
    assert (image.size, is_reduced(image)) == ((600, 400), False)


def test_half_a_file_is_still_half_a_file() -> None:
    data = encoded(scene(600, 400))
    with pytest.raises(TruncatedImageError):
        decode(data[: len(data) // 2], enough=lambda full: (10, 10))


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
def test_the_crop_shows_the_same_part(mode: str) -> None:
    """Of a size that no scale divides. One that lies a pixel aside differs by more than eight times as much."""
    spec = Preprocessing(64, 64, 0.9, mode, "bicubic", *HALF)  # type: ignore[arg-type]
    data = encoded(scene(1003, 707), quality=95)
    small = decode(data, enough=lambda full: enough_pixels(full, spec))
    assert is_reduced(small)
    whole = preprocess(decode(data), spec).astype(np.float32)
    difference = np.abs(preprocess(small, spec) - whole)
    aside = np.abs(np.diff(whole, axis=1))
    assert difference.mean() < aside.mean() / 8
    assert difference.max() < aside.max() / 8


def test_only_where_it_was_asked_for(fake_tiny: Path, predictor: weevit.Predictor) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (400, 600, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise))
    exact = weevit.load(fake_tiny, image_size=SIZE, cache=False)
    ours, theirs = predictor.run(data), exact.run(data)
    assert not np.array_equal(ours.embedding, theirs.embedding)
    assert (ours.width, ours.height) == (theirs.width, theirs.height) == (600, 400)
    image = Image.open(io.BytesIO(data))
    image.load()
    assert np.array_equal(exact.run(image).embedding, theirs.embedding)


def test_what_it_changes_is_measured(predictor: weevit.Predictor, fake_tiny: Path, tmp_path: Path) -> None:
    for seed in range(6):
        (tmp_path / f"large{seed}.jpg").write_bytes(encoded(scene(800, 600, seed)))
        (tmp_path / f"small{seed}.jpg").write_bytes(encoded(scene(60, 60, seed)))
        (tmp_path / f"broken{seed}.jpg").write_bytes(b"no image")
    assert weevit.measure_reduction(predictor, tmp_path, sample=1).reduced == 1
    found = weevit.measure_reduction(predictor, tmp_path, sample=4)
    assert (found.looked_at, found.reduced) == (10, 4)  # broken ones come first
    assert 0 < found.mean_difference < 3
    assert 1 <= found.greatest_difference < 40
    assert 0.9 < found.cosine < 1
    exact = weevit.load(fake_tiny, image_size=SIZE, cache=False)
    compared = [tmp_path / f"large{seed}.jpg" for seed in range(4)]
    both = zip(predictor.run(compared, topk=1), exact.run(compared, topk=1), strict=True)
    assert found.same_top1 == sum(one.top[0].index == other.top[0].index for one, other in both)
    assert "measured on 4 of the first 10 inputs" in str(found)
    none = weevit.measure_reduction(predictor, [tmp_path / "small0.jpg"])
    assert (none.reduced, none.cosine, none.same_top1) == (0, 1, None)
    assert str(none) == "reduced JPEGs: none is decoded smaller (inputs looked at: 1)"


def test_a_large_jpeg_is_ready_sooner(predictor: weevit.Predictor) -> None:
    assert weevit.measure_reduction(predictor, encoded(scene(4000, 3000))).speedup > 1.5  # five times, measured


def test_a_part_of_a_reduced_image_is_a_image_of_its_own(predictor: weevit.Predictor) -> None:
    """Pillow hands on what it knows of a image to its parts."""
    part = decode(encoded(scene(600, 400)), enough=lambda full: (1, 1)).crop((0, 0, 40, 50))
    assert (full_size(part), is_reduced(part)) == ((50, 40), False)
    answer = predictor.run(part)
    assert (answer.width, answer.height) == (40, 50)
    assert np.array_equal(answer.embedding, predictor.run(np.asarray(part)).embedding)


@pytest.mark.parametrize("orientation", [6, 8])
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_other_formats_are_turned_as_ever(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    data = encoded(scene(60, 40), kind, exif=exif)
    found = decode(data, enough=lambda full: (1, 1))
    assert found.size == (40, 60)
    assert np.array_equal(np.asarray(found), np.asarray(decode(data)))


def test_what_cannot_be_measured(predictor: weevit.Predictor, fake_tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(weevit.UsageError, match="sample has at least one"):
        weevit.measure_reduction(predictor, tmp_path, sample=0)
    with pytest.raises(weevit.UsageError, match=r"reduced_jpeg=True"):
        weevit.measure_reduction(weevit.load(fake_tiny, cache=False), tmp_path)


def test_answers_of_both_kinds_are_never_mixed(predictor: weevit.Predictor, fake_tiny: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "a.jpg").write_bytes(encoded(scene(400, 300)))
    exact = weevit.load(fake_tiny, image_size=SIZE, cache=False)
    weevit.run_job(predictor, tmp_path / "a.jpg", tmp_path / "out")
    with pytest.raises(weevit.UsageError, match=r"preprocessing\.reduced_jpeg: true then, false now"):
        weevit.run_job(exact, tmp_path / "a.jpg", tmp_path / "out")
    assert predictor.pixels_depend_on() != exact.pixels_depend_on()  # the name of kept embeddings too


@pytest.mark.parametrize("output", ["answers", "answers.csv"])
def test_the_command_says_what_it_changes(output: str, fake_tiny: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    listed = []
    for seed in range(3):
        listed.append(tmp_path / f"{seed}.jpg")
        listed[-1].write_bytes(encoded(scene(800, 600, seed)))
    words = ["classify", "-", "-m", fake_tiny, "--image-size", SIZE, "-o", tmp_path / output, "--reduced-jpeg", "-q"]
    command = [sys.executable, "-m", "weevit", *map(str, words)]
    text = "".join(f"{path}\n" for path in listed)
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    assert "reduced JPEGs, measured on 3 of the first 3 inputs: pixels differ by " in done.stderr
    assert "top-1 the same for " in done.stderr
    if output == "answers":
        again = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
        assert "reduced JPEGs" not in again.stderr
        assert weevit.read_results(tmp_path / "answers")["width"].to_pylist() == [800] * 3
