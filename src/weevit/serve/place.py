"""Where a server listens."""

from __future__ import annotations

import errno
import ipaddress
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
        if not self.host:
            raise UsageError("--host is an address of this machine; an empty one was given.", _NEAR)
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        try:
            socket.getaddrinfo(self.host, self.port, family)  # a socket would be left open by what is no name
            opened = socket.create_server((self.host, self.port), family=family, backlog=1024)
        except (OSError, UnicodeError) as error:
            raise UsageError(
                f"Nothing can listen at {self.host}, port {self.port}: {_why(error)}.", self._hint(error)
            ) from None
        opened.setblocking(False)
        return opened

    def _hint(self, error: Exception) -> str:
        code = error.errno if isinstance(error, OSError) else None
        if code == errno.EADDRINUSE and self.port < 65535:
            return f"--port {self.port + 1}"
        return "--port 8000" if code in (errno.EADDRINUSE, errno.EACCES) else _NEAR


_NEAR = "--host 127.0.0.1   this machine only; 0.0.0.0 for all of its addresses"


def _why(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno and error.errno > 0:
        return os.strerror(error.errno)
    return "there is no address of this name"


def is_this_machine(host: str) -> bool:
    """Whether a name or an address leads to this machine on every machine, so that it is reached from no other."""
    name = host.rstrip(".").lower()
    try:
        return ipaddress.ip_address(name.partition("%")[0]).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")
