"""When an image was taken: by its camera's clock, to the fraction and the zone; what is no date is none."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from weevit.images.facts import facts_of
from weevit.images.taken import Taken, taken_in

DAY = 1_795_824_000.0
"""2026-11-28 00:00:00 UTC."""


def exif(time: Any = "2026:11:28 00:00:01", fraction: str | None = None, offset: str | None = None) -> Image.Exif:
    made = Image.Exif()
    own = made.get_ifd(0x8769)
    own[0x9003] = time
    if fraction is not None:
        own[0x9291] = fraction
    if offset is not None:
        own[0x9011] = offset
    return made


def taken(kind: str, given: Image.Exif) -> Taken | None:
    stream = io.BytesIO()
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(stream, kind, exif=given.tobytes())
    return facts_of(stream.getvalue()).taken


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_every_format_with_exif(kind: str) -> None:
    assert taken(kind, exif()) == Taken(DAY + 1)
    assert taken(kind, exif(fraction="25", offset="-03:30")) == Taken(DAY + 1.25, -210)


@pytest.mark.parametrize(
    "time", ["0000:00:00 00:00:00", "    :  :     :  :  ", "2026:13:01 00:00:00", "2026-11-28 00:00:01", "", "\0" * 19,
             "2026:11:28 00:00:61", "x" * 5000, 7],
)  # fmt: skip
def test_what_is_no_date_is_none(time: Any) -> None:
    assert taken("JPEG", exif(time)) is None


@pytest.mark.parametrize("offset", ["", "2 hours", "+99:00", "+14:01", "+1:00"])
def test_a_zone_that_is_none_leaves_the_clock(offset: str) -> None:
    assert taken("JPEG", exif(offset=offset)) == Taken(DAY + 1)


def test_a_fraction_that_is_none_leaves_the_second() -> None:
    assert taken("JPEG", exif(fraction="a few")) == Taken(DAY + 1)


def test_moments_are_compared_in_utc_where_both_cameras_know_it() -> None:
    here, there, unknown = Taken(DAY + 3600, 60), Taken(DAY, 0), Taken(DAY + 3600)
    assert here.apart(there) == there.apart(here) == 0
    assert here.apart(unknown) == 0
    assert there.apart(unknown) == 3600
    assert [str(one) for one in (here, unknown, Taken(DAY + 0.25, -210))] == [
        "2026-11-28 01:00:00+01:00",
        "2026-11-28 01:00:00",
        "2026-11-28 00:00:00.250-03:30",
    ]


def directory(*entries: tuple[int, int, int, int]) -> bytes:
    rows = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return struct.pack("<H", len(entries)) + rows + struct.pack("<I", 0)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"Exif\0\0", b"II*\0\x08\0\0\0", b"II*\0\xff\xff\xff\xff" + b"\0" * 9,
        b"II*\0\x08\0\0\0" + directory((0x8769, 4, 1, 8)),  # its own directory, again
        b"II*\0\x08\0\0\0" + directory((0x8769, 4, 1, 1 << 31)),
        b"II*\0\x08\0\0\0" + directory((0x8769, 4, 1, 26)) + directory((0x9003, 2, 20, 1 << 31)),
        b"II*\0\x08\0\0\0" + directory((0x8769, 4, 1, 26)) + struct.pack("<H", 65535),
        b"II*\0\x08\0\0\0" + directory((0x8769, 4, 1, 26)) + directory(*[(n, 2, 1 << 16, 0) for n in range(4000)]),
    ],
)  # fmt: skip
def test_directories_that_lead_nowhere(data: bytes) -> None:
    assert taken_in(data) is None
