"""Pictures at addresses (`s3://`, `gs://`, `hf://`, `https://`): through fsspec, which knows how to speak to each.

An address means what a path would: a folder, a pattern, a list, a table, an archive, or one picture. Comes with
`pip install "weevit[remote]"`; credentials are those that fsspec's own packages look for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, BinaryIO, cast

from weevit.errors import (
    EmptyImageError,
    ImageError,
    MissingExtraError,
    MissingImageError,
    TooLargeImageError,
    UnreadableImageError,
    UsageError,
)
from weevit.images.decode import Limits
from weevit.images.formats import EXTENSIONS
from weevit.images.source import ABSENT, Source


@dataclass(frozen=True)
class RemoteFile:
    """A file at an address.

    Attributes:
        name: the address.
        system: fsspec's file system.
        path: the file's name in it.
        info: what a listing said about it; empty where nobody asked yet.
    """

    name: str
    system: Any
    path: str
    info: Any = None

    def open(self) -> BinaryIO:
        """The file, read in blocks as they are wanted."""
        try:
            return cast(BinaryIO, self.system.open(self.path, "rb"))
        except Exception as error:
            raise _as_image_error(error, self.name) from error

    def read(self, limits: Limits) -> bytes:
        """The whole file; its size is asked first where the server tells it, and never exceeded."""
        try:
            size = self._info().get("size")
            if size is not None and size > limits.max_bytes:
                raise TooLargeImageError(f"{size:,} bytes; the limit is {limits.max_bytes:,}")
            with self.system.open(self.path, "rb", cache_type="none") if size else self.system.open(self.path) as file:
                data = bytearray()
                while len(data) <= limits.max_bytes and (part := file.read(limits.max_bytes + 1 - len(data))):
                    data += part  # a stream of unknown size gives what has come so far
        except Exception as error:
            raise _as_image_error(error, self.name) from error
        if not data:
            raise EmptyImageError(f"{self.name}: the file is empty")
        if len(data) > limits.max_bytes:
            raise TooLargeImageError(f"more than {limits.max_bytes:,} bytes, which is the limit")
        return bytes(data)

    def fingerprint(self) -> str:
        """What the server says changes with the file: its tag, or else size and time."""
        try:
            info = self._info()
        except Exception as error:
            return ABSENT if _is_absent(error) else "unknown"
        keys = ("ETag", "etag", "blob_id", "size", "LastModified", "Last-Modified", "mtime")
        told = [info.get(key) for key in keys if info.get(key)]
        return "-".join(str(value).strip('"') for value in told[:2]) or "unknown"

    def beside(self, entry: str) -> RemoteFile:
        """A name from this file's folder on, or an address."""
        return remote_file(entry if "://" in entry else f"{self.name.rpartition('/')[0]}/{entry}")

    def _info(self) -> Any:
        return self.info or self.system.info(self.path)


def remote_file(address: str) -> RemoteFile:
    """One file at an address; nothing is asked of the server.

    Raises:
        UsageError: fsspec knows no such kind of address.
        MissingExtraError: fsspec, or its package for this kind, is not installed.
    """
    try:
        from fsspec.core import url_to_fs

        system, path = url_to_fs(address)
    except ImportError as error:
        raise MissingExtraError(f"{address}: {error}", 'pip install "weevit[remote]"') from error
    except ValueError as error:
        raise UsageError(f"{address}: {error}", "For instance s3://bucket/photos or https://host/photo.jpg.") from error
    return RemoteFile(address, system, path)


def expand_remote(address: str, left_out: Counter[str]) -> Iterator[Source]:
    """What `weevit.images.sources.expand` does with a path, for an address."""
    from weevit.images.sources import CONTAINERS, read_container

    file = remote_file(address)
    file.system.invalidate_cache()  # listings are kept for ever, and files may have changed
    holds = address.lower().endswith(CONTAINERS)
    if not _is_pattern(address):
        if holds:
            yield from read_container(file, left_out)
            return
        if PurePosixPath(file.path).suffix.lower() in EXTENSIONS:
            yield Source(address, file)
            return
    try:
        listed = _listing(file)
    except ImageError as error:
        yield Source(address, error)
        return
    found = False
    for each in listed:
        ending = PurePosixPath(each.path).suffix.lower()
        if holds:
            found = True
            yield from read_container(each, left_out)
        elif ending in EXTENSIONS or each.path == file.path:  # a file that is named, whatever its ending
            found = True
            yield Source(each.name, each)
        else:
            left_out[ending] += 1
    if not found:
        yield Source(address, MissingImageError(f"{address}: no picture here or below"))


def _listing(file: RemoteFile) -> list[RemoteFile]:
    """The files at or below an address, or those that fit a pattern, in natural order."""
    from weevit.images.sources import natural_key

    try:
        ask = file.system.glob if _is_pattern(file.name) else file.system.find
        listed: dict[str, Any] = ask(file.path, detail=True)
    except Exception as error:
        raise _as_image_error(error, file.name) from error
    return [
        RemoteFile(str(file.system.unstrip_protocol(path)), file.system, path, listed[path])
        for path in sorted(listed, key=natural_key)
        if listed[path].get("type") != "directory"
    ]


def _is_pattern(address: str) -> bool:
    """A question mark is one, but for the web, where it comes before a query."""
    web = address.startswith(("http://", "https://"))
    return any(sign in address for sign in ("*[" if web else "*?["))


def _is_absent(error: Exception) -> bool:
    """Over HTTP whatever went wrong is called a missing file; its cause says what it was."""
    cause = error.__cause__
    if not isinstance(error, FileNotFoundError) or getattr(cause, "status", 404) not in (404, 410):
        return False
    return not isinstance(cause, OSError) or isinstance(cause, FileNotFoundError)


def _as_image_error(error: Exception, name: str) -> ImageError:
    if isinstance(error, ImageError):
        return error
    if _is_absent(error):
        return MissingImageError(f"{name}: no such file")
    return UnreadableImageError(f"{name}: {type(error).__name__}: {error}")
