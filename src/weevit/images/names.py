"""Ids of inputs: every input has one, and all differ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import replace

from weevit.images.source import Source


def id_hash(text: str) -> int:
    """A 64-bit hash of a text, constant within this process."""
    return hash(text) & 0xFFFF_FFFF_FFFF_FFFF


class Names:
    """Makes names unique: the second input of a name becomes `name#2`, the third `name#3`.

    Only hashes are kept, about 100 bytes per name; two names with one hash (2^-64 per pair) would be numbered
    needlessly.

    Args:
        only: hashes of the names to look at: all other names are known to be unique. None looks at every name.

    Attributes:
        made: hashes of the longer names.
    """

    def __init__(self, only: Set[int] | None = None) -> None:
        self._only = only
        self._seen: set[int] = set()
        self._counts: dict[int, int] = {}
        self.made: set[int] = set()

    def unique(self, sources: Iterable[Source]) -> Iterator[Source]:
        """The sources, duplicates under a longer name."""
        for source in sources:
            first = key = id_hash(source.name)
            if self._only is not None and key not in self._only:
                yield source
                continue
            name, count = source.name, self._counts.get(first, 1)
            while key in self._seen:
                count += 1
                name = f"{source.name}#{count}"
                key = id_hash(name)
            self._seen.add(key)
            if key != first:
                self._counts[first] = count
                self.made.add(key)
                source = replace(source, name=name)
            yield source


def ids_of(sources: Sequence[Source], root: str) -> list[str]:
    """A name for each image, relative to the data's folder; duplicates get `#2`."""
    start = root.rstrip("/\\")
    shorter = [replace(source, name=_below(source.name, start)) for source in sources]
    return [source.name for source in Names().unique(shorter)]


def _below(name: str, start: str) -> str:
    inside = bool(start) and name.startswith(start) and name[len(start) : len(start) + 1] in ("/", "\\")
    return name[len(start) + 1 :] if inside else name
