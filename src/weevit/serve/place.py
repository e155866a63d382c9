"""Where a server listens."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

from weevit.errors import UsageError


@dataclass(frozen=True)
class Place:
    """Where a server listens.

    Attributes:
        host: address of this machine; `0.0.0.0` for all of them.
        port: 0 for a free one.
    """

    host: str
    port: int

    def open(self) -> socket.socket:
        """A socket that listens; UsageError if it cannot be had."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        try:
            opened = socket.create_server((self.host, self.port), family=family, backlog=1024)
        except OSError as error:
            why = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
            raise UsageError(
                f"Nothing can listen at {self.host}, port {self.port}: {why}.",
                f"--port {self.port + 1 if self.port < 65535 else 8000}",
            ) from None
        opened.setblocking(False)
        return opened
