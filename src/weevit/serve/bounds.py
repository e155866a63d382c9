"""What a request may cost, checked before any work is done for it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Bounds:
    """Limits of a server.

    Attributes:
        max_request: bytes of a request's body.
        max_images: images in one request.
        queue: images that are accepted and not answered yet; a request beyond it gets 503 with Retry-After.
        deadline_s: seconds in which the images of a request are begun, or it gets 503: at once where it is expected to
            take longer.
        connections: open at a time; a further one is closed at once.
        head_s: seconds in which the head of a request has to arrive.
        body_s: seconds that its body may take, beside the time that `body_rate` allows.
        body_rate: bytes per second below which a client is too slow to wait for.
        bodies: bytes of all bodies held at a time, each until its answer; a request beyond it gets 503.
        drain_s: seconds after SIGTERM in which connections are still taken, so that load balancers notice.
    """

    max_request: int = 32 << 20
    max_images: int = 64
    queue: int = 256
    deadline_s: float = 60.0
    connections: int = 512
    head_s: float = 8.0
    body_s: float = 8.0
    body_rate: int = 16 << 10
    bodies: int = 256 << 20
    drain_s: float = 1.0


PAUSE_S = 1.0
"""Seconds after a 503 in which the same connection gets its next one late: who asks again at once would take the
processor from those that are answered. It is the shortest `Retry-After`."""

MAX_HEAD = 16 << 10
"""Bytes of a request's head."""

MAX_PIPELINED = 16
"""Requests that a connection may send ahead of their answers."""
