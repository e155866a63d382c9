"""Small files that would take much memory or time: a name, and how to make one. No two take the same way."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numpy as np
from PIL import Image


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@cache
def jpeg(width: int = 16, height: int = 16, **options: Any) -> bytes:
    return encoded(Image.new("L", (width, height), 77), "JPEG", **options)


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def in_header(*parts: bytes) -> bytes:
    data = jpeg()
    return data[:2] + b"".join(parts) + data[2:]


def tags_that_share(count: int, size: int) -> bytes:
    """A directory whose tags all have the same bytes for their value."""
    entries = b"".join(struct.pack("<HHII", 1000 + number, 1, size, 10) for number in range(count))
    return b"II*\0" + struct.pack("<IH", 8, count) + entries + b"\0" * 4


def jpeg_exif() -> bytes:
    exif = tags_that_share(5000, 600_000)
    parts = [exif, *[bytes(65_000)] * 10]
    return in_header(*(segment(0xE1, b"Exif\0\0" + part) for part in parts))


def jpeg_scans(count: int = 300, side: int = 6000) -> bytes:
    data = jpeg(side, side, progressive=True)
    scan = segment(0xDA, bytes([1, 1, 0, 1, 1, 0]))  # one coefficient, without data: libjpeg calls it all zeros
    return data[:-2] + scan * count + data[-2:]


def tiff(tags: dict[int, tuple[int, int, int]], body: bytes = b"", tail: bytes = b"\0" * 4) -> bytes:
    """Little-endian, one directory at the end; tags are (type, count, value or place)."""
    entries = b"".join(struct.pack("<HHII", number, *value) for number, value in sorted(tags.items()))
    start = 8 + len(body)
    return b"II*\0" + struct.pack("<I", start) + body + struct.pack("<H", len(tags)) + entries + tail


def tiff_tags(width: int, height: int, packed: int, size: int, bits: int = 8) -> dict[int, tuple[int, int, int]]:
    base = {256: width, 257: height, 258: bits, 259: packed, 262: 1, 273: 8, 277: 1, 278: height, 279: size}
    return {number: (4, 1, value) for number, value in base.items()}


def tiff_tile(side: int = 32768) -> bytes:
    part = zlib.compress(bytes(side * side // 16))
    tags = tiff_tags(16, 16, 8, 0)
    for number in (273, 278, 279):
        del tags[number]
    tags |= {322: (4, 1, side), 323: (4, 1, side), 324: (4, 1, 8), 325: (4, 1, len(part))}
    return tiff(tags, part)


def tiff_strips(count: int = 2_000_000) -> bytes:
    body = bytes(4 * count)
    tags = tiff_tags(16, 16, 1, 0) | {273: (4, count, 8), 279: (4, count, 8), 278: (4, 1, 1)}
    return tiff(tags, body)


def tiff_packed(packed: int, body: bytes, width: int = 8000, height: int = 8000, bits: int = 8) -> bytes:
    return tiff(tiff_tags(width, height, packed, len(body), bits), body)


def tiff_chain(count: int = 300_000) -> bytes:
    """A directory after another, each of one tag."""
    first = tiff(tiff_tags(16, 16, 1, 256), bytes(256))
    start = len(first)
    links = b"".join(struct.pack("<HHHIII", 1, 256, 4, 1, 16, start + 18 * (number + 1)) for number in range(count))
    return first[:-4] + struct.pack("<I", start) + links


def tiff_big() -> bytes:
    """BigTIFF that claims 2^60 tags, each with 2^60 values."""
    head = b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, 1 << 60)
    return head + struct.pack("<HHQQ", 256, 4, 1 << 60, 16) * 100_000


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    extra: Iterable[bytes] = (), width: int = 1, height: int = 1, pixels: bytes = b"\0\0", interlaced: int = 0
) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, interlaced)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            *extra,
            chunk(b"IDAT", zlib.compress(pixels)),
            chunk(b"IEND", b""),
        ]
    )


@cache
def packed_zeros(megabytes: int) -> bytes:
    packer = zlib.compressobj()
    return b"".join([*(packer.compress(bytes(1 << 20)) for _ in range(megabytes)), packer.flush()])


def png_pixels() -> bytes:
    """A image of one pixel with 200 MB of them."""
    data = png()
    return data[:33] + chunk(b"IDAT", packed_zeros(200)) + chunk(b"IEND", b"")


def png_interlaced(side: int = 8000) -> bytes:
    steps = ((8, 8), (8, 8), (8, 4), (4, 4), (4, 2), (2, 2), (2, 1))  # rows are every so many, and pixels in them
    size = sum((side // down + 1) * (side // across) for down, across in steps)
    return png((), side, side, bytes(size + side * 8), 1)


def gif(before: bytes = b"", after: bytes = b"", side: int = 16) -> bytes:
    data = encoded(Image.new("P", (side, side)), "GIF")
    start = 13 + 3 * (2 << (data[10] & 7)) if data[10] & 0x80 else 13
    return data[:start] + before + data[start:-1] + after + b";"


def gif_frames(count: int = 200_000) -> bytes:
    frame = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\0"
    return gif(after=frame * count)


def bmp_runs(width: int, height: int, runs: bytes) -> bytes:
    palette = bytes(range(256)) * 4
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(runs), 0, 0, 256, 0)
    start = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(runs), 0, 0, start) + header + palette + runs


def webp_frames(count: int = 100_000) -> bytes:
    one = encoded(Image.new("RGB", (2, 2)), "WEBP", lossless=True)[12:]
    frame = struct.pack("<3s3s3s3s3sB", bytes(3), bytes(3), b"\1\0\0", b"\1\0\0", b"\1\0\0", 0) + one
    frame += b"\0" * (len(frame) % 2)
    body = b"VP8X" + struct.pack("<IB3s3s3s", 10, 2, bytes(3), b"\1\0\0", b"\1\0\0")
    body += b"ANIM" + struct.pack("<IIH", 6, 0, 0) + (b"ANMF" + struct.pack("<I", len(frame)) + frame) * count
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def codestream(
    side: int = 256, tile: int = 256, components: int = 1, layers: int = 1, levels: int = 0, parts: int = 1
) -> bytes:
    """JPEG 2000 with tile-parts that have no packets."""
    sizes = struct.pack(">HIIIIIIIIH", 0, side, side, 0, 0, tile, tile, 0, 0, components) + b"\7\1\1" * components
    coding = struct.pack(">BBHBBBBBB", 0, 0, layers, 0, levels, 4, 4, 0, 1)
    quantisation = struct.pack(">B", 0x40) + b"\x48" * (3 * levels + 1)
    body = b"\xff\x4f" + segment(0x51, sizes) + segment(0x52, coding) + segment(0x5C, quantisation)
    pieces = b"".join(segment(0x90, struct.pack(">HIBB", number, 14, 0, 1)) + b"\xff\x93" for number in range(parts))
    return body + pieces + b"\xff\xd9"


def heic_tiles(columns: int = 256, rows: int = 256) -> bytes:
    """A grid that names the same tile again and again, or says so."""
    import pillow_heif

    stream = io.BytesIO()
    pillow_heif.from_pillow(Image.new("RGB", (256, 256))).save(stream, tile_size=64, quality=50)
    data = stream.getvalue()
    old, new = bytes([0, 0, 3, 3, 1, 0, 1, 0]), struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, 16384, 16384)
    return data.replace(old, new)


def heic_lies(side: int = 1600, said: int = 16) -> bytes:
    """Another size than the coded one."""
    import pillow_heif

    stream = io.BytesIO()
    pillow_heif.from_pillow(Image.new("RGB", (side, side))).save(stream, quality=50)
    old, new = (b"ispe" + struct.pack(">III", 0, number, number) for number in (side, said))
    return stream.getvalue().replace(old, new)


BOMBS: dict[str, Callable[[], bytes]] = {
    "JPEG: 5,000 EXIF tags share 600 KB": jpeg_exif,
    "JPEG: EXIF in 1,000 segments": lambda: in_header(segment(0xE1, b"Exif\0\0" + bytes(65_000)) * 1000),
    "JPEG: 300 empty scans of 36 megapixels": jpeg_scans,
    "JPEG: 40 scans of 36 megapixels": lambda: jpeg_scans(40),
    "JPEG: a million comments": lambda: in_header(segment(0xFE, b"") * 1_000_000),
    "JPEG: 30 MB between segments": lambda: in_header(segment(0xFE, b""), bytes(30_000_000)),
    "JPEG: 30 MB of fill bytes": lambda: in_header(segment(0xFE, b""), b"\xff" * 30_000_000),
    "JPEG: a restart after each block": lambda: jpeg(8000, 4000, restart_marker_blocks=1),
    "JPEG: 65,500 x 970": lambda: jpeg(65_500, 970),
    "JPEG: progressive, at the limit": lambda: jpeg(7000, 7000, progressive=True),
    "TIFF: 20,000 tags share 300 KB": lambda: tags_that_share(20_000, 300_000) + bytes(60_000),
    "TIFF: 4,000 tags share 10 MB": lambda: tags_that_share(4_000, 10_000_000) + bytes(10_000_000),
    "TIFF: a tile of 32,768 x 32,768": tiff_tile,
    "TIFF: 2,000,000 strips": tiff_strips,
    "TIFF: 300,000 directories": tiff_chain,
    "TIFF: 2^60 tags": tiff_big,
    "TIFF: deflate, one strip": lambda: tiff_packed(8, zlib.compress(bytes(64_000_000))),
    "TIFF: deflate, 200 MB for a small strip": lambda: tiff_packed(8, packed_zeros(200), 16, 16),
    "TIFF: PackBits, one strip": lambda: tiff_packed(32773, b"\x81\0" * 504_000),
    "TIFF: fax, 20,000 x 3,000": lambda: encoded(Image.new("1", (20_000, 3_000), 1), "TIFF", compression="group4"),
    "TIFF: a strip of 2^32 rows": lambda: tiff(
        tiff_tags(16, 16, 8, 11) | {278: (4, 1, 0xFFFFFFFF)}, zlib.compress(bytes(256))
    ),
    "PPM: a comment of 50 MB": lambda: b"P5 #" + b"x" * 50_000_000 + b"\n1 1 255\n\0",
    "PPM: 50 MB of spaces": lambda: b"P5 " + b" " * 50_000_000 + b"1 1 255\n\0",
    "PPM: 20 MB of numbers": lambda: b"P3 2000 1600 255\n" + b"1 " * 9_600_000,
    "PPM: 20 MB of bits": lambda: b"P1 4000 5000\n" + b"1" * 20_000_000,
    "PPM: a comment in the numbers": lambda: b"P2 1 1 255\n#" + b"#\n" * 10_000_000 + b"1",
    "PPM: 20 million samples up to 254": lambda: b"P5 5000 4000 254\n" + bytes(20_000_000),
    "BMP: 10 million runs of one": lambda: bmp_runs(5000, 2000, b"\1\7" * 10_000_000),
    "BMP: jumps over 60,000,000 x 1": lambda: bmp_runs(60_000_000, 1, b"\0\2\xff\xff" * 1000),
    "BMP: ends of lines": lambda: bmp_runs(8000, 8000, b"\1\0\0\0" * 8000),
    "GIF: comments of 50 MB": lambda: gif(b"!\xfe" + (b"\xff" + b"x" * 255) * 200_000 + b"\0"),
    "GIF: comments in blocks of one": lambda: gif(b"!\xfe" + b"\1x" * 10_000_000 + b"\0"),
    "GIF: nothing, 20 MB of it": lambda: gif(bytes(20_000_000)),
    "GIF: 200,000 frames": gif_frames,
    "GIF: 8,000 x 8,000": lambda: gif(side=8000),
    "PNG: 200 texts of a megabyte": lambda: png(chunk(b"zTXt", b"k\0\0" + packed_zeros(1)) for _ in range(200)),
    "PNG: a profile of 200 MB": lambda: png([chunk(b"iCCP", b"k\0\0" + packed_zeros(200))]),
    "PNG: a million chunks": lambda: png([chunk(b"teXt", b"") * 1_000_000]),
    "PNG: 200 MB for one pixel": png_pixels,
    "PNG: interlaced, 8,000 x 8,000": png_interlaced,
    "WEBP: 100,000 frames": webp_frames,
    "WEBP: 5,600 x 5,600": lambda: encoded(Image.new("RGB", (5600, 5600)), "WEBP", lossless=True, quality=0, method=0),
    "AVIF: 6,000 x 6,000": lambda: encoded(Image.fromarray(np.zeros((6000, 6000, 3), np.uint8)), "AVIF", speed=10),
    "JPEG 2000: 65,536 tiles": lambda: codestream(4096, 16, parts=1000),
    "JPEG 2000: 65,535 layers": lambda: codestream(layers=65_535, levels=5, components=4),
    "JPEG 2000: 16,384 components": lambda: codestream(components=16_384),
    "JPEG 2000: 4,000 tiles without data": lambda: codestream(63 * 64, 64, parts=63 * 63),
    "JPEG 2000: 4,600 x 4,600": lambda: encoded(Image.new("L", (4600, 4600)), "JPEG2000"),
    "JPEG 2000: 4,000 small tiles": lambda: encoded(Image.new("L", (1008, 1008)), "JPEG2000", tile_size=(16, 16)),
}  # fmt: skip
HEIC_BOMBS: dict[str, Callable[[], bytes]] = {
    "HEIC: 65,536 tiles": heic_tiles,
    "HEIC: larger than it says": heic_lies,
    "HEIC: smaller than it says": lambda: heic_lies(64, 20_000),
}
"""These need the extra `heic`."""
