"""The body of a request, read within its limits: bytes of one, bytes of all, seconds."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request

from weevit.serve.bounds import Bounds
from weevit.serve.problems import ProblemError, busy, too_large


class Bodies:
    """The bodies that are held at a time."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self.held = 0

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """The whole body; it counts as held while the block runs.

        Raises:
            ProblemError: too large (413), compressed (415), too slow (408), or too much is held (503).
        """
        encoding = request.headers.get("content-encoding", "identity").strip().lower()
        if encoding != "identity":
            raise ProblemError(
                415,
                "compressed",
                "Compressed bodies are not read: images are compressed already.",
                "Leave Content-Encoding out.",
                {"Connection": "close", "Accept-Encoding": "identity"},
            )
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > self._bounds.max_request:
            raise too_large(self._bounds.max_request)
        body = io.BytesIO()
        try:
            await self._receive(request, body)
            yield body.getvalue()  # its own bytes, not a copy
        finally:
            self.held -= body.tell()

    async def _receive(self, request: Request, body: io.BytesIO) -> None:
        bounds, clock = self._bounds, asyncio.get_running_loop()
        start = clock.time()
        try:
            async with asyncio.timeout(bounds.body_s) as patience:
                async for part in request.stream():
                    self.held += body.write(part)
                    if body.tell() > bounds.max_request:
                        raise too_large(bounds.max_request)
                    if self.held > bounds.bodies:
                        raise busy(1, "The server holds as many bytes of requests as it may.")
                    patience.reschedule(start + bounds.body_s + body.tell() / bounds.body_rate)
        except TimeoutError:
            raise ProblemError(
                408,
                "too_slow",
                f"The body came more slowly than {bounds.body_rate:,} bytes per second.",
                headers={"Connection": "close"},
            ) from None
