"""The sha256 of images' bytes: the same file under two names is known by it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
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
"""What is read to know a data set by its contents: some seconds from a disk, and training reads it next anyway."""


def content_hashes(
    sources: Sequence[Source], progress: Callable[[int, int], None] = lambda done, total: None
) -> list[str | None]:
    """The sha256 of each source's encoded bytes, 64 hex digits, in order.

    None stands for what cannot be read, is empty or larger than the default limit, and for images and arrays in
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


def contents(dataset: Dataset, most: int = MOST_BYTES) -> str | None:
    """`Dataset.fingerprint` of the images' bytes in place of their times: data that was unpacked again has the same.

    Args:
        dataset: all of its images are read.
        most: bytes that they may have.

    Returns:
        64 hex digits; None for more bytes than that, and for images that are no local files or parts of one.
    """
    sources = [source for split in dataset.splits.values() for source in split.sources]
    sizes = list(map(_size, sources))
    if None in sizes or sum(filter(None, sizes)) > most:
        return None
    hashes = iter(content_hashes(sources))
    digest = hashlib.sha256()
    for split in dataset.splits.values():
        for source, target in zip(split.sources, split.targets, strict=True):
            name = source.name.removeprefix(dataset.path)
            parts = (split.name, name, next(hashes) or "unreadable", *dataset.names_of(target))
            digest.update(("\0".join(parts) + "\n").encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _size(source: Source) -> int | None:
    """Bytes of an image on this machine; 0 where it is not there, None where that is not known."""
    value = source.value
    if isinstance(value, Slice) and isinstance(value.file, LocalFile):
        return value.size
    if not isinstance(value, str | Path):
        return 0 if isinstance(value, ImageError) else None
    try:
        return os.stat(value).st_size  # noqa: PTH116 - as for a fingerprint: it is done for every file
    except (OSError, ValueError):
        return 0
