"""Errors as RFC 9457 problem details, in weevit's words: no paths, no bytes of a file, no control characters.

{"type": "urn:weevit:too_large", "title": "Content Too Large", "status": 413, "detail": "...", "hint": "..."}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from starlette.responses import Response

from weevit.errors import ImageError, UsageError, WeevitError
from weevit.text import json_line, one_line

MEDIA_TYPE = "application/problem+json"

_IMAGES = {
    "empty": "The image has no bytes.",
    "not an image": "The bytes are of no known image format.",
    "truncated": "The image ends before it is whole.",
    "corrupt": "The image contradicts itself, or its base64 does: no whole image can be decoded from it.",
    "missing": "There is no image at this address.",
    "unreadable": "The address may not be fetched, or does not answer.",
    "not_finite": "The model's answer is NaN or infinite.",
}
"""Kind of an ImageError -> the words for clients; others say something of their own, without bytes of the file."""

_TITLES = {413: "Content Too Large", 422: "Unprocessable Content"}


class ProblemError(Exception):
    """A request that is answered with a problem.

    Args:
        status: HTTP status.
        code: one word for programs; `type` is `urn:weevit:` and this word.
        detail: a sentence.
        hint: what to send instead; may be empty.
        headers: further headers, such as Retry-After.
        more: further members.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        hint: str = "",
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.problem = Problem(status, code, one_line(detail), one_line(hint), dict(headers or {}), dict(more or {}))


@dataclass(frozen=True)
class Problem:
    """The fields of `ProblemError`."""

    status: int
    code: str
    detail: str
    hint: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The members of the JSON object."""
        title = _TITLES.get(self.status) or HTTPStatus(self.status).phrase
        own = {"type": f"urn:weevit:{self.code}", "title": title, "status": self.status, "detail": self.detail}
        return own | ({"hint": self.hint} if self.hint else {}) | self.more

    def response(self) -> Response:
        """The response."""
        body = json_line(self.as_dict()).encode()
        return Response(body, self.status, headers=self.headers, media_type=MEDIA_TYPE)


def words(error: ImageError) -> str:
    """What a client is told about an image without an answer."""
    own = _IMAGES.get(error.kind)
    return own if own is not None else " ".join(one_line(error.message).split())[:300]


def of_image(error: ImageError, number: int, count: int) -> ProblemError:
    """The problem of a request whose image has no answer.

    Args:
        error: why.
        number: index of the image in the request.
        count: images in the request.
    """
    where = f"Image {number} of {count}: " if count > 1 else ""
    status = 413 if error.status == "too_large" else 500 if error.status == "not_finite" else 422
    return ProblemError(status, error.status, where + words(error), more={"image": number, "kind": error.kind})


def of_error(error: WeevitError) -> ProblemError:
    """The problem of any other error of weevit: an invalid argument is the client's, everything else ours."""
    if isinstance(error, UsageError):
        return ProblemError(400, "invalid_argument", error.message, error.hint)
    return ProblemError(500, "failed", "The model could not answer.")


def too_large(limit: int) -> ProblemError:
    """A body over the limit; the connection ends with the answer, since the rest of the body is not read."""
    return ProblemError(
        413,
        "request_too_large",
        f"The request has more than {limit:,} bytes, which is the limit.",
        "Send fewer or smaller images per request.",
        {"Connection": "close"},
    )


def late(deadline_s: float) -> ProblemError:
    """An answer does not come in time."""
    return busy(1, f"The answer did not come within {deadline_s:g} s.")


def busy(seconds: int, detail: str) -> ProblemError:
    """The server has as much to do as it may keep."""
    return ProblemError(503, "busy", detail, f"Try again in {seconds} s.", {"Retry-After": str(seconds)})
