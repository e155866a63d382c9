"""Folders of classes: `train/dress/1.jpg`, or `dress/1.jpg` without splits.

- The name of the folder is the class; images in its subfolders belong to it too.
- A folder without an image is not a class: it is left out, and noted.
- Images beside the class folders have no class; they are left out, and noted.
- Names that begin with a dot are left out, and `__MACOSX`.
- A single folder that holds the classes or splits is entered: `images/dress/1.jpg`.
- Where several folders hold the same folders, either level could be the classes: that is an error.
- Links are followed, but not back into the data set: a class would take the images of another.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from weevit.datasets.dataset import ALL
from weevit.datasets.found import FILLERS, Found, class_name, split_of
from weevit.errors import DatasetError, MissingImageError
from weevit.images.formats import EXTENSIONS
from weevit.images.source import Source, natural_key, printable
from weevit.images.sources import CONTAINERS, expand
from weevit.text import some

_MACOS = "__MACOSX"
"""Folder in which a zip made on macOS keeps attributes, beside the folder of the data."""


@dataclass(frozen=True)
class Listing:
    """The names in a folder, in natural order; hidden ones apart."""

    path: Path
    folders: tuple[str, ...]
    files: tuple[str, ...]
    hidden: tuple[str, ...]

    @property
    def containers(self) -> list[Path]:
        """Tables and archives; lists of paths have no classes."""
        names = [name for name in self.files if name.lower().endswith(CONTAINERS)]
        return [self.path / name for name in names if not name.lower().endswith(".txt")]

    @property
    def has_images(self) -> bool:
        """Whether a name in the folder has an image's extension."""
        return any(os.path.splitext(name)[1].lower() in EXTENSIONS for name in self.files)  # noqa: PTH122 - text


def list_folder(path: Path) -> Listing:
    """The names in a folder; DatasetError where it cannot be listed."""
    folders: list[str] = []
    files: list[str] = []
    hidden: list[str] = []
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                shown = not entry.name.startswith(".") and entry.name != _MACOS
                kind = hidden if not shown else folders if Path(entry.path).is_dir() else files
                kind.append(entry.name)
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror or error}.") from error
    return Listing(path, *(tuple(sorted(names, key=natural_key)) for names in (folders, files, hidden)))


def unwrapped(found: Found, listing: Listing, split: str = ALL) -> Listing:
    """The listing of the only folder in a folder, as long as that one holds folders or containers.

    Args:
        found: gets a note.
        listing: the listing of the folder.
        split: the folder's split; with `ALL`, a folder with the name of a split is not entered.
    """
    top = listing
    while len(listing.folders) == 1 and not listing.containers and not listing.has_images:
        name = listing.folders[0]
        stays = _leads_up(listing.path, name) or (split == ALL and split_of(name))
        below = None if stays else list_folder(listing.path / name)
        if below is None or below.has_images or not (below.folders or below.containers):
            break
        listing = below
    several = len(listing.folders) > 1 or listing.containers or split_of(listing.path.name) or split_folders(listing)
    if not several:
        return top  # one class
    if listing is not top:
        _note_beside(found, top)
        found.notes.append(f"{printable(top.path)} has one folder: read from {printable(listing.path)}")
    return listing


def split_folders(top: Listing) -> dict[str, Listing]:
    """Split -> its folder; empty where the folders of the listing are classes.

    A folder is a split if it has the name of one and holds folders, tables or archives: a class may be called `train`.
    Two folders of one split raise a DatasetError.
    """
    splits: dict[str, Listing] = {}
    for name in top.folders:
        split = None if _leads_up(top.path, name) else split_of(name)
        if split and (below := list_folder(top.path / name)).folders + tuple(below.containers):
            if split in splits:
                raise DatasetError(f"{splits[split].path} and {top.path / name} are both the split {split!r}.")
            splits[split] = below
    return splits


def read_classes(found: Found, split: str, listing: Listing) -> None:
    """Add the images of all class folders in a folder."""
    _note_beside(found, listing)
    below: dict[str, frozenset[str]] = {}
    for name in listing.folders:
        if _leads_up(listing.path, name):
            found.notes.append(f"{printable(listing.path / name)} leads back to where it lies; left out")
        else:
            below[name] = _read_class(found, split, listing.path / name)
    _check_one_reading(listing.path, below)


def _check_one_reading(path: Path, below: dict[str, frozenset[str]]) -> None:
    """Refuse folders that could be classes where the same folders in them could be too: `fold_0/hat`, `fold_1/hat`.

    Args:
        path: the folder that holds them.
        below: folder -> its subfolders with images; empty for a folder with images of its own.
    """
    times = Counter(name for inside in below.values() for name in inside if name.lower() not in FILLERS)
    shared = tuple(name for name, count in times.items() if count > 1)
    if not shared:
        return
    above = [name for name, inside in below.items() if inside & set(shared)]
    every = sorted({name for inside in below.values() for name in inside}, key=natural_key)
    raise DatasetError(
        f"{printable(path)} can be read in two ways: {_some(above)} all have the folders "
        f"{_some(sorted(shared, key=natural_key))} in them.\n"
        f"  either the classes are {_some(list(below))}\n"
        f"  or the classes are {_some(every)}, and the folders above them are parts of the data",
        "For the first, put the images of each class into one folder. For the second, call the parts train, validation "
        "and test, or give one of them. A table with the columns path and label can say either.",
    )


def note_others(found: Found, top: Listing, splits: dict[str, Listing]) -> None:
    """Note the folders and files beside the splits."""
    used = {listing.path.name for listing in splits.values()}
    others = [name for name in top.folders if name not in used]
    if others:
        found.notes.append(f"folders beside the splits, left out: {_some(others)}")
    _note_beside(found, top)


def _note_beside(found: Found, listing: Listing) -> None:
    where = printable(listing.path)
    if listing.files:
        endings = Counter(os.path.splitext(name)[1].lower() for name in listing.files)  # noqa: PTH122 - text
        found.notes.append(f"files in no class folder of {where}, left out: {_counts(endings)}")
    _note_hidden(found, listing)


def _note_hidden(found: Found, listing: Listing) -> None:
    if listing.hidden:
        found.notes.append(f"hidden in {printable(listing.path)}, left out: {_some(listing.hidden)}")


def _read_class(found: Found, split: str, folder: Path) -> frozenset[str]:
    """Add the images of a class; returns its subfolders that hold all of them."""
    name = class_name(folder.name)
    walk = expand(folder)
    own = _Own(folder, Path(found.path))
    count = 0
    for source in walk:
        if source.name == printable(folder) and isinstance(source.value, MissingImageError):
            continue  # as an empty folder gives
        if own.holds(source):
            found.add(split, source, (name,))
            count += 1
    if not count:
        found.empty.append((split, name))
        found.notes.append(f"no image in {printable(folder)}: an empty folder is no class")
    if walk.left_out:
        found.notes.append(f"no images by their endings, in {printable(folder)}: {_counts(walk.left_out)}")
    if own.left_out:
        found.notes.append(f"links in {printable(folder)} lead back into the data set; not followed: {own.left_out}")
    if count and folder.is_dir():
        _note_hidden(found, _listed_or_empty(folder))
    return own.folders()


def _listed_or_empty(folder: Path) -> Listing:
    try:
        return list_folder(folder)
    except DatasetError:  # the walk lists it: an unreadable image
        return Listing(folder, (), (), ())


class _Own:
    """Decides which images below a class folder belong to it.

    Attributes:
        left_out: number of linked folders that lead to the images of other classes, or into a loop.
        direct: whether an image lies in the folder itself.
    """

    def __init__(self, folder: Path, top: Path) -> None:
        self._real, self._top = os.path.realpath(folder), os.path.realpath(top)
        self._known = {str(folder): True}
        self._folder = str(folder)
        self.left_out = 0
        self.direct = False

    def holds(self, source: Source) -> bool:
        """Whether no link on the path to the image leads back into the data set."""
        if not isinstance(source.value, str):
            return True
        where = os.path.dirname(source.value)  # noqa: PTH120 - text, once for each image
        self.direct = self.direct or where == self._folder
        return self._holds_folder(where)

    def folders(self) -> frozenset[str]:
        """The subfolders that lead to images; empty where the folder has images of its own."""
        if self.direct:
            return frozenset()
        start = len(self._folder.rstrip(os.sep)) + 1
        own = (known[start:].partition(os.sep)[0] for known, holds in self._known.items() if holds)
        return frozenset(filter(None, own))

    def _holds_folder(self, folder: str) -> bool:
        if folder not in self._known:
            above = self._holds_folder(os.path.dirname(folder))  # noqa: PTH120 - text, once for each image
            real = os.path.realpath(folder) if above and os.path.islink(folder) else ""  # noqa: PTH114
            inside = _is_below(real, self._top) and not _is_below(real, self._real)
            back = bool(real) and (inside or _is_below(self._real, real))
            self.left_out += back
            self._known[folder] = above and not back
        return self._known[folder]


def _leads_up(folder: Path, name: str) -> bool:
    """Whether a name in a folder is a link to this folder or to a parent."""
    return _is_below(os.path.realpath(folder), os.path.realpath(folder / name))


def _is_below(path: str, folder: str) -> bool:
    """Whether a resolved path is the folder or lies in it."""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _some(names: tuple[str, ...] | list[str]) -> str:
    return some([printable(name) for name in names], 5)


def _counts(endings: Counter[str]) -> str:
    return ", ".join(f"{count:,} {ending or 'without ending'}" for ending, count in endings.most_common())


def read_folder(path: Path, found: Found) -> Iterator[tuple[str | None, Path]]:
    """Add the images of a folder of classes or of splits; DatasetError where it cannot be listed.

    Yields:
        (split or None, path) of each table or archive that lies there in place of class folders.
    """
    top = unwrapped(found, list_folder(path))
    splits = split_folders(top)
    if splits:
        note_others(found, top, splits)
    elif top.folders and all(map(split_of, top.folders)):
        found.flat = f"{path}: no folder in {_some(top.folders)}, where one for each class should be."
        return
    for split, listing in (splits or {ALL: top}).items():
        listing = unwrapped(found, listing, split)
        if listing.folders or not listing.containers:
            read_classes(found, split, listing)
        else:
            yield from ((None if split == ALL else split, container) for container in listing.containers)
