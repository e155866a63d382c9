"""One look at a file: whether it is whole, what it is, what is odd about it."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import labelled
import numpy as np
import pytest
from PIL import Image

from weevit.duplicates.looks import THUMB, look_at
from weevit.errors import MissingImageError, UsageError
from weevit.images.decode import DEFAULT_LIMITS, Limits
from weevit.images.source import Source
from weevit.images.sources import expand


def test_a_image_is_whole_and_described(tmp_path: Path) -> None:
    path = labelled.put(tmp_path / "a.png", labelled.png(3, (70, 50)))
    (look,) = look_at([Source("a.png", path)], 1, DEFAULT_LIMITS)
    assert (look.width, look.height, look.error) == (70, 50, None)
    assert look.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert look.bytes == path.stat().st_size
    assert look.facts is not None
    assert (look.facts.format, look.facts.mode, look.facts.orientation) == ("PNG", "RGB", 1)
    assert look.thumb is not None
    assert look.thumb.shape == (THUMB, THUMB, 3)
    assert (look.thumb == (3, 0, 7)).all()


def test_what_cannot_be_read_says_why_and_stays_in_its_place(tmp_path: Path) -> None:
    whole = labelled.png(1, (60, 60))
    for name, content in {
        "a": whole,
        "b": whole[:-30],
        "c": b"",
        "d": b"<html>",
        "e": b"\xff\xd8\xff" + b"x" * 50 + b"\xff\xd9",
    }.items():
        labelled.put(tmp_path / f"{name}.png", content)
    sources = [*expand(tmp_path), Source("gone", tmp_path / "gone.png"), Source("known", MissingImageError("no"))]
    told: Counter[str] = Counter()
    looks = look_at(sources, 3, DEFAULT_LIMITS, lambda look: told.update([look.error.kind if look.error else "ok"]))
    kinds = [look.error.kind if look.error else "ok" for look in looks]
    assert kinds == ["ok", "truncated", "empty", "not an image", "corrupt", "missing", "missing"]
    assert sum(told.values()) == 7
    assert [look.digest is not None for look in looks] == [True, True, False, True, True, False, False]
    assert all(look.width == 0 and look.thumb is None for look in looks[1:])


def test_limits_are_held(tmp_path: Path) -> None:
    path = labelled.put(tmp_path / "a.png", labelled.png(3, (70, 50)))
    (look,) = look_at([Source("a.png", path)], 1, Limits(max_pixels=1000))
    assert look.error is not None
    assert look.error.kind == "too_large"


def test_pixels_in_memory_are_refused() -> None:
    with pytest.raises(UsageError, match="in memory only"):
        look_at([Source("array[0]", np.zeros((9, 9, 3), np.uint8))], 1, DEFAULT_LIMITS)


def test_unusual(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (80, 90, 3), np.uint8))
    noise.save(tmp_path / "fine.jpg")
    noise.save(tmp_path / "wrong.jpg", "PNG")
    noise.crop((0, 0, 90, 20)).save(tmp_path / "tiny.png")
    Image.new("L", (80, 80), 200).save(tmp_path / "wall.png")
    noise.save(tmp_path / "no_ending", "PNG")
    labelled.put(tmp_path / "broken.png", b"")
    names = ["fine.jpg", "wrong.jpg", "tiny.png", "wall.png", "no_ending", "broken.png"]
    looks = look_at([Source(name, tmp_path / name) for name in names], 2, DEFAULT_LIMITS)
    found = {name: look.unusual(name) for name, look in zip(names, looks, strict=True)}
    assert found == {
        "fine.jpg": [],
        "wrong.jpg": [("ending", "its name ends in .jpg, but it is PNG")],
        "tiny.png": [("tiny", "90 x 20 pixels")],
        "wall.png": [("one colour", "every pixel has the same colour")],
        "no_ending": [],
        "broken.png": [],
    }


@pytest.mark.filterwarnings("ignore")  # Pillow's, about odd metadata
def test_the_image_zoo(shared: Path) -> None:
    zoo = shared / "data" / "image_zoo"
    for folder, whole in (("ok", True), ("bad", False)):
        sources = list(expand(zoo / folder))
        looks = look_at(sources, 2, DEFAULT_LIMITS)
        assert {source.name: look.error is None for source, look in zip(sources, looks, strict=True)} == {
            source.name: whole for source in sources
        }
        assert all((look.facts is not None) == whole for look in looks)
    turned = look_at(list(expand(zoo / "exif")), 2, DEFAULT_LIMITS)
    orientations = Counter(look.facts.orientation for look in turned if look.facts)
    assert set(orientations) >= set(range(1, 9))
    assert len({(look.width, look.height) for look in turned}) == 1
