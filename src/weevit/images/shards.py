"""Archives at addresses: each is fetched whole, once, and read from a local copy.

Images of a training are read in another order in each epoch; read in place, each would be a request of its own. The
copies are a cache of bounded size. Archives that a process has opened stay while it lives, so that a data set which is
larger than the cache is not fetched again and again: what does not fit is read in place.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO

from weevit.errors import UsageError
from weevit.images.remote import RemoteFile
from weevit.images.source import Stored
from weevit.store.cache import cache_folder, evict, make_own, tell_unkept

LIMIT = "WEEVIT_SHARDS_GB"
"""Environment variable: gigabytes of all copies together; 0 for none."""

DEFAULT_GB = 50.0

_BLOCK = 8 << 20

_opened: dict[Path, int] = {}
"""The copies that this process has opened, and their bytes."""

_lock = threading.Lock()


@dataclass(frozen=True)
class Shard:
    """An archive at an address.

    Attributes:
        remote: the archive.
        stamp: its fingerprint when it was listed; another one is another archive.
        size: its bytes; None where the server does not say.
    """

    remote: RemoteFile
    stamp: str
    size: int | None

    @classmethod
    def of(cls, remote: RemoteFile) -> Shard:
        """The archive, as the server describes it now."""
        remote = remote.described()
        return cls(remote, remote.fingerprint(), remote.size)

    @property
    def name(self) -> str:
        """The address."""
        return self.remote.name

    def fingerprint(self) -> str:
        """The server's tag, or else size and time, as they were when the archive was listed."""
        return self.stamp

    def beside(self, entry: str) -> Path | Stored:
        """As for the archive itself."""
        return self.remote.beside(entry)

    def open(self) -> BinaryIO:
        """The local copy, made if need be; where none can be kept, the archive itself."""
        copy = self._copy()
        if copy is not None:
            with suppress(OSError):  # another process may have removed it
                return copy.open("rb")
        return self.remote.open()

    def _copy(self) -> Path | None:
        folder = cache_folder()
        if folder is None or not self.size:
            return None
        key = hashlib.sha256(f"{self.name}\n{self.stamp}\n{self.size}".encode()).hexdigest()[:32]
        path = folder / "shards" / f"{key}.tar"
        if path in _opened and self._is_whole(path):  # every image but the first
            return path
        limit = _limit()
        with _lock:
            others = sum(size for own, size in _opened.items() if own != path)
        if others + self.size > limit:
            if limit:
                tell_unkept("further archives", f"{LIMIT} is {limit / 1e9:g}", "read in place")
            return None
        try:
            make_own(path.parent)
            with _one_at_a_time(path.with_suffix(".lock")):
                if not self._is_whole(path):
                    self._fetch(path)
                    self._make_room(path, limit - others)
            os.utime(path)
        except OSError as error:
            tell_unkept("archives", error, "read in place")
            return None
        with _lock:
            _opened[path] = self.size
        return path

    def _is_whole(self, path: Path) -> bool:
        try:
            status = path.lstat()
        except OSError:
            return False
        return S_ISREG(status.st_mode) and status.st_size == self.size

    def _fetch(self, path: Path) -> None:
        """Fetch the archive under another name; OSError where it cannot be kept, or is not of its size."""
        handle, name = tempfile.mkstemp(prefix=".", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                for block in self.remote.blocks(_BLOCK):
                    if file.tell() + len(block) > (self.size or 0):  # a server may send for ever
                        break
                    file.write(block)
                if file.tell() != self.size:
                    raise OSError(f"{self.name}: the server sends another number of bytes than it said")
            Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)

    def _make_room(self, path: Path, limit: int) -> None:
        """Remove copies that this process has not opened, the least recently used first."""
        found = []
        for one in path.parent.glob("*.tar"):
            with suppress(OSError):  # another process may remove it
                status = one.stat()
                found.append((status.st_mtime, one, status.st_size))
        unused = [(one, size) for _, one, size in sorted(found) if one not in _opened]
        evict(unused, limit, path, lambda one: one.unlink(missing_ok=True))


def _limit() -> int:
    """Bytes of all copies; UsageError for a value that is no number."""
    given = os.environ.get(LIMIT, "")
    try:
        gigabytes = float(given) if given else DEFAULT_GB
        if not 0 <= gigabytes < 1e9:
            raise ValueError
    except ValueError:
        raise UsageError(f"{LIMIT} is {given[:40]!r}; it is a number of gigabytes.", f"{LIMIT}=200") from None
    return int(gigabytes * 1e9)


def _one_at_a_time(path: Path) -> AbstractContextManager[object]:
    """Of the processes of a machine one fetches an archive; without filelock, each does."""
    try:
        import filelock
    except ImportError:
        return nullcontext()
    return filelock.FileLock(path)
