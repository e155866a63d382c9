"""Start, ready, stop: a server from its first connection to its last answer."""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import uvicorn

from weevit.memory import keep_flat
from weevit.predict import Predictor
from weevit.serve.app import application
from weevit.serve.bounds import Bounds
from weevit.serve.first import first_answers
from weevit.serve.protocol import guarded
from weevit.serve.service import Service

_STOPS = (signal.SIGTERM, signal.SIGINT)


class _Server(uvicorn.Server):
    """uvicorn's server, which turns not ready before it stops listening."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGTERM and Ctrl-C end the server in order; a second Ctrl-C at once."""
        loop = asyncio.get_running_loop()
        for number in _STOPS:
            loop.add_signal_handler(number, self.stop)
        try:
            yield
        finally:
            for number in _STOPS:
                loop.remove_signal_handler(number)

    def stop(self) -> None:
        """Turn not ready, and stop listening a moment later."""
        if self._service.draining:
            self.force_exit = True
            return
        self._service.draining = True
        asyncio.get_running_loop().call_later(self._service.bounds.drain_s, self._leave)

    def _leave(self) -> None:
        self.should_exit = True


_COMPUTING_S = 30.0


def grace_s(bounds: Bounds) -> int:
    """Seconds in which all that was accepted is answered: it is begun within the deadline, or refused."""
    return math.ceil(bounds.deadline_s + _COMPUTING_S)


def run(
    service: Service, listening: socket.socket, load: Callable[[], Mapping[str, Predictor]], ready: Callable[[], None]
) -> None:
    """Serve until a signal ends it.

    Args:
        service: its models are loaded here, while /healthz answers already.
        listening: a socket of `weevit.serve.place.Place.open`.
        load: name -> model.
        ready: called when every model has answered.

    Raises:
        WeevitError: a model cannot be loaded, or cannot answer.
    """
    keep_flat()  # large images come at any time, and what decoding them took is given back
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL + 1)  # what it tells quotes requests
    config = uvicorn.Config(
        application(service),
        http=guarded(service.bounds),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=grace_s(service.bounds),
    )
    server = _Server(config, service)
    asyncio.run(_serve(server, service, listening, load, ready))


async def _serve(
    server: _Server,
    service: Service,
    listening: socket.socket,
    load: Callable[[], Mapping[str, Predictor]],
    ready: Callable[[], None],
) -> None:
    loop, pool = asyncio.get_running_loop(), ThreadPoolExecutor(1, "weevit-load")

    async def begin() -> None:
        try:
            models = await loop.run_in_executor(pool, lambda: first_answers(service, load()))
        except BaseException:
            server.should_exit = True
            raise
        service.models = models
        ready()

    beginning = asyncio.ensure_future(begin())
    try:
        await server.serve([listening])
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    if beginning.done():
        beginning.result()
        if service.models is not None:
            for served in service.models:
                served.predictor.close()
    else:
        beginning.cancel()
