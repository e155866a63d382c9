"""`weevit bench --serve`: a server under load."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from weevit.cli import options
from weevit.cli.console import say, say_json, tell

if TYPE_CHECKING:
    from weevit.serve.load import Load

SCHEMA = "weevit.load/1"

_MOST_IMAGES = 500


@dataclass(frozen=True)
class LoadOptions:
    """What a load test was told; the fields are options of the same name."""

    serve: str | None
    clients: int
    requests: int
    images: Path | None
    api_key_file: Path | None
    allow_remote: bool


_LOAD = (
    click.option("--serve", metavar="URL", help="Put this server under load, and measure its answers."),
    click.option("--clients", type=options.Whole(1, 1024), default=32, show_default=True, help="With --serve."),
    click.option("--requests", type=options.Whole(1, 1_000_000), default=1000, show_default=True, help="With --serve."),
    click.option(
        "--images",
        type=click.Path(path_type=Path),
        help="Images to send: a folder, list or archive; made ones by default.",
    ),
    click.option("--api-key-file", type=click.Path(path_type=Path), help="File whose first key is sent."),
    click.option("--allow-remote", is_flag=True, help="Allow a server on another machine."),
)


def load_options(verb: options.Verb) -> options.Verb:
    """Give a verb the options of `LoadOptions`, as one argument called `load`."""
    return options.packed(verb, "load", LoadOptions, _LOAD)


def bench_server(asked: LoadOptions, json_lines: bool) -> int:
    """Measure, and print."""
    from weevit.serve.load import load_test, made_images, parse_target

    key = "" if asked.api_key_file is None else _first_key(asked.api_key_file)
    target = parse_target(asked.serve or "", key, asked.allow_remote)
    images = made_images() if asked.images is None else _read(asked.images)
    if not json_lines:
        kind = "made images" if asked.images is None else f"images of {asked.images}"
        tell(f"{asked.requests:,} requests from {asked.clients} clients, {len(images)} {kind} ...")
    found = load_test(target, images, asked.clients, asked.requests)
    facts = _facts(found)
    if json_lines:
        say_json({"schema": SCHEMA, "date": time.strftime("%Y-%m-%d"), **facts})
    else:
        say(*_table(found))
    return 0 if found.latencies else 1


def _facts(found: Load) -> dict[str, Any]:
    from weevit.store.files import finite

    times = {f"p{share}_ms": round(1000 * found.percentile(share / 100), 2) for share in (50, 90, 99)}
    own = {"clients": found.clients, "seconds": round(found.seconds, 3), "images_per_s": round(found.per_s, 2)}
    return finite({**own, **times, "statuses": dict(found.statuses)})


def _table(found: Load) -> list[str]:
    times = ", ".join(f"p{share} {1000 * found.percentile(share / 100):.1f} ms" for share in (50, 90, 99))
    failed = {status: count for status, count in found.statuses.items() if status != "200"}
    said = ", ".join(f"{count:,} x {status}" for status, count in sorted(failed.items())) or "no errors"
    answers = f"{len(found.latencies):,} answers in {found.seconds:.1f} s · {said}"
    return [f"{found.per_s:.1f} images/s · {times} · {answers}" if found.latencies else answers]


def _first_key(path: Path) -> str:
    from weevit.serve.keys import first_key

    return first_key(path)


def _read(folder: Path) -> list[bytes]:
    from itertools import islice

    from weevit.images.decode import Limits
    from weevit.images.source import bytes_of
    from weevit.images.sources import expand

    return [bytes_of(source, Limits()) for source in islice(expand([str(folder)]), _MOST_IMAGES)]
