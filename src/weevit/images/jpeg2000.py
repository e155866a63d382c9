"""JPEG 2000: refuse what OpenJPEG would fill up in silence, and what would take it long.

OpenJPEG, as Pillow uses it, decodes the available part of a codestream and leaves the rest grey. Every tile-part gives
its length, so a truncated codestream, or one with damaged headers, is detected by following these. Not detected:
overwritten bytes within a tile-part, and a last part of length 0, which means "to the end". (ITU-T T.800, annex A.)
"""

from __future__ import annotations

import struct

from weevit.errors import TooLargeImageError, TruncatedImageError
from weevit.images.boxes import boxes, end_early

_SIZES, _CODING, _PART, _DATA, _END = 0xFF51, 0xFF52, 0xFF90, 0xFF93, b"\xff\xd9"
_START = b"\xff\x4f"

MAX_TILES = 4096
MAX_PACKETS = 500_000
"""Tiles, and layers times resolutions times components of all tiles; each takes some 10 µs, even if empty."""

MAX_COMPONENTS = 16


def check(data: bytes) -> bytes:
    """Refuse an incomplete codestream, and one with too many pieces.

    Raises:
        TooLargeImageError: more tiles, components or packets than an image needs.
        TruncatedImageError: a part of the codestream is missing.
    """
    start, stop = _codestream(data)
    position, tiles, components, packets = start + 2, 1, 1, 0
    while (marker := _number(data, position, 2)) not in (_PART, 0):
        body = position + 4
        if marker == _SIZES and body + 36 <= len(data):
            tiles, components = _tiles(data, body)
        elif marker == _CODING:
            packets = tiles * components * max(1, _number(data, body + 2, 2)) * (1 + _number(data, body + 5, 1))
        if packets > MAX_PACKETS:
            raise TooLargeImageError(f"JPEG 2000: {packets:,} packets; the limit is {MAX_PACKETS:,}")
        position += 2 + max(2, _number(data, position + 2, 2))
    _check_parts(data, position, stop)
    return data


def _number(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "big")


def _codestream(data: bytes) -> tuple[int, int]:
    """Start and end of the codestream."""
    if data.startswith(_START):
        return 0, len(data)
    for kind, start, stop in boxes(data):
        if kind == b"jp2c":
            return start, stop
    raise TruncatedImageError("JPEG 2000: the file ends before its codestream")


def _tiles(data: bytes, body: int) -> tuple[int, int]:
    """Number of tiles and components; `body` is the start of the segment's content."""
    _, right, bottom, _, _, width, height, left, top, components = struct.unpack_from(">HIIIIIIIIH", data, body)
    across, down = ((stop - start + step - 1) // max(1, step) for stop, start, step in
                    ((right, left, width), (bottom, top, height)))  # fmt: skip
    if across * down > MAX_TILES or components > MAX_COMPONENTS:
        raise TooLargeImageError(f"JPEG 2000: {across * down:,} tiles and {components} components")
    return across * down, components


def _check_parts(data: bytes, position: int, stop: int) -> None:
    """Follow the tile-parts; the last must end where the codestream does."""
    while _number(data, position, 2) == _PART:
        size = _number(data, position + 6, 4)
        if size == 0:
            position = stop - 2
        elif size < 14:
            break
        else:
            position += size
    if stop > len(data) or data[position : position + 2] != _END:
        raise TruncatedImageError("JPEG 2000: a part of the codestream is missing")


def ends_early(data: bytes) -> bool:
    """Whether the file ends before its boxes or its codestream."""
    return (not data.startswith(_START) and end_early(data)) or not data.endswith(_END)
