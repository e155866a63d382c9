"""API keys: read from a file, kept as hashes, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from pathlib import Path

from weevit.errors import UsageError
from weevit.text import typed

_SHORTEST = 16
_MOST = 1000
_MAX_BYTES = 1 << 20


class Keys:
    """The keys that are taken.

    Args:
        keys: each of 16 characters or more.

    Raises:
        UsageError: one text in place of a list, whose letters would be keys; a key that can be guessed, or is none.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        if isinstance(keys, str) or not all(isinstance(key, str) and key.isascii() for key in keys):
            raise UsageError("API keys are a list of texts in ASCII.", "keys=[secrets.token_urlsafe()]")
        if any(len(key.strip()) < _SHORTEST for key in keys):
            raise UsageError(f"A key has {_SHORTEST} characters or more.", "keys=[secrets.token_urlsafe()]")
        self._hashes = [_hash(key.encode()) for key in keys]

    def has(self, given: str) -> bool:
        """Whether this is one of them; takes as long whichever it is, and whether or not it is one."""
        own = _hash(given.encode("utf-8", "surrogatepass"))
        found = False
        for known in self._hashes:
            found |= hmac.compare_digest(own, known)
        return found


def _hash(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def read_keys(path: Path) -> Keys:
    """A key per line; empty lines and lines that begin with # are passed over.

    Raises:
        UsageError: no such file, no key, too many, or one that can be guessed.
    """
    return Keys(_read(path))


def first_key(path: Path) -> str:
    """The key that a client sends; errors as `read_keys`."""
    return _read(path)[0]


def _read(path: Path) -> list[str]:
    make = f"python -c 'import secrets; print(secrets.token_urlsafe())' > {typed(path)}"
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES).decode("ascii")
    except OSError as error:
        raise UsageError(f"--api-key-file {path} cannot be read: {error.strerror}.", make) from None
    except UnicodeDecodeError:
        raise UsageError(f"--api-key-file {path} has other characters than ASCII.", make) from None
    lines = [line.strip() for line in text.splitlines()]
    keys = [line for line in lines if line and not line.startswith("#")]
    short = [number for number, key in enumerate(keys, 1) if len(key) < _SHORTEST]
    if short:
        raise UsageError(f"A key has {_SHORTEST} characters or more: key {short[0]} of {path} has fewer.", make)
    if not 1 <= len(keys) <= _MOST:
        raise UsageError(f"--api-key-file has 1 to {_MOST:,} keys, one per line: {path} has {len(keys):,}.", make)
    return keys
