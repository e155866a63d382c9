"""`weevit.apply_duplicates`: copies are moved to a folder; nothing is deleted.

    a group ── the kept one is there and whole? ── each copy: still what was looked at? ── a line of undo.csv ── moved

Only copies that are certain are moved, and only plain files below the folders that were looked through: members of
archives, rows of tables, addresses and links are listed. A run that is killed is resumed by the same command.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from weevit.arguments import flag
from weevit.duplicates import trash as trashes
from weevit.duplicates.folder import RECORD, read_duplicates
from weevit.duplicates.groups import DuplicateGroup, DuplicateImage, Duplicates, Place
from weevit.duplicates.moves import Left, Moved, Watcher, check_image, check_system, reached, telling_full_disks, whole
from weevit.duplicates.trash import Move, is_below
from weevit.errors import MalformedFileError, UsageError
from weevit.store.below import opened_below
from weevit.store.folder import check_folder, held
from weevit.store.moving import (
    ChangedError,
    Spot,
    Verified,
    clear_hidden,
    is_as_verified,
    move,
    put_back,
    remove,
    remove_placeholder,
    verified,
)
from weevit.store.outputs import local, refuse_foreign
from weevit.text import typed

LISTED = "it lies in an archive, a table, a bucket or behind a link, or its name is not UTF-8: it is listed only"


def apply_duplicates(
    duplicates: str | Path,
    move_to: str | Path,
    *,
    dry_run: bool = False,
    watch: Watcher = lambda done, total: None,
) -> Moved:
    """Move all copies but the kept ones to a folder, below which they keep their relative paths.

    Args:
        duplicates: the folder that `find_duplicates` wrote.
        move_to: a folder that is new, empty, or of an earlier call; `undo.csv` in it has a line for each move.
        dry_run: check every file, and move none.
        watch: called after each file.

    Raises:
        UsageError: no such folder; `move_to` lies among the images, or holds something else; a system without the
            calls that this takes (Windows).
        MalformedFileError: the record is damaged, or names files outside of the folders that were looked through.
        OutputError: the folder cannot be written; what was moved stays moved, and the same call resumes.
    """
    target, dry_run = local(move_to, "--move-to"), flag("dry_run", dry_run)
    found = read_duplicates(duplicates)
    _check_record(found, Path(duplicates))
    check_system()
    _check_apart(found, target)
    refuse_foreign(target, trashes.KIND.is_ours, trashes.KIND.name, "--move-to")
    if dry_run:
        check_folder(target, trashes.KIND)
        return _Run(found, target, True, watch).run()
    with held(target, trashes.KIND):
        trashes.add_roots(target, found.roots)
        return _Run(found, target, False, watch).run()


# ---- checks of records, which a stranger may have written


def _check_record(found: Duplicates, folder: Path) -> None:
    """Refuse a record that names a file outside of its folders, or one file twice; MalformedFileError."""
    seen: set[tuple[int, str]] = set()
    where = f"{folder / RECORD}"
    for root in found.roots:
        if not os.path.isabs(root) or os.path.realpath(root) != root:  # noqa: PTH117 - text
            raise MalformedFileError(f"{where} names a folder that is a link, or no absolute path: {root[:200]}.")
    for group in found.copies:
        for place in (image.place for image in group.members if image.place is not None):
            if place.root >= len(found.roots) or not is_below(place.path):
                raise MalformedFileError(f"{where} names a file outside of the folders that were looked through.")
            if (place.root, place.path) in seen:
                raise MalformedFileError(f"{where} has the file {place.path[:200]} in two places.")
            seen.add((place.root, place.path))


def _check_apart(found: Duplicates, trash: Path) -> None:
    """Refuse a trash among the images: the next search would find what lies in it."""
    root = _above(found.roots, trash)
    if root is not None:
        raise UsageError(
            f"--move-to {str(trash)!r} lies in {root}, which was looked through: the next search would find it all "
            "again.",
            f"--move-to {typed(apart(found.roots, trash))}",
        )


def apart(roots: Iterable[str], trash: Path) -> Path:
    """A trash outside of all folders that were looked through: this one, or one beside the outermost of them."""
    root = _above(roots, trash)
    return root.with_name(f"{root.name}-trash") if root is not None and root.name else trash


def _above(roots: Iterable[str], trash: Path) -> Path | None:
    """The outermost of the folders in which a trash would lie; None where it lies in none."""
    own = os.path.realpath(trash)
    return next((Path(root) for root in sorted(roots, key=len) if os.path.commonpath([own, root]) == root), None)


# ---- moving


class _Run:
    """One run of `apply_duplicates`."""

    def __init__(self, found: Duplicates, trash: Path, dry_run: bool, watch: Watcher) -> None:
        self.found, self.trash, self.dry_run, self.watch = found, trash, dry_run, watch
        self.moves: list[Move] = []
        self.left: list[Left] = []
        self.bytes = self.earlier = 0
        self.known: dict[str, list[Move]] = {}
        self.planned: set[str] = set()
        for one in trashes.read_moves(trash):
            self.known.setdefault(one.source, []).append(one)

    def run(self) -> Moved:
        """Every group, one after another."""
        total, done = self.found.spares, 0
        for group in self.found.copies:
            self._group(group)
            done += len(group.members) - 1
            self.watch(done, total)
        return Moved(tuple(self.moves), tuple(self.left), self.bytes, self.earlier)

    def _group(self, group: DuplicateGroup) -> None:
        kept = group.kept
        self.left += [Left(image.id, LISTED) for image in group.members[1:] if image.place is None]
        others = [image for image in group.members[1:] if image.place is not None]
        if kept.place is None:  # the others were compared with it, and with nothing else
            self.left += [Left(image.id, f"of the copy to keep, {kept.id}: {LISTED}") for image in others]
            return
        try:
            with self._opened(kept) as (spot, file):
                for image in others:
                    self._one(image, spot, file)
        except (ChangedError, OSError) as error:
            why = f"the copy to keep, {kept.id}, is not as it was: {error}"
            self.left += [Left(image.id, why) for image in others]

    def _one(self, image: DuplicateImage, kept: Spot, kept_file: Verified) -> None:
        try:
            with self._opened(image) as (source, file):
                if file.identity == kept_file.identity:
                    raise ChangedError("it is a second name of the copy to keep (a hard link): it takes no room")
                if not is_as_verified(kept, kept_file):
                    raise ChangedError("the copy to keep was changed meanwhile")
                self._move(image, source, file, kept, kept_file)
                self.bytes += image.bytes
        except ChangedError as error:
            if self._moved_before(image):
                self.earlier += 1
            else:
                self.left.append(Left(image.id, str(error)))
        except OSError as error:
            self.left.append(Left(image.id, f"{error.strerror}"))

    def _move(self, image: DuplicateImage, source: Spot, file: Verified, kept: Spot, kept_file: Verified) -> None:
        place = _place(image)
        folders = place.path.split("/")[:-1]
        if self.dry_run:
            self.moves.append(Move(self._path(place), self._free(place.path), image.sha256))
            return
        with telling_full_disks(self.trash), opened_below(self.trash, folders, make=True) as folder:
            if self._copied_before(image, folder, source, file):
                return
            while True:
                target = self._free(place.path)
                spot = Spot(folder, PurePosixPath(target).name)
                one = Move(self._path(place), target, image.sha256)
                trashes.append(self.trash, one)
                try:
                    move(file, source, spot)
                except FileExistsError:
                    continue  # somebody was faster; the next free name
                break
            if not is_as_verified(kept, kept_file):
                put_back(spot, source)
                raise ChangedError("the copy to keep was changed meanwhile")
            self.moves.append(one)

    def _copied_before(self, image: DuplicateImage, folder: int, source: Spot, file: Verified) -> bool:
        """Finish a move that was killed: a placeholder is removed, and the source of a whole copy too."""
        for one in self.known.get(self._path(_place(image)), ()):
            spot = Spot(folder, PurePosixPath(one.target).name)
            remove_placeholder(spot)
            if whole(spot, one.sha256):
                remove(file, source)
                clear_hidden(folder, one.sha256)
                self.moves.append(one)
                return True
        return False

    def _moved_before(self, image: DuplicateImage) -> bool:
        """Whether an earlier run has moved the file."""
        place = _place(image)
        for one in self.known.get(self._path(place), ()):
            try:
                with opened_below(self.trash, one.target.split("/")[:-1]) as folder:
                    there = whole(Spot(folder, PurePosixPath(one.target).name), one.sha256)
            except OSError:
                continue
            if there and not self.dry_run:
                with suppress(ChangedError), reached(self.found.roots[place.root], place.path.split("/")[:-1]) as home:
                    clear_hidden(home, one.sha256)
            if there:
                return True
        return False

    def _free(self, path: str) -> str:
        """A path below the trash that nothing has: `a/b.jpg`, `a/b-2.jpg`."""
        own, number, target = PurePosixPath(path), 1, path
        if len(own.parts) == 1 and path in (trashes.RECORD, trashes.UNDO):
            number, target = 2, f"{own.stem}-2{own.suffix}"
        while target in self.planned or os.path.lexists(self.trash / target):
            number += 1
            target = str(own.with_name(f"{own.stem}-{number}{own.suffix}"))
        if self.dry_run:
            self.planned.add(target)
        return target

    def _path(self, place: Place) -> str:
        return str(PurePosixPath(self.found.roots[place.root], place.path))

    @contextmanager
    def _opened(self, image: DuplicateImage) -> Iterator[tuple[Spot, Verified]]:
        """The file of an image, if it is what was looked at; else ChangedError."""
        place = _place(image)
        parts = place.path.split("/")
        with reached(self.found.roots[place.root], parts[:-1]) as folder:
            spot = Spot(folder, parts[-1])
            status = spot.status()
            if status is not None and (status.st_size, status.st_mtime_ns) != (image.bytes, place.modified):
                raise ChangedError("it was changed since it was looked at")
            with verified(spot, image.sha256) as file:
                check_image(file)
                yield spot, file


def _place(image: DuplicateImage) -> Place:
    assert image.place is not None  # only such are moved
    return image.place
