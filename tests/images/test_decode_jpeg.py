"""JPEGs whose pixels are not all there are refused; those that only look odd are not (scorecard row J12)."""

from __future__ import annotations

import io
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bombs import segment
from PIL import Image
from textures import texture

from weevit.errors import CorruptImageError, DecodeError, ImageError, TruncatedImageError, UnsupportedImageError
from weevit.images import jpeg
from weevit.images.canvas import pixels_of
from weevit.images.decode import decode, to_rgb

END = b"\xff\xd9"


def written(image: Image.Image, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", **({"quality": 92} | options))
    return stream.getvalue()


def by_pillow(data: bytes) -> Any:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


PHOTO = texture(640, 480, 7)
WAYS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "optimised": {"optimize": True},
    "progressive": {"progressive": True},
    "full colour": {"subsampling": 0},
    "halved": {"subsampling": 1},
    "restarts": {"restart_marker_blocks": 7},
    "restarts by row": {"restart_marker_rows": 1, "progressive": True},
}
FILES = {name: written(PHOTO, **options) for name, options in WAYS.items()}
FILES |= {mode: written(PHOTO.convert(mode)) for mode in ("L", "CMYK")}
# Black of half the size, as Pillow and ImageMagick write it, which simplejpeg does not take.
FILES |= {
    "CMYK halved": written(PHOTO.convert("CMYK"), subsampling=1),
    "CMYK quartered": written(PHOTO.convert("CMYK"), subsampling=2),
    "CMYK restarts": written(PHOTO.convert("CMYK"), subsampling=2, restart_marker_blocks=7),
}
FILES["rgb"] = written(PHOTO, keep_rgb=True)

DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "a third": lambda data: data[: len(data) // 3] + END,
    "all but 400 bytes": lambda data: data[:-400] + END,
    "zeros": lambda data: data[: len(data) // 2] + bytes(4096) + data[len(data) // 2 + 4096 :],
    "zeros at the end": lambda data: data[:-4098] + bytes(4096) + END,
    "a tenth missing": lambda data: data[: len(data) // 2] + data[len(data) // 2 + len(data) // 10 :],
    "no end": lambda data: data[: len(data) // 2],
}


@pytest.mark.parametrize("name", FILES)
def test_pixels_are_pillows(name: str) -> None:
    assert np.array_equal(np.asarray(decode(FILES[name])), by_pillow(FILES[name]))


@pytest.mark.parametrize("size", [(1, 1), (7, 3), (16, 16), (17, 33), (65, 64)])
@pytest.mark.parametrize("options", WAYS.values(), ids=WAYS)
def test_pixels_are_pillows_at_odd_sizes(size: tuple[int, int], options: dict[str, Any]) -> None:
    for mode in ("RGB", "L", "CMYK"):
        data = written(PHOTO.resize(size).convert(mode), **(options if mode == "RGB" else {}))
        assert np.array_equal(np.asarray(decode(data)), by_pillow(data))
    data = written(PHOTO.resize(size).convert("CMYK"), subsampling=2)
    assert np.array_equal(np.asarray(decode(data)), by_pillow(data))


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("name", FILES)
def test_reduced_pixels_are_pillows(name: str, scale: int) -> None:
    size = (480 // scale, 640 // scale)
    found = decode(FILES[name], enough=lambda full: size)
    with Image.open(io.BytesIO(FILES[name])) as image:
        image.draft(None, size[::-1])
        assert np.array_equal(np.asarray(found), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("way", DAMAGE)
@pytest.mark.parametrize("name", FILES)
def test_damage_is_found(name: str, way: str) -> None:
    damaged = DAMAGE[way](FILES[name])
    with pytest.raises(DecodeError) as caught:
        decode(damaged)
    assert len(caught.value.message) < 250
    if way in ("a third", "no end"):
        assert caught.value.kind == "truncated"


@pytest.mark.shared
@pytest.mark.parametrize("way", DAMAGE)
def test_j12_no_damaged_photo_is_ok(photos: list[Path], way: str) -> None:
    files = [data for path in photos[::12] if len(data := path.read_bytes()) > 12_000]
    assert len(files) >= 40
    for data in files:
        with pytest.raises(DecodeError):
            decode(DAMAGE[way](data))


@pytest.mark.shared
def test_no_sound_photo_is_refused(photos: list[Path]) -> None:
    for path in photos[::5]:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            stored = np.asarray(image.convert("RGB"))
        found = np.asarray(decode(data))
        assert found.shape != stored.shape or np.array_equal(found, stored) or _is_turned(data), path.name


def _is_turned(data: bytes) -> bool:
    with Image.open(io.BytesIO(data)) as image:
        return bool(image.getexif().get(0x112, 1) != 1)


def profile(number: int, count: int) -> bytes:
    return segment(0xE2, b"ICC_PROFILE\0" + bytes([number, count]) + bytes(40))


def in_header(data: bytes, part: bytes) -> bytes:
    frame = data.index(b"\xff\xdb")
    return data[:frame] + part + data[frame:]


ODD: dict[str, Callable[[bytes], bytes]] = {
    "junk in the header": lambda data: in_header(data, b"\0\1\2\3"),
    "a stuffed byte in the header": lambda data: in_header(data, b"\xff\0\xff\0"),
    "fill bytes": lambda data: in_header(data, b"\xff" * 40),
    "a restart marker in the header": lambda data: in_header(data, b"\xff\xd0\7\7"),
    "a profile of two parts, one of them there": lambda data: in_header(data, profile(1, 2)),
    "a profile with the part 9 of 2": lambda data: in_header(data, profile(9, 2)),
    "zeros before the end": lambda data: data[:-2] + bytes(500) + END,
    "junk behind the end": lambda data: data + b"junk" * 1000,
    "another image behind the end": lambda data: data + FILES["progressive"],
    "half of another image behind the end": lambda data: data + FILES["baseline"][:9000],
    "zeros behind the end": lambda data: data + bytes(100_000),
    "a comment behind the tables": lambda data: in_header(data, segment(0xFE, b"\xff\xd9\xff\xda hello")),
    "broken EXIF": lambda data: in_header(data, segment(0xE1, b"Exif\0\0II*\0\xff\xff")),
    "a thumbnail in EXIF": lambda data: in_header(data, segment(0xE1, b"Exif\0\0" + FILES["baseline"][:3000])),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("way", ODD)
@pytest.mark.parametrize("name", ["baseline", "progressive", "L", "restarts", "CMYK", "CMYK quartered"])
def test_odd_but_whole(name: str, way: str) -> None:
    data = FILES[name]
    assert np.array_equal(np.asarray(decode(ODD[way](data))), by_pillow(data))


@pytest.mark.parametrize("way", ["a third", "zeros at the end", "a tenth missing"])
@pytest.mark.parametrize("odd", ["junk in the header", "a profile with the part 9 of 2"])
def test_a_damaged_header_does_not_hide_damaged_data(odd: str, way: str) -> None:
    """libjpeg tells its first warning only."""
    for name in ("baseline", "progressive"):
        with pytest.raises(DecodeError):
            decode(ODD[odd](DAMAGE[way](FILES[name])))


def scans(data: bytes) -> list[int]:
    """Where each scan's header begins."""
    found, place = [], 0
    while (place := data.find(b"\xff\xda", place)) >= 0:
        found.append(place)
        place += 2
    return found


def test_a_progressive_file_without_its_last_scans_is_refused() -> None:
    data = FILES["progressive"]
    for place in scans(data)[1:]:
        with pytest.raises(TruncatedImageError, match="last scan"):
            decode(data[:place] + END)


def test_a_component_without_a_scan_is_refused() -> None:
    """Baseline with a scan for each component: cut between two, libjpeg gives a grey or green image silently."""
    layout = jpeg.Layout(kind=0xC0, components=(1, 2, 3), scans=[((1,), 0, 63, 0, 0), ((2,), 0, 63, 0, 0)])
    with pytest.raises(TruncatedImageError):
        jpeg.check_whole(layout)
    layout.scans.append(((3,), 0, 63, 0, 0))
    jpeg.check_whole(layout)


def test_restart_markers_out_of_order_are_found() -> None:
    data = bytearray(FILES["restarts"])
    place = data.index(b"\xff\xd3", scans(bytes(data))[0])
    data[place + 1] = 0xD6
    with pytest.raises(DecodeError):
        decode(bytes(data))


def test_zeros_are_no_damage_where_they_mean_an_area_of_one_colour() -> None:
    blank = Image.new("RGB", (3000, 2000), (128, 128, 128))
    data = written(blank, optimize=True)
    assert bytes(1000) in data
    assert np.array_equal(np.asarray(decode(data)), by_pillow(data))


def test_a_lost_sector_is_found_where_libjpeg_does_not_warn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Zeros may decode to as many blocks as were there; one photo of 50 is such a case."""
    data = DAMAGE["zeros"](FILES["baseline"])
    whole = np.zeros((480, 640, 3), np.uint8)
    monkeypatch.setattr(jpeg, "_strict", lambda *given: whole)
    with pytest.raises(CorruptImageError, match="zeros"):
        jpeg.pixels(data, jpeg.read_layout(data))
    assert jpeg.pixels(FILES["baseline"], jpeg.read_layout(FILES["baseline"])) is whole


def test_other_kinds_are_unsupported() -> None:
    data = bytearray(FILES["baseline"])
    frame = data.index(b"\xff\xc0")
    data[frame + 4] = 12
    with pytest.raises(UnsupportedImageError, match="12 bits"):
        decode(bytes(data))
    data[frame + 4], data[frame + 1] = 8, 0xC3  # lossless
    with pytest.raises(UnsupportedImageError):
        decode(bytes(data))
    with pytest.raises(UnsupportedImageError, match="sampling factors of this kind in several scans"):
        decode(written(PHOTO.convert("CMYK"), subsampling=2, progressive=True))


def test_a_frame_of_another_size_is_no_image() -> None:
    data = bytearray(FILES["baseline"])
    frame = data.index(b"\xff\xc0")
    for height in (479 * 4, 0):
        struct.pack_into(">H", data, frame + 5, height)
        with pytest.raises(ImageError):
            decode(bytes(data))


def test_images_that_pillow_has_opened_are_held_to_the_same() -> None:
    image = Image.open(io.BytesIO(FILES["baseline"]))
    assert np.array_equal(np.asarray(to_rgb(image)), by_pillow(FILES["baseline"]))
    for name in ("baseline", "progressive"):
        with pytest.raises(TruncatedImageError):
            to_rgb(Image.open(io.BytesIO(DAMAGE["a third"](FILES[name]))))


def test_multi_image_files_give_their_first() -> None:
    stream = io.BytesIO()
    PHOTO.save(stream, "MPO", save_all=True, append_images=[PHOTO.rotate(180)], quality=92)
    data = stream.getvalue()
    assert np.array_equal(np.asarray(decode(data)), by_pillow(data))
    assert np.array_equal(np.asarray(to_rgb(Image.open(io.BytesIO(data)))), by_pillow(data))
    with pytest.raises(DecodeError):
        decode(data[:30_000] + END)


def test_exif_in_ten_thousand_pieces_is_put_together_once() -> None:
    """16 MB of it; joined piece by piece, they took 10 seconds. It is in the order of the file, and turns the image."""
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = exif.tobytes()
    data = FILES["baseline"]
    pieces = [segment(0xE1, whole[:20]), segment(0xE1, b"Exif\0\0" + whole[20:])]
    pieces += [segment(0xE1, b"Exif\0\0" + bytes(1590))] * 9900
    began = time.process_time()
    image = decode(data[:2] + b"".join(pieces) + data[2:])
    assert time.process_time() - began < 2
    assert image.size == (480, 640)


def test_pixels_are_written_where_pillow_keeps_them() -> None:
    """Without a copy, above 4 megapixels too, which Pillow would otherwise keep in several pieces."""
    for size in ((3, 2), (3000, 2000)):
        image = Image.Image()
        image._mode, image._size = "RGB", size
        memory = pixels_of(image)
        assert memory is not None
        pixels = np.frombuffer(memory, np.uint8).reshape(size[1], size[0], 4)
        pixels[...] = np.random.default_rng(0).integers(0, 256, pixels.shape, np.uint8)
        assert np.array_equal(np.asarray(image), pixels[..., :3])


def test_a_pillow_that_does_not_tell_where_costs_a_copy_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weevit.images.canvas._new", Image.core.new)
    image = Image.Image()
    image._mode, image._size = "RGB", (3000, 2000)
    assert pixels_of(image) is None
    data = written(texture(3000, 2000, 3))
    assert np.array_equal(np.asarray(decode(data)), by_pillow(data))
