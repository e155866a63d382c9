"""Protocols of others, spoken by clients that nobody here wrote; and the OpenAPI document, by schemathesis."""

from __future__ import annotations

import base64
import io
import json
import struct
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
from PIL import Image
from served import Running, serving

import weevit
from conftest import data_uri, png
from weevit.zoo.architectures import get_architecture
from weevit.zoo.writing import write_checkpoint

IMAGES = [png(1), png(2, 33, 70), png(3, 64, 64)]


@pytest.fixture(scope="module")
def model() -> weevit.Predictor:
    return weevit.load("digits", cache=False)


# ---- OpenAI


def test_openais_client_gets_the_embeddings_of_the_command_line(server: Running, model: weevit.Predictor) -> None:
    openai = pytest.importorskip("openai")
    items: list[Any] = [data_uri(own) for own in IMAGES]
    items[1] = {"type": "image_url", "image_url": {"url": items[1]}}
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
        packed = client.embeddings.create(model="digits", input=items)  # asks for base64 by itself
        plain = client.embeddings.create(model="digits", input=items, encoding_format="float")
        unit = client.embeddings.create(model="digits", input=items[0], extra_body={"normalize": True})
        assert [one.id for one in client.models.list()] == ["digits"]
        with pytest.raises(openai.NotFoundError, match="There is no model"):
            client.embeddings.create(model="digit", input=items)
        with pytest.raises(openai.UnprocessableEntityError, match="Image 1 of 2"):
            client.embeddings.create(model="digits", input=[items[0], data_uri(b"no image")])
    expected = model.embed(IMAGES)
    for found in (packed, plain):
        assert [one.index for one in found.data] == [0, 1, 2]
        assert (np.array([one.embedding for one in found.data], np.float32) == expected).all()
    assert np.linalg.norm(unit.data[0].embedding) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "list of data URIs"),
        ({"input": "a cat"}, "no data URI"),
        ({"input": [1, 2]}, "neither a data URI"),
        ({"input": data_uri(png(0)), "encoding_format": "hex"}, "float or base64"),
        ({"input": data_uri(png(0)), "dimensions": 7}, "dimensions of this model are 64"),
        ({"input": data_uri(png(0)), "normalize": "yes"}, "true or false"),
        ({"input": data_uri(png(0)), "inputs": 1}, "no setting 'inputs'"),
        ({"input": data_uri(png(0)), "model": 1}, "model is a name"),
    ],
)
def test_what_openais_protocol_does_not_have_is_refused(server: Running, values: dict[str, Any], said: str) -> None:
    answer = server.post("/v1/embeddings", values)
    assert answer.status == 400
    assert said in answer.json()["detail"]


# ---- Open Inference Protocol


@pytest.fixture
def triton(server: Running) -> Any:
    module = pytest.importorskip("tritonclient.http")
    client = module.InferenceServerClient(f"127.0.0.1:{server.port}")
    yield module, client
    client.close()


def logits(model: weevit.Predictor, images: list[Any]) -> np.ndarray:
    return np.stack([result.logits for result in model.stream(images)])


def test_tritons_client_health_and_metadata(triton: Any) -> None:
    _, client = triton
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("digits")
    assert client.is_model_ready("digits", "1")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    found = client.get_model_metadata("digits")
    assert [one["name"] for one in found["outputs"]] == ["embedding", "logits", "probabilities", "labels"]
    assert found["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1]}]


@pytest.mark.usefixtures("serve_extra")
def test_a_model_of_other_channels_takes_pixels_and_says_so(tmp_path: Path) -> None:
    arch, spec = get_architecture("vit_micro_patch16_reg1_gap_64"), weevit.load("digits").preprocessing
    grey = replace(spec, mean=(0.5,), std=(0.5,))
    write_checkpoint(tmp_path / "grey", arch, fakes.tensors(arch, 0, (4, 4), in_chans=1), grey)
    with serving(tmp_path / "grey") as running:
        (own,) = running.ask("GET", "/v2/models/grey").json()["inputs"]
        assert own == {"name": "image", "datatype": "UINT8", "shape": [-1, -1, -1, 1]}
        body = tensor(datatype="UINT8", shape=[1, 64, 64, 1], data=[7] * 64 * 64)
        assert running.post("/v2/models/grey/infer", body).status == 200


@pytest.mark.parametrize("binary", [True, False])
def test_tritons_client_infers_from_encoded_images(triton: Any, model: weevit.Predictor, binary: bool) -> None:
    module, client = triton
    given = module.InferInput("image", [3], "BYTES")
    values = IMAGES if binary else [base64.b64encode(own) for own in IMAGES]
    given.set_data_from_numpy(np.array(values, dtype=object), binary_data=binary)
    names = ("logits", "probabilities", "labels", "embedding")
    outputs = [module.InferRequestedOutput(name, binary_data=binary) for name in names]
    found = client.infer("digits", [given], outputs=outputs, request_id="7", parameters={"topk": 2})
    expected = list(model.stream(IMAGES, topk=2))
    assert found.get_response()["id"] == "7"
    assert (found.as_numpy("logits") == logits(model, IMAGES)).all()
    assert (found.as_numpy("embedding") == model.embed(IMAGES)).all()
    labels = [[text if isinstance(text, str) else text.decode() for text in row] for row in found.as_numpy("labels")]
    assert labels == [list(result.labels) for result in expected]
    best = found.as_numpy("probabilities").max(axis=1)
    assert best == pytest.approx([result.top[0].probability for result in expected])


@pytest.mark.parametrize("shape", [(50, 41, 3), (1, 50, 41, 3), (4, 20, 90, 3)])
@pytest.mark.parametrize("binary", [True, False])
def test_tritons_client_infers_from_pixels_of_any_size(
    triton: Any, model: weevit.Predictor, shape: tuple[int, ...], binary: bool
) -> None:
    module, client = triton
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    given = module.InferInput("image", list(shape), "UINT8")
    given.set_data_from_numpy(pixels, binary_data=binary)
    found = client.infer("digits", [given])  # all outputs, as JSON where binary is not asked for
    assert (found.as_numpy("logits") == logits(model, list(pixels.reshape(-1, *shape[-3:])))).all()


def test_tritons_client_is_told_what_was_wrong(triton: Any) -> None:
    module, client = triton
    given = module.InferInput("image", [1, 3, 224, 224], "FP32")
    given.set_data_from_numpy(np.zeros((1, 3, 224, 224), np.float32))
    with pytest.raises(module.InferenceServerException, match="FP32 pixels are not taken: whoever normalised them"):
        client.infer("digits", [given])
    broken = module.InferInput("image", [2], "BYTES")
    broken.set_data_from_numpy(np.array([IMAGES[0], b"none"], dtype=object))
    with pytest.raises(module.InferenceServerException, match="Image 1 of 2: The bytes are of no known image format"):
        client.infer("digits", [broken])
    with pytest.raises(module.InferenceServerException, match="There is no model 'digit'"):
        client.infer("digit", [broken])
    fine = module.InferInput("image", [1], "BYTES")
    fine.set_data_from_numpy(np.array([IMAGES[0]], dtype=object))
    with pytest.raises(module.InferenceServerException, match="no output 'logit'"):
        client.infer("digits", [fine], outputs=[module.InferRequestedOutput("logit")])
    with pytest.raises(module.InferenceServerException, match="Compressed bodies are not read"):
        client.infer("digits", [fine], request_compression_algorithm="gzip")


def binary(head: dict[str, Any], rest: bytes) -> tuple[bytes, str]:
    text = json.dumps(head).encode()
    return text + rest, str(len(text))


def tensor(**more: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], **more}]}


@pytest.mark.parametrize(
    ("head", "rest"),
    [
        (tensor(parameters={"binary_data_size": 99}), b"abc"),
        (tensor(parameters={"binary_data_size": -1}), b""),
        (tensor(parameters={"binary_data_size": 6}), struct.pack("<I", 1 << 31) + b"ab"),
        (tensor(parameters={"binary_data_size": 3}), b"abc"),
        (tensor(parameters={"binary_data_size": 4}), bytes(4) + b"left"),
        (tensor(parameters=[1], data=[]), b""),
        (tensor(shape=[1 << 40], data=[]), b""),
        (tensor(shape=[2], data=["QQ=="]), b""),
        (tensor(shape=[True], data=["QQ=="]), b""),
        (tensor(shape=[0], data=[]), b""),
        (tensor(data=["%"]), b""),
        (tensor(data=[1]), b""),
        (tensor(data="QQ=="), b""),
        (tensor(datatype="INT64", data=[1]), b""),
        (tensor(datatype="UINT8", shape=[2, 2, 4], data=[0] * 16), b""),
        (tensor(datatype="UINT8", shape=[1 << 20, 1 << 20, 3], data=[0] * 16), b""),
        (tensor(datatype="UINT8", shape=[1, 1, 3], data=[0, 0, 256]), b""),
        (tensor(datatype="UINT8", shape=[1, 1, 3], data=[0, 0, 0.5]), b""),
        (tensor(datatype="UINT8", shape=[1, 1, 3], data=[[[0, 0]]]), b""),
        (tensor(datatype="UINT8", shape=[1, 1, 3], data=[True, 0, 0]), b""),
        (tensor(datatype="UINT8", shape=[1, 1, 3], data=[1 << 70, 0, 0]), b""),
        (tensor(datatype="UINT8", shape=[2, 4, 3], data=np.zeros((4, 2, 3), int).tolist()), b""),  # width first
        (tensor(datatype="UINT8", shape=[1, 2, 3], data=[[[1, 2, 3, 4], [5, 6]]]), b""),
        (tensor(parameters={"binary_data_size": 12}), bytes(12)),
        ({"inputs": []}, b""),
        ({"inputs": [1]}, b""),
        ({"inputs": [{"name": "pixels", "datatype": "BYTES", "shape": [1], "data": []}]}, b""),
        ({**tensor(data=["QQ=="]), "outputs": [1]}, b""),
        ({**tensor(data=["QQ=="]), "parameters": {"topk": 0}}, b""),
        ({**tensor(data=["QQ=="]), "parameters": 5}, b""),
    ],
)
def test_tensors_that_contradict_themselves(server: Running, head: dict[str, Any], rest: bytes) -> None:
    body, length = binary(head, rest)
    answer = server.ask("POST", "/v2/models/digits/infer", body, inference_header_content_length=length)
    assert answer.status == 400, answer.body
    assert answer.json()["error"] == answer.json()["detail"]


def test_pixels_in_json_are_flat_or_nested_as_their_shape(server: Running) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1, 5, 4, 3))
    given = [pixels, pixels[0], pixels.reshape(-1, 3), pixels.ravel()]
    answers = []
    for data in given:
        body = tensor(datatype="UINT8", shape=[5, 4, 3], data=data.tolist())
        answers.append(server.post("/v2/models/digits/infer", body).json()["outputs"])
    assert answers == [answers[0]] * len(given)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("path", "head", "part", "tail", "status"),
    [
        ("/v1/classify", b'{"images": [', b"[],", b"0]}", 413),
        ("/v1/embeddings", b'{"input": [', b"{},", b"0]}", 413),
        ("/v2/models/digits/infer", b'{"inputs": [', b'"ab",', b"0]}", 413),
        ("/v1/classify", b'{"images": "data:,', b"%41", b'"}', 422),
        (
            "/v2/models/digits/infer",
            json.dumps(tensor(parameters={"binary_data_size": 24 << 20})).encode(),
            b"",
            b"",
            400,
        ),
    ],
)
def test_small_parts_take_no_more_memory_than_large_ones(
    server: Running, path: str, head: bytes, part: bytes, tail: bytes, status: int
) -> None:
    size = 24 << 20
    body = head + (part * (size // len(part)) if part else bytes(size)) + tail
    more = {} if part else {"inference_header_content_length": str(len(head))}
    server.forget_peak()
    before = server.memory_mb()
    answer = server.ask("POST", path, body, content_type="application/json", **more)
    assert answer.status == status, answer.body
    assert server.peak_mb() - before < 350


@pytest.mark.parametrize("length", ["99999", "-1", "x", "9" * 30])
def test_a_length_of_json_that_is_none(server: Running, length: str) -> None:
    answer = server.ask("POST", "/v2/models/digits/infer", b"{}", inference_header_content_length=length)
    assert answer.status == 400


# ---- explain


def test_explain_draws_what_the_library_draws(server: Running, model: weevit.Predictor) -> None:
    from weevit.explain.draw import overlay
    from weevit.explain.relevance import explain_source
    from weevit.images.source import Source

    answer = server.ask("POST", "/v1/explain", IMAGES[2], content_type="image/png")
    assert (answer.status, answer.headers["content-type"]) == (200, "image/png")
    found = explain_source(model, Source("", IMAGES[2]))
    drawn = np.asarray(Image.open(io.BytesIO(answer.body)))
    assert (drawn == np.asarray(overlay(found.pixels, found.relevance))).all()
    assert answer.headers["weevit-class"] == found.result.top[0].name
    assert server.ask("POST", "/v1/explain", b"none").status == 422
    assert server.post("/v1/explain", {"images": [data_uri(IMAGES[0])] * 2}).status == 400


# ---- OpenAPI


def test_every_example_of_the_document_is_answered(server: Running) -> None:
    document = server.ask("GET", "/openapi.json").json()
    asked = 0
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            where = path.replace("{model}", "digits")
            content = operation.get("requestBody", {}).get("content", {})
            example = content.get("application/json", {}).get("example")
            answer = server.post(where, example) if method == "post" else server.ask(method.upper(), where)
            assert answer.status == 200, (path, answer.body)
            asked += 1
    assert asked == 13


def test_s10_what_a_document_allows_is_never_answered_with_5xx(server: Running) -> None:
    """500 cases an operation: benchmarks/reliability/serving.py S10."""
    schemathesis = pytest.importorskip("schemathesis")
    from fuzzing import fuzz

    assert schemathesis.__version__
    tried, failures = fuzz(f"{server.url}/openapi.json", cases=12)
    assert failures == []
    assert tried >= 60
