"""Addresses that a stranger's list may hold: none may run code, write a file or open a connection unasked."""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


def hostile(folder: Path, port: int) -> list[str]:
    """Addresses and chains; what some of them try is to make a file `PWNED` or a copy in `folder`, or to ask a server.

    Args:
        folder: of files that are there, and that none of these may touch.
        port: of a server on loopback that must not be asked.
    """
    command = f"touch {folder}/PWNED"
    template = f"{{{{ cycler.__init__.__globals__.os.system('{command}') }}}}"
    rows = [{"key": "k{{i}}", "url": template, "dimensions": {"i": [0]}}]
    text = json.dumps({"version": 1, "templates": {}, "gen": rows, "refs": {}})
    packed = "data:application/json;base64," + base64.b64encode(text.encode()).decode()
    (folder / "refs.json").write_text(text)
    there, web = f"{folder}/there.png", f"http://127.0.0.1:{port}"
    chains = [
        f"reference://x.jpg::{packed}",
        f"reference::{packed}",
        f"reference://x.jpg::file://{folder}/refs.json",
        f"REFERENCE://x.jpg::{packed}",
        f"dir://x.jpg::reference://::{packed}",
        f"reference://x.jpg::{web}/refs.json",
        f"filecache::{web}/x.jpg",
        f"simplecache::{web}/x.jpg",
        f"blockcache::{web}/x.jpg",
        f"filecache://x.jpg::file://{there}",
        f"zip://x.jpg::{web}/x.zip",
        f"zip://x.jpg::file://{folder}/x.zip",
        f"tar://x.jpg::{web}/x.tar",
        f"libarchive://x.jpg::{web}/x.7z",
        f"dir://there.png::file://{folder}",
        f"s3://bucket/x.jpg::{packed}",
    ]
    local = [f"{kind}://{there}" for kind in ("file", "local", "asynclocal", "FILE", "arrow_local")]
    web_spelled = [
        f"{web}/x.jpg",
        f"https://127.0.0.1:{port}/x.jpg",
        f"HTTP://127.0.0.1:{port}/x.jpg",
        f"http://localhost:{port}/x.jpg",
        f"http://[::1]:{port}/x.jpg",
        f"http://2130706433:{port}/x.jpg",
        f"http://0x7f.1:{port}/x.jpg",
        f"http://user:word@127.0.0.1:{port}/x.jpg",
        "http://169.254.169.254/latest/meta-data/x.jpg",
    ]
    odd = [
        "data:image/png;base64,AAAA://",
        "memory://x.jpg",
        "github://org:repo@/x.jpg",
        "git://x.jpg",
        "sftp://127.0.0.1/x.jpg",
        "smb://127.0.0.1/share/x.jpg",
        "ftp://127.0.0.1/x.jpg",
        "jupyter://127.0.0.1/x.jpg",
        "nosuch://host/x.jpg",
        "://x.jpg",
        "http://",
        "http://[::1",
        f"{'x' * 5000}://y.jpg",
        "s3://",
    ]
    return chains + local + web_spelled + odd


@dataclass
class Listener:
    """A server on loopback that only counts who connects."""

    port: int = 0
    asked: list[object] = field(default_factory=list)


@contextmanager
def listening() -> Iterator[Listener]:
    """A listener for the length of a test."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        listener = Listener(server.getsockname()[1])
        stop = threading.Event()

        def accept() -> None:
            while not stop.is_set():
                try:
                    connection, who = server.accept()
                except TimeoutError:
                    continue
                listener.asked.append(who)
                connection.close()

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield listener
        finally:
            stop.set()
            thread.join()
