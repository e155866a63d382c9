"""`GET /`: a page to drop photos on; `GET /search`: one that searches the index.

Their scripts and their style are files of their own, as their content policy wants.
"""

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
    "/shared.js": ("shared.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}


_SEARCHING = {"/search": ("search.html", "text/html"), "/search.js": ("search.js", "text/javascript")}


def routes(service: Service) -> list[Route]:
    """The routes; the files are read once."""

    def route(path: str, name: str, media: str) -> Route:
        own = (_FOLDER / name).read_text(encoding="utf-8")
        content = style() + own if name.endswith(".css") else own

        async def answer(request: Request) -> Response:
            del request
            return Response(content, media_type=media)

        return Route(path, answer, methods=["GET"])

    files = _FILES if service.index is None else _FILES | _SEARCHING
    return [route(path, name, media) for path, (name, media) in files.items()]
