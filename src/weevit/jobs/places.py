"""The place of a job: a path, or the address of a folder in a bucket."""

from __future__ import annotations

import os
from typing import TypeAlias
from urllib.parse import urlsplit

from weevit.errors import UsageError, did_you_mean
from weevit.images.remote import remote_file
from weevit.store.bucket import Bucket
from weevit.store.outputs import is_address, local
from weevit.store.place import Disk, Place

Folder: TypeAlias = str | os.PathLike[str] | Place

PROTOCOLS = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss")
"""Stores that put an object whole, and on a condition; what is read from the web cannot be written."""


def place_of(folder: Folder) -> Place:
    """The place of a folder; no request is made.

    Raises:
        UsageError: no path; an address that cannot be written, or one with a password in it.
        MissingExtraError: fsspec's package for this protocol is not installed.
    """
    if isinstance(folder, Place):
        return folder
    if not isinstance(folder, str | os.PathLike):
        raise UsageError(f"The folder of a job is a path or an address: {folder!r:.60} was given.")
    text = os.fsdecode(folder)
    if not is_address(text):
        return Disk(local(text))
    protocol = text.partition(":")[0].lower()
    if protocol not in PROTOCOLS:
        near = did_you_mean(protocol[:40], PROTOCOLS)
        raise UsageError(
            f"--output is a path, or an address of {', '.join(PROTOCOLS)}: {protocol[:40]!r} is none of them.",
            near or "For instance s3://bucket/answers.",
        )
    parts = urlsplit(text)
    if parts.password is not None:
        raise UsageError(
            "The address holds a password, which would stand in messages.",
            "Give it where the store's own tools look: environment variables, or their configuration files.",
        )
    if not parts.netloc:
        raise UsageError(f"{text!r} names no bucket.", f"For instance {protocol}://bucket/answers.")
    file = remote_file(text)
    return Bucket(text, file.system, file.path)
