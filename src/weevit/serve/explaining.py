"""`POST /v1/explain`: what the answer to an image rests on, as a PNG: the model's input in grey under the heat."""

from __future__ import annotations

import asyncio
import io
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from weevit.errors import ImageError
from weevit.images.source import Source
from weevit.serve.asking import form_of, held, model_of
from weevit.serve.forms import bad
from weevit.serve.models import Models, Served
from weevit.serve.problems import ProblemError, of_image
from weevit.serve.service import Service

SETTINGS = ("model",)


def routes(service: Service) -> list[Route]:
    """The route."""
    one = asyncio.Semaphore(1)  # every block's attention of an image takes tens of megabytes

    async def explain(request: Request) -> Response:
        async with form_of(service, request, SETTINGS) as (models, form):
            served = model_of(models, form, request)
            if len(form.images) > 1:
                raise bad(f"One image is explained at a time; this request has {len(form.images)}.")
            if not served.predictor.checkpoint.num_classes:
                raise ProblemError(400, "no_classes", f"The model {served.name} has no classes.", "POST /v1/embeddings")
            with models.place(1):
                async with held(one, service.bounds.deadline_s):
                    try:
                        png, said = await asyncio.to_thread(_draw, models, served, form.images[0])
                    except ImageError as error:
                        if service.metrics is not None:
                            service.metrics.error(error.kind)
                        raise of_image(error, 0, 1) from None
                    finally:
                        models.computed(1)
        return Response(png, media_type="image/png", headers={"Weevit-Class": quote(said)})

    return [Route("/v1/explain", explain, methods=["POST"])]


def _draw(models: Models, served: Served, source: Source) -> tuple[bytes, str]:
    """The PNG, and the name of the class that it explains."""
    from weevit.explain.draw import overlay  # these take 20 ms of a server's start
    from weevit.explain.relevance import explain_source

    with models.turns.turn():
        found = explain_source(served.predictor, source)
    file = io.BytesIO()
    overlay(found.pixels, found.relevance).save(file, "PNG")
    return file.getvalue(), found.result.top[0].name
