"""From a request to answers: its images, its model, its settings, checked in the order of what they cost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from starlette.requests import ClientDisconnect, Request

from weevit.arguments import parsed, whole
from weevit.errors import ImageError, UsageError, did_you_mean
from weevit.images.source import Source
from weevit.serve.forms import Form, bad, read_form
from weevit.serve.models import Answers, Models, Served
from weevit.serve.problems import late
from weevit.serve.service import Service

MAX_TOPK = 1000


@asynccontextmanager
async def form_of(
    service: Service, request: Request, known: Sequence[str], image_needed: bool = True
) -> AsyncIterator[tuple[Models, Form]]:
    """The models and the form of a request, whose body counts as held while the block runs.

    Args:
        service: the server.
        request: its body is read here.
        known: names of the settings that the protocol has.
        image_needed: whether a request without an image is refused.

    Raises:
        ProblemError: no place in the queue, no such model, or a request that is not understood.
    """
    models = service.loaded()
    models.check_place()
    models.get(request.query_params.get("model"))  # before anything is read for it
    async with service.bodies.read(request) as body:
        form = await read_form(request, body, service.bounds, service.addresses, image_needed)
        note(request, images=len(form.images), bytes=len(body))
        refuse_unknown(form.settings, known)
        yield models, form


def refuse_unknown(settings: Iterable[str], known: Sequence[str]) -> None:
    """Refuse a setting that is not known: its effect would be missed in silence."""
    for name in settings:
        if name not in known:
            near = did_you_mean(name[:60], known)
            raise bad(f"There is no setting {name[:60]!a}; there are {', '.join(known)}.", near)


def refuse_in_address(request: Request, known: Iterable[str]) -> None:
    """Refuse the settings of a protocol in the address, where it has none: they would be missed in silence."""
    for name in known:
        if name in request.query_params:
            raise bad(f"{name} stands in the body of a request here, not in its address.", f'{{"{name}": ...}}')


def note(request: Request, **facts: Any) -> None:
    """Facts for the log."""
    request.scope.setdefault("state", {}).update(facts)


def model_of(models: Models, form: Form, request: Request) -> Served:
    """The model that a form names, or the first."""
    name = form.settings.get("model")
    if name is not None and not isinstance(name, str):
        raise bad("The model is a name.")
    served = models.get(name)
    note(request, model=served.name)
    return served


def topk_of(form: Form) -> int:
    """The number of classes that a form asks for."""
    try:
        return whole("topk", parsed(form.settings.get("topk", 5)), 1, MAX_TOPK)
    except UsageError as error:
        raise bad(error.message, "topk=5") from None


async def answers_of(
    service: Service, request: Request, served: Served, images: list[Source], topk: int = 5
) -> Answers:
    """As `Models.answer`, for as long as the client waits; errors are counted.

    Raises:
        ClientDisconnect: it has gone; what was not begun for it is left out.
        ProblemError: as `Models.answer`.
    """
    answering = asyncio.ensure_future(service.loaded().answer(served, images, topk))
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({answering, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            raise ClientDisconnect
        answers = answering.result()
    finally:
        gone.cancel()
        answering.cancel()
    if service.metrics is not None:
        for one in answers:
            if isinstance(one, ImageError):
                service.metrics.error(one.kind)
            elif not one.ok:
                service.metrics.error(one.status)
    return answers


@asynccontextmanager
async def held(one: asyncio.Semaphore, deadline_s: float) -> AsyncIterator[None]:
    """A semaphore while the block runs; ProblemError 503 where it does not come in time."""
    try:
        await asyncio.wait_for(one.acquire(), deadline_s)
    except TimeoutError:
        raise late(deadline_s) from None
    try:
        yield
    finally:
        one.release()


async def _gone(request: Request) -> None:
    """Return when the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
