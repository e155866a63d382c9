"""Every figure that a page promises stands on it, with the numbers of its data: looked up in the page's own text."""

from __future__ import annotations

import html
import re
from pathlib import Path

import labelled
import pytest

import weevit

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
    labelled.put(top / "train" / "0" / "large.png", labelled.png(3, (90, 70)))
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


def test_a_check(data: Path, tmp_path: Path) -> None:
    weevit.check_data(data, output=tmp_path / "out", embeddings=False)
    shows(tmp_path / "out" / "report.html", "(?i)shorter side", "(?i)of each class")
