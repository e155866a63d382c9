"""Tensors of the Open Inference Protocol: as JSON, and in its binary extension.

A request of the binary extension is a JSON object of `Inference-Header-Content-Length` bytes, and behind it the raw
values of all tensors with `binary_data_size`, in their order. Elements of BYTES are each preceded by their length, four
bytes, little-endian.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from weevit.images.source import Source
from weevit.images.values import DataUri, decoded, is_data_uri
from weevit.serve.forms import bad

_MOST_DIMENSIONS = 4

BYTES_EXAMPLE = '{"name": "image", "datatype": "BYTES", "shape": [1], "data": ["<base64 of a JPEG>"]}'


@dataclass(frozen=True)
class Tensor:
    """An input as sent: `data` is a list from JSON, or raw bytes."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: list[Any] | memoryview


def read_inputs(raw: Mapping[str, Any], rest: memoryview) -> list[Tensor]:
    """The inputs of a request; ProblemError for what is none."""
    inputs = raw.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise bad("inputs is a list of tensors, with one or more.", f'{{"inputs": [{BYTES_EXAMPLE}]}}')
    found = []
    for one in inputs:
        tensor, rest = _read(one, rest)
        found.append(tensor)
    if len(rest):
        raise bad(f"{len(rest):,} bytes are left behind the last tensor.")
    return found


def _read(one: Any, rest: memoryview) -> tuple[Tensor, memoryview]:
    if not isinstance(one, Mapping) or not isinstance(one.get("name"), str):
        raise bad("A tensor is an object with name, datatype, shape and data.", BYTES_EXAMPLE)
    shape, parameters = one.get("shape"), one.get("parameters") or {}
    if not isinstance(parameters, Mapping):
        raise bad("The parameters of a tensor are an object.")
    if not isinstance(shape, list) or not 1 <= len(shape) <= _MOST_DIMENSIONS or not all(map(_is_size, shape)):
        raise bad(f"The shape of a tensor is a list of 1 to {_MOST_DIMENSIONS} sizes.", BYTES_EXAMPLE)
    size, data = parameters.get("binary_data_size"), one.get("data")
    if size is not None:
        if not _is_size(size) or size > len(rest):
            raise bad("binary_data_size is the number of bytes of this tensor behind the JSON; there are fewer.")
        data, rest = rest[:size], rest[size:]
    if not isinstance(data, list | memoryview):
        raise bad("A tensor has data, or binary_data_size.", BYTES_EXAMPLE)
    return Tensor(one["name"], str(one.get("datatype")), tuple(shape), data), rest


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 31


def images_of(tensor: Tensor, channels: int) -> list[Source]:
    """One source per image of the input tensor.

    Args:
        tensor: BYTES of encoded images, or UINT8 of (H, W, channels) or (n, H, W, channels).
        channels: of the model.

    Raises:
        ProblemError: another datatype or shape, or data of another size.
    """
    if tensor.datatype == "BYTES":
        count = prod(tensor.shape)
        elements = list(islice(_elements(tensor.data), count + 1))  # of a few bytes each there may be millions
        if len(elements) != count:
            came = "more" if len(elements) > count else f"{len(elements):,}"
            raise bad(f"The shape {list(tensor.shape)} has {count:,} elements; {came} came.")
        return [Source(f"image[{number}]", _encoded(one)) for number, one in enumerate(elements)]
    if tensor.datatype == "UINT8":
        return [Source(f"image[{number}]", pixels) for number, pixels in enumerate(_pixels(tensor, channels))]
    if tensor.datatype in ("FP32", "FP16", "BF16", "FP64"):
        raise bad(
            f"{tensor.datatype} pixels are not taken: whoever normalised them chose a size, a mean and a scale, and "
            "none of that can be checked here.",
            "Send BYTES of the image files, or UINT8 pixels of any size.",
        )
    raise bad("The datatype is BYTES (encoded images) or UINT8 (pixels).", BYTES_EXAMPLE)


def _elements(data: list[Any] | memoryview) -> Iterator[Any]:
    if isinstance(data, list):
        yield from data
        return
    while len(data):
        size = int.from_bytes(data[:4], "little")
        if len(data) < 4 + size:
            raise bad("An element of BYTES is preceded by its length in four bytes; this one ends early.")
        yield data[4 : 4 + size]
        data = data[4 + size :]


def _encoded(one: Any) -> bytes | DataUri:
    if isinstance(one, memoryview):
        return bytes(one)
    if not isinstance(one, str):
        raise bad("In JSON an element of BYTES is base64 or a data URI.", BYTES_EXAMPLE)
    if is_data_uri(one):
        return DataUri(one)
    try:
        return decoded(one.encode("ascii"))
    except ValueError:  # binascii's is one
        raise bad("In JSON an element of BYTES is base64 or a data URI; this is neither.", BYTES_EXAMPLE) from None


def _pixels(tensor: Tensor, channels: int) -> npt.NDArray[np.uint8]:
    shape = tensor.shape if len(tensor.shape) == 4 else (1, *tensor.shape)
    if len(shape) != 4 or shape[3] != channels or 0 in shape:
        raise bad(f"UINT8 pixels have the shape [height, width, {channels}], or [n, height, width, {channels}].")
    if isinstance(tensor.data, memoryview):
        flat = np.frombuffer(tensor.data, np.uint8)
    else:
        flat = _numbers(tensor.data, tensor.shape)
    if flat.size != prod(shape):
        raise bad(f"The shape {list(tensor.shape)} has {prod(shape):,} values; {flat.size:,} came.")
    return flat.reshape(shape)


def _numbers(data: list[Any], shape: Sequence[int]) -> npt.NDArray[np.uint8]:
    depth, first = 0, data[0] if data else None
    while isinstance(first, list) and depth < len(shape):
        depth, first = depth + 1, first[0] if first else None
    for size in shape[len(shape) - depth :]:  # nested as the shape, as its last sizes, or flat
        if not all(isinstance(one, list) and len(one) == size for one in data):
            raise bad(f"The data is nested otherwise than the shape {list(shape)} says: height comes before width.")
        data = list(chain.from_iterable(data))
    if not set(map(type, data)) <= {int} or not 0 <= min(data, default=0) <= max(data, default=0) <= 255:
        raise bad("UINT8 values are whole numbers from 0 to 255.")
    return np.frombuffer(bytes(data), np.uint8)


# ---- outputs

Values = npt.NDArray[np.float32] | list[list[str]]


def output(name: str, values: Values, binary: bool) -> tuple[dict[str, Any], bytes]:
    """An output tensor as JSON, and its bytes behind the JSON if it is `binary`."""
    if isinstance(values, np.ndarray):
        head = {"name": name, "datatype": "FP32", "shape": list(values.shape)}
        if not binary:
            return head | {"data": [float(str(value)) for value in values.ravel()]}, b""
        raw = np.ascontiguousarray(values, "<f4").tobytes()
    else:
        head = {"name": name, "datatype": "BYTES", "shape": [len(values), len(values[0]) if values else 0]}
        flat = [text for own in values for text in own]
        if not binary:
            return head | {"data": flat}, b""
        raw = b"".join(len(own).to_bytes(4, "little") + own for own in (text.encode() for text in flat))
    return head | {"parameters": {"binary_data_size": len(raw)}}, raw


def whole_answer(head: dict[str, Any], outputs: Sequence[tuple[dict[str, Any], bytes]]) -> tuple[bytes, int | None]:
    """The body of an answer, and the bytes of its JSON where something stands behind it."""
    text = json.dumps(head | {"outputs": [one for one, _ in outputs]}, allow_nan=False).encode()
    binary = any("parameters" in one for one, _ in outputs)
    return text + b"".join(raw for _, raw in outputs), len(text) if binary else None
