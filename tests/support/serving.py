"""A web server on loopback for a test: files by path, redirects, and a record of who was asked for what."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType


class Server:
    """`with Server({"/a.png": data}) as server:` ... `server.address`, `server.asked`."""

    def __init__(self, files: dict[str, bytes], host: str = "127.0.0.1") -> None:
        self.asked: list[str] = []
        redirects: dict[str, str] = {}
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                content = files.get(self.path, b"")
                self.send_response(302 if self.path in redirects else 200 if self.path in files else 404)
                if self.path in redirects:
                    self.send_header("Location", redirects[self.path])
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(content)

            def do_HEAD(self) -> None:
                self.do_GET()

            def log_message(self, *_: object) -> None: ...

        self._redirects = redirects
        self._server = ThreadingHTTPServer((host, 0), Handler)
        self.port = self._server.server_port
        self.address = f"http://{host}:{self.port}"

    def redirect(self, path: str, address: str) -> None:
        """Send who asks for `path` on to `address`."""
        self._redirects[path] = address

    def __enter__(self) -> Server:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
