"""`POST /v1/search`: the images of an index that are most similar to images; and small images of what was found.

Images come as in `/v1/classify`; in a form, the field `not` has images that results should not be like. In JSON there
are `images` and `not`, and `ids` and `not_ids` for images of the index itself, which need not be sent.
"""

from __future__ import annotations

import asyncio
from urllib.parse import urlencode

import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from weevit.answers.results import Array
from weevit.arguments import parsed, whole
from weevit.errors import ImageError, UsageError
from weevit.images.source import Source
from weevit.search.index import Hit, query_of
from weevit.serve.asking import answers_of, form_of, held, note
from weevit.serve.classify import raise_failures
from weevit.serve.forms import Form, bad, check_count, read_images
from weevit.serve.problems import ProblemError, of_image
from weevit.serve.service import Service
from weevit.text import json_line

SETTINGS = ("k", "not", "ids", "not_ids")

MAX_K = 1000

EXAMPLE = 'For instance {"ids": ["photos/a.jpg"], "k": 12}.'

_AT_ONCE = 2
"""Thumbnails that are made at a time."""


def routes(service: Service) -> list[Route]:
    """The routes of a server with an index."""
    making = asyncio.Semaphore(_AT_ONCE)

    async def search(request: Request) -> Response:
        async with form_of(service, request, SETTINGS, image_needed=False) as (models, form):
            searcher, k = service.searcher(), _k_of(form)
            like, unlike = await _images(service, form)
            ids, not_ids = _ids(form, "ids"), _ids(form, "not_ids")
            if not like and not ids:
                raise bad("The request names no image to search for.", "curl -F image=@photo.jpg")
            served = models.get(searcher.model)
            note(request, model=served.name, images=len(like) + len(unlike))
            vectors = await _embeddings(service, request, [*like, *unlike])

        def found() -> list[Hit]:
            likes = [*vectors[: len(like)], *searcher.vectors_of(ids)]
            nots = [*vectors[len(like) :], *searcher.vectors_of(not_ids)]
            query = query_of(np.stack(likes), np.stack(nots) if nots else None)
            with models.turns.turn():
                return searcher.hits(query, k)

        with models.place(1):
            try:
                hits = await asyncio.to_thread(found)
            finally:
                models.computed(1)
        results = [{"id": hit.id, "similarity": round(hit.score, 6), "thumbnail": _address(hit.id)} for hit in hits]
        return Response(json_line({"model": served.name, "results": results}), media_type="application/json")

    async def thumbnail(request: Request) -> Response:
        searcher, name = service.searcher(), request.query_params.get("id", "")
        async with held(making, service.bounds.deadline_s):
            try:
                data = await asyncio.to_thread(searcher.thumbnail, name)
            except ImageError as error:
                raise of_image(error, 0, 1) from None
        if data is None:
            raise ProblemError(404, "unknown_image", "The index has no such image on this machine.")
        return Response(data, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=600"})

    return [
        Route("/v1/search", search, methods=["POST"]),
        Route("/v1/search/thumbnail", thumbnail, methods=["GET"]),
    ]


def _address(name: str) -> str:
    return f"/v1/search/thumbnail?{urlencode({'id': name})}"


def _k_of(form: Form) -> int:
    try:
        return whole("k", parsed(form.settings.get("k", 12)), 1, MAX_K)
    except UsageError as error:
        raise bad(error.message, "k=12") from None


async def _images(service: Service, form: Form) -> tuple[list[Source], list[Source]]:
    """The images that results should be like, and those that they should not."""
    fields = form.fields or [""] * len(form.images)
    like, unlike = (
        [source for source, name in zip(form.images, fields, strict=True) if (name == "not") is wanted]
        for wanted in (False, True)
    )
    if "not" in form.settings:
        if unlike:
            raise bad("Images that results should not be like are files or a setting, not both.", EXAMPLE)
        unlike = await read_images(form.settings["not"], service.bounds, service.addresses, EXAMPLE)
    check_count(len(like) + len(unlike), service.bounds)
    return like, unlike


def _ids(form: Form, name: str) -> list[str]:
    given = form.settings.get(name, [])
    values = [given] if isinstance(given, str) else given
    if not isinstance(values, list) or not all(isinstance(one, str) for one in values) or len(values) > MAX_K:
        raise bad(f"{name} is a list of at most {MAX_K:,} ids.", EXAMPLE)
    return values


async def _embeddings(service: Service, request: Request, images: list[Source]) -> list[Array]:
    if not images:
        return []
    served = service.loaded().get(service.searcher().model)
    results = raise_failures(await answers_of(service, request, served, images, 1))
    return [result.embedding for result in results if result.embedding is not None]
