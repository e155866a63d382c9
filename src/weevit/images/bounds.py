"""Small formats that Pillow reads byte by byte in Python: bounds on a file's cost, checked before Pillow opens it.

Measured on one core: about a microsecond for each run, sub-block, comment byte or plain sample.
"""

from __future__ import annotations

import re

from weevit.errors import CorruptImageError, TooLargeImageError, UnsupportedImageError

MAX_HEADER = 1 << 16
"""Bytes of a PPM's header with its comments."""

MAX_PLAIN = 4 << 20
"""Bytes of a plain PPM (numbers as text)."""

MAX_SCALED = 4_000_000
"""Samples of a PPM of another range than 255 and 65,535: Pillow scales each in Python."""

MAX_RLE = 2 << 20
MAX_RLE_PIXELS = 8_000_000
"""Bytes and pixels of a run-length BMP."""

_BMP_PACKINGS = {4: "a JPEG inside", 5: "a PNG inside", 11: "CMYK", 12: "CMYK", 13: "CMYK"}
"""Kinds for printers."""

MAX_BLOCKS = 50_000
"""Sub-blocks of a GIF before its first frame's pixels: comments of 12 MB."""


def check_ppm(data: bytes) -> bytes:
    """Bound the header, the plain text and the samples to be scaled.

    Raises:
        TooLargeImageError: over a bound.
        CorruptImageError: a header without numbers.
    """
    if data[1:2] in b"123" and len(data) > MAX_PLAIN:
        raise TooLargeImageError(
            f"PPM: {len(data):,} bytes of numbers as text; the limit is {MAX_PLAIN:,}",
            "Convert it to a binary PPM or to PNG first.",
        )
    words = _words(data[: MAX_HEADER + 1])
    if words is None:
        if len(data) > MAX_HEADER:
            raise TooLargeImageError(f"PPM: the header is longer than {MAX_HEADER:,} bytes")
        return data  # truncated; Pillow raises for it
    if data[1:2] in b"56" and words[2] not in (b"255", b"65535" if data[1:2] == b"5" else b"255"):
        samples = int(words[0]) * int(words[1]) * (3 if data[1:2] == b"6" else 1)
        if samples > MAX_SCALED:
            raise TooLargeImageError(
                f"PPM: {samples:,} samples of another range than 255; the limit is {MAX_SCALED:,}",
                "Convert it to PNG first.",
            )
    return data


def _words(header: bytes) -> list[bytes] | None:
    """Width, height and, where the kind has one, the largest value; None where the header goes on."""
    text = re.sub(rb"#[^\r\n]*(?=[\r\n])", b" ", header)
    count = 2 if header[1:2] in b"14" else 3
    words = text[2:].split(None, count)
    if b"#" in b"".join(words[:count]) or len(words) < count or (len(words) == count and text.endswith(words[-1])):
        return None
    if not all(word.isdigit() and len(word) <= 10 for word in words[:count]):
        raise CorruptImageError("PPM: the header gives no width, height or largest value")
    return words


def check_bmp(data: bytes) -> bytes:
    """Bound run-length data: each run takes time, and each pixel that a row lacks.

    Raises:
        TooLargeImageError: over a bound.
        UnsupportedImageError: a kind that Pillow calls broken.
    """
    head, width, height = (int.from_bytes(data[at : at + 4], "little", signed=True) for at in (14, 18, 22))
    bits, packing = (int.from_bytes(data[at:end], "little") if head >= 40 else 0 for at, end in ((28, 30), (30, 34)))
    if bits in (2, 64) or packing in _BMP_PACKINGS:
        kind = _BMP_PACKINGS.get(packing) or f"{bits} bits per pixel"
        raise UnsupportedImageError(f"BMP: {kind}", "Convert it to PNG first.")
    if packing in (1, 2) and (len(data) > MAX_RLE or abs(width * height) > MAX_RLE_PIXELS):
        raise TooLargeImageError(
            f"BMP: {len(data):,} bytes of run-length data for {width} x {height} pixels; "
            f"the limits are {MAX_RLE:,} bytes and {MAX_RLE_PIXELS:,} pixels",
            "Convert it to PNG first.",
        )
    return data


def check_gif(data: bytes) -> bytes:
    """Bound the extensions before the first frame, with TooLargeImageError: a block may have a few bytes only."""
    position = 13 + (3 << ((data[10] & 7) + 1) if len(data) > 10 and data[10] & 0x80 else 0)
    blocks = 0
    while data[position : position + 1] not in (b",", b";", b""):
        extension = data[position : position + 1] == b"!"
        position += 2 if extension else 1
        blocks += 1
        while extension and (size := (data[position : position + 1] or b"\0")[0]) and blocks <= MAX_BLOCKS:
            position += 1 + size
            blocks += 1
        position += extension
        if blocks > MAX_BLOCKS:
            raise TooLargeImageError(f"GIF: more than {MAX_BLOCKS:,} blocks before the first frame")
    return data
