"""How an answer looks where people work: one line in a shell, an image with bars in a notebook."""

from __future__ import annotations

from pathlib import Path

import labelled
import numpy as np
import pytest

import weevit
from weevit.answers.notebook import SIDE
from weevit.answers.results import MAX_SHOWN, Prediction, Result

ROOT = Path(__file__).resolve().parents[2]
THREE = str(ROOT / "examples" / "digits" / "test" / "3" / "0175.png")


def classes(*names: str) -> tuple[Prediction, ...]:
    return tuple(Prediction(index, name, name, 0.5 / 2**index) for index, name in enumerate(names))


def test_a_line_for_each_kind_of_answer() -> None:
    vector = np.zeros(192, np.float32)
    assert repr(Result("a.jpg", top=classes("cat", "dog"))) == "<Result a.jpg: cat 50.0%; dog 25.0%>"
    assert repr(Result("a.jpg", top=classes(*"abcde"))) == "<Result a.jpg: a 50.0%; b 25.0%; c 12.5%; 2 more>"
    assert repr(Result("a.jpg", top=classes("cat"), unknown=True)) == "<Result a.jpg: unknown; cat 50.0%>"
    assert repr(Result("a.jpg", embedding=vector)) == "<Result a.jpg: embedding (192)>"
    maps = {11: np.zeros((192, 14, 14), np.float32)}
    assert repr(Result("a.jpg", features=maps)) == "<Result a.jpg: features[11] (192 x 14 x 14)>"
    assert repr(Result("gone.jpg", "missing", "missing: gone.jpg")) == "<Result gone.jpg: missing>"
    assert repr(Result("a.jpg")) == "<Result a.jpg: ok>"


def test_a_line_is_short_and_drives_no_terminal() -> None:
    line = repr(Result("\x1b[2J\n" + "x" * 5000, top=classes("\x1b]0;title\x07" + "y" * 5000)))
    assert line.isprintable()
    assert len(line) < 3 * MAX_SHOWN


def test_a_notebook_shows_the_image_and_its_classes() -> None:
    page = weevit.load("digits").classify(THREE, topk=3)._repr_html_()
    assert page.count("<br>") == 3
    assert 'src="data:image/jpeg;base64,' in page
    assert f"max-width:{SIDE}px" in page


@pytest.mark.parametrize("where", ["name", "class", "error"])
def test_what_strangers_wrote_is_text(where: str) -> None:
    evil = '<script>alert(1)</script>"><img src=x onerror=alert(1)>'
    result = {
        "name": Result(evil, top=classes("cat")),
        "class": Result("a.jpg", top=classes(evil)),
        "error": Result("a.jpg", "missing", evil),
    }[where]
    page = result._repr_html_()
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;" in page


def test_a_file_that_is_gone_or_was_never_one_is_shown_without_an_image(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    for name in (str(tmp_path / "gone.png"), str(tmp_path / "broken.png"), "bytes[0]", "a\0b", "x" * 5000):
        assert "<img" not in Result(name, top=classes("cat"))._repr_html_()
    with weevit.load("digits") as model:
        assert "<img" not in model.classify(labelled.png(9, (32, 32)))._repr_html_()
        assert "embedding (64)" in model.run(THREE, outputs=("embedding",))._repr_html_()
