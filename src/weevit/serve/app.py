"""All routes of the server as one ASGI application."""

from __future__ import annotations

from weevit.serve import classify, embeddings, explaining, inference, openapi, operation, page
from weevit.serve.service import Front, Service

PROTOCOLS = (page, operation, classify, embeddings, explaining, inference, openapi)


def application(service: Service) -> Front:
    """The application of a server."""
    return Front(service, [route for protocol in PROTOCOLS for route in protocol.routes(service)])
