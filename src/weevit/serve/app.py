"""All routes of the server as one ASGI application."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from weevit.predict import load
from weevit.serve import classify, embeddings, explaining, inference, openapi, operation, page
from weevit.serve.addresses import Addresses
from weevit.serve.bounds import Bounds
from weevit.serve.first import first_answers
from weevit.serve.keys import Keys
from weevit.serve.metrics import Metrics
from weevit.serve.names import names_of
from weevit.serve.service import Front, Service
from weevit.store.home import given_path
from weevit.zoo.weights import DEFAULT_MODEL

PROTOCOLS = (page, operation, classify, embeddings, explaining, inference, openapi)


def asgi(
    *models: str | Path,
    threads: int | None = None,
    keys: Sequence[str] = (),
    allow_urls: Sequence[str] = (),
    bounds: Bounds | None = None,
    metrics: bool = False,
    index: str | os.PathLike[str] | None = None,
) -> Front:
    """The application of `weevit serve`, loaded and ready, for other servers: Ray Serve, KServe, gunicorn.

    The limits of connections and of a request's head are those of the server that runs it.

    Args:
        models: as for `weevit.load`; the default model where none is named.
        threads: to compute with; chosen by default.
        keys: API keys, one of which requests need; none by default.
        allow_urls: hosts that images may be fetched from.
        bounds: limits of requests.
        metrics: keep metrics at /metrics.
        index: folder of an index that is searched, of the embedding space of one of the models.

    Raises:
        UsageError: no name or path of a model, invalid keys or hosts.
        WeevitError: a model cannot be loaded, or does not answer; no model has the embedding space of the index.
    """
    own = bounds or Bounds()
    kept = Metrics() if metrics else None
    service = Service(own, Addresses(allow_urls, own.max_request), Keys(keys) if keys else None, kept, _to_stderr)
    service.index = None if index is None else given_path("index", index)
    named = names_of(models or (DEFAULT_MODEL,))
    service.models = first_answers(service, {name: load(word, threads=threads) for name, word in named.items()})
    return application(service)


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def application(service: Service) -> Front:
    """The application of a server."""
    found = [route for protocol in PROTOCOLS for route in protocol.routes(service)]
    if service.index is not None:
        from weevit.serve import search  # what it imports takes a moment of every start

        found += search.routes(service)
    return Front(service, found)
