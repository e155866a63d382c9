"""A hub on loopback for tests: the few answers that huggingface_hub needs, and every way in which they can be wrong.

with LoopbackHub() as hub:
    hub.add("timm/model", {"config.json": b"...", "model.safetensors": b"..."})
    hub.faults["model.safetensors"] = Fault(cut=0.5)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
"""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

COMMIT = "c0ffee" + "0" * 34


@dataclass
class Fault:
    """What goes wrong with one file.

    Attributes:
        cut: the connection breaks after this share of the bytes.
        times: for how many GETs `cut` and `status` hold; then all is well.
        status: a GET is answered with this.
        head_status: a HEAD is answered with this.
        error_code: the hub's word for it (`X-Error-Code`).
        content: other bytes of the same length are sent than those that were promised.
        promised_size: the size that is promised.
        elsewhere: the bytes are at this address (of another server).
        silent: seconds without any answer.
    """

    cut: float | None = None
    times: int = 1
    status: int = 0
    head_status: int = 0
    error_code: str = ""
    content: bytes | None = None
    promised_size: int | None = None
    elsewhere: str = ""
    silent: float = 0


class Request(NamedTuple):
    method: str
    path: str
    range: str
    authorization: str


def etag(name: str, content: bytes) -> str:
    """The hub's hash: sha256 for what lies in large-file storage, git's for the rest."""
    if name.endswith(".safetensors"):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class LoopbackHub:
    """Serves repositories from memory, on a port of 127.0.0.1.

    Attributes:
        url: for HF_ENDPOINT.
        requests: what was asked, in turn.
        faults: file name -> what goes wrong with it.
    """

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, bytes]] = {}
        self.commits: dict[str, str] = {}
        self.faults: dict[str, Fault] = {}
        self.requests: list[Request] = []
        hub = self

        class Handler(_Handler):
            owner = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> LoopbackHub:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(self, repo_id: str, files: Mapping[str, bytes] | Path, commit: str = COMMIT) -> None:
        """Publish a repository; a folder means the files in it."""
        if isinstance(files, Path):
            files = {item.name: item.read_bytes() for item in files.iterdir() if item.is_file()}
        self.repos[repo_id] = dict(files)
        self.commits[repo_id] = commit

    def asked(self, method: str, name: str) -> list[Request]:
        """The requests of that method for that file."""
        return [request for request in self.requests if request.method == method and request.path.endswith(name)]


class _Handler(BaseHTTPRequestHandler):
    owner: LoopbackHub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, with_body: bool) -> None:
        headers = self.headers
        self.owner.requests.append(
            Request(self.command, self.path, headers.get("Range", ""), headers.get("Authorization", ""))
        )
        organisation, name, _, revision, file = (self.path.strip("/").split("/", 4) + [""] * 5)[:5]
        repo_id = f"{organisation}/{name}"
        if repo_id not in self.owner.repos:
            return self._refuse(401, "RepoNotFound")
        if revision not in ("main", self.owner.commits[repo_id]):
            return self._refuse(404, "RevisionNotFound")
        if file not in self.owner.repos[repo_id]:
            return self._refuse(404, "EntryNotFound")
        fault = self.owner.faults.get(file, Fault())
        time.sleep(fault.silent)
        if not with_body and fault.head_status:
            return self._refuse(fault.head_status, fault.error_code)
        if with_body and fault.status and fault.times:
            fault.times -= 1
            return self._refuse(fault.status, fault.error_code)
        return self._send(repo_id, file, fault, with_body)

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, repo_id: str, file: str, fault: Fault, with_body: bool) -> None:
        promised = self.owner.repos[repo_id][file]
        size = len(promised) if fault.promised_size is None else fault.promised_size
        content = promised if fault.content is None else fault.content
        first = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        self.send_response(302 if fault.elsewhere else 206 if first else 200)
        self.send_header("X-Repo-Commit", self.owner.commits[repo_id])
        self.send_header("ETag", f'"{etag(file, promised)}"')
        self.send_header("X-Linked-Etag", f'"{etag(file, promised)}"')
        self.send_header("X-Linked-Size", str(size))
        if fault.elsewhere:
            self.send_header("Location", fault.elsewhere)
            with_body, content = False, b""
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - first))
        self.end_headers()
        if with_body:
            self._write(content[first:], fault)

    def _write(self, content: bytes, fault: Fault) -> None:
        if fault.cut is None or not fault.times:
            self.wfile.write(content)
            return
        fault.times -= 1
        self.wfile.write(content[: int(len(content) * fault.cut)])
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True
