"""S5: addresses in requests are off; with a list, nothing leads to this machine or a private network."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import serving

pytestmark = pytest.mark.usefixtures("serve_extra")

from conftest import png  # noqa: E402 - after the mark
from weevit.errors import ImageError, TooLargeImageError, UsageError  # noqa: E402


@pytest.fixture
def elsewhere() -> Iterator[serving.Server]:
    with serving.Server({"/a.png": png(0), "/large": bytes(5000)}) as server:
        yield server


def fetch(address: str, *hosts: str, limit: int = 4000) -> bytes | ImageError:
    pytest.importorskip("aiohttp")
    from weevit.serve.addresses import Addresses

    return asyncio.run(Addresses(hosts, limit).fetch(address))


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch, elsewhere: serving.Server) -> dict[str, list[str]]:
    """A name server: host -> its addresses, one after another. Port 80 leads to the server on loopback."""
    found: dict[str, list[str]] = {}
    loops, port = asyncio.selector_events.BaseSelectorEventLoop, elsewhere.port
    real_connect = loops.sock_connect

    async def getaddrinfo(self: Any, host: str, *more: Any, **named: Any) -> list[Any]:
        own = found[host]
        address = own.pop(0) if len(own) > 1 else own[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80))]

    async def connect(self: Any, sock: socket.socket, address: Any) -> None:
        await real_connect(self, sock, ("127.0.0.1", port))

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(loops, "sock_connect", connect)
    return found


def test_they_are_off(elsewhere: serving.Server) -> None:
    from weevit.serve.problems import ProblemError

    with pytest.raises(ProblemError, match="fetches no addresses"):
        fetch(f"{elsewhere.address}/a.png")
    assert elsewhere.asked == []


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1/a.png",
        "http://2130706433/a.png",
        "http://0177.0.0.1/a.png",
        "http://0x7f.1/a.png",
        "http://[::1]/a.png",
        "http://[::ffff:127.0.0.1]/a.png",
        "http://169.254.169.254/latest/meta-data",
        "http://localhost/a.png",
        "http://images.example.com.evil.com/a.png",
        "http://evil.com#images.example.com/a.png",
        "http://images.example.com@evil.com/a.png",
        "http://user:word@images.example.com/a.png",
        "http://images.example.com:8080/a.png",
        "http://images.example.com:99999/a.png",
        "http://[images.example.com/a.png",
        "file:///etc/passwd",
        "file://images.example.com/etc/passwd",
        "ftp://images.example.com/a.png",
        "gopher://images.example.com/a.png",
        "https://example.com/a.png",
    ],
)
def test_what_is_not_on_the_list_is_refused_without_a_question(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from weevit.serve.problems import ProblemError

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", lambda *_: pytest.fail("asked a name server"))
    with pytest.raises(ProblemError, match="not fetched from this address"):
        fetch(address, "images.example.com", "*.cdn.example.com")


def test_a_public_host_on_the_list_is_fetched(names: dict[str, list[str]], elsewhere: serving.Server) -> None:
    names["images.example.com"] = names["a.cdn.example.com"] = ["93.184.216.34"]
    assert fetch("http://images.example.com/a.png", "images.example.com", limit=1 << 20) == png(0)
    assert fetch("http://A.cdn.example.com/a.png", "*.cdn.example.com", limit=1 << 20) == png(0)
    assert elsewhere.asked == ["/a.png"] * 2


@pytest.mark.parametrize("inner", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "192.168.1.1", "0.0.0.0", "100.64.0.1"])
def test_a_name_that_leads_inside_is_refused(
    inner: str, names: dict[str, list[str]], elsewhere: serving.Server
) -> None:
    names["images.example.com"] = [inner]
    assert isinstance(fetch("http://images.example.com/a.png", "images.example.com"), ImageError)
    assert elsewhere.asked == []


def test_rebinding_a_name_helps_nobody(names: dict[str, list[str]], elsewhere: serving.Server) -> None:
    """The first answer is public, the next ones are not: what counts is where the connection goes."""
    names["images.example.com"] = ["93.184.216.34", "127.0.0.1"]
    assert fetch("http://images.example.com/a.png", "images.example.com", limit=1 << 20) == png(0)
    assert isinstance(fetch("http://images.example.com/a.png", "images.example.com"), ImageError)
    assert elsewhere.asked == ["/a.png"]


def test_redirects_are_not_followed_and_sizes_are_limited(
    names: dict[str, list[str]], elsewhere: serving.Server
) -> None:
    names["images.example.com"] = ["93.184.216.34"]
    elsewhere.redirect("/away", "http://127.0.0.1/a.png")
    for path in ("away", "large", "absent"):
        assert isinstance(fetch(f"http://images.example.com/{path}", "images.example.com"), ImageError)
    assert elsewhere.asked == ["/away", "/large", "/absent"]


def test_the_images_of_a_request_have_its_limit_together(
    names: dict[str, list[str]], elsewhere: serving.Server
) -> None:
    """Before, each of 64 images had it for itself: 2 GB for a request of a few kilobytes."""
    from weevit.serve.addresses import Addresses
    from weevit.serve.bounds import Bounds
    from weevit.serve.forms import read_images

    names["images.example.com"] = ["93.184.216.34"]
    bounds = Bounds(max_request=12_000)
    addresses = Addresses(["images.example.com"], bounds.max_request)
    given = ["http://images.example.com/large"] * 4
    found = [one.value for one in asyncio.run(read_images(given, bounds, addresses, ""))]
    assert found[:2] == [bytes(5000)] * 2
    assert all(isinstance(one, TooLargeImageError) for one in found[2:])


def test_a_list_has_names_only() -> None:
    from weevit.serve.addresses import Addresses

    for host in ("127.0.0.1", "http://a.b", "*", "a b.c", "[::1]", "localhost", "a.b/c"):
        with pytest.raises(UsageError, match="names of hosts"):
            Addresses([host], 1)
