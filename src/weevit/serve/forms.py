"""The images and settings of a request, in the three forms that clients send.

multipart/form-data    a file field per image, other fields are settings
application/json       {"images": ["data:image/png;base64,...", {"image_url": {"url": "..."}}], "topk": 5}
anything else          the bytes of one image; settings stand in the address
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from weevit.errors import MalformedFileError
from weevit.images.source import Source, shortened
from weevit.images.values import DataUri, is_data_uri
from weevit.serve.addresses import Addresses
from weevit.serve.bounds import Bounds
from weevit.serve.problems import ProblemError
from weevit.text import one_line
from weevit.zoo.strict_json import parse_json_object

_LOOKED_AT = 64

_LONGEST_FIELD, _MOST_FIELDS, _LONGEST_NAME = 1024, 32, 200

_PARTS = (b"[", b"{", b'"')

MAX_PARTS = 2 << 20
"""Lists, objects and quotation marks of a body in JSON: each takes up to 30 times its bytes of memory, and time in
which nobody else is answered. Numbers take a few times theirs."""

EXAMPLE = 'For instance {"images": ["data:image/jpeg;base64,..."], "topk": 5}.'


@dataclass
class Form:
    """A request.

    Attributes:
        images: to be answered, each with the name that its row gets.
        settings: the others by name; text where it came as text.
        fields: the name of each image's field in a multipart form; empty for the other forms.
    """

    images: list[Source] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    fields: list[str] = field(default_factory=list)


def bad(detail: str, hint: str = "") -> ProblemError:
    """A request that is not understood."""
    return ProblemError(400, "invalid_request", detail, hint)


async def read_form(
    request: Request, body: bytes, bounds: Bounds, addresses: Addresses, image_needed: bool = True
) -> Form:
    """The form of a request with this body; ProblemError for one that is not understood."""
    media, options = parse_options_header(request.headers.get("content-type"))
    settings = settings_of_address(request)
    if media == b"multipart/form-data":
        form = parse_multipart(body, options.get(b"boundary", b""), bounds)
    elif media == b"application/json":
        raw = json_object(body)
        images = raw.pop("images", None)
        if images is None and "image" in raw:
            images = [raw.pop("image")]
        found = await read_images(images, bounds, addresses, EXAMPLE) if image_needed or images is not None else []
        form = Form(found, raw)
    elif body[:_LOOKED_AT].lstrip().startswith(b"{"):  # no image begins like this, and curl -d says it is a form
        raise bad("The body is JSON, and its Content-Type does not say so.", "-H 'Content-Type: application/json'")
    else:
        form = Form([Source("image[0]", body)])
    if image_needed and not form.images:
        raise bad("The request has no image.", "curl -F image=@photo.jpg, or the bytes of the image as the body")
    for name in settings:
        if name in form.settings:
            raise _twice(name)
    return Form(form.images, settings | form.settings, form.fields)


def settings_of_address(request: Request) -> dict[str, Any]:
    """The settings behind the question mark; ProblemError for one that is there twice: one of them would be missed."""
    found: dict[str, Any] = {}
    for name, value in request.query_params.multi_items():
        if name in found:
            raise _twice(name)
        found[name] = value
    return found


def _twice(name: str) -> ProblemError:
    return bad(
        f"The setting {name[:60]!a} is given more than once.",
        "In JSON a setting may be a list where it has several values.",
    )


def json_object(body: bytes) -> dict[str, Any]:
    """A body that is one JSON object, read strictly; ProblemError for another, or one that is many small parts."""
    count = sum(map(body.count, _PARTS))
    if count > MAX_PARTS:
        raise ProblemError(
            413,
            "too_many_parts",
            f"JSON has at most {MAX_PARTS:,} lists, objects and quotation marks; this has {count:,}.",
            "Send images as base64; pixels flat, or in the binary extension.",
        )
    try:
        return parse_json_object(body, "The body")
    except MalformedFileError as error:
        raise bad(error.message) from None


async def read_images(values: Any, bounds: Bounds, addresses: Addresses, example: str) -> list[Source]:
    """A list of images in JSON: data URIs, addresses where they are allowed, or objects around them."""
    if isinstance(values, str | Mapping):
        values = [values]
    if not isinstance(values, list) or not values:
        raise bad("The images are a list of data URIs, with one or more.", example)
    check_count(len(values), bounds)
    found, left = [], bounds.max_request
    for number, value in enumerate(values):
        found.append(await _image(value, number, addresses, example, left))
        own = found[-1].value
        left -= len(own) if isinstance(own, bytes) else 0
    return found


def check_count(count: int, bounds: Bounds) -> None:
    """Refuse too many images in a request."""
    if count > bounds.max_images:
        raise ProblemError(
            413, "too_many_images", f"A request has at most {bounds.max_images:,} images; this one has {count:,}."
        )


async def _image(value: Any, number: int, addresses: Addresses, example: str, left: int) -> Source:
    address = _address(value)
    if address is None:
        raise bad(f"Image {number} is neither a data URI nor an object with one.", example)
    if is_data_uri(address):
        return Source(f"image[{number}]", DataUri(address))
    if "://" in address[:20]:
        return Source(f"image[{number}]", await addresses.fetch(address, left))
    raise bad(f"Image {number} is no data URI: it begins with {json.dumps(address[:20])}.", example)


def _address(value: Any) -> str | None:
    """Of a text, {"url": ...}, or {"type": "image_url", "image_url": {"url": ...}}."""
    for key in ("image_url", "url"):
        if isinstance(value, Mapping) and key in value:
            value = value[key]
    return value if isinstance(value, str) else None


# ---- multipart


@dataclass
class _Part:
    header: bytearray = field(default_factory=bytearray)
    value: bytearray = field(default_factory=bytearray)
    headers: dict[str, bytes] = field(default_factory=dict)
    content: list[memoryview] = field(default_factory=list)
    size: int = 0


_EXTENDED = re.compile(rb";\s*filename\*\s*=\s*utf-8'[^';]*'([^;\s]+)", re.IGNORECASE)


def _extended(header: bytes) -> bytes:
    """The name in `filename*=utf-8''...` (RFC 5987); empty without one.

    Forms are not to have it (RFC 7578), and the library passes over it, but clients of Python send it, urllib3 before
    2 under requests for instance, for names that are not ASCII.
    """
    found = _EXTENDED.search(header)
    return unquote_to_bytes(found[1]) if found else b""


class _Reader:
    """Collects the parts of a body; the callbacks are those of python-multipart."""

    def __init__(self, body: bytes, bounds: Bounds) -> None:
        self._body, self._bounds = memoryview(body), bounds
        self.form, self._part, self._fields, self.ended = Form(), _Part(), 0, False

    def on_part_begin(self) -> None:
        self._part = _Part()

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._part.header += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._part.value += data[start:end]

    def on_header_end(self) -> None:
        part = self._part
        part.headers[part.header.decode("latin-1").lower()] = bytes(part.value)
        part.header, part.value = bytearray(), bytearray()

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._part.content.append(self._body[start:end])
        self._part.size += end - start

    def on_part_end(self) -> None:
        header = self._part.headers.get("content-disposition", b"")
        _, options = parse_options_header(header)
        name = options.get(b"name", b"").decode("utf-8", "replace")
        data = b"".join(self._part.content)
        filename = options.get(b"filename") or _extended(header)
        if b"filename" in options or filename:
            check_count(len(self.form.images) + 1, self._bounds)
            given = filename.decode("utf-8", "replace").replace("\\", "/").rpartition("/")[2]
            shown = shortened(one_line(given), _LONGEST_NAME) or f"image[{len(self.form.images)}]"
            self.form.images.append(Source(shown, data))
            self.form.fields.append(name)
            return
        self._fields += 1
        if len(data) > _LONGEST_FIELD or self._fields > _MOST_FIELDS or not name:
            raise bad(
                f"A field that is no file has a name and at most {_LONGEST_FIELD:,} bytes, and there are at most "
                f"{_MOST_FIELDS}.",
                "curl -F image=@photo.jpg   the @ sends the file itself",
            )
        if name in self.form.settings:
            raise _twice(name)
        self.form.settings[name] = data.decode("utf-8", "replace")

    def on_end(self) -> None:
        self.ended = True


_CALLBACKS = (
    *("on_part_begin", "on_part_data", "on_part_end", "on_header_field", "on_header_value", "on_header_end"),
    "on_end",
)


def parse_multipart(body: bytes, boundary: bytes, bounds: Bounds) -> Form:
    """A whole multipart body; files are cut out of it and never written to a disk."""
    reader = _Reader(body, bounds)
    callbacks: Any = {name: getattr(reader, name) for name in _CALLBACKS}
    try:
        if not boundary:
            raise MultipartParseError("no boundary")
        parser = MultipartParser(boundary, callbacks)
        parser.write(body)
        parser.finalize()
    except ValueError:  # the base of its errors
        raise bad("The body is no valid multipart/form-data.", "curl -F image=@photo.jpg") from None
    if not reader.ended:
        raise bad("The multipart body ends before its last boundary.", "curl -F image=@photo.jpg")
    return reader.form
