"""The sha256 of pictures' bytes: the same file under two names is known by it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from weevit.errors import ImageError
from weevit.images.decode import DEFAULT_LIMITS
from weevit.images.source import Source, Stored, read_bytes

_THREADS = 4
"""Reading waits for the disk, and hashing lets other threads run."""

_AT_ONCE = 1024


def content_hashes(
    sources: Sequence[Source], progress: Callable[[int, int], None] = lambda done, total: None
) -> list[str | None]:
    """The sha256 of each source's encoded bytes, 64 hex digits, in order.

    None stands for what cannot be read, is empty or larger than the default limit, and for pictures and arrays in
    memory, which have no encoded bytes.

    Args:
        sources: what to read.
        progress: told how many are done, and how many there are.
    """
    hashes: list[str | None] = []
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="weevit-hash") as pool:
        for start in range(0, len(sources), _AT_ONCE):
            for digest in pool.map(_hash, sources[start : start + _AT_ONCE]):
                hashes.append(digest)
                progress(len(hashes), len(sources))
    return hashes


def _hash(source: Source) -> str | None:
    value = source.value
    if isinstance(value, str | Path | Stored):
        try:
            value = read_bytes(value, DEFAULT_LIMITS)
        except ImageError:
            return None
    return hashlib.sha256(value).hexdigest() if isinstance(value, bytes | bytearray | memoryview) else None
