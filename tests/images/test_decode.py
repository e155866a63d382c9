"""Every way in which a file can be right, wrong, odd or hostile; pixels against truths computed without weevit."""

from __future__ import annotations

import io
import os
import random
import shutil
import struct
import subprocess
import sys
import warnings
import zlib
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageFile

from weevit.errors import (
    CorruptImageError,
    DecodeError,
    EmptyImageError,
    ImageError,
    MissingImageError,
    NotAnImageError,
    TooLargeImageError,
    TruncatedImageError,
    UnreadableImageError,
    UnsupportedImageError,
    UsageError,
)
from weevit.images.decode import Limits, decode, from_array, read_file, recognise, to_rgb
from weevit.images.formats import FORMATS

Pixels = npt.NDArray[np.uint8]

MUTATIONS = 2000
PEAK_MB = 600


# --- helpers: files made by hand or by Pillow


def photo_like(height: int = 90, width: int = 120) -> Pixels:
    """Blocks and noise: nothing that a wrong turn or a lost half would leave looking the same."""
    rng = np.random.default_rng(0)
    blocks = np.kron(rng.integers(0, 226, (height // 10, width // 10, 3)), np.ones((10, 10, 1)))
    return (blocks + rng.integers(0, 30, (height, width, 3))).astype(np.uint8)


def encoded(pixels: Pixels | Image.Image, kind: str, **options: Any) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def heic(pixels: npt.NDArray[Any], mode: str = "RGB", **options: Any) -> bytes:
    import pillow_heif

    stream = io.BytesIO()
    made = pillow_heif.from_bytes(mode, pixels.shape[1::-1], np.ascontiguousarray(pixels).tobytes())
    made.save(stream, **({"quality": 90, "chroma": 444} | options))
    return stream.getvalue()


def decoded(data: bytes) -> Pixels:
    image = decode(data)
    assert image.mode == "RGB"
    return np.asarray(image)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    width: int,
    depth: int,
    colour: int,
    rows: Sequence[bytes],
    transparent: bytes = b"",
    height: int | None = None,
    interlace: int = 0,
) -> bytes:
    """A PNG of any sample depth; `colour` is 0 for grey, 2 for RGB, 3 for a palette."""
    header = struct.pack(">IIBBBBB", width, len(rows) if height is None else height, depth, colour, 0, 0, interlace)
    extra = chunk(b"tRNS", transparent) if transparent else b""
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def grey_tiff(
    width: int, bits: int, samples: bytes, photometric: int = 1, sample_format: int = 1, kind: int = 0
) -> bytes:
    """An uncompressed grey TIFF of one row."""
    tags = {
        254: kind, 256: width, 257: 1, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: 1,
        279: len(samples), 339: sample_format,
    }  # fmt: skip
    body = samples + b"\0" * (len(samples) % 2)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + struct.pack("<H", len(tags)) + entries + b"\0" * 4


def bmp(bits: int, packing: int = 0) -> bytes:
    """A BMP of 4 x 4 pixels, all zero."""
    return b"BM" + struct.pack("<IIIIiiHHIIiiII", 182, 0, 54, 40, 4, 4, 1, bits, packing, 128, 0, 0, 0, 0) + bytes(128)


EVERY_FORMAT = {
    "jpeg": encoded(photo_like(), "JPEG"),
    "progressive jpeg": encoded(photo_like(), "JPEG", progressive=True),
    "png": encoded(photo_like(), "PNG"),
    "webp": encoded(photo_like(), "WEBP"),
    "lossless webp": encoded(photo_like(), "WEBP", lossless=True),
    "gif": encoded(photo_like(), "GIF"),
    "bmp": encoded(photo_like(), "BMP"),
    "tiff": encoded(photo_like(), "TIFF"),
    "lzw tiff": encoded(photo_like(), "TIFF", compression="tiff_lzw"),
    "ppm": encoded(photo_like(), "PPM"),
    "avif": encoded(photo_like(), "AVIF"),
    "jpeg 2000": encoded(photo_like(), "JPEG2000"),
    "jpeg 2000 codestream": encoded(photo_like(), "JPEG2000", no_jp2=True, tile_size=(64, 64)),
    "deflate tiff": encoded(photo_like(), "TIFF", compression="tiff_adobe_deflate"),
    "jpeg tiff": encoded(photo_like(), "TIFF", compression="jpeg"),
    "cmyk jpeg": encoded(Image.fromarray(photo_like()).convert("CMYK"), "JPEG"),
}
LOSSLESS = (
    "png", "lossless webp", "bmp", "tiff", "lzw tiff", "ppm", "jpeg 2000", "jpeg 2000 codestream", "deflate tiff",
)  # fmt: skip
HAS_HEIC = find_spec("pillow_heif") is not None
"""Installed by the extra `heic`."""

if HAS_HEIC:
    EVERY_FORMAT |= {
        "heic": heic(photo_like()),
        "heic in tiles": heic(photo_like(), tile_size=64),
        "deep heic": heic(photo_like().astype(np.uint16) * 256, "RGB;16"),
    }


def test_every_format_is_tried_here() -> None:
    opened = {recognise(data).name for data in EVERY_FORMAT.values()}
    assert opened == {row.name for row in FORMATS if HAS_HEIC or row.name != "HEIC"}


# --- the right pixels


@pytest.mark.parametrize("name", EVERY_FORMAT)
def test_plain_files_of_every_format(name: str) -> None:
    difference = np.abs(decoded(EVERY_FORMAT[name]).astype(int) - photo_like())
    assert difference.max() == 0 if name in LOSSLESS else difference.mean() < 16


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_kind_of_bytes(kind: Any) -> None:
    assert np.array_equal(np.asarray(decode(kind(EVERY_FORMAT["png"]))), photo_like())


STORED_AS = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: upright[::-1, ::-1].transpose(1, 0, 2),
    8: lambda upright: np.rot90(upright, -1),
}
"""EXIF orientation -> how the camera stored an upright scene (the standard's definition, in numpy)."""


@pytest.mark.parametrize("orientation", STORED_AS)
@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("JPEG", {"quality": 100, "subsampling": 0}, 3.0),
        ("PNG", {}, 0.0),
        ("WEBP", {"lossless": True}, 0.0),
        ("TIFF", {}, 0.0),
        ("TIFF", {"compression": "tiff_lzw"}, 0.0),
        ("AVIF", {"quality": 95, "subsampling": "4:4:4"}, 3.0),
    ],
    ids=["jpeg", "png", "webp", "tiff", "lzw tiff", "avif"],
)
def test_orientation_is_applied_once(orientation: int, kind: str, options: dict[str, Any], tolerance: float) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    data = encoded(np.ascontiguousarray(STORED_AS[orientation](photo_like())), kind, exif=exif, **options)
    image = decode(data)
    assert image.size == (120, 90)
    assert np.abs(np.asarray(image).astype(int) - photo_like()).mean() <= tolerance
    assert np.array_equal(np.asarray(to_rgb(image)), np.asarray(image))  # a second look turns it no further


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("exif", [b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0" + b"\xff" * 200])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_malformed_exif_does_not_cost_the_image(kind: str, exif: bytes) -> None:
    assert decoded(encoded(photo_like(), kind, exif=exif)).shape == (90, 120, 3)


SIXTEEN = np.array([[0, 255, 256, 4095, 4096, 32767, 32768, 65280, 65535]], np.uint16)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (png(9, 16, 0, [SIXTEEN.astype(">u2").tobytes()]), SIXTEEN >> 8),
        (b"P5 9 1 65535\n" + SIXTEEN.astype(">u2").tobytes(), SIXTEEN >> 8),
        (grey_tiff(9, 16, SIXTEEN.tobytes()), SIXTEEN >> 8),
        (grey_tiff(9, 16, SIXTEEN.tobytes(), photometric=0), 255 - (SIXTEEN >> 8)),
        (grey_tiff(2, 12, bytes([0xFF, 0xF0, 0x10])), np.array([[255, 1]])),
        (b"P5 3 1 1000\n" + np.array([0, 500, 1000], ">u2").tobytes(), np.array([[0, 128, 255]])),
    ],
    ids=["png", "pgm", "tiff", "tiff, zero is white", "tiff of 12 bits", "pgm up to 1000"],
)
def test_deep_grey_keeps_its_whole_range(data: bytes, expected: Any) -> None:
    pixels = decoded(data)
    assert (pixels == pixels[..., :1]).all()
    assert pixels[..., 0].tolist() == expected.tolist()


@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
def test_deep_grey_is_turned_too(mode: str) -> None:
    exif = Image.Exif()
    exif[274] = 6
    upright = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000
    stored = Image.frombytes(mode, (3, 4), np.rot90(upright).astype(">u2" if mode == "I;16B" else "<u2").tobytes())
    assert np.array_equal(decoded(encoded(stored, "TIFF", exif=exif))[..., 0], upright >> 8)


def test_deep_grey_and_deep_rgb_agree() -> None:
    row = SIXTEEN.astype(">u2")
    grey, rgb = png(9, 16, 0, [row.tobytes()]), png(9, 16, 2, [np.repeat(row, 3).tobytes()])
    assert np.array_equal(decoded(grey), decoded(rgb))


def two_bytes(*values: int) -> bytes:
    return struct.pack(f">{len(values)}H", *values)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (png(8, 1, 0, [b"\xa0"], two_bytes(0)), [255] * 8),
        (png(8, 1, 0, [b"\xa0"], two_bytes(1)), [255, 0, 255, 0, 0, 0, 0, 0]),
        (png(4, 2, 0, [b"\x1b"], two_bytes(1)), [0, 255, 170, 255]),
        (png(2, 4, 0, [b"\x37"], two_bytes(3)), [255, 119]),
        (png(3, 8, 0, [b"\1\2\3"], two_bytes(2)), [1, 255, 3]),
        (png(2, 16, 0, [two_bytes(2000, 2001)], two_bytes(2000)), [255, 2001 >> 8]),
        (png(2, 8, 2, [b"\5\5\5\6\6\6"], two_bytes(5, 5, 5)), [255, 6]),
        (png(2, 16, 2, [two_bytes(*[4000] * 3, *[9000] * 3)], two_bytes(4000, 4000, 4000)), [255, 9000 >> 8]),
    ],
)
def test_one_transparent_value_becomes_white(data: bytes, expected: list[int]) -> None:
    assert decoded(data)[0, :, 0].tolist() == expected


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {})])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_opacity_is_laid_over_white(mode: str, kind: str, options: dict[str, Any]) -> None:
    rgba = np.dstack([photo_like(), np.arange(90 * 120).reshape(90, 120) % 256]).astype(np.uint8)
    image = Image.fromarray(rgba).convert(mode)
    colour = np.asarray(image.convert("RGBA")).astype(float)
    opacity = colour[..., 3:] / 255
    expected = colour[..., :3] * opacity + 255 * (1 - opacity)
    assert np.abs(decoded(encoded(image, kind, **options)) - expected).max() <= 1


def test_a_palette_with_opacity_is_laid_over_white() -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([10, 20, 30, 10, 20, 30, 10, 20, 30])
    image.putdata([0, 1, 2])
    pixels = decoded(encoded(image, "PNG", transparency=bytes([255, 0, 128])))
    assert pixels[0, :2].tolist() == [[10, 20, 30], [255, 255, 255]]
    assert np.abs(pixels[0, 2] - np.array([132, 137, 142])).max() <= 1


def test_strips_of_a_large_transparent_image_meet() -> None:
    image = Image.new("LA", (3000, 800), (0, 255))
    assert not decoded(encoded(image, "PNG", compress_level=1)).any()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_the_first_frame_of_many(kind: str) -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "lime", "blue")]
    red = decoded(encoded(frames[0], kind, save_all=True, append_images=frames[1:]))[16, 16].astype(int)
    assert np.abs(red - [255, 0, 0]).max() <= 4


def test_colour_profiles_are_not_applied() -> None:
    with_profile = encoded(photo_like(), "PNG", icc_profile=b"not even a profile")
    assert np.array_equal(decoded(with_profile), photo_like())


def test_cmyk_follows_pillow() -> None:
    cmyk = Image.fromarray(photo_like()).convert("CMYK")
    assert np.array_equal(decoded(encoded(cmyk, "TIFF")), np.asarray(cmyk.convert("RGB")))


# --- the image zoo


ZOO_BAD: dict[str, type[ImageError]] = {
    "badwidth.bmp": TooLargeImageError,
    "broken.png": DecodeError,
    "broken_data_stream.png": CorruptImageError,
    "chunk_no_fctl.png": CorruptImageError,
    "decompression_bomb.gif": TooLargeImageError,
    "hopper_webp.tif": CorruptImageError,
    "png_decompression_dos.png": CorruptImageError,
    "truncated_image.png": TruncatedImageError,
    "truncated_jpeg.jpg": TruncatedImageError,
    "zero_width.gif": TruncatedImageError,  # both: its image has no end either
}

ZOO_PLAIN = ("chi.gif", "flower.webp", "hopper.avif", "icc_profile_big.jpg", "iss634.webp", "mode_16bit.png")
"""Nothing needs doing to these but Pillow's own conversion."""

ZOO_RAW_16 = {
    "12in16bit.tif": (8, "<u2", (100, 100)),
    "16bit.cropped.tif": (110, "<u2", (64, 64)),
    "hopper_16bit.pgm": (17, ">u2", (128, 128)),
}
"""Where the uncompressed samples begin, their type, and height and width."""


def zoo(shared: Path, folder: str, name: str) -> bytes:
    return (shared / "data" / "image_zoo" / folder / name).read_bytes()


def test_the_bad_half_of_the_zoo_is_refused(shared: Path) -> None:
    files = {path.name: path.read_bytes() for path in (shared / "data" / "image_zoo" / "bad").iterdir()}
    assert files.keys() == ZOO_BAD.keys()
    for name, data in files.items():
        with pytest.raises(ZOO_BAD[name]) as caught:
            decode(data)
        assert 5 < len(caught.value.message) < 250
        assert "\n" not in caught.value.message


def test_the_good_half_of_the_zoo_decodes(shared: Path) -> None:
    for path in (shared / "data" / "image_zoo" / "ok").iterdir():
        assert decoded(path.read_bytes()).size, path.name


@pytest.mark.parametrize("name", ZOO_PLAIN)
def test_zoo_plain_images(shared: Path, name: str) -> None:
    with Image.open(io.BytesIO(zoo(shared, "ok", name))) as image:
        rgba = np.asarray(image.convert("RGBA"))
    pixels, seen = decoded(zoo(shared, "ok", name)), rgba[..., 3] == 255
    assert np.array_equal(pixels[seen], rgba[seen][:, :3])
    assert (pixels[rgba[..., 3] == 0] == 255).all()


@pytest.mark.parametrize("name", ZOO_RAW_16)
def test_zoo_deep_grey(shared: Path, name: str) -> None:
    data, (start, dtype, shape) = zoo(shared, "ok", name), ZOO_RAW_16[name]
    samples = np.frombuffer(data, dtype, shape[0] * shape[1], start).reshape(shape)
    assert np.array_equal(decoded(data)[..., 1], samples >> 8)


def test_zoo_grey_with_opacity(shared: Path) -> None:
    with Image.open(io.BytesIO(zoo(shared, "ok", "uncompressed_la.png"))) as image:
        grey, opacity = (np.asarray(band).astype(float) for band in image.split())
    expected = grey * opacity / 255 + 255 - opacity
    assert np.abs(decoded(zoo(shared, "ok", "uncompressed_la.png"))[..., 0] - expected).max() <= 1


def test_zoo_cmyk_lab_and_one_bit(shared: Path) -> None:
    ycck = decoded(zoo(shared, "ok", "pil_sample_cmyk.jpg"))
    assert ycck[0, 0, 0] > 200  # the corner is red: with Adobe's inversion missed, it would be cyan
    assert ycck[0, 0, 1:].max() < 60
    assert decoded(zoo(shared, "ok", "lab.tif")).min() >= 253  # white
    assert np.unique(decoded(zoo(shared, "ok", "1_trns.png"))).tolist() == [0, 255]


def test_zoo_all_orientations_look_the_same(shared: Path) -> None:
    upright = decoded(zoo(shared, "exif", "Landscape_1.jpg")).astype(int)
    for number in range(9):
        pixels = decoded(zoo(shared, "exif", f"Landscape_{number}.jpg"))
        assert np.abs(pixels - upright).mean() < 6, number
    hopper = decoded(zoo(shared, "ok", "hopper.avif")).astype(int)
    for name in ("hopper_orientation_5.webp", "hopper_orientation_6.jpg"):
        assert np.abs(decoded(zoo(shared, "ok", name)) - hopper).mean() < 12, name


# --- no whole image


@pytest.mark.parametrize("name", EVERY_FORMAT)
@pytest.mark.parametrize("tenth", range(10))
def test_truncation_at_ten_points(name: str, tenth: int) -> None:
    data = EVERY_FORMAT[name]
    cut = data[: max(20, len(data) * tenth // 10)]
    with pytest.raises(DecodeError) as caught:
        decode(cut)
    assert caught.value.kind == "truncated", caught.value


@pytest.mark.parametrize("name", EVERY_FORMAT)
@pytest.mark.parametrize("missing", [1, 2, 3, 5, 8, 13])
def test_a_file_without_its_last_bytes_gives_the_same_pixels_or_none(name: str, missing: int) -> None:
    whole = decoded(EVERY_FORMAT[name])
    try:
        pixels = decoded(EVERY_FORMAT[name][:-missing])
    except DecodeError:
        return
    assert np.array_equal(pixels, whole)


def test_a_flipped_bit_in_png_pixels_is_found() -> None:
    data = bytearray(png(64, 8, 0, [bytes(range(64))] * 64))
    data[data.index(b"IDAT") + 30] ^= 1
    with pytest.raises(CorruptImageError):
        decode(data)
    with pytest.raises(CorruptImageError):
        to_rgb(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize("rows", [1, 5, 9])
@pytest.mark.parametrize(("depth", "colour"), [(1, 0), (8, 0), (16, 0), (8, 2), (8, 4), (8, 6)])
def test_a_png_that_ends_after_a_row_is_truncated(depth: int, colour: int, rows: int) -> None:
    row = b"\xff" * (64 * depth * {0: 1, 2: 3, 4: 2, 6: 4}[colour] // 8)
    assert decoded(png(64, depth, colour, [row] * 10)).shape == (10, 64, 3)
    short = png(64, depth, colour, [row] * rows, height=10)
    with pytest.raises(TruncatedImageError, match="ends before the last row"):  # the check sums are right
        decode(short)
    with pytest.raises(TruncatedImageError, match="ends before the last row"):
        to_rgb(Image.open(io.BytesIO(short)))
    assert to_rgb(Image.open(io.BytesIO(png(64, depth, colour, [row] * 10)))).size == (64, 10)


@pytest.mark.parametrize(("at", "value"), [(26, 1), (27, 1), (28, 2), (28, 255), (15, ord("X"))])
def test_a_png_of_methods_that_there_are_not_is_corrupt(at: int, value: int) -> None:
    """Pillow reads them as if they were the usual ones, and takes a header from any place."""
    data = bytearray(png(64, 8, 0, [b"\xff" * 64] * 64))
    data[at] = value
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    with pytest.raises(CorruptImageError):
        decode(bytes(data))


def test_a_png_whose_last_row_is_black_is_whole() -> None:
    black = png(64, 8, 2, [b"\xff" * 192, bytes(192)])
    assert decoded(black)[:, 0, 0].tolist() == [255, 0]


@pytest.mark.parametrize("passes", range(1, 8))
def test_an_interlaced_png_has_all_its_passes(passes: int) -> None:
    sizes = [(1, 1), (1, 1), (2, 1), (2, 2), (4, 2), (4, 4), (8, 4)]  # of an image of 8 x 8
    rows = [b"\xc8" * width for width, height in sizes[:passes] for _ in range(height)]
    data = png(8, 8, 0, rows, height=8, interlace=1)
    if passes == 7:
        assert decoded(data).min() == 200
    else:
        with pytest.raises(TruncatedImageError):
            decode(data)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", EmptyImageError),
        (b"\0", NotAnImageError),
        (b"just some text, saved as photo.jpg\n", NotAnImageError),
        (b"<!DOCTYPE html><html><body>404 Not Found</body></html>", NotAnImageError),
        (bytes(1000), NotAnImageError),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100), CorruptImageError if HAS_HEIC else UnsupportedImageError),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(100), CorruptImageError if HAS_HEIC else UnsupportedImageError),
        (b"%PDF-1.7\n", UnsupportedImageError),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", UnsupportedImageError),
        (b"8BPS\0\1" + bytes(50), UnsupportedImageError),
        (encoded(photo_like(30, 30), "ICO"), UnsupportedImageError),
        (encoded(Image.new("F", (4, 4)), "TIFF"), UnsupportedImageError),
        (encoded(Image.new("I", (4, 4)), "TIFF"), UnsupportedImageError),
        (grey_tiff(2, 16, bytes(4), sample_format=2), UnsupportedImageError),
        (grey_tiff(2, 8, bytes(2), kind=1), UnsupportedImageError),
        (b"Pf\n2 2\n-1.0\n" + bytes(16), UnsupportedImageError),
        (png(0, 8, 0, [b""]), CorruptImageError),
        (b"P5 0 5 255\n", CorruptImageError),
        (bmp(2), UnsupportedImageError),
        (bmp(64), UnsupportedImageError),
        (bmp(0, 4), UnsupportedImageError),
        (bmp(0, 5), UnsupportedImageError),
        (bmp(7), CorruptImageError),
    ],
)
def test_other_bytes_get_the_error_that_fits(data: bytes, error: type[ImageError]) -> None:
    with pytest.raises(error):
        decode(data)


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Bytes overwritten, lost, inserted, or all that follows lost; half of it in the header."""
    work = bytearray(data)
    for _ in range(rng.choice((1, 2, 8, 64))):
        at = rng.randrange(min(len(work), rng.choice((200, len(work))) or 1) or 1)
        action = rng.random()
        if action < 0.6:
            work[at : at + 1] = rng.randbytes(1)
        elif action < 0.78:
            del work[at : at + rng.randrange(1, 40)]
        elif action < 0.97:
            work[at:at] = rng.randbytes(rng.randrange(1, 40))
        else:
            del work[at:]
    return bytes(work)


@pytest.mark.filterwarnings("ignore")
def test_mutations_give_a_image_or_a_typed_error() -> None:
    outcomes: Counter[str] = Counter()
    names = list(EVERY_FORMAT)
    for number in range(MUTATIONS):
        rng = random.Random(number)
        try:
            image = decode(mutated(EVERY_FORMAT[names[number % len(names)]], rng), Limits(max_pixels=4_000_000))
        except ImageError as error:
            outcomes[error.kind] += 1
        else:
            assert image.mode == "RGB"
            outcomes["ok"] += 1
    assert outcomes.total() == MUTATIONS
    assert {"ok", "truncated", "corrupt", "not an image", "too_large"} <= outcomes.keys()


# --- limits


def test_the_limit_of_pixels_is_exact_and_checked_in_the_header() -> None:
    data = EVERY_FORMAT["png"]
    assert decode(data, Limits(max_pixels=120 * 90)).size == (120, 90)
    with pytest.raises(TooLargeImageError, match=r"120 x 90 .* 10,799"):
        decode(data[:100], Limits(max_pixels=120 * 90 - 1))  # there is hardly more than the header


@pytest.mark.parametrize("name", ["progressive jpeg", "ppm", "webp", "avif", "jpeg 2000"])
def test_hungry_formats_get_fewer_pixels(name: str) -> None:
    with pytest.raises(TooLargeImageError):
        decode(EVERY_FORMAT[name], Limits(max_pixels=120 * 90))
    assert decode(EVERY_FORMAT[name], Limits(max_pixels=120 * 90 * 3)).size == (120, 90)


def test_the_limit_of_bytes() -> None:
    data = EVERY_FORMAT["png"]
    with pytest.raises(TooLargeImageError, match="bytes"):
        decode(data, Limits(max_bytes=len(data) - 1))


def huge_png(side: int) -> bytes:
    return png(side, 1, 0, [bytes((side + 7) // 8)] * side)


@pytest.mark.parametrize("side", [13_000, 20_000])
def test_bombs_are_refused_without_a_warning(side: int) -> None:
    data = huge_png(side)
    assert len(data) < 100_000
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(TooLargeImageError, match=f"{side} x {side}"):
            decode(data)


PEAK_SCRIPT = """
import re, sys
from pathlib import Path
from weevit.images.decode import decode, read_file
try:
    print(decode(read_file(sys.argv[1])).size)
except Exception as error:
    print(type(error).__name__)
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1000)
"""


def peak_memory(path: Path) -> tuple[str, int]:
    """The outcome in a word, and the peak in MB, of a process that decodes this file and does nothing else."""
    command = [sys.executable, "-c", PEAK_SCRIPT, str(path)]
    outcome, peak = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout.splitlines()
    return outcome, int(peak)


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_peak_memory_at_the_limit(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    wide = Image.new("RGB", (8000, 8000), "teal")
    wide.save(tmp_path / "turned.jpg", exif=exif)
    Image.new("RGBA", (8000, 8000), (1, 2, 3, 128)).save(tmp_path / "see_through.png", compress_level=1)
    wide.crop((0, 0, 8000, 4000)).save(tmp_path / "half.webp", method=0, lossless=True, quality=0)
    wide.crop((0, 0, 8000, 6400)).save(tmp_path / "progressive.jpg", progressive=True, subsampling=0)
    (tmp_path / "deep.pgm").write_bytes(b"P5 8000 6400 65535\n" + bytes(2 * 8000 * 6400))
    (tmp_path / "bomb.png").write_bytes(huge_png(13_000))
    del wide
    for path in sorted(tmp_path.iterdir()):
        outcome, peak = peak_memory(path)
        assert (outcome == "TooLargeImageError") == (path.stem == "bomb"), path.name
        assert peak < PEAK_MB, path.name
        path.unlink()  # pytest keeps its folders, and these are large


# --- files


def test_read_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert read_file(tmp_path / "a") == read_file(str(tmp_path / "a")) == b"abc"


def unreadable(tmp_path: Path, kind: str) -> Path:
    path = tmp_path / "x.jpg"
    match kind:
        case "link":
            path.symlink_to(tmp_path / "nowhere")
        case "loop":
            path.symlink_to(path)
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "empty":
            path.touch()
        case "large":
            with path.open("wb") as file:
                file.truncate(2**40)  # sparse: takes no room
        case "below a file":
            path.touch()
            path = path / "y.jpg"
    return path


@pytest.mark.skipif(os.name == "nt", reason="pipes, devices and links")
@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("absent", MissingImageError),
        ("link", MissingImageError),
        ("below a file", MissingImageError),
        ("loop", UnreadableImageError),
        ("folder", UnreadableImageError),
        ("pipe", UnreadableImageError),
        ("device", UnreadableImageError),
        ("empty", EmptyImageError),
        ("large", TooLargeImageError),
    ],
)
@pytest.mark.timeout(10)
def test_what_is_no_readable_file(tmp_path: Path, kind: str, error: type[ImageError]) -> None:
    with pytest.raises(error):
        read_file(unreadable(tmp_path, kind))


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 0)() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(b"abc")
    (tmp_path / "x.jpg").chmod(0)
    with pytest.raises(UnreadableImageError, match=r"[Pp]ermission"):
        read_file(tmp_path / "x.jpg")


def test_a_name_with_nul_in_it_is_missing() -> None:
    with pytest.raises(MissingImageError):
        read_file("a\0b")


# --- images and arrays in memory


def test_a_given_image_is_returned_itself_or_left_as_it_was() -> None:
    rgb = Image.fromarray(photo_like())
    assert to_rgb(rgb) is rgb
    rgba = rgb.convert("RGBA")
    assert to_rgb(rgba).mode == "RGB"
    assert rgba.mode == "RGBA"


def test_a_image_opened_elsewhere_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[274] = 6
    image = Image.open(io.BytesIO(encoded(np.rot90(photo_like()).copy(), "PNG", exif=exif)))
    assert np.array_equal(np.asarray(to_rgb(image)), photo_like())
    assert image.size == (90, 120)


def test_a_lazily_opened_truncated_image_is_refused() -> None:
    with pytest.raises(TruncatedImageError):
        to_rgb(Image.open(io.BytesIO(EVERY_FORMAT["jpeg"][:2000])))


def test_a_image_of_no_pixels_is_refused() -> None:
    with pytest.raises(UsageError):
        to_rgb(Image.new("RGB", (0, 5)))


def test_from_array() -> None:
    pixels = photo_like()
    assert np.array_equal(np.asarray(from_array(pixels)), pixels)
    assert np.array_equal(np.asarray(from_array(pixels[:, ::-1])), pixels[:, ::-1])  # a view
    assert np.array_equal(np.asarray(from_array(pixels[..., 0]))[..., 2], pixels[..., 0])
    clear = np.dstack([pixels, np.zeros((90, 120), np.uint8)])
    assert (np.asarray(from_array(clear)) == 255).all()


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((3, 4, 5), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
        np.zeros((4, 4, 1), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros(4, np.uint8),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_other_arrays_are_refused(array: Any) -> None:
    with pytest.raises(UsageError, match="is not an image"):
        from_array(array)


# --- the rest of the process


def test_refuses_while_pillow_may_invent_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(UsageError, match="LOAD_TRUNCATED_IMAGES"):
        decode(EVERY_FORMAT["png"])


def test_many_threads_and_no_setting_changed() -> None:
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))
    jobs = [*EVERY_FORMAT.values(), huge_png(10_000)] * 20

    def outcome(data: bytes) -> bytes:
        try:
            return decode(data).tobytes()
        except TooLargeImageError:
            return b"too large"

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(outcome, jobs))
    assert results == [outcome(data) for data in jobs[: len(EVERY_FORMAT) + 1]] * 20
    assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))


@pytest.mark.parametrize("kind", ["zip", "bzip2", "xz", "gzip", "tar"])
def test_an_archive_in_place_of_an_image_is_named(tmp_path: Path, kind: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("a")
    how = {"zip": "zip", "bzip2": "bztar", "xz": "xztar", "gzip": "gztar", "tar": "tar"}[kind]
    packed = Path(shutil.make_archive(str(tmp_path / "a"), how, tmp_path / "in"))
    with pytest.raises(NotAnImageError, match=rf"an archive \({kind}\): unpack it, and give the folder"):
        recognise(packed.read_bytes())
