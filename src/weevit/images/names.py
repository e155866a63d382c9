"""Ids of inputs: every input has one, and all differ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from weevit.images.source import Source


def id_hash(text: str) -> int:
    """A 64-bit hash of a text, constant within this process."""
    return hash(text) & 0xFFFF_FFFF_FFFF_FFFF


class Names:
    """Makes names unique: the second input of a name becomes `name#2`, the third `name#3`.

    Only hashes are kept, about 100 bytes per input; two names with one hash (2^-64 per pair) would be numbered
    needlessly.

    Attributes:
        seen: the hash of every name so far.
        renamed: index of an input -> its longer name.
    """

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self.renamed: dict[int, str] = {}

    def unique(self, sources: Iterable[Source]) -> Iterator[Source]:
        """The sources, duplicates under a longer name."""
        for position, source in enumerate(sources):
            name, count = source.name, 1
            while (key := id_hash(name)) in self.seen:
                count += 1
                name = f"{source.name}#{count}"
            self.seen.add(key)
            if count > 1:
                self.renamed[position] = name
                source = replace(source, name=name)
            yield source


def rename(sources: Iterable[Source], renamed: dict[int, str]) -> Iterator[Source]:
    """The sources as `Names.unique` gave them, on a second reading; hashes are not needed."""
    for position, source in enumerate(sources):
        yield replace(source, name=renamed[position]) if position in renamed else source


def ids_of(sources: Sequence[Source], root: str) -> list[str]:
    """A name for each image, relative to the data's folder; duplicates get `#2`."""
    start = root.rstrip("/\\")
    shorter = [replace(source, name=_below(source.name, start)) for source in sources]
    return [source.name for source in Names().unique(shorter)]


def _below(name: str, start: str) -> str:
    inside = bool(start) and name.startswith(start) and name[len(start) : len(start) + 1] in ("/", "\\")
    return name[len(start) + 1 :] if inside else name
