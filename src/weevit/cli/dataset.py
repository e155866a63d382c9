"""Reading a verb's data set, with its contents on stderr."""

from __future__ import annotations

from typing import TYPE_CHECKING

from weevit.cli.console import tell

if TYPE_CHECKING:
    from weevit.datasets.dataset import Dataset


def read_told(path: str, quiet: bool, allow_missing: bool = False, notes: bool = True) -> Dataset:
    """`read_dataset`, with its splits, classes and (unless the verb prints them itself) notes on stderr."""
    from weevit.datasets.read import read_dataset

    dataset = read_dataset(path, allow_missing=allow_missing)
    if not quiet:
        tell(f"{dataset.path}: {dataset.contents()}")
        for note in dataset.notes if notes else ():
            tell(f"note: {note}")
    return dataset
