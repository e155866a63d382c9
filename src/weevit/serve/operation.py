"""Routes for those who run the server: alive, ready, metrics, the list of models."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from weevit._version import __version__
from weevit.predict import Predictor
from weevit.serve.problems import ProblemError
from weevit.serve.service import Service
from weevit.text import json_line


def routes(service: Service) -> list[Route]:
    """The routes."""

    async def healthz(request: Request) -> Response:
        del request
        return PlainTextResponse("ok\n")

    async def readyz(request: Request) -> Response:
        del request
        if not service.ready:
            why = "draining" if service.draining else "starting"
            raise ProblemError(503, why, f"The server is {why}.", headers={"Retry-After": "1"})
        return PlainTextResponse("ready\n")

    async def models(request: Request) -> Response:
        del request
        own = [_model(one.name, one.predictor) for one in service.loaded()]
        answer: dict[str, object] = {"object": "list", "data": own}
        if service.found is not None:
            answer["index"] = {"images": len(service.found.current()), "model": service.found.model}
        return Response(json_line(answer), media_type="application/json")

    async def metrics(request: Request) -> Response:
        del request
        assert service.metrics is not None  # the route is there only then
        service.metrics.queue.set(service.models.waiting if service.models else 0)
        return Response(service.metrics.text(), media_type=service.metrics.media_type)

    own = [
        Route("/healthz", healthz, methods=["GET"]),
        Route("/readyz", readyz, methods=["GET"]),
        Route("/v1/models", models, methods=["GET"]),
    ]
    return [*own, Route("/metrics", metrics, methods=["GET"])] if service.metrics is not None else own


def _model(name: str, predictor: Predictor) -> dict[str, object]:
    checkpoint, seen = predictor.checkpoint, predictor.preprocessing
    return {
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": "weevit",
        "tag": checkpoint.name,
        "classes": checkpoint.num_classes,
        "embedding": checkpoint.architecture.embed_dim,
        "height": seen.height,
        "width": seen.width,
        "version": __version__,
    }
