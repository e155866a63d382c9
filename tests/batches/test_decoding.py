"""Two ways to the same pixels: whatever the faster one takes, it gives what `images.decode` gives."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from textures import texture

torch = pytest.importorskip("torch")

from weevit.batches.decoding import plain_layout, read_pixels  # noqa: E402
from weevit.errors import DecodeError, ImageError, TooLargeImageError, TruncatedImageError  # noqa: E402
from weevit.images.decode import Limits  # noqa: E402
from weevit.images.source import Source, open_image  # noqa: E402


def jpeg(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **{"quality": 85} | options)
    return buffer.getvalue()


KINDS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "progressive": {"progressive": True},
    "full colour": {"subsampling": 0},
    "restarts": {"restart_marker_rows": 1},
    "optimised": {"optimize": True},
}
PLAIN = {name: jpeg(texture(101, 67, 3), **options) for name, options in KINDS.items()}
PLAIN["grey"] = jpeg(texture(101, 67, 4).convert("L"))


def is_plain(data: bytes, limits: Limits = Limits()) -> bool:  # noqa: B008 - a constant
    try:
        return plain_layout(data, limits) is not None
    except ImageError:
        return False


def outcome(function: Any, data: bytes) -> Any:
    """Pixels, or the kind of error."""
    try:
        return np.asarray(function(Source("image", data))).tobytes()
    except ImageError as error:
        return error.kind


@pytest.mark.parametrize("name", PLAIN)
def test_plain_files_are_taken_and_equal(name: str) -> None:
    assert is_plain(PLAIN[name])
    assert outcome(read_pixels, PLAIN[name]) == outcome(open_image, PLAIN[name])


def test_what_must_be_turned_or_converted_is_left_to_the_other() -> None:
    image = texture(60, 40)
    exif = Image.Exif()
    exif[0x0112] = 6
    for data in (jpeg(image, exif=exif), jpeg(image.convert("CMYK")), PLAIN["baseline"][:-1], b"", b"\xff\xd8\xff\xd9"):
        assert not is_plain(data)
        assert outcome(read_pixels, data) == outcome(open_image, data)
    assert read_pixels(Source("turned", jpeg(image, exif=exif))).shape == (60, 40, 3)


def test_limits_hold() -> None:
    data = PLAIN["baseline"]
    for limits in (Limits(max_pixels=101 * 67 - 1), Limits(max_bytes=len(data) - 1)):
        assert not is_plain(data, limits)
        with pytest.raises(TooLargeImageError):
            read_pixels(Source("large", data), limits)


def test_broken_files_have_the_same_outcome() -> None:
    """1,500 seeded mutations: bits, cuts, insertions, runs of zeros, headers; what was cut off gets an end."""
    rng = random.Random(5)
    seen = {"taken": 0, "error": 0}
    for _ in range(1500):
        data = bytearray(rng.choice(list(PLAIN.values())))
        place = rng.randrange(2, len(data))
        match rng.randrange(6):
            case 0:
                data[place] ^= 1 << rng.randrange(8)
            case 1:
                del data[place:]
                data += b"\xff\xd9"
            case 2:
                del data[place : place + rng.randint(1, 50)]
            case 3:
                data[place:place] = rng.randbytes(rng.randint(1, 20))
            case 4:
                data[place : place + 100] = bytes(len(data[place : place + 100]))
            case _:
                data[rng.randrange(2, 600)] = rng.randrange(256)
        mutated = bytes(data)
        ours = outcome(read_pixels, mutated)
        assert ours == outcome(open_image, mutated)
        seen["error"] += isinstance(ours, str)
        seen["taken"] += is_plain(mutated)
    assert seen["taken"] > 700
    assert seen["error"] > 150


def test_every_source_is_read(tmp_path: Path) -> None:
    image = texture(31, 20)
    path = tmp_path / "a.png"
    image.save(path)
    plain = tmp_path / "b.jpg"
    plain.write_bytes(PLAIN["baseline"])
    for value in (path, str(path), path.read_bytes(), image, np.asarray(image), bytearray(path.read_bytes())):
        assert np.array_equal(read_pixels(Source("x", value)), np.asarray(image))
    assert np.array_equal(read_pixels(Source("x", plain)), read_pixels(Source("x", str(plain))))
    for value, kind in (
        (tmp_path / "none.jpg", "missing"),
        (tmp_path, "unreadable"),
        (TruncatedImageError("x"), "truncated"),
    ):
        with pytest.raises(ImageError) as caught:
            read_pixels(Source("x", value))
        assert caught.value.kind == kind


@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 3] + b"\xff\xd9", lambda data: data[:-40] + data[-20:]]
)
def test_a_plain_file_with_missing_pixels_is_refused(damage: Any) -> None:
    for name, data in PLAIN.items():
        broken = damage(data)
        assert is_plain(broken), name
        with pytest.raises(DecodeError):
            read_pixels(Source("broken", broken))


def test_photos_and_the_zoo_are_equal(shared: Path, photos: list[Path]) -> None:
    zoo = [path for path in sorted((shared / "data" / "image_zoo").rglob("*")) if path.is_file()]
    taken = 0
    for path in (*photos[::10], *zoo):
        data = path.read_bytes()
        assert outcome(read_pixels, data) == outcome(open_image, data), path.name
        taken += is_plain(data)
    assert taken > 40
