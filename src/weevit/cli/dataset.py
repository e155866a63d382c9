"""A data set that a verb was given: what was found in it is said before anything is done with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from weevit.cli.console import tell

if TYPE_CHECKING:
    from weevit.datasets.dataset import Dataset


def read_told(path: str, quiet: bool, allow_missing: bool = False, notes: bool = True) -> Dataset:
    """`read_dataset`, with its splits, its classes and what was left out on stderr.

    Args:
        path: as it was given.
        quiet: say nothing.
        allow_missing: as for `read_dataset`.
        notes: whether its notes are said; not where the verb does it in the end.

    Raises:
        DatasetError, UsageError: as `read_dataset`.
    """
    from weevit.datasets.read import read_dataset

    dataset = read_dataset(path, allow_missing=allow_missing)
    if not quiet:
        tell(f"{dataset.path}: {dataset.contents()}")
        for note in dataset.notes if notes else ():
            tell(f"note: {note}")
    return dataset
