"""One input, one result, one status; and on real photos the answers that timm gives."""

from __future__ import annotations

import base64
import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest
from PIL import Image

import weevit
from weevit.answers.results import top_classes, unit_length
from weevit.engine.ahead import map_ahead
from weevit.engine.session import block_indices
from weevit.images.decode import DEFAULT_LIMITS
from weevit.images.values import DataUri
from weevit.predict import OUTPUTS
from weevit.zoo.labels import Label


def picture(seed: int, size: tuple[int, int] = (80, 60)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1] // 4, size[0] // 4, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size)


@pytest.fixture(scope="module")
def model(fake_tiny: Path) -> weevit.Predictor:
    return weevit.load(fake_tiny, image_size=64, batch_size=3, cache=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(7):
        picture(i).save(tmp_path / f"p{i}.png")
    (tmp_path / "p3.png").write_bytes(b"")
    (tmp_path / "p5.png").write_bytes(b"<html>")
    return tmp_path


def test_every_kind_of_input_the_same_answer(model: weevit.Predictor, tmp_path: Path) -> None:
    image = picture(0)
    image.save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    expected = model.run(tmp_path / "a.png")
    uri = "data:image/png;base64," + base64.b64encode(data).decode()
    hubs = [{"bytes": data, "path": None}, {"bytes": None, "path": str(tmp_path / "a.png")}, {"bytes": data}]
    files = [io.BytesIO(data), (tmp_path / "a.png").open("rb")]
    values = (str(tmp_path / "a.png"), data, bytearray(data), image, np.asarray(image), uri, *hubs, *files)
    for value in values:
        found = model.run(value)
        assert (found.logits == expected.logits).all()
        assert (found.width, found.height) == (80, 60)
    files[1].close()
    names = [result.input for result in model.run([data, image, np.asarray(image), io.BytesIO(data), hubs[0], uri])]
    assert names[:5] == ["bytes[0]", "image[1]", "array[2]", "file[3]", "bytes[4]"]
    assert re.fullmatch(r"data:image/png;base64,.*\([\d,]+ characters, [0-9a-f]{8}\)", names[5])


@pytest.mark.parametrize(
    ("named", "count"),
    [("*.png", 3), ("[ab].png", 2), ("{0..2}.png", 3), ("list.txt", 2), ("one.txt", 1), ("table.csv", 2), ("", 3)],
)
def test_all_that_is_named_is_answered(model: weevit.Predictor, tmp_path: Path, named: str, count: int) -> None:
    for folder in (tmp_path, tmp_path / "numbers"):
        folder.mkdir(exist_ok=True)
        for number, name in enumerate("abc" if folder == tmp_path else "012"):
            picture(number).save(folder / f"{name}.png")
    (tmp_path / "list.txt").write_text("a.png\nb.png\n")
    (tmp_path / "one.txt").write_text("a.png\n")
    (tmp_path / "table.csv").write_text("path\na.png\nc.png\n")
    folder = tmp_path / "numbers" if named in ("", "{0..2}.png") else tmp_path
    for ask in (model.classify, model.features, model.run):
        results = ask(str(folder / named))
        assert isinstance(results, list)
        assert [result.status for result in results] == ["ok"] * count
    assert len(model.embed(str(folder / named))) == count


def test_a_pattern_without_a_file_is_a_row_of_a_list(model: weevit.Predictor, tmp_path: Path) -> None:
    (result,) = model.classify(str(tmp_path / "*.jpg"))
    assert result.status == "missing"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"image": 1, "label": 2}, "keys image, label"),
        ({}, "neither bytes nor a path"),
        ({"bytes": None, "path": None}, "neither bytes nor a path"),
        ({"bytes": "text", "path": None}, "keys bytes, path"),
        (io.StringIO("text"), "gives str"),
        ([object()], "type object"),
    ],
)
def test_what_is_no_image_is_an_error(model: weevit.Predictor, value: Any, words: str) -> None:
    for given in (value, [value]) if not isinstance(value, list) else (value,):
        with pytest.raises(weevit.UsageError, match=words):
            model.classify(given)


@pytest.mark.parametrize(
    ("value", "status"),
    [
        ("data:image/png;base64,????", "decode_error"),
        ("data:image/png;base64,", "decode_error"),
        ("data:image/png,%89PNG", "decode_error"),
        ("data:;base64," + "A" * 4000, "decode_error"),
        (io.BytesIO(b""), "decode_error"),
        (io.BytesIO(bytes(3000)), "decode_error"),
        ({"bytes": b""}, "decode_error"),
        ({"path": "gone.png"}, "missing"),
    ],
)
def test_what_holds_no_image_is_a_row(model: weevit.Predictor, value: Any, status: str) -> None:
    result = model.classify(value)
    assert isinstance(result, weevit.Result)
    assert result.status == status


@pytest.mark.parametrize(
    "path", ["*.png", ".", "list.txt", "http://127.0.0.1:9/a.png", "reference://x", "a\0b", "x" * 300]
)
def test_a_path_in_a_row_of_a_dataset_is_one_file(
    model: weevit.Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """Strangers wrote it: nothing is fetched, and nothing else is read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WEEVIT_ALLOW_URLS", raising=False)
    monkeypatch.setattr("socket.socket.connect", lambda *given: pytest.fail("a connection was made"))
    picture(0).save("a.png")
    Path("list.txt").write_text("a.png\n")
    row: dict[str, Any] = {"bytes": None, "path": path}
    assert isinstance(model.classify(row), weevit.Result)
    results = model.run(["a.png", row, "a.png"])
    assert [result.ok for result in results] == [True, False, True]


def test_values_are_held_to_the_limits(fake_tiny: Path) -> None:
    data = bytes(5000)
    model = weevit.load(fake_tiny, cache=False, limits=weevit.Limits(max_bytes=1000))
    for value in (data, io.BytesIO(data), "data:image/png;base64," + base64.b64encode(data).decode(), {"bytes": data}):
        assert model.classify(value).status == "too_large"
    for error in (RuntimeError("lost"), zipfile.BadZipFile("broken"), EOFError()):
        broken = io.BytesIO()
        broken.read = mock.Mock(side_effect=error)  # type: ignore[method-assign]
        results = model.run([broken, {"path": "gone.png"}])
        assert [result.status for result in results] == ["unreadable", "missing"]
    closed = io.BytesIO(data)
    closed.close()
    assert model.classify(closed).status == "unreadable"


def test_one_row_an_input(model: weevit.Predictor, folder: Path) -> None:
    results = model.classify(folder)
    assert [Path(result.input).name for result in results] == [f"p{i}.png" for i in range(7)]
    assert [result.status for result in results] == ["ok"] * 3 + ["decode_error", "ok", "decode_error", "ok"]
    assert results[3].error.startswith("empty: ")
    assert results[5].error.startswith("not an image: ")
    for result in results:
        alone = model.classify(result.input)
        assert alone.status == result.status
        assert alone.labels == result.labels
        assert np.allclose(alone.probabilities, result.probabilities, atol=1e-6)


def test_only_failures(model: weevit.Predictor, tmp_path: Path) -> None:
    results = model.run([tmp_path / "none.png", b"", tmp_path / "none.jpg"])
    assert [result.status for result in results] == ["missing", "decode_error", "missing"]
    assert model.run(tmp_path)[0].status == "missing"  # an empty folder


def test_embeddings_are_rows(model: weevit.Predictor, folder: Path) -> None:
    good = [folder / f"p{i}.png" for i in (0, 1, 2, 4)]
    vectors = model.embed(good)
    assert vectors.shape == (4, 192)
    assert vectors.dtype == np.float32
    assert np.allclose(vectors[2], model.run(good[2]).embedding, atol=1e-5)
    lengths = np.linalg.norm(model.embed(good, normalize=True), axis=1)
    assert np.allclose(lengths, 1)
    assert model.embed([]).shape == (0, 192)
    with pytest.raises(weevit.InputsFailedError, match="2 of 7 inputs") as caught:
        model.embed(folder)
    assert [Path(name).name for name, _ in caught.value.failures] == ["p3.png", "p5.png"]


def test_everything_in_one_pass(model: weevit.Predictor) -> None:
    result = model.run(picture(0), outputs=OUTPUTS, layers=(2, -1))
    assert result.logits.shape == (1000,)
    assert result.embedding.shape == (192,)
    assert {i: value.shape for i, value in result.features.items()} == {2: (192, 4, 4), 11: (192, 4, 4)}
    assert {i: value.shape for i, value in result.prefix.items()} == {2: (1, 192), 11: (1, 192)}
    assert {i: value.shape for i, value in result.attention.items()} == {2: (3, 17, 17), 11: (3, 17, 17)}
    assert np.allclose(result.attention[2].sum(axis=-1), 1, atol=1e-5)
    apart = model.run(picture(0))
    assert np.allclose(result.logits, apart.logits, atol=1e-5)


def test_a_rectangular_input(fake_tiny: Path) -> None:
    wide = weevit.load(fake_tiny, image_size=(32, 64), cache=False)
    result = wide.features(picture(0))
    assert result.features[11].shape == (192, 2, 4)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda model: model.run(picture(0), outputs=("logit",)), "Did you mean 'logits'"),
        (lambda model: model.run(picture(0), outputs="logits"), r"outputs is a list of names: 'logits'"),
        (lambda model: model.classify(picture(0), topk=0), "topk is 1 or more"),
        (lambda model: model.classify(picture(0), topk="2"), "topk is a whole number"),
        (lambda model: model.features(picture(0), layers=[12]), "0 to 11"),
        (lambda model: model.features(picture(0), layers=3), "layers is a list of whole numbers: 3 was given"),
        (lambda model: model.features(picture(0), layers="3"), "layers is a list of whole numbers: '3' was given"),
        (lambda model: model.features(picture(0), layers=[1.0]), r"layers is a list of whole numbers: \[1.0\]"),
        (lambda model: model.features(picture(0), layers=[]), r"layers is a list of whole numbers: \[\]"),
        (lambda model: model.embed(picture(0), normalize="no"), "normalize is True or False: 'no' was given"),
        (lambda model: model.classify(3), "type int"),
        (lambda model: model.classify(np.zeros((4, 4, 3))), "uint8"),
    ],
)
def test_what_cannot_be_meant(model: weevit.Predictor, call, words: str) -> None:
    with pytest.raises(weevit.UsageError, match=words):
        call(model)


def test_settings_that_cannot_be_meant(fake_tiny: Path) -> None:
    with pytest.raises(weevit.UsageError, match="at least one image"):
        weevit.load(fake_tiny, batch_size=0)
    with pytest.raises(weevit.UsageError, match="multiple of 16"):
        weevit.load(fake_tiny, image_size=100, cache=False).run(picture(0))
    for wrong in (0, "64", 64.5, (64,), (64, 64, 64), (64, None), float("nan")):
        with pytest.raises(weevit.UsageError, match="image_size is"):
            weevit.load(fake_tiny, image_size=wrong, cache=False)
    assert weevit.load(fake_tiny, image_size=np.int64(64), cache=False).preprocessing.width == 64
    with pytest.raises(weevit.UsageError, match="batch_size is a whole number"):
        weevit.load(fake_tiny, batch_size="8")


@pytest.mark.parametrize(
    ("size", "words"),
    [(64.0, "multiple of 16"), ((32, 32, 32), "height, width"), ((), "height, width"), (0, "nearest is 16")],
)
def test_sizes_that_cannot_be_meant(fake_tiny: Path, size: Any, words: str) -> None:
    with pytest.raises(weevit.UsageError) as caught:
        weevit.load(fake_tiny, image_size=size)
    assert words in str(caught.value)


@pytest.mark.parametrize("model", [None, 3, ["tiny"]])
def test_a_model_is_a_name_or_a_path(model: Any) -> None:
    with pytest.raises(weevit.UsageError, match="A model is a name or a path"):
        weevit.load(model)


def test_numbers_of_any_kind(fake_tiny: Path) -> None:
    with weevit.load(fake_tiny, image_size=np.int64(32), batch_size=np.int64(2), cache=False) as model:  # type: ignore[arg-type]
        assert model.preprocessing.height == model.preprocessing.width == 32
        assert len(model.classify(picture(0), topk=np.int64(3)).top) == 3  # type: ignore[arg-type]
        assert list(model.features(picture(0), layers=np.array([1, 3])).features) == [1, 3]  # type: ignore[arg-type]
        assert np.linalg.norm(model.embed(picture(0), normalize=np.True_)) == pytest.approx(1)  # type: ignore[arg-type]


def test_top_classes() -> None:
    labels = [Label(f"n{i}", f"name {i}") for i in range(4)]
    top = top_classes(np.array([1.0, 3.0, 3.0, 2.0], np.float32), 3, labels)
    assert [prediction.index for prediction in top] == [1, 2, 3]
    assert top[0].name == "name 1"
    extreme = top_classes(np.array([1e4, -1e4, 0, 3.0], np.float32), 9, None)
    assert sum(prediction.probability for prediction in extreme) == pytest.approx(1)
    assert top_classes(np.zeros(2, np.float32), 5, None)[1].name == "class 1"


def test_block_indices() -> None:
    assert block_indices(None, 12) == (11,)
    assert block_indices([-1, 3, 3, 0], 12) == (0, 3, 11)


def test_unit_length_of_nothing() -> None:
    assert (unit_length(np.zeros((1, 3), np.float32)) == 0).all()


def test_map_ahead_is_bounded_and_ordered() -> None:
    taken = []

    def items() -> Iterator[int]:
        for i in range(50):
            taken.append(i)
            yield i

    for seen, value in enumerate(map_ahead(lambda i: i * i, items(), 2, 4)):
        assert value == seen * seen
        assert len(taken) <= seen + 5


def test_map_ahead_stops_when_its_reader_stops() -> None:
    stream = map_ahead(lambda i: i, iter(range(1000)), 2, 4)
    assert next(stream) == 0
    stream.close()


def test_real_photos_as_timm(vit_tiny: Path, photos: list[Path]) -> None:
    """413 and 478 of 500: what timm gives with the same weights on the same photos (see the data's README)."""
    model = weevit.load(vit_tiny)
    results = model.classify(photos)
    assert all(result.ok for result in results)
    truth = [path.name.partition("_")[0] for path in photos]
    ids = [[prediction.id for prediction in result.top] for result in results]
    assert sum(own[0] == true for own, true in zip(ids, truth, strict=True)) == 413
    assert sum(true in own for own, true in zip(ids, truth, strict=True)) == 478


def test_a_photo_by_its_bytes(vit_tiny: Path, photos: list[Path]) -> None:
    model = weevit.load(vit_tiny)
    from_path, from_bytes = model.run(photos[0]), model.run(photos[0].read_bytes())
    assert (from_path.logits == from_bytes.logits).all()
    buffer = io.BytesIO()
    Image.open(photos[0]).save(buffer, "PNG")
    assert np.allclose(model.run(buffer.getvalue()).logits, from_path.logits, atol=1e-5)


@pytest.mark.parametrize("word", ["x" * 300, "data:" + "iVBORw0KGgo" * 4000, "a\0b", "", "  ", "a\ud800"])
def test_a_word_that_cannot_be_a_path_is_a_result(model: weevit.Predictor, word: str) -> None:
    result = model.classify(word)
    assert isinstance(result, weevit.Result)
    assert result.status in ("missing", "unsupported")
    assert len(f"{result.input}{result.error}".encode()) < 1500


def test_a_locked_folder_is_a_result(model: weevit.Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(*args: object, **how: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.stat", locked)
    monkeypatch.setattr("pathlib.Path.stat", locked)
    result = model.classify(str(tmp_path / "locked" / "a.png"))
    assert isinstance(result, weevit.Result)
    assert result.status == "unreadable"


@pytest.mark.parametrize(
    "text", ["", "%", "%4", "%4g", "%%41", "a%41%4", "%41%e2%82%ac+%2B", "\u20ac%00", "%4%41%", "%C3%a9"]
)
def test_percent_signs_in_a_data_uri_are_read_as_by_urllib(text: str) -> None:
    assert DataUri(f"data:,{text}").read(DEFAULT_LIMITS) == unquote_to_bytes(text)
