"""`weevit search`: the images of an index that are like some images, or show a class."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from weevit.arguments import MAX_THREADS
from weevit.cli import options
from weevit.errors import UsageError

if TYPE_CHECKING:
    from weevit.images.source import Source
    from weevit.search.index import Hit, Index

_MOST, _DEFAULT = 1_000_000, 10


@click.command()
@click.argument("index", type=click.Path(path_type=Path))
@click.argument("images", nargs=-1, metavar="IMAGES...")
@click.option("-k", type=options.Whole(1, _MOST), help=f"Images to find; by default {_DEFAULT}, or all.")
@click.option("--not", "unlike", multiple=True, help="An image that results should not be like; may be repeated.")
@click.option("--class", "name", help="A class of the model's classifier: its name, id or number.")
@click.option(
    "--like", "head", help="With --class: the model whose classifier it is, for instance a run of weevit fit."
)
@click.option("--model", "-m", default="", help="The model of the index, where it lies somewhere else now.")
@click.option("--html", "page", type=options.Output(), help="Write a page with the images: FILE.html.")
@click.option("--threads", type=options.Whole(1, MAX_THREADS), help="Threads to compute with; chosen by default.")
@options.json_lines
@options.quiet
@options.verbose
def search(
    index: Path,
    images: tuple[str, ...],
    k: int | None,
    unlike: tuple[str, ...],
    name: str | None,
    head: str | None,
    model: str,
    page: Path | None,
    threads: int | None,
    json_lines: bool,
    quiet: bool,
) -> int:
    """Search INDEX for images like IMAGES, most similar first.

    `weevit index` makes the INDEX.

    Several IMAGES mean what they have in common. With --class instead of IMAGES: the images of which the classifier
    is surest. Each line has the similarity (the cosine, 1 is equal) or the probability, and the image's name.
    """
    from weevit.cli.answers import read_inputs
    from weevit.cli.console import say, say_json, tell
    from weevit.search.index import open_index
    from weevit.text import one_line

    _check(images, unlike, name, head, index)
    if page is not None:
        from weevit.search.page import check_page, write_page

        check_page(page, index, *images)
    opened = open_index(index, threads=threads)
    if model:
        opened = open_index(index, opened.space.open(model, threads), threads)
    queries = list(read_inputs(images))  # once: stdin may be an image
    others = list(read_inputs(unlike)) if unlike else None
    hits = _found(opened, queries, k, others, name, head)
    if page is not None:
        write_page(page, opened, _asked(images, unlike, name), queries, hits)
    for rank, hit in enumerate(hits, 1):
        if json_lines:
            say_json({"schema": "weevit.search/1", "rank": rank, **hit.to_dict()})
        else:
            say(f"{hit.score:.4f}  {one_line(hit.id)}")
    if not quiet:
        maker = opened.space.maker
        written = f" · written: {page}" if page is not None else ""
        name_of = maker.name if maker else "vectors of an unknown model"
        tell(f"{len(hits):,} of {len(opened):,} images · {name_of}{written}")
    return 0


def _check(images: tuple[str, ...], unlike: tuple[str, ...], name: str | None, head: str | None, index: Path) -> None:
    from weevit.text import typed

    start = f"weevit search {typed(index)}"
    if head is not None and name is None:
        raise UsageError(
            "--like names a classifier, and --class the class to look for.",
            f"{start} --like {typed(head)} --class NAME",
        )
    if bool(images) == (name is not None):
        what = "both were given" if images else "neither was given"
        raise UsageError(f"A search is for IMAGES or for a --class: {what}.", f"{start} QUERY.jpg")
    if unlike and name is not None:
        raise UsageError("--not goes with IMAGES, not with --class.", f"{start} QUERY.jpg --not OTHER.jpg")


def _asked(images: tuple[str, ...], unlike: tuple[str, ...], name: str | None) -> str:
    if name is not None:
        return f"the class {name}"
    return f"like {' and '.join(images)}" + (f", unlike {' and '.join(unlike)}" if unlike else "")


def _found(
    index: Index, queries: list[Source], k: int | None, others: list[Source] | None, name: str | None, head: str | None
) -> list[Hit]:
    count = k or max(1, min(_DEFAULT, len(index)))
    if name is not None:
        return index.search_class(name, count, head)
    return index.search(queries, count, others)
