"""A path to a data set: folders of classes, a table, or archives."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from weevit.arguments import flag
from weevit.datasets.dataset import ALL, TEST, TRAIN, VALIDATION, Dataset
from weevit.datasets.folders import read_folder
from weevit.datasets.found import SEPARATOR, SPLITS, Found, Labels, assemble, split_of, split_of_file
from weevit.errors import DatasetError, ImageError, UsageError, did_you_mean
from weevit.images.files import File, LocalFile
from weevit.images.source import TARGETS, Source, printable
from weevit.images.sources import containers, expand, names_containers, read_container
from weevit.images.tables import ROW_READERS
from weevit.text import some

SPLIT_COLUMNS = ("split", "subset", "partition", "set")
FLAG_COLUMNS = {
    **dict.fromkeys(("is_valid", "is_val", "is_validation"), (VALIDATION, TRAIN)),
    "is_test": (TEST, TRAIN),
    "is_train": (TRAIN, TEST),
}
"""Column -> the split of a row where it is true, and of a row where no column names another."""

FLAGS = {
    **dict.fromkeys(("true", "1", "1.0", "yes", "t", "y"), True),
    **dict.fromkeys(("false", "0", "0.0", "no", "f", "n"), False),
}
LABELS_COLUMNS = ("labels", "classes", "targets", "tags")


def read_dataset(
    path: str | os.PathLike[str], classes: Sequence[str] | None = None, allow_missing: bool = False
) -> Dataset:
    """Images with classes.

    Args:
        path: a folder with a folder per class, or with `train`, `val` (`validation`, `valid`, `dev`) and `test`, in any
            case, also as in `Training` or `seg_train`, and a folder per class in each; a table (`.csv`, `.tsv`,
            `.parquet`; local or at an address) with columns for path and label, and optionally `split` or fastai's
            `is_valid`; a column `labels` holds any number of labels, with `;` between them or as a list; tars and
            Parquet files with the images themselves, one, a pattern or a folder of them, whose names or folders, or
            folders in a tar, may name splits.
        classes: class names in the order of a model; by default the natural order of `train`, or of the only split.
        allow_missing: whether a split may lack some of the classes. An extra class is always an error.

    Raises:
        DatasetError: nothing there, images without a class, or classes that differ; they are listed with `-` and `+`.
        UsageError: no path, or a table without the columns it needs.
        MissingExtraError: Parquet without pyarrow.
    """
    missing = flag("allow_missing", allow_missing)
    return assemble(find(path), classes, missing)


def find(path: str | os.PathLike[str]) -> Found:
    """The images at a path, before their classes are compared and numbered; DatasetError where there are none."""
    check_there(path)
    word = os.fspath(path)
    found = Found(printable(word))
    try:
        if "://" not in word and os.path.isdir(word):  # noqa: PTH112 - False without permission, not an error
            _read_folder(found, Path(word))
        elif names_containers(word):
            _read_files(found, list(containers(word)))
        else:
            _add(found, expand(word), ALL)
    except ImageError as error:  # an error of the table or archive itself
        raise DatasetError(f"{found.path} cannot be read: {error.message}.") from error
    found.notes += [f"columns of {some(names, 3)} that were not used: {shown}" for shown, names in found.unused.items()]
    _check_inner_splits(found)
    if ALL in found.rows and len(found.rows) > 1:
        source, _ = found.rows[ALL][0]
        raise DatasetError(f"{found.path}: {len(found.rows[ALL]):,} rows have no split, the first is {source.name}.")
    return found


def _read_folder(found: Found, path: Path) -> None:
    own = {file: split or split_of_file(file.name) for split, file in read_folder(path, found)}
    _check_all_or_none(list(own), list(own.values()))
    for file, split in own.items():
        _read_container(found, LocalFile(file), split or ALL)


def _read_files(found: Found, files: Sequence[File]) -> None:
    """Read tables or archives that are one data set."""
    for file, split in zip(files, _splits_of(files), strict=True):
        _read_container(found, file, split or ALL)


def _splits_of(files: Sequence[File]) -> Sequence[str | None]:
    """The split that the name of each file tells, or that of its folder, where these are two or more."""
    paths = [PurePosixPath(file.name) for file in files]
    for told in ([split_of_file(path.name) for path in paths], [split_of(path.parent.name) for path in paths]):
        if len(set(told)) > 1:
            _check_all_or_none(paths, told)
            return told
    return [None] * len(files)


def _check_all_or_none(files: Sequence[object], splits: Sequence[str | None]) -> None:
    if any(splits) and None in splits:
        raise DatasetError(
            f"{files[splits.index(None)]}: its name does not begin with a split's, as the names beside it do.",
            f"Splits are {', '.join(SPLITS)}.",
        )


def check_there(data: object, hint: str = "") -> None:
    """Refuse what is neither a data set nor a path that exists, before a model is fetched for it.

    Args:
        data: what a user gave.
        hint: the next command, in place of the nearest name.

    Raises:
        UsageError: no path, or an empty one.
        DatasetError: nothing of that name; the nearest is named.
    """
    if isinstance(data, Dataset):
        return
    word = os.fspath(data) if isinstance(data, str | os.PathLike) else ""
    if not word:
        given = "an empty text" if isinstance(data, str) else f"something of type {type(data).__name__}"
        raise UsageError(f"Data is one path or pattern, or a Dataset: {given} was given.", "For instance 'photos/'.")
    if "://" in word or any(sign in word for sign in "*?[{") or os.path.lexists(word):
        return
    beside = Path(word).parent
    names = [entry.name for entry in beside.iterdir()] if beside.is_dir() else []
    raise DatasetError(
        f"{printable(word)}: there is nothing of this name.", hint or did_you_mean(Path(word).name, names)
    )


def _read_container(found: Found, file: File, split: str) -> None:
    """Read a table row by row, or an archive as a stream of sources with classes."""
    if PurePosixPath(file.name).suffix.lower() in ROW_READERS:
        _read_table(found, file, split)
    else:
        _add(found, read_container(file, Counter()), split)


def _add(found: Found, sources: Iterable[Source], split: str) -> None:
    for source in sources:
        inner = _split_in_archive(source) if split == ALL else None
        found.inner += inner is not None
        found.add(inner or split, source, None if source.target is None else (source.target,))


def _split_in_archive(source: Source) -> str | None:
    """The split that the first folder in an archive names, as in `x.tar/data/train/1.jpg`."""
    inside = _IN_ARCHIVE.search(source.name)
    folders = inside[1].split("/")[:-1] if inside else []
    return next((split for folder in folders if (split := split_of(folder))), None)


_IN_ARCHIVE = re.compile(r"\.(?:tar|tar\.gz|tgz)/(.*)", re.IGNORECASE)


def _check_inner_splits(found: Found) -> None:
    """Take folders in archives for splits only where there are two or more."""
    if found.inner and len(found.rows) == 1:
        found.rows = {ALL: next(iter(found.rows.values()))}


def _read_table(found: Found, file: File, split: str) -> None:
    ending = PurePosixPath(file.name).suffix.lower()
    columns = [(name,) for name in (*SPLIT_COLUMNS, *FLAG_COLUMNS)]

    def unused(names: Sequence[str]) -> None:
        if names:
            shown = some([printable(name)[:40] for name in names], 20)
            found.unused.setdefault(shown, []).append(printable(file.name))

    for source, values in ROW_READERS[ending](file, *columns, LABELS_COLUMNS, TARGETS, unused=unused):
        if values is None:
            found.unread.append(source)
            continue
        *where, many, one = values
        if many is not None and one is not None and one != "":
            raise DatasetError(
                f"{file.name} has a column for the label of an image, and another one for several labels.",
                f"Rename the one that is not meant: {', '.join(TARGETS)} are for one, and {', '.join(LABELS_COLUMNS)} "
                "for several.",
            )
        labels = _labels(many, one)
        found.multi_label = found.multi_label or isinstance(many, str | list) or isinstance(one, list)
        found.add(_where(file, where) or split, source, labels)


def _where(file: File, cells: Sequence[Any]) -> str | None:
    """The split of a row from its cells, or None; DatasetError where they contradict each other or name no split."""
    words, flags = cells[: len(SPLIT_COLUMNS)], cells[len(SPLIT_COLUMNS) :]
    told = {_split(file, str(cell)) for cell in words if cell is not None}
    others: set[str] = set()
    for (name, (split, other)), cell in zip(FLAG_COLUMNS.items(), flags, strict=True):
        if cell is not None:
            (told if _flag(file, name, cell) else others).add(split if _flag(file, name, cell) else other)
    if len(told) > 1:
        raise DatasetError(f"{file.name}: a row is of two splits, {' and '.join(sorted(told))}.", "Keep one column.")
    return next(iter(told or sorted(others, reverse=True)), None)


def _flag(file: File, name: str, cell: Any) -> bool:
    value = FLAGS.get(str(cell).strip().lower())
    if value is None:
        raise DatasetError(f"{file.name}: {str(cell)[:40]!r} in the column {name!r} is neither true nor false.")
    return value


def _labels(many: Any, one: Any) -> Labels | None:
    """The labels of a row from its cells; an empty tuple is valid where there may be several."""
    if isinstance(many, str):
        return tuple(filter(None, map(str.strip, many.split(SEPARATOR))))
    cell = one if many is None else many
    if isinstance(cell, list):
        return None if None in cell else tuple(filter(None, (str(one).strip() for one in cell)))
    return None if cell is None or not str(cell).strip() else (str(cell),)


def _split(file: File, text: str) -> str:
    split = split_of(text)
    if split is None:
        near = did_you_mean(text, SPLITS)
        raise DatasetError(f"{file.name}: {text!r} is no split; they are {', '.join(SPLITS)}.", near)
    return split
