"""The sha256 of images' bytes, which identifies a file under any name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from weevit.datasets.dataset import Dataset
from weevit.errors import ImageError
from weevit.images.decode import DEFAULT_LIMITS
from weevit.images.files import LocalFile, Slice
from weevit.images.source import Source, Stored, read_bytes

_THREADS = 4
"""Reading waits for the disk, and hashing lets other threads run."""

_AT_ONCE = 1024

MOST_BYTES = 4 << 30
"""Total size up to which a data set is identified by its contents: some seconds from a disk."""


def content_hashes(sources: Sequence[Source]) -> list[str | None]:
    """The sha256 of each source's encoded bytes, 64 hex digits, in order.

    It is None for a file that is unreadable, empty or over the default limit, and for images and arrays in memory,
    which have no encoded bytes.
    """
    hashes: list[str | None] = []
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="weevit-hash") as pool:
        for start in range(0, len(sources), _AT_ONCE):
            hashes += pool.map(_hash, sources[start : start + _AT_ONCE])
    return hashes


def _hash(source: Source) -> str | None:
    value = source.value
    if isinstance(value, str | Path | Stored):
        try:
            value = read_bytes(value, DEFAULT_LIMITS)
        except ImageError:
            return None
    return hashlib.sha256(value).hexdigest() if isinstance(value, bytes | bytearray | memoryview) else None


def contents(dataset: Dataset, most: int = MOST_BYTES) -> str | None:
    """`Dataset.fingerprint` by the images' bytes in place of their times: an unpacked copy has the same one.

    Args:
        dataset: all of its images are read.
        most: total size up to which they are.

    Returns:
        64 hex digits; None above that size, and for images that are no local files or parts of one.
    """
    sources = [source for split in dataset.splits.values() for source in split.sources]
    sizes = list(map(_size, sources))
    if None in sizes or sum(filter(None, sizes)) > most:
        return None
    return dataset.fingerprint(digest or "unreadable" for digest in content_hashes(sources))


def _size(source: Source) -> int | None:
    """The size of an image on this machine; 0 for an absent file, None where it is unknown."""
    value = source.value
    if isinstance(value, Slice) and isinstance(value.file, LocalFile):
        return value.size
    if not isinstance(value, str | Path):
        return 0 if isinstance(value, ImageError) else None
    try:
        return os.stat(value).st_size  # noqa: PTH116 - as for a fingerprint: it is done for every file
    except (OSError, ValueError):
        return 0
