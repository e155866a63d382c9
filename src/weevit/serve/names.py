"""The names under which clients know models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from weevit.errors import UsageError
from weevit.zoo.resolve import check_name

Model = TypeVar("Model", str, str | Path)


def names_of(words: Sequence[Model]) -> dict[str, Model]:
    """Name for clients -> the model as typed: the last part of a path, so that clients learn no folders.

    Raises:
        UsageError: two have the same name, or one is neither text nor a path.
    """
    found: dict[str, Model] = {}
    for word in words:
        check_name(word)
        name = str(word).rstrip("/").replace("\\", "/").rpartition("/")[2].removesuffix(".safetensors") or "model"
        if name in found:
            raise UsageError(
                f"Two models would be called {name!r}: {found[name]} and {word}.", "Rename one of the folders."
            )
        found[name] = word
    return found
