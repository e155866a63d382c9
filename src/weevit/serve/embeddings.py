"""`POST /v1/embeddings`, as OpenAI's clients send it, with images where they have text.

`input` is a data URI, an object `{"type": "image_url", "image_url": {"url": "data:..."}}`, or a list of those. An image
without an answer fails the request, since the protocol has no place for it: the problem names its index.
"""

from __future__ import annotations

import base64
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from weevit.answers.columns import Column, embedding_column, plain
from weevit.answers.results import Result
from weevit.errors import NotFiniteError
from weevit.serve.asking import answers_of, model_of, note, refuse_in_address, refuse_unknown
from weevit.serve.classify import raise_failures
from weevit.serve.forms import Form, bad, json_object, read_images
from weevit.serve.problems import of_image
from weevit.serve.service import Service
from weevit.text import json_line

SETTINGS = ("model", "input", "encoding_format", "dimensions", "normalize", "user")

EXAMPLE = 'For instance {"model": "tiny", "input": ["data:image/jpeg;base64,..."]}.'


def routes(service: Service) -> list[Route]:
    """The route."""

    async def embeddings(request: Request) -> Response:
        models = service.loaded()
        models.check_place()
        refuse_in_address(request, SETTINGS)
        async with service.bodies.read(request) as body:
            raw = json_object(body)
            refuse_unknown(raw, SETTINGS)
            images = await read_images(raw.pop("input", None), service.bounds, service.addresses, EXAMPLE)
            note(request, images=len(images), bytes=len(body))
            form = Form(images, raw)
            served = model_of(models, form, request)
            column = embedding_column(served.predictor.checkpoint, normalize=_flag(form, "normalize"))
            packed = _packed(form, column.shape[0])
            results = raise_failures(await answers_of(service, request, served, images))
        data = [
            {"object": "embedding", "index": number, "embedding": _values(column, own, packed, number, len(results))}
            for number, own in enumerate(results)
        ]
        usage = {"prompt_tokens": 0, "total_tokens": 0}
        answer = {"object": "list", "data": data, "model": served.name, "usage": usage}
        return Response(json_line(answer), media_type="application/json")

    return [Route("/v1/embeddings", embeddings, methods=["POST"])]


def _packed(form: Form, width: int) -> bool:
    """Whether vectors are sent as base64 of little-endian float32."""
    given = form.settings.get("encoding_format") or "float"
    if given not in ("float", "base64"):
        raise bad("The encoding_format is float or base64.")
    dimensions = form.settings.get("dimensions")
    if dimensions is not None and dimensions != width:
        raise bad(f"The dimensions of this model are {width}; fewer cannot be had.")
    return bool(given == "base64")


def _flag(form: Form, name: str) -> bool:
    value = form.settings.get(name, False)
    if not isinstance(value, bool):
        raise bad(f"{name} is true or false.")
    return value


def _values(column: Column, result: Result, packed: bool, number: int, count: int) -> Any:
    try:
        vector = column.value(result)
    except NotFiniteError as error:
        raise of_image(error, number, count) from None
    return base64.b64encode(vector.astype("<f4").tobytes()).decode() if packed else plain(vector, column)
