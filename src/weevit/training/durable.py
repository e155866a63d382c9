"""Folders that appear whole or not at all, as single files do with `weevit.zoo.manifest.replace_file`."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from weevit.zoo.manifest import sync


@contextmanager
def replacing_folder(final: Path) -> Iterator[Path]:
    """Gives a new folder beside `final`, which takes its place when the block ends well: all of it or nothing.

    The block syncs its files. Where there is such a folder already, there is none for the moment between two renames.
    """
    tag = secrets.token_hex(4)
    tmp, old = (final.with_name(f".{final.name}.{tag}.{kind}") for kind in ("tmp", "old"))
    tmp.mkdir()
    try:
        yield tmp
        sync(tmp)
        if final.exists():
            final.rename(old)
        tmp.rename(final)
        sync(final.parent)
    finally:
        for leftover in (tmp, old):
            shutil.rmtree(leftover, ignore_errors=True)
