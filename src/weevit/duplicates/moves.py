"""What moving copies away and moving them back share: results, and the looks at a file before it moves."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from weevit.duplicates.trash import Move
from weevit.errors import ImageError, UsageError
from weevit.images.decode import recognise
from weevit.store.below import CAN, opened_below
from weevit.store.files import writing
from weevit.store.moving import ChangedError, Spot, Verified, verified

_SIGNATURE = 4096
"""Bytes that tell an image by its format."""


@dataclass(frozen=True)
class Left:
    """A file that was not moved.

    Attributes:
        input: its name.
        why: the reason, in words.
    """

    input: str
    why: str


@dataclass(frozen=True)
class Moved:
    """What was moved.

    Attributes:
        moves: the moves that were made, or with `dry_run` would be.
        left: the files that stay where they are, and why.
        bytes: of all moved files.
        earlier: number of files that an earlier run of the command had moved.
    """

    moves: tuple[Move, ...]
    left: tuple[Left, ...]
    bytes: int = 0
    earlier: int = 0


Watcher = Callable[[int, int], None]
"""Told of the files that are done, and of their number."""


def check_system() -> None:
    """Refuse Windows; UsageError."""
    if not CAN:
        raise UsageError(
            "This system cannot move files by open folders, without which links could lead elsewhere.",
            "Move the files that copies.csv lists by hand.",
        )


class _Full(OSError):  # noqa: N818 - an OSError that is about the disk, not about a file
    pass


@contextmanager
def telling_full_disks(trash: Path) -> Iterator[None]:
    """Turn the error of a disk that is full, read-only or broken into an OutputError; that of one file stays."""
    with writing(trash, "What was moved is listed in undo.csv.", "Free some room, and rerun the command.", (_Full,)):
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO):
                raise _Full(error.errno, error.strerror) from error
            raise


@contextmanager
def reached(root: str, folders: list[str], make: bool = False) -> Iterator[int]:
    """A folder below a root; ChangedError where it is gone, or behind a link."""
    with ExitStack() as held_open:
        try:
            handle = held_open.enter_context(opened_below(root, folders, make=make))
        except FileNotFoundError:
            raise ChangedError("its folder is gone") from None
        except NotADirectoryError:
            raise ChangedError("its folder is a link, or a file") from None
        except OSError as error:
            raise ChangedError(f"its folder cannot be opened: {error.strerror}") from None
        yield handle


def whole(spot: Spot, sha256: str) -> bool:
    """Whether a plain file with these bytes has the name."""
    try:
        with verified(spot, sha256):
            return True
    except (ChangedError, OSError):
        return False


def check_image(file: Verified) -> None:
    """Refuse what is no image: a stranger's record must not move other files."""
    try:
        recognise(os.pread(file.handle, _SIGNATURE, 0))
    except ImageError:
        raise ChangedError("it is no image") from None
