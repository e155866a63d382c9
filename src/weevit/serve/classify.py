"""`POST /v1/classify`: the classes of one image or several, as rows with the columns of `weevit classify --json`."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from weevit.answers.columns import COMMON, class_columns, json_object
from weevit.answers.results import Result
from weevit.errors import ImageError, NotFiniteError
from weevit.images.source import Source
from weevit.serve.asking import answers_of, form_of, model_of, topk_of
from weevit.serve.models import Answers
from weevit.serve.problems import ProblemError, of_image, words
from weevit.serve.service import Service
from weevit.text import json_line

SETTINGS = ("model", "topk")


def routes(service: Service) -> list[Route]:
    """The route."""

    async def classify(request: Request) -> Response:
        async with form_of(service, request, SETTINGS) as (models, form):
            served, topk = model_of(models, form, request), topk_of(form)
            checkpoint = served.predictor.checkpoint
            if not checkpoint.num_classes:
                raise ProblemError(400, "no_classes", f"The model {served.name} has no classes.", "POST /v1/embeddings")
            answers = await answers_of(service, request, served, form.images, topk)
        refuse_only_failure(answers)
        columns = (*COMMON, *class_columns(checkpoint, topk))
        rows = [json_object(row(one, source), columns) for one, source in zip(answers, form.images, strict=True)]
        return Response(json_line({"model": served.name, "results": rows}), media_type="application/json")

    return [Route("/v1/classify", classify, methods=["POST"])]


def row(answer: Result | ImageError, source: Source) -> Result:
    """A result for each image, with an answer or without."""
    if isinstance(answer, ImageError):
        return Result(source.name, answer.status, f"{answer.kind}: {words(answer)}")
    return answer


def refuse_only_failure(answers: Answers) -> None:
    """The error of a request with one image is the request's; with several, each has its row."""
    if len(answers) == 1:
        raise_failures(answers)


def raise_failures(answers: Answers) -> list[Result]:
    """The results; the ProblemError of the first image without one."""
    for number, one in enumerate(answers):
        failed = one if isinstance(one, ImageError) else None if one.ok else NotFiniteError(one.error or "")
        if failed is not None:
            raise of_image(failed, number, len(answers))
    return [one for one in answers if isinstance(one, Result)]
