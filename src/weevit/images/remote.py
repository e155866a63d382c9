"""Images at addresses (`s3://`, `gs://`, `hf://`, `https://`), through fsspec.

An address means what a path would: a folder, a pattern, a list, a table, an archive, or one image. Comes with
`pip install "weevit[remote]"`; credentials come from where fsspec's own packages look.

The allowed addresses are decided here, not by fsspec, whose addresses can be small programs: `reference://` runs a
template, `filecache::` writes files, `file://` leads back to this machine, and `::` chains them. Therefore:

- Protocols are allowed by name (`PROTOCOLS`), one per address. Chains are refused, and fsspec never parses an address:
  it gets a protocol's name and a path.
- Addresses inside lists and tables are a stranger's. They are fetched only where the user allows it
  (`--allow-urls`, or `WEEVIT_ALLOW_URLS=public` in the environment), and only from public hosts, unless private ones
  are allowed too (`--allow-private-urls`, `WEEVIT_ALLOW_URLS=private`).
- A redirect leads to the loopback or to a private network only where the user's own address does. The connection is
  checked, so no spelling of a host and no name server gets around it.
"""

from __future__ import annotations

import errno
import io
import ipaddress
import os
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

from weevit.errors import (
    EmptyImageError,
    ImageError,
    MissingExtraError,
    MissingImageError,
    TooLargeImageError,
    UnreadableImageError,
    UsageError,
    did_you_mean,
)
from weevit.images.decode import Limits, check_bytes
from weevit.images.source import ABSENT, natural_key, why_no_path
from weevit.store.extras import missing

PROTOCOLS = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "hf", "http", "https")
"""The protocols that fsspec is used for. None of them runs a program, writes or reads files of this machine."""

ALLOW_URLS = "WEEVIT_ALLOW_URLS"
"""Environment variable, so that it holds for worker processes too: empty, `public` or `private`."""


@dataclass(frozen=True)
class RemoteFile:
    """A file at an address.

    Attributes:
        name: the address.
        system: fsspec's file system.
        path: the file's name in it.
        info: the entry of a listing; empty without one.
    """

    name: str
    system: Any
    path: str
    info: Any = None

    def open(self) -> BinaryIO:
        """The file, read in blocks on demand."""
        try:
            return cast(BinaryIO, _Opened(self.system.open(self.path, "rb"), self.name))
        except Exception as error:
            raise _as_image_error(error, self.name) from error

    def blocks(self, size: int) -> Iterator[bytes]:
        """The whole file, in blocks of `size` bytes."""
        with self.open() as file:
            while True:
                block = file.read(size)
                if not block:
                    return
                yield block

    def read(self, limits: Limits) -> bytes:
        """The whole file, bounded by the limit; its size is checked first where the server gives it."""
        try:
            size = self._info().get("size")
            check_bytes(size or 0, limits)
            data = bytearray()
            if self.info and size and not self.name.startswith("http"):  # opening it would ask for its size again
                data += self.system.cat_file(self.path, start=0, end=size)
            else:
                kept = {"cache_type": "none"} if size else {}
                with self.system.open(self.path, "rb", **kept) as file:
                    while len(data) <= limits.max_bytes and (part := file.read(limits.max_bytes + 1 - len(data))):
                        data += part  # a stream of unknown size gives what has come so far
        except Exception as error:
            raise _as_image_error(error, self.name) from error
        if not data:
            raise EmptyImageError(f"{self.name}: the file is empty")
        if len(data) > limits.max_bytes:
            raise TooLargeImageError(f"more than {limits.max_bytes:,} bytes, which is the limit")
        return bytes(data)

    def fingerprint(self) -> str:
        """The server's tag, or else size and time."""
        try:
            info = self._described()
        except Exception as error:
            return ABSENT if _is_absent(error) else "unknown"
        keys = ("ETag", "etag", "blob_id", "size", "LastModified", "Last-Modified", "mtime")
        told = [info.get(key) for key in keys if info.get(key)]
        return "-".join(str(value).strip('"') for value in told[:2]) or "unknown"

    def described(self) -> RemoteFile:
        """The file with the server's entry, so that it need not be asked for again; itself where there is none."""
        try:
            return replace(self, info=self._described())
        except Exception:  # opening it says why
            return self

    @property
    def size(self) -> int | None:
        """Bytes by the server's entry; None without one."""
        size = (self.info or {}).get("size")
        return int(size) if size else None

    def beside(self, entry: str) -> RemoteFile:
        """A path relative to this file's folder, or an address; ImageError as for `listed`."""
        if "://" in entry:
            return listed_file(entry)
        if wrong := why_no_path(entry):
            raise wrong
        folder = without_query(self.path).rpartition("/")[0]
        return RemoteFile(f"{self.name.rpartition('/')[0]}/{entry}", self.system, f"{folder}/{entry}")

    def _described(self) -> Any:
        """The server's entry with size and time; a page of the web that lists files tells neither."""
        told = self.info and self.info.get("size") is not None
        return self.info if told else self.system.info(self.path)

    def _info(self) -> Any:
        return self.info or self.system.info(self.path)


class _Opened(io.RawIOBase):
    """A file that fsspec has opened; a connection may end at any byte, which is an ImageError."""

    def __init__(self, file: Any, name: str) -> None:
        self._file, self._name = file, name

    def read(self, size: int = -1, /) -> bytes:
        return bytes(self._called("read", size))

    def readinto(self, buffer: Any, /) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return int(self._called("seek", offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._file.seekable())

    def close(self) -> None:
        self._file.close()
        super().close()

    def _called(self, name: str, *values: int) -> Any:
        try:
            return getattr(self._file, name)(*values)
        except Exception as error:
            raise _as_image_error(error, self._name) from error


def remote_file(address: str) -> RemoteFile:
    """One file at a user's address; no request is made.

    Raises:
        UsageError: an address of another protocol.
        MissingExtraError: fsspec, or its package for this protocol, is not installed.
    """
    return _file(address, trusted_host=_host(address))


def listed_file(address: str) -> RemoteFile:
    """One file at an address in a list or table; UnreadableImageError where such addresses may not be fetched."""
    allowed = os.environ.get(ALLOW_URLS, "")
    try:
        _protocol(address)  # --allow-urls would not help with another one
        if allowed not in ("public", "private"):
            raise UnreadableImageError(
                "an address inside a list or table; such addresses are fetched only with --allow-urls"
            )
        return _file(address, trusted_host=_host(address) if allowed == "private" else None)
    except (UsageError, MissingExtraError) as error:  # one invalid row does not end a run
        raise UnreadableImageError(" ".join(str(error).split())) from error


def _file(address: str, trusted_host: str | None) -> RemoteFile:
    protocol = _protocol(address)
    try:
        import fsspec

        kind: Any = fsspec.get_filesystem_class(protocol)
    except ImportError as error:
        raise missing("remote", f"{protocol}:// addresses: {error}") from error
    except ValueError as error:  # this fsspec has no such protocol
        raise UsageError(f"{protocol}:// addresses: {error}", _EXAMPLES) from error
    options = {"get_client": partial(web_client, trusted_host)} if protocol in ("http", "https") else {}
    try:
        plain = protocol + address[len(protocol) :]  # fsspec knows no capitals in it
        path = str(kind._strip_protocol(plain))
        system = kind(**kind._get_kwargs_from_urls(plain), **options)
    except Exception as error:  # the protocol's package rejects the address
        raise UsageError(f"{address[:80]}: {error}", _EXAMPLES) from error
    return RemoteFile(address, system, path)


_EXAMPLES = "For instance s3://bucket/photos or https://host/photo.jpg."


def _host(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:  # brackets that do not close
        return None


def _protocol(address: str) -> str:
    """The protocol of an address; UsageError for several, or for one that is not in `PROTOCOLS`."""
    protocol = address.partition("://")[0].lower()
    shown = address[:80]  # an address may be a whole file in base64
    if "::" in address:
        raise UsageError(f"{shown}: a chain of addresses (::) is never followed.", _EXAMPLES)
    if protocol in ("file", "local"):
        raise UsageError(f"{shown}: {protocol}:// addresses are not read.", "Give the path of the file itself.")
    if protocol not in PROTOCOLS:
        known = ", ".join(PROTOCOLS)
        near = did_you_mean(protocol[:40], PROTOCOLS)
        raise UsageError(f"{shown}: addresses of this kind are not read; {known} are.", near)
    return protocol


async def web_client(trusted_host: str | None, **options: Any) -> Any:
    """A client for the web that checks each connection; a private address only where the trusted host has it."""
    import aiohttp

    connector = aiohttp.TCPConnector(socket_factory=partial(_open_socket, _addresses_of(trusted_host)))
    return aiohttp.ClientSession(connector=connector, **options)


def _addresses_of(host: str | None) -> frozenset[str]:
    """The network addresses of a host; none for an unknown one."""
    try:
        return frozenset(str(found[4][0]) for found in socket.getaddrinfo(host, None)) if host else frozenset()
    except (OSError, UnicodeError):
        return frozenset()


def _open_socket(trusted: frozenset[str], target: Any) -> socket.socket:
    """A socket for a row of `socket.getaddrinfo`; PermissionError if it leads to an untrusted private address."""
    family, kind, protocol, _, (address, *_) = target
    if address not in trusted and not is_public(address):
        raise PermissionError(errno.EACCES, f"{address} is this machine or in a private network")
    return socket.socket(family, kind, protocol)


_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")
"""Addresses of IPv4 hosts in networks with IPv6 only (RFC 6052)."""


def is_public(address: str) -> bool:
    """Whether a network address is public: no loopback, private, link-local or special range."""
    found: Any = ipaddress.ip_address(address.partition("%")[0])
    if found.version == 6:
        inner = found.ipv4_mapped or found.sixtofour
        if found in _TRANSLATED:
            inner = ipaddress.ip_address(int(found) & 0xFFFFFFFF)
        found = inner or found
    return bool(found.is_global and not found.is_multicast)


def listing(file: RemoteFile) -> Iterator[RemoteFile]:
    """The files at or below an address, or the matches of a pattern, in natural order, without hidden ones.

    Folders of a bucket are listed one after another, as on a disk: held are the entries of one folder, and of those
    that it lies in.
    """
    try:
        if is_pattern(file.name) or file.name.startswith(("http://", "https://")):  # pages link to anything
            ask = file.system.glob if is_pattern(file.name) else file.system.find
            found: dict[str, Any] = ask(file.path, detail=True)
            entries = [{**found[path], "name": path} for path in sorted(found, key=natural_key)]
            entries = [one for one in entries if one.get("type") != "directory" and not _is_hidden(one, file.path)]
        else:
            entries = _entries(file.system, file.path)
    except Exception as error:
        raise _as_image_error(error, file.name) from error
    yield from _below(file.system, entries)


def _entries(system: Any, path: str) -> list[Any]:
    """The entries of a folder, in natural order of their names; a file is its own entry."""
    found = system.ls(path, detail=True)
    system.invalidate_cache()  # fsspec keeps listings for ever
    shown = [entry for entry in found if not _is_hidden(entry, path)]
    return sorted(shown, key=lambda entry: natural_key(str(entry["name"]).rstrip("/").rpartition("/")[2]))


def _is_hidden(entry: Any, asked: str) -> bool:
    """Whether a name on the way to an entry begins with a dot, and was not asked for."""
    named = [part for part in asked.split("/") if part.startswith(".")]
    hidden = [part for part in str(entry["name"]).split("/") if part.startswith(".")]
    return not all(any(fnmatchcase(part, one) for one in named) for part in hidden)


def _below(system: Any, entries: list[Any]) -> Iterator[RemoteFile]:
    """The files among entries and below them; ImageError for an unreadable folder."""
    for entry in entries:
        path = str(entry["name"])
        address = str(system.unstrip_protocol(path))
        if entry.get("type") != "directory":
            yield RemoteFile(address, system, path, entry)
            continue
        try:
            inner = _entries(system, path)
        except Exception as error:
            raise _as_image_error(error, address) from error
        yield from _below(system, inner)


def is_pattern(address: str) -> bool:
    """Whether an address has wildcards; on the web a question mark begins a query."""
    web = address.startswith(("http://", "https://"))
    return any(sign in address for sign in ("*[" if web else "*?["))


def without_query(address: str) -> str:
    """An address of the web up to its query, in which its secrets are; others as they are."""
    return re.split("[?#]", address, maxsplit=1)[0] if _WEB.match(address) else address


_WEB = re.compile("https?://", re.IGNORECASE)


def _is_absent(error: Exception) -> bool:
    """Whether the file does not exist. fsspec calls every HTTP failure a missing file; its cause tells."""
    cause = error.__cause__
    if not isinstance(error, FileNotFoundError) or getattr(cause, "status", 404) not in (404, 410):
        return False
    return not isinstance(cause, OSError) or isinstance(cause, FileNotFoundError)


def _as_image_error(error: Exception, name: str) -> ImageError:
    if isinstance(error, ImageError):
        return error
    if _is_absent(error):
        return MissingImageError(f"{name}: no such file")
    told = error.__cause__ or error  # over HTTP every error says that the file is missing
    return UnreadableImageError(f"{name}: {type(told).__name__}: {told}")
