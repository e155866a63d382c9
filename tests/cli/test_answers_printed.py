"""What verbs print for programs, read back as a program would: vectors, exit codes, findings."""

from __future__ import annotations

import io
import json
from pathlib import Path

import labelled
import numpy as np
import pytest
from PIL import Image

import weevit
from weevit.cli.app import _run

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"


def digits(folder: Path, names: str = "01", count: int = 12) -> Path:
    for name in names:
        for path in sorted((DIGITS / "train" / name).iterdir())[:count]:
            labelled.put(folder / name / path.name, path.read_bytes())
    return folder


def noise(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("normalize", [False, True])
def test_embed_prints_the_vectors_that_the_library_gives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], normalize: bool
) -> None:
    good = sorted((DIGITS / "test" / "3").iterdir())[0]
    broken = labelled.put(tmp_path / "broken.png", "no image")
    words = ["embed", str(good), str(broken), "-m", "digits", "--json", *(["--normalize"] if normalize else [])]
    assert _run(words) == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    expected = weevit.load("digits").embed(good)[0]
    if normalize:
        expected = expected / np.linalg.norm(expected)
    assert np.array(first["embedding"]) == pytest.approx(expected, abs=1e-6)
    assert (first["input"], first["status"], first["error"]) == (str(good), "ok", None)
    assert (second["input"], second["embedding"]) == (str(broken), None)
    assert second["status"] == "decode_error"


@pytest.mark.parametrize(("strict", "code"), [(False, 0), (True, 3)])
def test_fit_ends_with_three_where_an_image_failed_and_that_matters(tmp_path: Path, strict: bool, code: int) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("filelock")
    data = digits(tmp_path / "data")
    labelled.put(data / "0" / "broken.png", "no image")
    words = ["fit", str(data), "-m", "digits", "-o", str(tmp_path / "out"), "--folds", "2", "-q"]
    assert _run([*words, *(["--strict"] if strict else [])]) == code
    assert "broken.png" in (tmp_path / "out" / "failures.csv").read_text()


def test_copies_of_two_classes_are_called_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = digits(tmp_path / "data", count=4)
    same, alone = noise(0), noise(1)
    for name, content in (("0/x.png", same), ("1/y.png", same), ("0/v.png", alone), ("0/w.png", alone)):
        labelled.put(data / name, content)
    assert _run(["data", "check", str(data), "--no-embeddings"]) == 0
    lines = capsys.readouterr().out.splitlines()
    both = [line for line in lines if "x.png" in line and "y.png" in line]
    assert both, lines
    assert all("different classes" in line for line in both)
    one = [line for line in lines if "v.png" in line and "w.png" in line]
    assert one, lines
    assert not any("different classes" in line for line in one)
