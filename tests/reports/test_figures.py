"""Every figure that a page promises stands on it, with the numbers of its data: looked up in the page's own text."""

from __future__ import annotations

import html
import re
from pathlib import Path

import labelled
import pytest

import weevit
from weevit.evaluation.report import _confusion
from weevit.evaluation.results import Evaluation, Row
from weevit.zoo.labels import Label

pytest.importorskip("jinja2")

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes with another number of images each, one of them unreadable."""
    top = tmp_path_factory.mktemp("data")
    for split in ("train", "test"):
        for name, count in {"0": 16, "1": 12, "2": 10}.items():
            for path in sorted((DIGITS / split / name).iterdir())[:count]:
                labelled.put(top / split / name / path.name, path.read_bytes())
    labelled.put(top / "test" / "2" / "broken.png", "no image")
    return top


def figures(page: Path) -> list[str]:
    """The title of every drawing, as a screen reader reads it."""
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"<svg[^>]*aria-label=\"([^\"]*)\"|<svg[^>]*>\s*<title>([^<]*)</title>", text)
    return [html.unescape(one or other) for one, other in found]


def shows(page: Path, *titles: str) -> None:
    drawn = figures(page)
    for title in titles:
        assert any(re.search(title, one) for one in drawn), (title, drawn)


def test_an_evaluation(data: Path, tmp_path: Path) -> None:
    weevit.evaluate("digits", data / "test", tmp_path, allow_missing=True)
    shows(tmp_path / "report.html", "(?i)confusion", "(?i)reliability", "(?i)accuracy against coverage")


def test_a_fit(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("filelock")
    weevit.fit(data, tmp_path / "out", "digits", folds=2, cache=tmp_path / "cache")
    shows(tmp_path / "out" / "report.html", "(?i)confusion", "(?i)reliability", "(?i)cross-validation")


def test_a_check_of_images_of_many_sizes(tmp_path: Path) -> None:
    for number in range(12):
        labelled.put(
            tmp_path / "data" / "ab"[number % 2] / f"{number}.png", labelled.png(number, (30 + 9 * number, 99))
        )
    weevit.check_data(tmp_path / "data", output=tmp_path / "out", embeddings=False)
    shows(tmp_path / "out" / "report.html", "(?i)shorter side", "(?i)of each class")


def test_a_check_of_images_of_one_size(data: Path, tmp_path: Path) -> None:
    weevit.check_data(data, output=tmp_path / "out", embeddings=False)
    drawn = figures(tmp_path / "out" / "report.html")
    assert not any(re.search("(?i)shorter side", one) for one in drawn)


@pytest.mark.parametrize("count", [30, 31, 60])
def test_of_many_classes_those_that_are_mixed_up_are_drawn(count: int) -> None:
    """Up to 30 classes all of them; of more, those of the most frequent mistakes, at most 20."""
    names = [f"c{place:02d}x" for place in range(count)]
    wrong = [("c03x", "c07x")] * 3 + [("c12x", "c29x")]
    pairs = [(name, name) for name in names] + wrong
    rows = tuple(
        Row(str(place), target=target, class_id=answer, right=target == answer, probability=0.5, rank=1)
        for place, (target, answer) in enumerate(pairs)
    )
    evaluation = Evaluation({}, {}, tuple(Label(name, name) for name in names), False, rows, {})
    drawn = _confusion(evaluation)
    assert drawn is not None
    shown = sorted(set(re.findall(r"c\d\dx", str(drawn))))
    assert shown == (names if count <= 30 else ["c03x", "c07x", "c12x", "c29x"])
    right = Evaluation({}, {}, evaluation.classes, False, (), {})
    assert _confusion(right) is None
