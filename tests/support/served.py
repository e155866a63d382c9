"""The server as users start it: a process of its own, spoken to over the network."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Answer:
    """An answer to a request."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Running:
    """A server that runs; `log` grows."""

    process: subprocess.Popen[str]
    port: int = 0
    log: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """One request on a connection of its own; `content_type` for `Content-Type`."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            with suppress(BrokenPipeError, ConnectionResetError):  # refused before all of it was sent
                connection.request(method, path, body, named)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, found, answer.read())
        finally:
            connection.close()

    def post(self, path: str, values: Any, **headers: str) -> Answer:
        """JSON."""
        return self.ask("POST", path, json.dumps(values).encode(), content_type="application/json", **headers)

    def lines(self) -> list[dict[str, Any]]:
        """The log's lines that are JSON."""
        return [json.loads(line) for line in self.log if line.startswith("{")]

    def logged(self, count: int = 1, timeout: float = 30, **named: Any) -> list[dict[str, Any]]:
        """The log's lines with these values, once there are as many: a line is written after its answer was sent."""
        ends = time.monotonic() + timeout
        while True:
            found = [line for line in self.lines() if named.items() <= line.items()]
            if len(found) >= count or time.monotonic() > ends:
                return found
            time.sleep(0.02)

    def memory_mb(self) -> float:
        """Resident."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        (found,) = (line for line in lines if line.startswith("VmRSS"))
        return int(found.split()[1]) / 1024

    def peak_mb(self) -> float:
        """Greatest resident memory since `forget_peak`, or since the start."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        (found,) = (line for line in lines if line.startswith("VmHWM"))
        return int(found.split()[1]) / 1024

    def forget_peak(self) -> None:
        """The peak is that of now."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def cpu_s(self) -> float:
        """Processor seconds so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self, number: int = signal.SIGTERM, timeout: float = 20) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout)


@contextmanager
def serving(*words: object, cwd: Path | None = None, **environment: str) -> Iterator[Running]:
    """`weevit serve WORDS` on a free port, ready; ended when the block is left."""
    command = [sys.executable, "-m", "weevit", "serve", *map(str, words), "--port", "0"]
    pipes: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, text=True, cwd=cwd, env={**os.environ, **environment}, **pipes)
    running, ready = Running(process), threading.Event()

    def read() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            running.log.append(line)
            found = re.match(r"ready: http://[^ ]+:(\d+)", line)
            if found:
                running.port = int(found[1])
                ready.set()
        ready.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        assert ready.wait(60), "never ready"
        assert running.port, "".join(running.log)
        yield running
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)
        reader.join(10)
        assert process.stderr is not None
        process.stderr.close()


def multipart(*files: bytes, name: str = "image", filename: str = "a.png", **fields: str) -> tuple[bytes, str]:
    """A body of multipart/form-data, and its content type."""
    line = b"----weevit"
    parts = [
        b'--%s\r\nContent-Disposition: form-data; name="%s"; filename="%s"\r\n\r\n%s\r\n'
        % (line, name.encode(), filename.encode(), data)
        for data in files
    ]
    parts += [
        b'--%s\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (line, key.encode(), value.encode())
        for key, value in fields.items()
    ]
    return b"".join(parts) + b"--%s--\r\n" % line, f"multipart/form-data; boundary={line.decode()}"
