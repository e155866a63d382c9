"""`weevit serve`: a model as a server with a page."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click

from weevit.arguments import within
from weevit.cli import options
from weevit.cli.app import EXIT_INTERRUPTED
from weevit.cli.console import tell

if TYPE_CHECKING:
    from weevit.predict import Predictor

_MEGABYTE = 1 << 20


@click.command()
@click.argument("models", nargs=-1, metavar="[MODELS...]")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at; 0.0.0.0 for all.")
@click.option("--port", type=options.Whole(0, 65535), default=8000, show_default=True, help="Port; 0 for a free one.")
@click.option(
    "--api-key-file", type=click.Path(path_type=Path), help="File with a key per line; requests need one of them."
)
@click.option(
    "--index", type=click.Path(path_type=Path), help="An index of images (weevit index) to search at /v1/search."
)
@click.option("--metrics", is_flag=True, help="Metrics for Prometheus at /metrics.")
@click.option(
    "--allow-urls",
    multiple=True,
    metavar="HOST",
    help="Fetch images in requests from this host (*.HOST for all below it); may be repeated.",
)
@click.option(
    "--allow-host",
    multiple=True,
    metavar="NAME",
    help="Without keys, a server at a loopback address answers only requests for this machine, and for these names.",
)
@click.option(
    "--max-request", type=options.Whole(1, 1024), default=32, show_default=True, help="Megabytes of a request."
)
@click.option("--max-images", type=options.Whole(1, 4096), default=64, show_default=True, help="Images in a request.")
@click.option(
    "--queue",
    type=options.Whole(1, 100_000),
    default=256,
    show_default=True,
    help="Images that may wait; beyond it, requests get 503.",
)
@click.option(
    "--deadline",
    type=float,
    default=60.0,
    show_default=True,
    help="Seconds until images are computed, or 503: at once where the queue is too long for it.",
)
@click.option(
    "--drain",
    type=options.Whole(0, 600),
    default=1,
    show_default=True,
    help="Seconds after SIGTERM in which new requests are still taken, while /readyz says 503.",
)
@click.option("--connections", type=options.Whole(1, 100_000), default=512, show_default=True, help="Open at a time.")
@options.loading_to_serve
@options.quiet
@options.verbose
def serve(models: tuple[str, ...], loading: options.Loading, quiet: bool, **own: Any) -> int:
    """Answer requests with MODELS, and show a page.

    The page is one to drop photos on. The default model answers where none is named.

    /v1/classify, /v1/embeddings (OpenAI), /v2 (Open Inference Protocol), /v1/explain; with --index /v1/search, and a
    page for it at /search; by default with the model of the index. /openapi.json has examples.
    A JSON line for each request is printed to stderr, without content. SIGTERM or Ctrl-C: what is accepted is
    answered, then the server ends.
    """
    from weevit.store.extras import missing

    for module in ("starlette", "uvicorn", "httptools", "python_multipart"):
        if find_spec(module) is None:
            raise missing("serve", f"The server needs {module.replace('_', '-')}, which is not installed.")
    from weevit.cli.answers import loading_of_index
    from weevit.serve.addresses import Addresses
    from weevit.serve.bounds import Bounds
    from weevit.serve.keys import read_keys
    from weevit.serve.metrics import Metrics
    from weevit.serve.names import names_of
    from weevit.serve.place import Place, is_this_machine

    bounds = Bounds(
        max_request=own["max_request"] * _MEGABYTE,
        max_images=own["max_images"],
        queue=own["queue"],
        deadline_s=within("--deadline", own["deadline"], 0.01, 3600),
        connections=own["connections"],
        drain_s=own["drain"],
        bodies=max(8, 2 * own["max_request"]) * 4 * _MEGABYTE,
    )
    if own["index"] is not None and not models:
        from weevit.search.index import open_index

        loading = loading_of_index(open_index(own["index"]).space.recorded(), loading)
        models = (loading.model,)
    named = names_of(models or (options.DEFAULT_MODEL,))
    keys = None if own["api_key_file"] is None else read_keys(own["api_key_file"])
    addresses = Addresses(own["allow_urls"], bounds.max_request)
    metrics = Metrics() if own["metrics"] else None
    listening = Place(own["host"], own["port"]).open()
    with _ctrl_c_ends_at_once():
        loaded = ThreadPoolExecutor(1, "weevit-load").submit(_load_all, named, loading)  # while the server is imported

        from weevit.serve.server import run
        from weevit.serve.service import Service

        write: Callable[[str], None] = (lambda line: None) if quiet else tell
        service = Service(bounds, addresses, keys, metrics, write, index=own["index"])
        host, port = listening.getsockname()[:2]
        if keys is None and is_this_machine(host):
            service.hosts = frozenset(name.lower() for name in (own["host"], *own["allow_host"]))
        elif keys is None:
            tell(f"note: {own['host']} can be reached from other machines, and no key is asked for: --api-key-file key")
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        run(service, listening, loaded.result, lambda: tell(f"ready: {address} · {', '.join(named)}"))
    return 0


@contextmanager
def _ctrl_c_ends_at_once() -> Iterator[None]:
    """Until the server listens for signals itself, Ctrl-C ends the process, which has nothing to save.

    Two threads import at that time. A KeyboardInterrupt in the locks of Python's imports leaves one of them held, and
    both threads wait for ever.
    """
    before = signal.signal(signal.SIGINT, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    del number, frame
    os.write(2, b"\nInterrupted.\n")
    os._exit(EXIT_INTERRUPTED)


def _load_all(named: Mapping[str, str], loading: options.Loading) -> dict[str, Predictor]:
    from weevit.cli.answers import load_model

    return {name: load_model(replace(loading, model=word), quiet=True) for name, word in named.items()}
