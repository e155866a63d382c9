"""The names under which clients know models."""

from __future__ import annotations

from collections.abc import Sequence

from weevit.errors import UsageError


def names_of(words: Sequence[str]) -> dict[str, str]:
    """Name for clients -> the model as typed: the last part of a path, so that clients learn no folders.

    Raises:
        UsageError: two have the same name.
    """
    found: dict[str, str] = {}
    for word in words:
        name = word.rstrip("/").replace("\\", "/").rpartition("/")[2].removesuffix(".safetensors") or "model"
        if name in found:
            raise UsageError(
                f"Two models would be called {name!r}: {found[name]} and {word}.", "Rename one of the folders."
            )
        found[name] = word
    return found
