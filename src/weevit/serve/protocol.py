"""HTTP/1.1 with limits: uvicorn's protocol on httptools, which has none for the head of a request.

A head has to arrive within seconds and in a few kilobytes, connections are counted, and one that ends in the middle of
a body stays open for a moment, so that the answer is read before the network says that nobody listens.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from weevit.serve.bounds import MAX_HEAD, MAX_PIPELINED, Bounds
from weevit.serve.problems import Problem
from weevit.serve.service import CONNECTION, Connection

_LINGER_S, _LINGER_BYTES = 5.0, 64 << 10

_LINGER_BODIES = 2
"""A body of up to so many times the limit is read and dropped behind its refusal. Most clients read nothing before they
have sent everything: one with a photo a little too large gets its answer then, and not a reset connection."""

_INVALID = Problem(400, "invalid_request", "This is no valid HTTP/1.1 request.")
_LONG_HEAD = Problem(431, "head_too_large", f"The head of a request has at most {MAX_HEAD:,} bytes.")


class _Lingering:
    """A transport that, closed in the middle of a request, reads on for a moment."""

    def __init__(self, transport: asyncio.Transport, owner: Guarded) -> None:
        self._inner, self._owner, self._closing = transport, owner, False
        self._dropped = 0

    def close(self) -> None:
        """End the connection: at once if the request was read whole."""
        if self._closing or not self._owner.in_request:
            self._inner.close()
            return
        self._closing = True
        if self._inner.can_write_eof() and not self._inner.is_closing():
            self._inner.write_eof()
            self._inner.resume_reading()
            self._owner.loop.call_later(_LINGER_S, self._inner.close)
        else:
            self._inner.close()

    def drop(self, size: int) -> None:
        """Some bytes came that nobody wants; after many, no more are read."""
        self._dropped += size
        if self._dropped > self._owner.droppable() and not self._inner.is_closing():
            self._inner.pause_reading()

    def is_closing(self) -> bool:
        """Whether nothing more is written."""
        return self._closing or self._inner.is_closing()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _Parser:
    """httptools' parser, for which HTTP ends with a request that offers another protocol (`Upgrade: h2c`, as Java's
    client and `curl --http2` do): its body would be lost. The offer is passed over here, as HTTP allows."""

    def __init__(self, owner: Guarded) -> None:
        self._owner, self._inner = owner, owner.parser

    def feed_data(self, data: bytes) -> None:
        """Parse; errors are httptools'."""
        try:
            self._inner.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._inner = httptools.HttpRequestParser(self._owner)
            with self._owner.silent():
                self._inner.feed_data(self._owner.framing())
            self.feed_data(data[upgrade.args[0] :])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def _send_at_once(transport: asyncio.Transport) -> None:
    """Send the body of an answer without waiting until the client has acknowledged its head: that takes 40 ms.

    asyncio does it for sockets whose protocol number is TCP's, and `socket.create_server` makes them with number 0.
    """
    transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Guarded(HttpToolsProtocol):
    """The protocol of one connection; `guarded` gives it its bounds.

    Attributes:
        in_request: whether a request has begun and not arrived whole.
    """

    bounds: Bounds
    in_request = False
    _in_head = False
    _head_bytes = 0
    _silent = False
    _refusal: Problem | None = None
    _late: asyncio.TimerHandle | None = None
    _answered_at = 0.0
    _behind = 0
    _lingering: _Lingering
    _remembered: Connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """A client connects; one too many is turned away before it has said anything."""
        if len(self.connections) >= self.bounds.connections:
            self.transport = transport
            transport.abort()
            return
        _send_at_once(transport)
        self.parser = _Parser(self)  # type: ignore[assignment]  # has all that is used
        self._remembered = Connection()
        self._lingering = _Lingering(transport, self)
        super().connection_made(self._lingering)  # type: ignore[arg-type]  # has all that is used
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """It ends."""
        self._head_came()
        if self.flow is not None:
            super().connection_lost(exc)

    def droppable(self) -> int:
        """Bytes of the request that are read and dropped after it was refused."""
        declared = dict(self.headers or ()).get(b"content-length", b"0")
        size = int(declared) if declared.isdigit() else 0  # the parser has refused what is no 64-bit number
        return _LINGER_BYTES + (size if size <= _LINGER_BODIES * self.bounds.max_request else 0)

    def _wait_for_head(self) -> None:
        self._in_head = True
        if self._late is None:
            self._late = self.loop.call_later(self.bounds.head_s, self.transport.abort)

    def _head_came(self) -> None:
        self._in_head, self._head_bytes = False, 0
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def data_received(self, data: bytes) -> None:
        """Some bytes."""
        if self.transport.is_closing():  # of a request that is answered already
            self._lingering.drop(len(data))
            return
        if self._refusal is not None:
            return
        self._behind += len(data)
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > MAX_HEAD:
            self._refuse(_LONG_HEAD)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no request."""
        del msg  # uvicorn's
        self._refuse(_INVALID)

    def on_response_complete(self) -> None:
        """A request is answered; what is left of its body has to come as fast as a body that is read."""
        super().on_response_complete()
        if not self.cycle.response_complete or self.transport.is_closing():
            return
        if self._refusal is not None:
            self._send(self._refusal)
        elif self.in_request and not self._in_head:
            self._answered_at, self._behind = self.loop.time(), 0
            self.loop.call_later(self.bounds.body_s, self._look_behind, self.cycle)

    def _look_behind(self, cycle: RequestResponseCycle) -> None:
        if self.cycle is not cycle or not self.in_request or self._in_head or self.transport.is_closing():
            return
        left = self._answered_at + self.bounds.body_s + self._behind / self.bounds.body_rate - self.loop.time()
        if left <= 0 or self._behind > _LINGER_BODIES * self.bounds.max_request:
            self.transport.close()
        else:
            self.loop.call_later(min(left, self.bounds.body_s), self._look_behind, cycle)

    def _refuse(self, problem: Problem) -> None:
        """Refuse what is no request, behind the answers to those before it."""
        if self._refusal is not None or self.transport.is_closing():
            return
        self._refusal = problem
        if self.cycle is None or self.cycle.response_complete or (self.in_request and not self._in_head):
            self._send(problem)
        else:
            self._head_came()

    def _send(self, problem: Problem) -> None:
        answer = problem.response()
        head = f"HTTP/1.1 {problem.status} {problem.as_dict()['title']}\r\nConnection: close\r\n"
        lines = "".join(f"{name.decode()}: {value.decode()}\r\n" for name, value in answer.raw_headers)
        self.transport.write(f"{head}{lines}\r\n".encode() + bytes(answer.body))
        self.transport.close()

    def framing(self) -> bytes:
        """A head with nothing but what says where the body of this request ends."""
        lines = [b"%s: %s\r\n" % own for own in self.headers if own[0] in (b"content-length", b"transfer-encoding")]
        return b"POST / HTTP/1.1\r\n%s\r\n" % b"".join(lines)

    @contextmanager
    def silent(self) -> Iterator[None]:
        """While the block runs, a head that is parsed is no request."""
        self._silent = True
        try:
            yield
        finally:
            self._silent = False

    # ---- callbacks of the parser

    def on_message_begin(self) -> None:
        """A request begins."""
        if self._silent:
            return
        self.in_request = True
        self._wait_for_head()
        super().on_message_begin()
        self.scope["state"][CONNECTION] = self._remembered

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; trailers behind a body are dropped."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole."""
        if self._silent:
            return
        too_long = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > MAX_HEAD
        if too_long:
            self._refuse(_LONG_HEAD)
        self._head_came()
        if self._refusal is not None:
            return
        if len(self.pipeline) >= MAX_PIPELINED:
            self.transport.abort()
            return
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Some of a body."""
        if self._refusal is None:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self.parser.should_upgrade():  # its head is; the body comes
            return
        self.in_request = False
        if self.cycle is not None and self._refusal is None:
            super().on_message_complete()


def guarded(bounds: Bounds) -> type[Guarded]:
    """The protocol with these bounds, for uvicorn's configuration."""
    return type("Guarded", (Guarded,), {"bounds": bounds})
