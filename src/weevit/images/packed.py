"""Members of a compressed archive, which can only be read from the beginning.

A member is kept as it passes while few bytes are kept already; otherwise opening it reads the archive again. The
memory is bounded, whatever an archive of a few kilobytes unpacks to.
"""

from __future__ import annotations

import gzip
import threading
import weakref
import zlib
from collections import deque
from collections.abc import Callable
from typing import BinaryIO

from weevit.errors import TooLargeImageError, TruncatedImageError, UnreadableImageError
from weevit.images.decode import DEFAULT_LIMITS, Limits, check_bytes
from weevit.images.files import File

MAX_HELD_BYTES = 128 << 20
"""Size of an archive's members in memory."""

MAX_MEMBER_BYTES = 16 << 20
"""Size above which a member is not kept in memory."""

MAX_RATIO = 100
"""Unpacked size of a larger member over its packed size: photos reach 2, scans of blank pages 50."""

_STEP = 1 << 20
_READ_AHEAD = 20_480
"""Bytes by which tarfile may be ahead in the archive."""


class Member:
    """A member of a compressed archive.

    Attributes:
        data: its bytes; None if they have to be read again.
    """

    def __init__(self, archive: Packed, offset: int, size: int, data: bytes | None) -> None:
        self._archive, self._offset, self._size, self.data = archive, offset, size, data

    def read(self, limits: Limits) -> bytes:
        """The bytes of the member."""
        check_bytes(self._size, limits)
        return self._archive.again(self._offset, self._size) if self.data is None else self.data

    def fingerprint(self) -> str:
        """The archive's stamp, the offset and the size."""
        return f"{self._archive.stamp}-{self._offset:x}-{self._size:x}"


class Packed:
    """A compressed archive, and its members in memory.

    Args:
        file: the archive.
        position: gives the number of its bytes read so far.
    """

    def __init__(self, file: File, position: Callable[[], int]) -> None:
        self.file, self.stamp = file, file.fingerprint()
        self._position = position
        self._waiting: deque[tuple[weakref.ref[Member], int]] = deque()
        self._held = 0
        self._own = threading.local()

    def take(self, offset: int, size: int, read: Callable[[int], bytes]) -> Member:
        """The member at the current position; `read` gives its next bytes, none at the end of the archive.

        Raises:
            TooLargeImageError: over the limit of bytes, or a decompression bomb.
            TruncatedImageError: the archive ends within the member.
        """
        check_bytes(size, DEFAULT_LIMITS)
        if size > MAX_MEMBER_BYTES:
            self._check_ratio(size, read)
        if size > MAX_MEMBER_BYTES or not self._has_room(size):
            return Member(self, offset, size, None)
        data = read(size)
        if len(data) < size:
            raise TruncatedImageError("the archive ends in the middle of it")
        member = Member(self, offset, size, data)
        self._waiting.append((weakref.ref(member), size))
        self._held += size
        return member

    def _check_ratio(self, size: int, read: Callable[[int], bytes]) -> None:
        before, done = self._position(), 0
        while done < MAX_MEMBER_BYTES:
            part = read(_STEP)
            if not part:
                raise TruncatedImageError("the archive ends in the middle of it")
            done += len(part)
        if done > MAX_RATIO * (self._position() - before + _READ_AHEAD):
            raise TooLargeImageError(
                f"{size:,} bytes that are packed to less than a {MAX_RATIO}th of that", "Unpack the archive first."
            )

    def _has_room(self, size: int) -> bool:
        """Whether `size` more bytes may be kept; members are released in about their order."""
        while self._waiting and self._waiting[0][0]() is None:
            self._held -= self._waiting.popleft()[1]
        return self._held + size <= MAX_HELD_BYTES

    def again(self, offset: int, size: int) -> bytes:
        """A member's bytes from another reading, which continues where the thread's last one ended."""
        try:
            stream = self._stream(offset)
            stream.seek(offset)
            data = stream.read(size)
        except (EOFError, OSError, zlib.error) as error:
            self._own.again = None
            raise UnreadableImageError(f"{self.file.name}: {error}") from error
        if len(data) < size:
            raise TruncatedImageError(f"{self.file.name} ends in the middle of this member")
        return data

    def _stream(self, offset: int) -> gzip.GzipFile:
        """A thread's own reading: members come in the archive's order, and threads do not wait for each other."""
        own: _Again | None = getattr(self._own, "again", None)
        if own is None or own.stream.tell() > offset:
            self._own.again = own = _Again(self.file.open())
        return own.stream


class _Again:
    """A reading from the beginning; closed with its thread or the archive."""

    def __init__(self, handle: BinaryIO) -> None:
        self.stream = gzip.GzipFile(fileobj=handle)
        weakref.finalize(self, handle.close)  # in a circle of garbage, `__del__` would come too late
