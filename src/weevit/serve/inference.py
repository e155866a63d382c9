"""`/v2`: the Open Inference Protocol (KServe), with its binary extension; health, metadata, infer.

input `image`      BYTES [n]: encoded images; UINT8 [h, w, 3] or [n, h, w, 3]: pixels of any size
outputs            logits, probabilities FP32 [n, classes]; labels BYTES [n, topk]; embedding FP32 [n, width]
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from weevit._version import __version__
from weevit.answers.results import Result
from weevit.errors import did_you_mean
from weevit.serve.asking import answers_of, note, refuse_in_address, topk_of
from weevit.serve.classify import raise_failures
from weevit.serve.forms import Form, bad, check_count, json_object
from weevit.serve.models import Served
from weevit.serve.problems import ProblemError
from weevit.serve.service import Service
from weevit.serve.tensors import Values, images_of, output, read_inputs, whole_answer
from weevit.text import json_line

LENGTH = "Inference-Header-Content-Length"
VERSION = "1"
"""Of every model: a server has one."""


def routes(service: Service) -> list[Route]:
    """The routes."""

    async def server(request: Request) -> Response:
        del request
        return _json({"name": "weevit", "version": __version__, "extensions": ["binary_tensor_data"]})

    async def live(request: Request) -> Response:
        del request
        return _json({"live": True})

    async def ready(request: Request) -> Response:
        if "model" in request.path_params:
            _model(service, request)
        return _json({"ready": service.ready}, 200 if service.ready else 503)

    async def metadata(request: Request) -> Response:
        return _json(_metadata(_model(service, request)))

    async def infer(request: Request) -> Response:
        return await _infer(service, request)

    model = "/v2/models/{model}"
    version = f"{model}/versions/{{version}}"
    own = [Route("/v2", server, methods=["GET"]), Route("/v2/health/live", live, methods=["GET"])]
    own += [Route(path, ready, methods=["GET"]) for path in ("/v2/health/ready", f"{model}/ready", f"{version}/ready")]
    own += [Route(path, metadata, methods=["GET"]) for path in (model, version)]
    return [*own, *(Route(f"{path}/infer", infer, methods=["POST"]) for path in (model, version))]


def _json(values: dict[str, Any], status: int = 200) -> Response:
    return Response(json_line(values), status, media_type="application/json")


def _model(service: Service, request: Request) -> Served:
    served = service.loaded().get(request.path_params["model"])
    if request.path_params.get("version", VERSION) != VERSION:
        raise ProblemError(404, "unknown_version", f"The only version of {served.name} is {VERSION}.")
    note(request, model=served.name)
    return served


def _metadata(served: Served) -> dict[str, Any]:
    checkpoint = served.predictor.checkpoint
    width, classes, channels = checkpoint.architecture.embed_dim, checkpoint.num_classes, checkpoint.in_chans
    taken = ("BYTES", [-1]) if channels == 3 else ("UINT8", [-1, -1, -1, channels])  # files are read with three
    outputs = [("embedding", "FP32", [-1, width])]
    if classes:
        outputs += [("logits", "FP32", [-1, classes]), ("probabilities", "FP32", [-1, classes])]
        outputs += [("labels", "BYTES", [-1, -1])]
    return {
        "name": served.name,
        "versions": [VERSION],
        "platform": "weevit",
        "inputs": [{"name": "image", "datatype": taken[0], "shape": taken[1]}],
        "outputs": [{"name": name, "datatype": kind, "shape": shape} for name, kind, shape in outputs],
    }


async def _infer(service: Service, request: Request) -> Response:
    models = service.loaded()
    models.check_place()
    served = _model(service, request)
    refuse_in_address(request, ("topk",))
    async with service.bodies.read(request) as body:
        raw, rest = _split(request, body)
        inputs = read_inputs(raw, rest)
        if len(inputs) != 1 or inputs[0].name != "image":
            raise bad("The model has one input, called image.", f"GET /v2/models/{served.name}")
        if inputs[0].datatype == "BYTES":
            check_count(prod(inputs[0].shape), service.bounds)
        images = images_of(inputs[0], served.predictor.checkpoint.in_chans)
        check_count(len(images), service.bounds)
        note(request, images=len(images), bytes=len(body))
        parameters = _mapping(raw, "parameters")
        topk = topk_of(Form(settings={"topk": parameters.get("topk", 5)}))
        wanted = _wanted(raw, served, parameters.get("binary_data_output") is True)
        if not images:
            raise bad("The tensor has no image.")
        results = raise_failures(await answers_of(service, request, served, images, topk))
    head = {"model_name": served.name, "model_version": VERSION}
    if isinstance(raw.get("id"), str):
        head["id"] = raw["id"]
    decision = served.predictor.checkpoint.decision
    several = decision is not None and decision.multi_label
    outputs = [output(name, _values(name, results, several), binary) for name, binary in wanted.items()]
    content, length = whole_answer(head, outputs)
    if length is None:
        return Response(content, media_type="application/json")
    return Response(content, media_type="application/octet-stream", headers={LENGTH: str(length)})


def _split(request: Request, body: bytes) -> tuple[dict[str, Any], memoryview]:
    """The JSON of a request, and the bytes behind it."""
    given = request.headers.get(LENGTH)
    if given is None:
        return json_object(body), memoryview(b"")
    if not given.isdecimal() or len(given) > 10 or int(given) > len(body):
        raise bad(f"{LENGTH} is the number of bytes of the JSON; the body has {len(body):,}.")
    return json_object(body[: int(given)]), memoryview(body)[int(given) :]


def _mapping(raw: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = raw.get(name) or {}
    if not isinstance(found, Mapping):
        raise bad(f"{name} is an object.")
    return found


def _wanted(raw: Mapping[str, Any], served: Served, binary: bool) -> dict[str, bool]:
    """Output -> whether it is sent in binary; all of them where none is named."""
    known = [one["name"] for one in _metadata(served)["outputs"]]
    outputs = raw.get("outputs") or [{"name": name} for name in known]
    if not isinstance(outputs, list) or not all(isinstance(one, Mapping) for one in outputs):
        raise bad("outputs is a list of objects with a name.")
    found: dict[str, bool] = {}
    for one in outputs:
        name = one.get("name")
        if name not in known:
            shown = str(name)[:60]
            raise bad(f"There is no output {shown!a}; there are {', '.join(known)}.", did_you_mean(shown, known))
        found[name] = _mapping(one, "parameters").get("binary_data", binary) is True
    return found


def _values(name: str, results: list[Result], several: bool) -> Values:
    """The values of an output; `several` where an image has any number of labels, each with its own probability."""
    if name == "labels":
        return [[one.name for one in result.top] for result in results]
    rows = np.stack([_row(result.embedding if name == "embedding" else result.logits) for result in results])
    if name != "probabilities":
        return rows
    return np.asarray(1 / (1 + np.exp(-np.clip(rows, -80, 80))), np.float32) if several else _softmax(rows)


def _row(values: npt.NDArray[np.float32] | None) -> npt.NDArray[np.float32]:
    assert values is not None  # the desk asks for both, and the name was checked
    return values


def _softmax(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    shifted = np.exp(rows.astype(np.float64) - rows.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), np.float32)
