"""The hits of a search as a page: one file, with the images in it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from urllib.parse import quote

from weevit.engine.ahead import map_ahead
from weevit.images.source import Source
from weevit.reports.grid import TEMPLATE, Group, Item, Section, grid_page
from weevit.reports.page import is_page, require_jinja
from weevit.reports.thumbnails import thumbnail
from weevit.search.index import Hit, Index, image_of
from weevit.store.files import write_file
from weevit.store.outputs import check_file
from weevit.text import counted

SHOWN = 5_000
"""Hits with a thumbnail of about 5 KB each; the page of more would be too large to open."""

_SIZE = 200


def check_page(path: Path, *inputs: object) -> None:
    """Refuse a page that could not be written, before anything is searched; UsageError or OutputError."""
    require_jinja()
    check_file(path, partial(is_page, template=TEMPLATE), "page of weevit search", inputs, "--html", made=True)


def write_page(path: Path, index: Index, asked: str, queries: Sequence[Source], hits: Sequence[Hit]) -> None:
    """Write the page.

    Args:
        path: the page.
        index: what was searched.
        asked: the question, in words.
        queries: its images.
        hits: the answer.

    Raises:
        OutputError: it cannot be written.
        MissingExtraError: jinja2 is not installed.
    """
    base = path.absolute().parent
    shown = hits[:SHOWN]
    found = list(_items([image_of(index, hit.id) for hit in shown], base, index.threads, shown))
    sections = [Section("hits", counted(len(shown), "image"), "The best first.", [Group("", found)])]
    if queries:
        own = list(_items(queries, base, index.threads))
        sections.insert(0, Section("query", "Searched for", "", [Group("", own)]))
    notices = [(f"The first {SHOWN:,} of {len(hits):,} images.", "note")] if len(hits) > SHOWN else []
    title = f"{counted(len(hits), 'image')} of {len(index):,}"
    write_file(path, grid_page("weevit search", title, f"{asked}, in {index.folder}", sections, (), notices))


def _items(sources: Sequence[Source], base: Path, threads: int, hits: Sequence[Hit] = ()) -> Iterator[Item]:
    """Each image with its thumbnail, and for a hit with its rank and score."""
    thumbs = map_ahead(partial(thumbnail, size=_SIZE), iter(sources), threads, 4 * threads, "weevit-thumbs")
    scores = [{hit.measure: f"{hit.score:.3f}", "rank": f"{rank}"} for rank, hit in enumerate(hits, 1)]
    for source, thumb, score in zip(sources, thumbs, scores or [{}] * len(sources), strict=True):
        folder, _, name = source.name.replace("\\", "/").rpartition("/")
        facts = {**score, "folder": folder or "."}
        yield Item(source.name, thumb, name, facts, tuple(score)[:1], _href(source, base))


def _href(source: Source, base: Path) -> str:
    """The address of the file, relative to the page; empty where there is none."""
    if not isinstance(source.value, Path):
        return ""
    try:
        return quote(os.path.relpath(source.value, base).replace(os.sep, "/"))
    except ValueError:  # on another drive
        return ""
