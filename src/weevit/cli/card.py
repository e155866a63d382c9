"""`weevit bench --search`: how well models find your images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import click

from weevit.cli import options
from weevit.cli.console import say, say_json

if TYPE_CHECKING:
    from weevit.search.card import Card

SCHEMA = "weevit.search-card/1"

search_option = click.option(
    "--search", "labelled", metavar="DATA", help="Measure how well each MODEL finds images of the same class in DATA."
)


def bench_search(data: str, models: Sequence[str], threads: int | None, json_lines: bool) -> int:
    """Measure, and print a row per model."""
    from weevit.cli.progress import counted_progress
    from weevit.datasets.read import check_there, read_dataset
    from weevit.predict import load
    from weevit.search.card import measure_search
    from weevit.zoo.resolve import resolve

    check_there(data)
    dataset = read_dataset(data, allow_missing=True)
    cards, models = [], models or (options.DEFAULT_MODEL,)
    for model in models:
        resolve(model)  # before the first is measured, whose figures would be lost
    for model in models:
        predictor = load(model, threads=threads)
        with counted_progress(json_lines) as moved:
            watch = partial(_told, moved, predictor.checkpoint.name)
            cards.append(measure_search(dataset, predictor, watch=watch))
        if json_lines:
            say_json({"schema": SCHEMA, **cards[-1].to_dict()})
    if not json_lines:
        say(*_table(cards))
    return 0


def _told(moved: Callable[[int, int, str], None], name: str, done: int, total: int) -> None:
    moved(done, total, name)


def _table(cards: Sequence[Card]) -> Iterator[str]:
    first = cards[0]
    failed = f", {first.failed:,} unreadable" if first.failed else ""
    yield f"{first.images:,} images of {first.classes:,} classes{failed}; {first.queries:,} of them searched for"
    yield f"{'mAP':>6} {'recall@1':>9} {'@5':>6} {'@10':>6} {'images/s':>9} {'query ms':>9} {'bytes/image':>12}  model"
    for card in sorted(cards, key=lambda one: -one.map):
        recall = f"{card.recall[1]:>9.3f} {card.recall[5]:>6.3f} {card.recall[10]:>6.3f}"
        cost = f"{card.images_per_s:>9.1f} {card.search_ms:>9.2f} {card.bytes_per_image:>12,.0f}"
        yield f"{card.map:>6.3f} {recall} {cost}  {card.model}"
    if first.peak_mb is not None:
        yield f"peak memory of the process: {max(card.peak_mb or 0 for card in cards):,.0f} MB"
