"""Images at addresses in requests: off, or from hosts on a list; never from this machine or a private network.

A host is compared as text with the list, so no other spelling of an address gets in. The connection itself is checked
where it is made (`weevit.images.remote.web_client`): a name that leads to a private address is refused whatever it led
to a moment ago. Redirects are not followed.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from weevit.errors import ImageError, TooLargeImageError, UnreadableImageError, UsageError
from weevit.serve.problems import ProblemError
from weevit.store.extras import needed

_SECONDS = 10.0
_HOST = re.compile(r"(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?")


class Addresses:
    """The hosts that images are fetched from.

    Args:
        hosts: `images.example.com`, or `*.example.com` for all below it; empty for none.
        limit: bytes of the images of a request.

    Raises:
        UsageError: a host that is no name.
        MissingExtraError: aiohttp is not installed.
    """

    def __init__(self, hosts: Sequence[str], limit: int) -> None:
        self._hosts, self._limit = tuple(host.lower() for host in hosts), limit
        for host in self._hosts:
            if not _HOST.fullmatch(host):
                raise UsageError(
                    f"--allow-urls takes names of hosts; {host[:80]!a} is none.", "--allow-urls images.example.com"
                )
        if hosts:
            needed("aiohttp", "remote", "Addresses are fetched with aiohttp, which is not installed.")

    async def fetch(self, address: str, left: int | None = None) -> bytes | ImageError:
        """The bytes at an address, or why there are none.

        Args:
            address: of one image.
            left: bytes that its request may still have; `limit` by default.

        Raises:
            ProblemError: addresses are off, or this one is not allowed.
        """
        self._check(address)
        try:
            async with asyncio.timeout(_SECONDS):
                return await self._get(address, self._limit if left is None else left)
        except ImageError as error:
            return error
        except Exception:  # of the network, the name server, the other side's protocol: no word of it is told
            return UnreadableImageError("the address does not answer")

    def _check(self, address: str) -> None:
        if not self._hosts:
            raise ProblemError(
                400,
                "addresses_off",
                "This server fetches no addresses.",
                "Send the image itself: data:image/jpeg;base64,...",
            )
        try:
            parts = urlsplit(address)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            host, port = "", None
        ok = host and parts.scheme in ("http", "https") and not parts.username and port in (None, 80, 443)
        if not ok or not any(_matches(host, allowed) for allowed in self._hosts):
            raise ProblemError(403, "address_refused", "Images are not fetched from this address.")

    async def _get(self, address: str, limit: int) -> bytes:
        from weevit.images.remote import web_client

        async with await web_client(None) as client, client.get(address, allow_redirects=False) as answer:
            if answer.status != 200:
                raise UnreadableImageError("the address does not answer with an image")
            data = bytearray()
            async for part in answer.content.iter_chunked(1 << 16):
                data += part
                if len(data) > limit:
                    raise TooLargeImageError(f"more than {limit:,} bytes, which the images of a request have together")
            return bytes(data)


def _matches(host: str, allowed: str) -> bool:
    return host == allowed or (allowed.startswith("*.") and host.endswith(allowed[1:]))
