"""`weevit data`: the contents of a folder of images, labelled or not, and its faults."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from weevit.cli import options
from weevit.cli.console import EXIT_SOME_FAILED, say, say_json, tell
from weevit.text import counted, kinds, typed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from weevit.checking.results import DataCheck
    from weevit.duplicates.looks import Progress

_EXIT_LEAKS = 1

_UNEQUAL = 1.5
"""Ratio of the largest to the smallest class from which it is reported."""

_SHOWN = 5
"""Findings of a kind that are printed; the page and the list have all of them."""


@click.group()
def data() -> None:
    """Look at images before something is learned from them."""


@data.command()
@click.argument("path")
@options.allow_urls
@options.loading
@click.option("--no-embeddings", is_flag=True, help="Ask no model; labels and crops are then not checked.")
@click.option("--fix-list", type=options.Output(), help="Write the images to remove or check: FILE.csv.")
@click.option("--strict", is_flag=True, help="Exit with 1 if an image is in two splits, with 3 if one is broken.")
@options.output
@options.json_lines
@options.quiet
@options.verbose
def check(
    path: str,
    loading: options.Loading,
    no_embeddings: bool,
    fix_list: Path | None,
    strict: bool,
    output: Path | None,
    json_lines: bool,
    quiet: bool,
) -> int:
    """Check the images at PATH.

    A folder for each class, with or without train/ val/ test/, a table, tars; any images.

    Counts, broken files, the same image twice and in two splits (the same bytes; compressed, scaled or mirrored),
    labels that images like theirs deny; where no image has a class, all but the labels. --output report/ writes a page
    for people (report.html), report.json and fix-list.csv; --output page.html the page alone. No image is ever changed.
    """
    from weevit.checking.check import check_data
    from weevit.checking.saved import check_output
    from weevit.checking.saved import json_lines as finding_lines
    from weevit.cli.progress import watching
    from weevit.datasets.read import check_there
    from weevit.images.decode import Limits

    check_output(output, fix_list, path, loading.model)
    check_there(path)
    own: dict[str, Any] = {"fix_list": fix_list, "embeddings": not no_embeddings, "threads": loading.threads}
    limits = Limits(max_pixels=loading.max_pixels)
    with watching(quiet, _stage) as watch:
        found = check_data(path, _model(loading, no_embeddings, quiet), output, limits=limits, watch=watch, **own)
    if json_lines:
        for values in finding_lines(found):
            say_json(values)
    else:
        say(*_lines(found))
    if not quiet:
        _summary(found, output, fix_list, path)
    if strict and found.leaks:
        return _EXIT_LEAKS
    return EXIT_SOME_FAILED if strict and found.broken else 0


def _model(loading: options.Loading, no_embeddings: bool, quiet: bool) -> Any:
    """The model of the embeddings; not loaded with --no-embeddings."""
    if no_embeddings:
        return loading.model
    from weevit.checking.neighbours import require_sklearn
    from weevit.cli.answers import load_model

    require_sklearn()
    return load_model(loading, quiet)


def _stage(progress: Progress) -> str:
    broken = f" · {progress.broken.total():,} broken ({kinds(progress.broken)})" if progress.broken else ""
    return progress.stage + broken


def _lines(found: DataCheck) -> Iterator[str]:
    """The findings, the most important first, with some of each."""
    yield from _contents(found)
    for difference in found.differences:
        signs = [f"- {name}" for name in difference.missing] + [f"+ {name}" for name in difference.extra]
        yield f"classes of {difference.split} differ: {', '.join(signs)}"
    leaks, inside = found.leaks, [copies for copies in found.copies if not copies.leak]
    yield from _some(f"in two splits: {len(leaks):,}", [_same(copies) for copies in leaks])
    broken = f" ({kinds(found.broken_kinds)})" if found.broken else ""
    yield from _some(f"broken: {len(found.broken):,}{broken}", [f"{one.image.id}: {one.error}" for one in found.broken])
    yield from _some(f"copies within a split: {len(inside):,}", [_same(copies) for copies in inside])
    if found.model and found.classes and not found.multi_label:
        words = [
            f"{one.image.id}: {one.image.label}, or {one.suggestion}? ({one.own:.1%} against {one.suggested:.0%})"
            for one in found.suspects
        ]
        yield from _some(f"labels to look at: {len(found.suspects):,}", words)
    if found.model:
        pairs = [f"{one.first.id} and {one.second.id}" for one in found.alike]
        yield from _some(f"hardly told apart, but no copies: {len(pairs):,}", pairs)
    yield from _some(f"unusual: {len(found.unusual):,}", [f"{one.image.id}: {one.detail}" for one in found.unusual])


def _contents(found: DataCheck) -> Iterator[str]:
    from weevit.datasets.dataset import listed

    counts = Counter(image.split for image in found.images)
    splits = ", ".join(f"{name} {counts[name]:,}" for name in found.counts)
    if found.classes:
        yield f"{counted(len(found.images), 'image')} of {counted(len(found.classes), 'class', 'classes')}: {splits}"
        yield listed(found.classes)
    else:
        yield f"{len(found.images):,} images without labels: {splits}"
    if found.imbalance > _UNEQUAL:
        yield f"the largest class has {found.imbalance:.1f} times as many images as the smallest"
    turned = sum(count for value, count in found.orientations.items() if value != 1)
    formats, modes = (
        ", ".join(f"{name} {count:,}" for name, count in own.most_common()) for own in (found.formats, found.modes)
    )
    yield f"{formats or 'nothing'} · {modes or 'nothing'} · {turned:,} turned by EXIF · {found.bytes / 1e6:,.1f} MB"


def _same(copies: Any) -> str:
    """`train/a/1.jpg = test/a/9.jpg`, with a note on different classes."""
    sign = {"exact": " = ", "near": " ~ ", "mirrored": " ~ mirrored "}[copies.kind]
    return sign.join(image.id for image in copies.members) + ("   (different classes)" if copies.conflict else "")


def _some(title: str, words: list[str]) -> Iterator[str]:
    yield title
    yield from (f"  {word}" for word in words[:_SHOWN])
    if len(words) > _SHOWN:
        yield f"  ... and {len(words) - _SHOWN:,} more"


def _summary(found: DataCheck, output: Path | None, fix_list: Path | None, path: str) -> None:
    for note in found.notes:
        tell(f"note: {note}")
    for text in found.unchecked:
        tell(f"not checked: {text}")
    tell(f"{len(found.images):,} images in {found.seconds:.0f} s")
    written = [str(name) for name in (output, fix_list) if name is not None]
    tell(f"written: {' and '.join(written)}" if written else f"next: weevit data check {typed(path)} -o report")
