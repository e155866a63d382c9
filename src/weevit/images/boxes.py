"""Boxes of ISO media files (AVIF, HEIC, JPEG 2000): where each begins and ends (ISO/IEC 14496-12, 4.2)."""

from __future__ import annotations

from collections.abc import Iterator

MAX_BOXES = 10_000
"""Boxes read on one level."""


def boxes(data: bytes, start: int = 0, stop: int | None = None) -> Iterator[tuple[bytes, int, int]]:
    """(kind, first byte of the content, end of the content) of each box; the last may end behind the file's end."""
    stop = len(data) if stop is None else stop
    for _ in range(MAX_BOXES):
        if start + 8 > stop:
            return
        size, head = int.from_bytes(data[start : start + 4], "big"), 8
        if size == 1:
            size, head = int.from_bytes(data[start + 8 : start + 16], "big"), 16
        if size == 0:  # up to the end
            size = stop - start
        if size < head:  # not a box
            return
        yield data[start + 4 : start + 8], start + head, start + size
        start += size


def end_early(data: bytes) -> bool:
    """Whether the last box ends behind the file's end."""
    return max((stop for _, _, stop in boxes(data)), default=0) > len(data)
