"""`weevit serve`: a model as a server with a page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from weevit.cli import options
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
@click.option("--metrics", is_flag=True, help="Metrics for Prometheus at /metrics.")
@click.option(
    "--allow-urls",
    multiple=True,
    metavar="HOST",
    help="Fetch images in requests from this host (*.HOST for all below it); may be repeated.",
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
@click.option("--connections", type=options.Whole(1, 100_000), default=512, show_default=True, help="Open at a time.")
@options.loading_to_serve
@options.quiet
@options.verbose
def serve(models: tuple[str, ...], loading: options.Loading, quiet: bool, **own: Any) -> int:
    """Answer requests with MODELS, and show a page to drop photos on; the default model where none is named.

    /v1/classify, /v1/embeddings (OpenAI), /v2 (Open Inference Protocol), /v1/explain; /openapi.json has examples.
    A JSON line for each request is printed to stderr, without content. SIGTERM or Ctrl-C: what is accepted is
    answered, then the server ends.
    """
    from weevit.store.extras import needed

    for module in ("starlette", "uvicorn", "httptools", "python_multipart"):
        needed(module, "serve", f"The server needs {module.replace('_', '-')}, which is not installed.")
    from weevit.serve.addresses import Addresses
    from weevit.serve.bounds import Bounds
    from weevit.serve.keys import read_keys
    from weevit.serve.metrics import Metrics
    from weevit.serve.models import names_of
    from weevit.serve.server import Place, run
    from weevit.serve.service import Service

    bounds = Bounds(
        max_request=own["max_request"] * _MEGABYTE,
        max_images=own["max_images"],
        queue=own["queue"],
        connections=own["connections"],
        bodies=max(8, 2 * own["max_request"]) * 4 * _MEGABYTE,
    )
    named = names_of(models or (options.DEFAULT_MODEL,))
    key_file = own["api_key_file"]
    service = Service(
        bounds,
        Addresses(own["allow_urls"], bounds.max_request),
        keys=None if key_file is None else read_keys(key_file),
        metrics=Metrics() if own["metrics"] else None,
        write=(lambda line: None) if quiet else tell,
    )
    listening = Place(own["host"], own["port"]).open()
    host, port = listening.getsockname()[:2]
    if own["host"] not in ("127.0.0.1", "::1", "localhost") and service.keys is None:
        tell(f"note: {own['host']} can be reached from other machines, and no key is asked for: --api-key-file key")

    def load() -> Mapping[str, Predictor]:
        return {name: _load(word, loading) for name, word in named.items()}

    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    run(service, listening, load, lambda: tell(f"ready: {address} · {', '.join(named)}"))
    return 0


def _load(model: str, loading: options.Loading) -> Predictor:
    from dataclasses import replace

    from weevit.cli.answers import load_model

    return load_model(replace(loading, model=model), quiet=True)
