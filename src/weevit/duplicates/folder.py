"""Duplicates as a folder: a page with thumbnails for people, tables, and the record that `dedup apply` reads.

The record is written last, so that a folder with one is whole.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from weevit.duplicates.groups import COLUMNS, DuplicateGroup, DuplicateImage, Duplicates, rows
from weevit.engine.ahead import map_ahead
from weevit.errors import ImageError, MalformedFileError, UsageError
from weevit.images.decode import Limits
from weevit.images.source import Source, open_image
from weevit.reports.grid import TEMPLATE, Group, Item, Section, grid_page
from weevit.reports.page import is_page, number, require_jinja
from weevit.reports.thumbnails import jpeg
from weevit.store.files import replacing_folder
from weevit.store.folder import FAILURE_COLUMNS, FAILURES, Kind, check_folder, held
from weevit.store.home import given_path
from weevit.store.outputs import first_line, local
from weevit.text import counted, csv_bytes, csv_row, typed
from weevit.zoo.records import read_record_file

SCHEMA = "weevit.duplicates/1"
RECORD, PAGE, COPIES, MOMENTS, THUMBS = "duplicates.json", "report.html", "copies.csv", "moments.csv", "thumbs"

MAX_RECORD_BYTES = 1 << 30
"""A million images in groups have about 0.5 GB."""

SHOWN = 5000
"""Images on the page at most, copies first; the tables have all."""

_SIZE = 288
"""Longer side of a thumbnail in pixels."""

_THUMB = re.compile(r"\d{5}\.jpg")


def _has(columns: Sequence[str]) -> Any:
    return lambda path: first_line(path) == csv_row(columns).rstrip()


def _our_thumbs(path: Path) -> bool:
    return path.is_dir() and all(_THUMB.fullmatch(name) for name in os.listdir(path))  # noqa: PTH208 - names


KIND = Kind(
    "list of duplicates",
    RECORD,
    (SCHEMA.partition("/")[0],),
    dict.fromkeys(("", THUMBS), ("*",)),
    {
        PAGE: lambda path: is_page(path, TEMPLATE),
        COPIES: _has(COLUMNS),
        MOMENTS: _has(COLUMNS),
        FAILURES: _has(FAILURE_COLUMNS),
        THUMBS: _our_thumbs,
    },
)


def check_output(output: str | Path | None, inputs: Iterable[object]) -> None:
    """Refuse an output that could not be written, or would destroy something, before anything is read.

    Raises:
        UsageError, OutputError: as `weevit.store.folder.check_folder`.
        MissingExtraError: jinja2 or filelock is not installed.
    """
    if output is not None:
        require_jinja()
        check_folder(local(output), KIND, inputs)


@contextmanager
def writing_duplicates(output: str | Path | None, inputs: Iterable[object]) -> Iterator[Path | None]:
    """Check as `check_output`, with its errors, and hold the folder, which is given, while the block runs."""
    check_output(output, inputs)
    folder = None if output is None else local(output)
    with nullcontext() if folder is None else held(folder, KIND, inputs):
        yield folder


def write_duplicates(
    found: Duplicates, folder: Path | None, sources: Mapping[str, Source], threads: int, limits: Limits
) -> None:
    """Write the folder; OutputError where the disk does not take it.

    Args:
        found: what was found.
        folder: None for none.
        sources: name -> image, of all images in groups.
        threads: threads that make thumbnails.
        limits: the largest file and image to decode.
    """
    if folder is None:
        return
    shown = list(_first(found, SHOWN))
    with KIND.writing(folder):
        (folder / RECORD).unlink(missing_ok=True)  # what stood there is no longer whole
        with replacing_folder(folder / THUMBS) as thumbs:
            own = [sources[image.id] for group in shown for image in group.members]
            made = _thumbnails(thumbs, own, threads, limits)
    KIND.write(folder, COPIES, csv_bytes(COLUMNS, rows(found.copies)))
    KIND.write(folder, MOMENTS, csv_bytes(COLUMNS, rows(found.moments)))
    KIND.write_failures(folder, ((one.input, None, one.status, one.error) for one in found.failures))
    KIND.write(folder, PAGE, _page(found, folder, shown, made))
    KIND.write(folder, RECORD, {"schema": SCHEMA, **asdict(found)})


def read_duplicates(folder: str | Path) -> Duplicates:
    """The record of a folder.

    Raises:
        UsageError: there is no such folder.
        MalformedFileError: its record is damaged, or not weevit's.
    """
    path = given_path("duplicates", folder)
    if not os.path.lexists(path / RECORD):
        new = "dup" if os.path.lexists(path) else path  # what is there may be the images
        raise UsageError(f"{path} holds no list of duplicates ({RECORD}).", f"weevit dedup photos -o {typed(new)}")
    try:
        return read_record_file(Duplicates, path / RECORD, SCHEMA, MAX_RECORD_BYTES)
    except MalformedFileError as error:
        raise MalformedFileError(error.message, f"Make it again: weevit dedup photos -o {typed(path)}") from None


def _first(found: Duplicates, most: int) -> Iterator[DuplicateGroup]:
    """The first groups, of at most that many images."""
    for group in (*found.copies, *found.moments):
        most -= len(group.members)
        if most < 0:
            return
        yield group


def _thumbnails(folder: Path, sources: Iterable[Source], threads: int, limits: Limits) -> list[str | None]:
    """Write a thumbnail of each image; their names, None for an image that is gone."""
    names: list[str | None] = []
    make = partial(_thumbnail, limits=limits)
    for place, data in enumerate(map_ahead(make, iter(sources), threads, 4 * threads, "weevit-thumbs")):
        name = f"{place:05d}.jpg"
        if data is not None:
            (folder / name).write_bytes(data)
        names.append(None if data is None else f"{THUMBS}/{name}")
    return names


def _thumbnail(source: Source, limits: Limits) -> bytes | None:
    try:
        image = open_image(source, limits, lambda full: (min(full[0], 2 * _SIZE), min(full[1], 2 * _SIZE)))
    except ImageError:
        return None
    return jpeg(image, _SIZE)


# ---- the page


def _page(found: Duplicates, folder: Path, shown: Sequence[DuplicateGroup], thumbs: Sequence[str | None]) -> str:
    images = iter(thumbs)
    base = os.path.abspath(folder)  # noqa: PTH100 - text
    cells = [Group(group.why, [_item(found, one, next(images), base) for one in group.members]) for group in shown]
    cut = min(len(found.copies), len(shown))
    sections = [
        Section("copies", "Copies", "Certain. The first of each group is kept.", cells[:cut]),
        Section(
            "moments", "To look at", "No copies: the same moment, or one thing twice. Nothing is moved.", cells[cut:]
        ),
    ]
    return grid_page(
        "weevit dedup",
        f"{counted(len(found.copies), 'group')} of copies",
        f"{counted(found.images, 'image')} in {', '.join(found.roots[:3]) or 'memory'}",
        [section for section in sections if section.groups],
        _tiles(found),
        _notices(found, len(shown)),
    )


def _tiles(found: Duplicates) -> list[dict[str, str]]:
    return [
        {"name": "images", "value": number(found.images)},
        {"name": "can go", "value": number(found.spares), "note": f"{size(found.spare)} in copies"},
        {"name": "to look at", "value": number(len(found.moments)), "note": "groups"},
        {"name": "not read", "value": number(len(found.failures)), "note": f"listed in {FAILURES}"},
    ]


def _notices(found: Duplicates, shown: int) -> list[tuple[str, str]]:
    notices = [(f"Not looked for: {text}.", "note") for text in found.unchecked]
    if not found.copies and not found.moments:
        notices.append(("No image is there twice.", "good"))
    total = len(found.copies) + len(found.moments)
    if shown < total:
        notices.append((f"The first {shown:,} of {total:,} groups; {COPIES} and {MOMENTS} have all.", "note"))
    return notices


def _item(found: Duplicates, image: DuplicateImage, thumb: str | None, base: str) -> Item:
    kept, certain = not image.kind, image.kind in _WORDS
    facts = {
        "what": "kept" if kept and not certain else _WORDS.get(image.kind, image.kind),
        "pixels": f"{image.width} × {image.height}",
        "bytes": size(image.bytes),
        "format": image.format,
        "taken": image.taken or "no EXIF time",
        "folder": os.path.dirname(image.id) or ".",  # noqa: PTH120 - a name, not always a path
    }
    lines = ("what", "pixels", "bytes")
    name = re.split(r"[/\\]", image.id)[-1]
    return Item(image.id, thumb, name, facts, lines, _href(found, image, base), spare=certain)


_WORDS = {"exact": "same bytes", "near": "copy", "mirrored": "mirrored", "cropped": "a part"}


def _href(found: Duplicates, image: DuplicateImage, base: str) -> str:
    """The address of the file, relative to the page."""
    if image.place is None:
        return ""
    try:
        path = os.path.relpath(f"{found.roots[image.place.root]}/{image.place.path}", os.path.realpath(base))
    except ValueError:  # on another drive
        return ""
    return quote(path.replace(os.sep, "/"))


def size(count: int) -> str:
    """Bytes for people: `3.4 MB`."""
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count / 1e3:,.1f} kB"
