"""`GET /`: a page to drop photos on. Its script and its style are files of their own, as its content policy wants."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from weevit.reports.page import style
from weevit.serve.service import Service

_FOLDER = Path(__file__).parent / "page"

_FILES = {
    "/": ("page.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}


def routes(service: Service) -> list[Route]:
    """The routes; the files are read once."""
    del service

    def route(path: str, name: str, media: str) -> Route:
        own = (_FOLDER / name).read_text(encoding="utf-8")
        content = style() + own if name.endswith(".css") else own

        async def answer(request: Request) -> Response:
            del request
            return Response(content, media_type=media)

        return Route(path, answer, methods=["GET"])

    return [route(path, name, media) for path, (name, media) in _FILES.items()]
