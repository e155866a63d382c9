"""HEIC by the extra `heic`; and every known kind of image that is not read is a row."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_decode import STORED_AS, decoded, heic, photo_like

from weevit.errors import (
    CorruptImageError,
    DecodeError,
    ImageError,
    NotAnImageError,
    TooLargeImageError,
    UnsupportedImageError,
)
from weevit.images import decode as decode_module
from weevit.images.decode import Limits, decode
from weevit.images.formats import EXTENSIONS, FORMATS, KNOWN_ENDINGS
from weevit.images.source import Source, open_image
from weevit.images.sources import expand
from weevit.store.extras import install

needs_heic = pytest.mark.skipif(find_spec("pillow_heif") is None, reason="needs the extra heic")
STUB = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)
LOSSLESS: dict[str, Any] = {"quality": -1, "matrix_coefficients": 0}


@needs_heic
def test_pixels() -> None:
    assert np.array_equal(decoded(heic(photo_like(), **LOSSLESS)), photo_like())


@needs_heic
def test_10_bits_give_the_high_8() -> None:
    deep = (photo_like().astype(np.uint16) << 8) + 255
    assert np.array_equal(decoded(heic(deep, "RGB;16", **LOSSLESS)), photo_like())
    grey = np.ascontiguousarray(deep[..., 0])
    assert np.array_equal(decoded(heic(grey, "L;16", quality=-1))[..., 1], grey >> 8)


@needs_heic
def test_opacity_is_laid_over_white() -> None:
    opacity = np.arange(90 * 120).reshape(90, 120, 1) % 256
    found = decoded(heic(np.dstack([photo_like(), opacity]).astype(np.uint8), "RGBA", **LOSSLESS))
    expected = photo_like() * (opacity / 255) + 255 * (1 - opacity / 255)
    assert np.abs(found - expected).max() <= 1


@needs_heic
@pytest.mark.parametrize("orientation", STORED_AS)
def test_orientation_is_applied_once(orientation: int) -> None:
    """The writer puts it into irot and imir, and leaves it in EXIF, as telephones do."""
    exif = Image.Exif()
    exif[274] = orientation
    data = heic(np.ascontiguousarray(STORED_AS[orientation](photo_like())), exif=exif.tobytes(), quality=95)
    assert b"Exif" in data
    found = decoded(data)
    assert found.shape == (90, 120, 3)
    assert np.abs(found.astype(int) - photo_like()).mean() < 3


@needs_heic
def test_profiles_are_not_applied_and_the_primary_image_is_read() -> None:
    import pillow_heif

    profile = heic(photo_like(), icc_profile=b"not even a profile", icc_profile_type="prof", **LOSSLESS)
    assert np.array_equal(decoded(profile), photo_like())
    file = pillow_heif.from_pillow(Image.new("RGB", (32, 32), "red"))
    file.add_from_pillow(Image.new("RGB", (48, 32), "blue"))
    for primary, width in enumerate((32, 48)):
        stream = io.BytesIO()
        file.save(stream, primary_index=primary)
        assert decode(stream.getvalue()).size == (width, 32)


@needs_heic
def test_limits_are_checked_before_decoding() -> None:
    data = heic(photo_like())
    for cut in (data, data[:-2000] + bytes(2000)):  # there need not be any image
        with pytest.raises(TooLargeImageError, match="120 x 90"):
            decode(cut, Limits(max_pixels=120 * 90 - 1))
    assert decode(data, Limits(max_pixels=120 * 90 * 3 // 2)).size == (120, 90)


@needs_heic
def test_what_is_cut_off_is_found() -> None:
    data = heic(photo_like())
    for cut in range(40, len(data), len(data) // 12):
        with pytest.raises(DecodeError):
            decode(data[:cut])


@needs_heic
def test_nothing_is_registered_with_pillow() -> None:
    code = """
import io, sys
from PIL import Image
from weevit.images.decode import decode
Image.init()
before = set(Image.OPEN), dict(Image.EXTENSION), set(Image.SAVE)
print(decode(sys.stdin.buffer.read()).size, before == (set(Image.OPEN), dict(Image.EXTENSION), set(Image.SAVE)))
"""
    found = subprocess.run([sys.executable, "-c", code], input=heic(photo_like()), capture_output=True, check=True)
    assert found.stdout.decode().strip() == "(120, 90) True"


def test_without_the_extra_the_row_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_module, "find_spec", lambda name: None)
    with pytest.raises(UnsupportedImageError, match=r'pip install "weevit\[heic\]"'):
        decode(STUB)


def test_with_the_extra_a_stub_is_corrupt() -> None:
    with pytest.raises(CorruptImageError if find_spec("pillow_heif") else UnsupportedImageError):
        decode(STUB)


# --- known kinds that are not read


TIFF_STUB = b"II*\0\x08\0\0\0"


def test_known_endings_are_taken_for_images() -> None:
    assert not {row for kind in FORMATS for row in kind.endings.split()} & KNOWN_ENDINGS.keys()
    assert {
        ".heic",
        ".heif",
        ".jxl",
        ".psd",
        ".cr2",
        ".cr3",
        ".nef",
        ".arw",
        ".dng",
        ".exr",
        ".hdr",
        ".xcf",
    } <= EXTENSIONS
    assert not {".svg", ".pdf", ".eps", ".ai", ".ico", ".raw", ".xmp", ".mov"} & EXTENSIONS


CONTENTS = {
    "a.psd": b"8BPS\0\1" + bytes(50),
    "b.JXL": b"\xff\x0a" + bytes(20),
    "c.orf": b"IIRO\x08\0\0\0" + bytes(20),
    "d.rw2": b"IIU\0" + bytes(20),
    "e.xcf": b"gimp xcf file",
    "f.tga": bytes(40),
    "g.exr": b"v/1\x01",
    "h.CR2": b"II*\0\x10\0\0\0CR\2\0",
    "i.sgi": b"\x01\xda\1",
}


def test_each_in_a_folder_is_a_row(tmp_path: Path) -> None:
    for name, data in CONTENTS.items():
        (tmp_path / name).write_bytes(data)
    sources = list(expand(tmp_path))
    assert [Path(source.name).name for source in sources] == list(CONTENTS)
    for source in sources:
        with pytest.raises(UnsupportedImageError, match="not read") as caught:
            open_image(source)
        assert "Convert" in caught.value.hint


def test_a_camera_raw_that_is_a_tiff_is_not_answered_by_its_thumbnail(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (16, 12), "red").save(stream, "TIFF")
    for name in ("x.nef", "x.dng", "x.ARW"):
        with pytest.raises(UnsupportedImageError, match="Camera raw"):
            open_image(Source(name, stream.getvalue()))
    assert open_image(Source("x.tif", stream.getvalue())).size == (16, 12)


def test_contents_count_before_names() -> None:
    stream = io.BytesIO()
    Image.new("RGB", (16, 12)).save(stream, "JPEG")
    assert open_image(Source("wrongly_named.psd", stream.getvalue())).size == (16, 12)
    with pytest.raises(NotAnImageError):
        open_image(Source("notes.jpg", b"not an image"))


def test_members_of_archives_are_rows(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, data in CONTENTS.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
    sources = list(expand(tmp_path / "a.tar"))
    assert len(sources) == len(CONTENTS)
    for source in sources:
        with pytest.raises(ImageError):
            open_image(source)


def test_doctor_tells_of_the_extra() -> None:
    from weevit.cli.doctor import _extra

    there = find_spec("pillow_heif") is not None
    assert _extra("heic") == (f"pillow-heif {version('pillow-heif')}" if there else install("heic"))
