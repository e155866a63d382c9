"""`GET /openapi.json`: every address, with the limits and examples that clients need."""

from __future__ import annotations

import base64
import io
from functools import cache
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from weevit._version import __version__
from weevit.answers.columns import SCHEMA
from weevit.serve.asking import MAX_TOPK
from weevit.serve.problems import MEDIA_TYPE
from weevit.serve.service import Service
from weevit.text import json_line

Object = dict[str, Any]


def routes(service: Service) -> list[Route]:
    """The route."""

    async def openapi(request: Request) -> Response:
        del request
        return Response(json_line(document(service)), media_type="application/json")

    return [Route("/openapi.json", openapi, methods=["GET"])]


@cache
def tiny_png() -> bytes:
    """A small image, for examples: they can be sent as they are."""
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (2, 2), (200, 120, 40)).save(file, "PNG")
    return file.getvalue()


def document(service: Service) -> Object:
    """The OpenAPI document of a server."""
    paths = {
        "/v1/classify": {"post": _classify(service)},
        "/v1/embeddings": {"post": _embeddings(service)},
        "/v1/explain": {"post": _explain()},
        "/v1/models": {"get": _get("listModels", "The models of this server.", _list_of_models(), "503")},
        "/v2": {"get": _get("v2Server", "Name and version (Open Inference Protocol).", _object("name", "version"))},
        "/v2/health/live": {"get": _get("v2Live", "Whether the server lives.", _object("live"))},
        "/v2/health/ready": {"get": _get("v2Ready", "Whether requests are answered.", _object("ready"))},
        "/v2/models/{model}": {
            "get": _with_model(_get("v2Model", "Inputs and outputs.", _object("name"), "404", "503"))
        },
        "/v2/models/{model}/ready": {
            "get": _with_model(_get("v2ModelReady", "Whether the model answers.", _object("ready"), "404", "503"))
        },
        "/v2/models/{model}/infer": {"post": _with_model(_infer())},
        "/healthz": {"get": _text("healthz", "Whether the process lives.")},
        "/readyz": {"get": _text("readyz", "Whether requests are answered.", "503")},
    }
    if service.index is not None:
        paths["/v1/search"] = {"post": _search(service)}
        paths["/v1/search/thumbnail"] = {"get": _thumbnail()}
    if service.metrics is not None:
        paths["/metrics"] = {"get": _text("metrics", "Metrics for Prometheus.")}
    info = {"title": "weevit", "version": __version__, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}}
    found: Object = {"openapi": "3.1.0", "info": info, "paths": paths, "components": {"schemas": {"Problem": _PROBLEM}}}
    if service.keys is not None:
        found["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"key": []}]
    return found


# ---- parts

_PROBLEM: Object = {
    "type": "object",
    "description": "RFC 9457 problem details.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "pattern": "^urn:weevit:[a-z_]+$"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "hint": {"type": "string"},
        "image": {"type": "integer", "description": "Index of the image that has no answer."},
        "kind": {"type": "string"},
    },
}

_DESCRIBED = {
    "400": "Not understood.",
    "401": "No API key, or another.",
    "403": "A page of another origin, or an address that is not allowed.",
    "404": "No such model, or no such image in the index.",
    "408": "The body came too slowly.",
    "413": "Too large: the request, an image, or their number.",
    "415": "A compressed body.",
    "422": "An image has no answer.",
    "503": "Busy, or not ready: see Retry-After.",
}
_POSTED = ("400", "401", "403", "404", "408", "413", "415", "422", "503")


def _problems(*statuses: str) -> Object:
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": _DESCRIBED[status], "content": content} for status in statuses}


def _answered(schema: Object, media: str = "application/json", **headers: Object) -> Object:
    found: Object = {"description": "The answer.", "content": {media: {"schema": schema}}}
    return {"200": found | ({"headers": headers} if headers else {})}


def _get(name: str, summary: str, schema: Object, *statuses: str) -> Object:
    return {
        "operationId": name,
        "summary": summary,
        "responses": _answered(schema) | _problems("401", "403", *statuses),
    }


def _text(name: str, summary: str, *statuses: str) -> Object:
    plain = _answered({"type": "string"}, "text/plain")
    return {"operationId": name, "summary": summary, "responses": plain | _problems("401", "403", *statuses)}


def _with_model(operation: Object) -> Object:
    model = {"name": "model", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    return operation | {"parameters": [model]}


def _object(*names: str) -> Object:
    return {"type": "object", "required": list(names)}


def _array(items: Object, **more: Any) -> Object:
    return {"type": "array", "items": items, **more}


def _list_of_models() -> Object:
    return {"type": "object", "required": ["data"], "properties": {"data": _array(_object("id", "object"))}}


_TOPK: Object = {"type": "integer", "minimum": 1, "maximum": MAX_TOPK, "default": 5}
_MODEL: Object = {"type": "string", "description": "A name of GET /v1/models; the first by default."}
_DATA_URI: Object = {"type": "string", "pattern": "^data:image/[a-z]+;base64,[A-Za-z0-9+/]+={0,2}$"}


def _example() -> str:
    return f"data:image/png;base64,{base64.b64encode(tiny_png()).decode()}"


def _image_in_json() -> Object:
    url = {"type": "object", "required": ["url"], "properties": {"url": _DATA_URI}}
    nested = {
        "type": "object",
        "required": ["image_url"],
        "properties": {"type": {"const": "image_url"}, "image_url": url},
    }
    return {"anyOf": [_DATA_URI, nested]}


_FILE: Object = {"type": "string", "contentMediaType": "application/octet-stream", "format": "binary"}


def _forms(properties: Object, required: list[str], example: Object, images: str) -> Object:
    """The three forms of a request."""
    settings = {name: schema for name, schema in properties.items() if name != images}
    content = {
        "multipart/form-data": {
            "schema": {"type": "object", "required": ["image"], "properties": {"image": _FILE, **settings}}
        },
        "application/json": {
            "schema": {
                "type": "object", "required": required, "properties": properties, "additionalProperties": False,
            },
            "example": example,
        },
        "image/*": {"schema": _FILE},
    }  # fmt: skip
    return {"required": True, "content": content}


def _classify(service: Service) -> Object:
    images = _array(_image_in_json(), minItems=1, maxItems=service.bounds.max_images)
    properties = {"images": images, "topk": _TOPK, "model": _MODEL}
    nullable = {"type": ["string", "null"]}
    row = {
        "type": "object",
        "required": ["schema", "input", "status", "error", "class_index", "class_name", "probability"],
        "properties": {
            "schema": {"const": SCHEMA},
            "input": {"type": "string"},
            "status": {"type": "string"},
            "error": nullable,
            "class_name": {"type": ["array", "null"], "items": {"type": "string"}},
            "probability": {"type": ["array", "null"], "items": {"type": "number", "minimum": 0, "maximum": 1}},
        },
    }
    answer = {
        "type": "object",
        "required": ["model", "results"],
        "properties": {"model": {"type": "string"}, "results": _array(row)},
    }
    return {
        "operationId": "classify",
        "summary": "The most probable classes of images, best first; one row per image.",
        "requestBody": _forms(properties, ["images"], {"images": [_example()], "topk": 5}, "images"),
        "responses": _answered(answer) | _problems(*_POSTED),
    }


def _search(service: Service) -> Object:
    images = _array(_image_in_json(), maxItems=service.bounds.max_images)
    ids = _array({"type": "string"}, description="Images of the index.")
    properties = {
        "images": images,
        "not": images | {"description": "Images that results should not be like."},
        "ids": ids,
        "not_ids": ids,
        "k": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 12},
    }
    body = _forms(properties, [], {"images": [_example()], "k": 12}, "images")
    body["content"]["multipart/form-data"]["schema"] = {
        "type": "object",
        "properties": {"image": _FILE, "not": _FILE, "ids": {"type": "string"}, "not_ids": {"type": "string"},
                       "k": properties["k"]},
    }  # fmt: skip
    hit = {
        "type": "object",
        "required": ["id", "similarity", "thumbnail"],
        "properties": {
            "id": {"type": "string"},
            "similarity": {"type": "number", "description": "Cosine, from -1 to 1."},
            "thumbnail": {"type": "string", "description": "Address of a small JPEG."},
        },
    }
    answer = {"type": "object", "required": ["model", "results"], "properties": {"results": _array(hit)}}
    return {
        "operationId": "search",
        "summary": "The images of the index that are most similar, the most similar first.",
        "requestBody": body,
        "responses": _answered(answer) | _problems(*_POSTED),
    }


def _thumbnail() -> Object:
    name = {"name": "id", "in": "query", "required": True, "schema": {"type": "string"}}
    found = _get("thumbnail", "A small JPEG of an image of the index.", {}, "404", "413", "422", "503")
    return found | {"parameters": [name], "responses": found["responses"] | _answered({}, "image/jpeg")}


def _explain() -> Object:
    properties = {"image": _image_in_json(), "model": _MODEL}
    return {
        "operationId": "explain",
        "summary": "What the answer to an image rests on, as a PNG.",
        "requestBody": _forms(properties, ["image"], {"image": _example()}, "image"),
        "responses": _answered({}, "image/png") | _problems(*_POSTED),
    }


def _embeddings(service: Service) -> Object:
    several = _array(_image_in_json(), minItems=1, maxItems=service.bounds.max_images)
    properties = {
        "input": {"anyOf": [_image_in_json(), several]},
        "model": _MODEL,
        "encoding_format": {"enum": ["float", "base64"]},
        "dimensions": {"type": "integer"},
        "normalize": {"type": "boolean", "default": False, "description": "Scale vectors to length 1."},
        "user": {"type": "string"},
    }
    vector = {"anyOf": [_array({"type": "number"}), {"type": "string"}]}
    one = {
        "type": "object",
        "required": ["object", "index", "embedding"],
        "properties": {"object": {"const": "embedding"}, "index": {"type": "integer"}, "embedding": vector},
    }
    answer = {"type": "object", "required": ["data", "model"], "properties": {"data": _array(one)}}
    schema = {"type": "object", "required": ["input"], "properties": properties, "additionalProperties": False}
    content = {"application/json": {"schema": schema, "example": {"input": [_example()]}}}
    return {
        "operationId": "embeddings",
        "summary": "Embeddings of images, as OpenAI's clients ask for them.",
        "requestBody": {"required": True, "content": content},
        "responses": _answered(answer) | _problems(*_POSTED),
    }


def _infer() -> Object:
    names = {"enum": ["logits", "probabilities", "labels", "embedding"]}
    base64_image = {"type": "string", "minLength": 1}
    tensor = {
        "type": "object",
        "required": ["name", "datatype", "shape", "data"],
        "properties": {
            "name": {"const": "image"},
            "datatype": {"enum": ["BYTES", "UINT8"]},
            "shape": _array({"type": "integer", "minimum": 1, "maximum": 64}, minItems=1, maxItems=4),
            "data": _array({"anyOf": [base64_image, {"type": "integer", "minimum": 0, "maximum": 255}]}),
        },
    }
    schema = {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string"},
            "inputs": _array(tensor, minItems=1, maxItems=1),
            "outputs": _array({"type": "object", "required": ["name"], "properties": {"name": names}}),
            "parameters": {"type": "object", "properties": {"topk": _TOPK}},
        },
    }
    image = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [base64.b64encode(tiny_png()).decode()]}
    example = {"inputs": [image], "outputs": [{"name": "labels"}]}
    return {
        "operationId": "v2Infer",
        "summary": "Infer (Open Inference Protocol); the binary extension is taken too.",
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema, "example": example}}},
        "responses": _answered(_object("model_name", "outputs")) | _problems(*_POSTED),
    }
