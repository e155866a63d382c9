"""Moving a file so that at no time it is lost, and no other is: by its handle, never through a link or over a file.

    the file, verified ── a placeholder under the new name ── renamed onto it ── is it the verified one? ── else back
    across file systems:   a copy, synced and read again ── renamed onto the placeholder ── the file removed

A rename takes whatever has the name at that moment. It is therefore looked at afterwards, and moved back if it is
another file than the one that was verified.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from weevit.store.below import FILE

_CHUNK = 1 << 20
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)


class ChangedError(Exception):
    """A file that is not the expected one any more; the text says why."""


@dataclass(frozen=True)
class Spot:
    """A name in an open folder."""

    folder: int
    name: str

    def status(self) -> os.stat_result | None:
        """Its status, of a link its own; None where there is nothing."""
        try:
            return os.stat(self.name, dir_fd=self.folder, follow_symlinks=False)
        except FileNotFoundError:
            return None


@dataclass(frozen=True)
class Verified:
    """A file that was looked at: its handle, its status, and the sha256 of its bytes."""

    handle: int
    status: os.stat_result
    sha256: str

    @property
    def identity(self) -> tuple[int, int]:
        """Device and inode: equal for two names of one file."""
        return self.status.st_dev, self.status.st_ino


@contextmanager
def verified(spot: Spot, sha256: str) -> Iterator[Verified]:
    """A plain file with these bytes, open.

    Raises:
        ChangedError: it is gone, no plain file, or another.
    """
    try:
        handle = os.open(spot.name, FILE, dir_fd=spot.folder)
    except FileNotFoundError:
        raise ChangedError("it is gone") from None
    except OSError as error:
        raise ChangedError("it is a link" if error.errno == errno.ELOOP else str(error.strerror)) from None
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise ChangedError("it is no plain file")
        if _sha256(handle) != sha256:
            raise ChangedError("its bytes changed")
        yield Verified(handle, status, sha256)
    finally:
        os.close(handle)


def move(file: Verified, source: Spot, target: Spot) -> None:
    """Move a verified file to a name that nothing has.

    Raises:
        FileExistsError: something has the name.
        ChangedError: the source is another file by now; it stays, or was put back.
        OSError: the disk is full, no permission; the source stays.
    """
    os.close(os.open(target.name, _NEW, 0o600, dir_fd=target.folder))
    try:
        os.rename(source.name, target.name, src_dir_fd=source.folder, dst_dir_fd=target.folder)
    except OSError as error:
        if error.errno == errno.EXDEV:
            _move_across(file, source, target)
            return
        remove_placeholder(target)
        if isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError):
            raise ChangedError("it is gone, or a folder now") from None
        raise
    moved = target.status()
    if moved is None or (moved.st_dev, moved.st_ino) != file.identity:
        put_back(target, source)
        raise ChangedError("another file was put in its place")
    _sync(source, target)


def put_back(target: Spot, source: Spot) -> None:
    """Undo a rename, unless its name is taken by now, or the system has no hard links: then the file stays there."""
    with suppress(OSError):
        os.link(target.name, source.name, src_dir_fd=target.folder, dst_dir_fd=source.folder, follow_symlinks=False)
        os.unlink(target.name, dir_fd=target.folder)


def remove_placeholder(spot: Spot) -> None:
    """Remove an empty file that a move has left; anything else stays."""
    status = spot.status()
    if status is not None and stat.S_ISREG(status.st_mode) and not status.st_size:
        os.unlink(spot.name, dir_fd=spot.folder)


def _move_across(file: Verified, source: Spot, target: Spot) -> None:
    """Copy, sync, read the copy again, and only then remove the source."""
    copy = _hidden(target.folder, file.sha256, "copy")
    with suppress(FileNotFoundError):
        os.unlink(copy.name, dir_fd=copy.folder)  # of a killed run
    try:
        handle = os.open(copy.name, _NEW, 0o600, dir_fd=copy.folder)
        try:
            _fill(handle, file)
        finally:
            os.close(handle)
        os.rename(copy.name, target.name, src_dir_fd=copy.folder, dst_dir_fd=target.folder)
    except BaseException:
        for left in (copy, target):
            with suppress(FileNotFoundError):
                os.unlink(left.name, dir_fd=left.folder)
        raise
    os.fsync(target.folder)
    remove(file, source)


def _fill(handle: int, file: Verified) -> None:
    """Write a file's bytes, mode and times, and check that the disk has them."""
    os.lseek(file.handle, 0, os.SEEK_SET)
    while chunk := os.read(file.handle, _CHUNK):
        view = memoryview(chunk)
        while view:
            view = view[os.write(handle, view) :]
    os.fchmod(handle, stat.S_IMODE(file.status.st_mode))
    os.utime(handle, ns=(file.status.st_atime_ns, file.status.st_mtime_ns))
    os.fsync(handle)
    if _sha256(handle) != file.sha256:
        raise ChangedError("its bytes changed while they were copied")


def remove(file: Verified, source: Spot) -> None:
    """Remove a verified file of which there is a copy; ChangedError where its name leads to another by now.

    It gets another name first: an `unlink` would take whatever has the name at that moment, and lose it.
    """
    aside = _hidden(source.folder, file.sha256, "moved")
    with suppress(FileExistsError):
        os.close(os.open(aside.name, _NEW, 0o600, dir_fd=aside.folder))
    os.rename(source.name, aside.name, src_dir_fd=source.folder, dst_dir_fd=aside.folder)
    taken = aside.status()
    if taken is None or _stamp(taken) != _stamp(file.status):
        put_back(aside, source)
        raise ChangedError("another file was put in its place")
    os.unlink(aside.name, dir_fd=aside.folder)
    os.fsync(source.folder)


def clear_hidden(folder: int, sha256: str) -> None:
    """Delete what a killed move of a file with these bytes has left in a folder, where the file itself is safe."""
    aside = _hidden(folder, sha256, "moved")
    remove_placeholder(aside)
    with suppress(ChangedError), verified(aside, sha256):
        os.unlink(aside.name, dir_fd=folder)
    with suppress(FileNotFoundError):
        os.unlink(_hidden(folder, sha256, "copy").name, dir_fd=folder)


def _hidden(folder: int, sha256: str, what: str) -> Spot:
    """A name that the next run finds again, and that no search of images does."""
    return Spot(folder, f".weevit-{sha256[:16]}.{what}")


def is_as_verified(spot: Spot, file: Verified) -> bool:
    """Whether a name still leads to the file, unchanged."""
    status = spot.status()
    return status is not None and _stamp(status) == _stamp(file.status)


def _stamp(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _sync(*spots: Spot) -> None:
    for spot in spots:
        os.fsync(spot.folder)


def _sha256(handle: int) -> str:
    digest = hashlib.sha256()
    os.lseek(handle, 0, os.SEEK_SET)
    while chunk := os.read(handle, _CHUNK):
        digest.update(chunk)
    return digest.hexdigest()
