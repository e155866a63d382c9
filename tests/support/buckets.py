"""An S3 server on loopback, and a proxy before it that loses, cuts, refuses and delays what changes something."""

from __future__ import annotations

import http.client
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

FAULTS = ("lost", "half", "cut", "error", "slow")
"""The response is lost after the server did it, or half of it; the connection ends before; 500; half a second late."""

MUTATIONS = ("PUT", "POST", "DELETE")

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "nobody",
    "AWS_SECRET_ACCESS_KEY": "top-secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_CONFIG_FILE": "/nowhere",
    "AWS_SHARED_CREDENTIALS_FILE": "/nowhere",
    "AWS_MAX_ATTEMPTS": "1",
    "NO_PROXY": "127.0.0.1",
}


class Proxy:
    """A proxy before a server.

    Attributes:
        url: its address.
        fault: what happens to the mutations in `at`; empty for nothing.
        at: numbers of mutations, from 0; None for all.
        seen: method and path of each mutation since `begin`.
        requests: number of all requests since then, by method.
    """

    def __init__(self, server: str) -> None:
        self.server = urlsplit(server).netloc
        self.fault, self.at = "", range(0)
        self.seen: list[str] = []
        self.requests: dict[str, int] = {}
        self._lock = threading.Lock()
        proxy = self

        class Handler(_Handler):
            own = proxy

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, address: Any) -> None:
                """A connection that was cut on purpose is no news."""

        self._http = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def begin(self, fault: str = "", at: range = range(0)) -> None:
        """Count mutations anew, and let something happen to some of them."""
        with self._lock:
            self.fault, self.at, self.seen, self.requests = fault, at, [], {}

    def next(self, method: str, path: str) -> str:
        """What happens to this request."""
        with self._lock:
            self.requests[method] = self.requests.get(method, 0) + 1
            if method not in MUTATIONS:
                return ""
            self.seen.append(f"{method} {urlsplit(path).path}")
            return self.fault if len(self.seen) - 1 in self.at else ""

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


class _Handler(BaseHTTPRequestHandler):
    own: Proxy
    protocol_version = "HTTP/1.1"

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.own.next(self.command, self.path)
        if fault == "cut":
            return self._cut()
        if fault == "error":
            return self._answer(500, [], b"<Error><Code>InternalError</Code><Message>on purpose</Message></Error>")
        if fault == "slow":
            time.sleep(0.5)
        onward = http.client.HTTPConnection(self.own.server, timeout=30)
        onward.request(self.command, self.path, body, dict(self.headers))
        answer = onward.getresponse()
        content = answer.read()
        headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in _OF_A_CONNECTION]
        length = answer.getheader("Content-Length") if self.command == "HEAD" else None
        onward.close()
        if fault == "lost":
            return self._cut()
        return self._answer(answer.status, headers, content, half=fault == "half", length=length)

    def _answer(
        self, status: int, headers: list[tuple[str, str]], content: bytes, half: bool = False, length: str | None = None
    ) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", length or str(len(content) + 100 * half))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        if half:
            self._cut()

    def _cut(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *words: Any) -> None:
        """Nothing is printed."""

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _any  # noqa: N815 - the module's names


_OF_A_CONNECTION = ("content-length", "connection", "transfer-encoding", "date", "server")


@contextmanager
def serving() -> Iterator[Proxy]:
    """A server with a bucket called `weevit-test`, which clients find by the environment, behind a proxy."""
    import boto3
    from moto.server import ThreadedMotoServer
    from s3fs import S3FileSystem

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    proxy = Proxy(f"http://{host}:{port}")
    with mock.patch.dict(os.environ, {**ENVIRONMENT, "AWS_ENDPOINT_URL": proxy.url}):
        client = boto3.client("s3")
        client.create_bucket(Bucket="weevit-test")
        client.close()
        S3FileSystem.clear_instance_cache()  # fsspec keeps clients of a server of earlier tests
        yield proxy
    S3FileSystem.clear_instance_cache()
    proxy.close()
    server.stop()
