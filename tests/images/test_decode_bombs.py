"""Small files that would take much memory or time (row J11; in full: `benchmarks/reliability/decoding.py`)."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import bombs
import pytest

from weevit.errors import CorruptImageError, ImageError, TooLargeImageError, TruncatedImageError
from weevit.images import boxes, exif, jpeg2000, png
from weevit.images.budget import BUDGET, FREE, Budget, FullError, Lease, until_cropped
from weevit.images.decode import decode

SUPPORT = Path(__file__).resolve().parents[1] / "support"

REFUSED = (
    "JPEG: 5,000 EXIF tags share 600 KB",
    "JPEG: 40 scans of 36 megapixels",
    "JPEG: a million comments",
    "TIFF: 20,000 tags share 300 KB",
    "TIFF: 4,000 tags share 10 MB",
    "TIFF: a tile of 32,768 x 32,768",
    "TIFF: 2,000,000 strips",
    "TIFF: 2^60 tags",
    "PPM: 50 MB of spaces",
    "PPM: 20 MB of numbers",
    "PPM: a comment in the numbers",
    "PPM: 20 million samples up to 254",
    "BMP: 10 million runs of one",
    "BMP: jumps over 60,000,000 x 1",
    "BMP: ends of lines",
    "GIF: comments in blocks of one",
    "GIF: nothing, 20 MB of it",
    "PNG: a million chunks",
    "JPEG 2000: 65,536 tiles",
    "JPEG 2000: 65,535 layers",
    "JPEG 2000: 16,384 components",
)
READ = (
    "TIFF: 300,000 directories",
    "GIF: 200,000 frames",
    "PNG: 200 MB for one pixel",
    "WEBP: 100,000 frames",
)
"""These cost nothing, and are images."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_before_decoding(name: str) -> None:
    with pytest.raises(TooLargeImageError):
        decode(bombs.BOMBS[name]())


@pytest.mark.parametrize("name", READ)
def test_is_read(name: str) -> None:
    assert decode(bombs.BOMBS[name]()).mode == "RGB"


@pytest.mark.skipif(find_spec("pillow_heif") is None, reason="needs the extra heic")
@pytest.mark.parametrize("name", bombs.HEIC_BOMBS)
def test_heic_is_refused(name: str) -> None:
    with pytest.raises(ImageError):
        decode(bombs.HEIC_BOMBS[name]())


def test_a_strip_with_more_than_its_pixels_is_not_unpacked_to_its_end() -> None:
    with pytest.raises(CorruptImageError, match="no end"):
        decode(bombs.BOMBS["TIFF: deflate, 200 MB for a small strip"]())


def test_junk_in_a_header_is_bounded() -> None:
    with pytest.raises(CorruptImageError):
        decode(bombs.in_header(bombs.segment(0xFE, b""), bytes(2_000_000)))
    assert decode(bombs.in_header(bombs.segment(0xFE, b""), bytes(2_000))).size == (16, 16)


@pytest.mark.parametrize(
    "data",
    [
        bombs.in_header(bombs.segment(0xFE, b"") * 5000),
        bombs.in_header(bombs.segment(0xE1, b"Exif\0\0" + bombs.tags_that_share(400, 4)) * 3),
        bombs.gif(b"!\xfe" + (b"\xff" + b"x" * 255) * 10_000 + b"\0"),
        b"P5 #" + b"x" * 60_000 + b"\n1 1 255\n\0",
        bombs.png([bombs.chunk(b"zTXt", b"k\0\0" + bombs.packed_zeros(1))] * 20),
        bombs.bmp_runs(100, 50, b"\x64\7\0\0" * 50),
    ],
    ids=["jpeg segments", "jpeg exif", "gif comment", "ppm comment", "png texts", "bmp runs"],
)
def test_much_that_is_not_too_much_is_read(data: bytes) -> None:
    assert decode(data).mode == "RGB"


def test_texts_beyond_the_limit_are_left_out_and_no_others() -> None:
    texts = [bombs.chunk(b"zTXt", b"%d\0\0" % number + bombs.packed_zeros(1)) for number in range(20)]
    data = bombs.png([*texts, bombs.chunk(b"tEXt", b"a\0b")])
    read = png.check(data)
    assert [text in read for text in texts] == [True] * 16 + [False] * 4
    assert bombs.chunk(b"tEXt", b"a\0b") in read
    assert png.check(bombs.png(texts[:16])) == bombs.png(texts[:16])


def test_tags_are_added_up_though_the_directory_breaks_off() -> None:
    whole = bombs.tags_that_share(4000, 40_000)
    for data in (whole, whole[:-20], b"Exif\0\0" + whole[:-100]):
        with pytest.raises(TooLargeImageError, match="share"):
            exif.check_directory(data)
    exif.check_directory(bombs.tags_that_share(4000, 4))


def test_boxes_of_no_size_come_to_an_end() -> None:
    assert list(boxes.boxes(bytes(100))) == [(bytes(4), 8, 100)]
    assert len(list(boxes.boxes(b"\0\0\0\x08free" * 100_000))) == boxes.MAX_BOXES


SCRIPT = """
import json, re, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import bombs
from weevit.errors import ImageError
from weevit.images.decode import decode
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024
def outcome(data):
    try:
        return decode(data).size
    except ImageError as error:
        return error.kind
files = [bombs.jpeg(6000, 6000)] * 4 + [bombs.BOMBS[name]() for name in json.loads(sys.argv[2])] * 4
outcome(bombs.jpeg())
before = peak()
with ThreadPoolExecutor(16) as pool:
    found = list(pool.map(outcome, files))
print(json.dumps([peak() - before, found]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_j11_all_threads_together_stay_within_the_budget() -> None:
    names = ["TIFF: fax, 20,000 x 3,000", "PNG: 200 texts of a megabyte", "JPEG: 5,000 EXIF tags share 600 KB"]
    words = [sys.executable, "-c", SCRIPT, str(SUPPORT), json.dumps(names)]
    out = subprocess.run(words, capture_output=True, text=True, check=True, timeout=120).stdout
    peak, found = json.loads(out)
    assert found[:4] == [[6000, 6000]] * 4
    assert found[4:7] == [[20_000, 3_000], [1, 1], "too_large"]
    assert peak < 600


def test_the_budget_is_lent_in_turn_and_comes_back() -> None:
    budget, order = Budget(4 * FREE), []

    def take(size: int) -> None:
        with budget.lend(size):
            order.append(size)

    with budget.lend(3 * FREE):
        threads = [threading.Thread(target=take, args=(size,)) for size in (2 * FREE, FREE, 100 * FREE)]
        for thread in threads:
            thread.start()
        threads[1].join()  # so much is free for all
        assert order == [FREE]
    for thread in threads:
        thread.join()
    assert sorted(order) == [FREE, 2 * FREE, 100 * FREE]
    assert budget.left == budget.total


def test_what_an_image_borrows_is_held_until_it_is_cropped() -> None:
    """The decoded image lives on after `decode`; a thread that does not wait is told how much to ask for."""
    budget = Budget(4 * FREE)
    with until_cropped():
        with budget.lend(3 * FREE):
            pass
        assert budget.left == FREE
        with until_cropped(waits=False):  # the outer block holds
            with budget.lend(2 * FREE):
                assert budget.left == FREE
            with budget.lend(4 * FREE):
                assert budget.left == 0
        assert budget.left == 0
    assert budget.left == budget.total

    order: list[int] = []
    held: list[Lease] = []
    first = budget.take(3 * FREE)
    with until_cropped(waits=False), pytest.raises(FullError) as full, budget.lend(2 * FREE):
        pass
    assert full.value.size == 2 * FREE
    for size in (2 * FREE, FREE):
        budget.ask(size, lambda lease: (order.append(lease.size), held.append(lease)))  # type: ignore[func-returns-value]
    assert order == []  # the second one would fit, and waits behind the first
    assert budget.take_now(FREE) is None
    first.give_back()
    first.give_back()  # counts once
    assert order == [2 * FREE, FREE]
    assert budget.left == FREE
    with until_cropped(waits=False, lease=held[0]), budget.lend(2 * FREE):
        assert budget.left == FREE
    held[1].give_back()
    assert budget.left == budget.total
    lost = budget.take(FREE)
    budget.reset()  # a forked child
    lost.give_back()
    assert budget.left == budget.total


def test_a_decoder_that_does_not_wait_says_so_and_breaks_nothing() -> None:
    data = bombs.jpeg(4000, 4000)
    held = BUDGET.take(BUDGET.total)
    with until_cropped(waits=False), pytest.raises(FullError) as full:
        decode(data)
    assert full.value.size == 8 * 4000 * 4000
    held.give_back()
    with until_cropped(waits=False):
        assert decode(data).size == (4000, 4000)
        assert BUDGET.left == BUDGET.total - full.value.size
    assert BUDGET.left == BUDGET.total


def test_a_jpeg_2000_that_ends_within_its_sizes_is_truncated_and_one_that_ends_behind_them_is_judged() -> None:
    """The bound of the segment to the byte: 16 x 16 million tiles are read where all of it is there."""
    sizes = struct.pack(">HIIIIIIIIH", 0, 1 << 24, 1 << 24, 0, 0, 1, 1, 0, 0, 3)
    start = b"\xff\x4f\xff\x51" + struct.pack(">H", 2 + len(sizes)) + sizes
    with pytest.raises(TooLargeImageError, match=r"281,474,976,710,656 tiles"):
        jpeg2000.check(start)
    with pytest.raises(TruncatedImageError):
        jpeg2000.check(start[:-1])
