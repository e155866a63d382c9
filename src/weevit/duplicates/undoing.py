"""`weevit.undo_duplicates`: what was moved away is moved back, as `undo.csv` lists it; nothing is overwritten."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

from weevit.arguments import flag
from weevit.duplicates import trash as trashes
from weevit.duplicates.moves import Left, Moved, Watcher, check_image, check_system, reached, telling_full_disks, whole
from weevit.duplicates.trash import Move, is_below
from weevit.errors import MalformedFileError
from weevit.store.below import opened_below
from weevit.store.folder import held
from weevit.store.home import given_path
from weevit.store.moving import ChangedError, Spot, Verified, clear_hidden, move, remove_placeholder, verified


def undo_duplicates(trash: str | Path, *, dry_run: bool = False, watch: Watcher = lambda done, total: None) -> Moved:
    """Move everything back that `apply_duplicates` moved to a folder.

    Args:
        trash: the folder.
        dry_run: check every file, and move none.
        watch: called after each file.

    Raises:
        UsageError: no such folder, or a system without the calls that this takes (Windows).
        MalformedFileError: its record or its list is damaged, or names files outside of the recorded folders.
        OutputError: another process works in it, or a disk is full; the same call resumes.
    """
    folder, dry_run = given_path("trash", trash), flag("dry_run", dry_run)
    check_system()
    roots = trashes.read_roots(folder)
    with held(folder, trashes.KIND):
        moves = tuple(dict.fromkeys(trashes.read_moves(folder)))
        return _Undo(folder, roots, dry_run).run(moves, watch)


# ---- checks of records, which a stranger may have written


class _Undo:
    """One run of `undo_duplicates`."""

    def __init__(self, trash: Path, roots: tuple[str, ...], dry_run: bool) -> None:
        self.trash, self.roots, self.dry_run = trash, roots, dry_run
        self.made: list[Move] = []
        self.left: list[Left] = []
        self.bytes = self.earlier = 0

    def run(self, moves: tuple[Move, ...], watch: Watcher) -> Moved:
        """Every move, backwards."""
        places = [self._place(one) for one in moves]  # all are checked before the first is moved
        for done, (one, place) in enumerate(reversed(list(zip(moves, places, strict=True))), 1):
            try:
                with telling_full_disks(self.trash):
                    self._one(one, *place)
            except ChangedError as error:
                self.left.append(Left(one.source, str(error)))
            except OSError as error:
                self.left.append(Left(one.source, f"{error.strerror}"))
            watch(done, len(moves))
        return Moved(tuple(self.made), tuple(self.left), self.bytes, self.earlier)

    def _place(self, one: Move) -> tuple[str, str]:
        """The recorded folder that a file came from, and its path below that."""
        for root in self.roots:
            below = one.source.removeprefix(root.rstrip("/") + "/")
            if below != one.source and is_below(below) and os.path.realpath(root) == root:
                return root, below
        raise MalformedFileError(
            f"{self.trash / trashes.UNDO} names a file outside of the recorded folders: {one.source[:200]}."
        )

    def _one(self, one: Move, root: str, below: str) -> None:
        parts, inside = below.split("/"), one.target.split("/")
        with ExitStack() as open_folders:
            try:
                folder = open_folders.enter_context(opened_below(self.trash, inside[:-1]))
            except FileNotFoundError:
                folder = -1
            trashed = Spot(folder, inside[-1])
            if folder == -1 or trashed.status() is None:
                self._already(one, root, parts)
                return
            if not self.dry_run:
                remove_placeholder(trashed)
            status = trashed.status()
            if status is None or not status.st_size:
                self._already(one, root, parts)
                return
            file = open_folders.enter_context(verified(trashed, one.sha256))
            check_image(file)
            home = open_folders.enter_context(reached(root, parts[:-1], make=not self.dry_run))
            self._restore(one, trashed, file, Spot(home, parts[-1]))

    def _restore(self, one: Move, trashed: Spot, file: Verified, home: Spot) -> None:
        if not self.dry_run:
            remove_placeholder(home)  # of a killed run; an image was never empty
        if home.status() is not None:
            if whole(home, one.sha256):  # killed between a copy and the removal of what was copied
                self._there(one, home)
                return
            raise ChangedError("another file has its name now; it stays in the trash")
        if not self.dry_run:
            try:
                move(file, trashed, home)
            except FileExistsError:
                raise ChangedError("another file has its name now; it stays in the trash") from None
            clear_hidden(home.folder, one.sha256)
        self.made.append(one)
        self.bytes += file.status.st_size

    def _already(self, one: Move, root: str, parts: list[str]) -> None:
        """Count a file that is where it was; ChangedError where it is in neither place."""
        with reached(root, parts[:-1]) as folder:
            home = Spot(folder, parts[-1])
            if home.status() is None:
                raise ChangedError("it is neither in the trash nor where it was")
            self._there(one, home)

    def _there(self, one: Move, home: Spot) -> None:
        if not self.dry_run:
            clear_hidden(home.folder, one.sha256)
        self.earlier += 1
