"""A bounded load test of a server: how many answers per second, after how long, and what went wrong.

Clients that each keep a connection open, and ask again as soon as they have an answer. They share the processor with a
server on the same machine: about a third of a millisecond per request is theirs.
"""

from __future__ import annotations

import asyncio
import io
import ipaddress
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from weevit.errors import UsageError, WeevitError
from weevit.text import one_line

MAX_CLIENTS, MAX_REQUESTS = 1024, 1_000_000

_PATIENCE_S = 120.0


@dataclass(frozen=True)
class Target:
    """The server of a load test.

    Attributes:
        host, port: where it listens.
        path: address that images are posted to.
        key: an API key; empty for none.
        media: type of the bodies; empty for none.
    """

    host: str
    port: int
    path: str = "/v1/classify"
    key: str = ""
    media: str = ""

    @property
    def local(self) -> bool:
        """Whether it is this machine."""
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def head(self, size: int) -> bytes:
        """The head of a request with a body of that many bytes."""
        key = f"Authorization: Bearer {self.key}\r\n" if self.key else ""
        media = f"Content-Type: {self.media}\r\n" if self.media else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        named = f"Host: {host}:{self.port}\r\n{media}"
        return f"POST {self.path} HTTP/1.1\r\n{named}{key}Content-Length: {size}\r\n\r\n".encode("latin-1")


def parse_target(url: str, key: str = "", remote: bool = False) -> Target:
    """`http://127.0.0.1:8000` -> its target; another path than `/` is the one that images are posted to.

    Args:
        url: http only.
        key: an API key.
        remote: whether another machine may be loaded.

    Raises:
        UsageError: another address, or a machine that was not allowed.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, 80 if parts.port is None else parts.port
    except ValueError:
        host, port = None, 0
    if host is None or not port or parts.scheme != "http" or not url.isascii() or not url.isprintable() or " " in url:
        raise UsageError(
            f"--serve is the address of a server: {url[:80]!a} was given.", "--serve http://127.0.0.1:8000"
        )
    path = (parts.path if parts.path not in ("", "/") else "/v1/classify") + (f"?{parts.query}" if parts.query else "")
    found = Target(host, port, path, key)
    if not found.local and not remote:
        raise UsageError(
            f"{host} is another machine, and a load test takes all that a server has.", "--allow-remote, if it is yours"
        )
    return found


@dataclass
class Load:
    """What a load test found.

    Attributes:
        clients: at the same time.
        seconds: from the first request to the last answer.
        latencies: seconds of each answered request (status 200).
        statuses: HTTP status, or the name of an error -> how many.
    """

    clients: int
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)

    @property
    def per_s(self) -> float:
        """Answers per second."""
        return len(self.latencies) / self.seconds if self.seconds else 0.0

    def percentile(self, share: float) -> float:
        """Seconds within which this share of the answers came; NaN without any."""
        if len(self.latencies) < 2:
            return self.latencies[0] if self.latencies else float("nan")
        return statistics.quantiles(self.latencies, n=1000, method="inclusive")[round(1000 * share) - 1]


def load_test(target: Target, images: Sequence[bytes], clients: int, requests: int) -> Load:
    """Ask, and measure.

    Args:
        target: the server.
        images: bodies, in turn.
        clients: at the same time.
        requests: in all.

    Raises:
        WeevitError: no request was answered at all.
    """
    found = asyncio.run(_load(target, images, clients, requests))
    if not any(status.isdecimal() for status in found.statuses):
        raise WeevitError(
            f"Nothing answers at {target.host}, port {target.port}: {', '.join(found.statuses)}.", "weevit serve"
        )
    return found


async def _load(target: Target, images: Sequence[bytes], clients: int, requests: int) -> Load:
    found, numbers = Load(clients), iter(range(requests))
    start = time.perf_counter()
    await asyncio.gather(*(_client(target, images, numbers, found) for _ in range(clients)))
    found.seconds = time.perf_counter() - start
    return found


async def _client(target: Target, images: Sequence[bytes], numbers: Iterator[int], found: Load) -> None:
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    for number in numbers:  # one iterator for all clients
        body = images[number % len(images)]
        start = time.perf_counter()
        try:
            async with asyncio.timeout(_PATIENCE_S):
                connection = connection or await asyncio.open_connection(target.host, target.port)
                status, stays = await _ask(*connection, target.head(len(body)) + body)
        except (OSError, EOFError, TimeoutError, ValueError, asyncio.LimitOverrunError) as error:
            found.statuses[one_line(type(error).__name__)] += 1
            _close(connection)
            connection = None
            continue
        found.statuses[status] += 1
        if status == "200":
            found.latencies.append(time.perf_counter() - start)
        if not stays:
            _close(connection)
            connection = None
    _close(connection)


def _close(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None) -> None:
    if connection is not None:
        connection[1].close()


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> tuple[str, bool]:
    """The status, and whether the connection stays open; the body is read and dropped."""
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    status = b"".join(head.split(None, 2)[1:2]).decode("ascii")
    if not status.isdecimal():
        raise ValueError("no status")
    if b"transfer-encoding: chunked" in head:
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            await reader.readexactly(size + 2)
        await reader.readuntil(b"\r\n")
    else:
        await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n")[0]))
    return status, b"connection: close" not in head


def made_images(count: int = 8) -> list[bytes]:
    """JPEGs of about 100 kB, 500 x 375, the same ones each time: for a load test without photos."""
    import numpy as np
    from PIL import Image

    rng, made = np.random.default_rng(0), []
    for _ in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (47, 63, 3), dtype=np.uint8)).resize((500, 375))
        noise = rng.integers(-40, 41, (375, 500, 3))
        pixels = np.clip(np.asarray(coarse).astype(np.int64) + noise, 0, 255).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=80)
        made.append(file.getvalue())
    return made
