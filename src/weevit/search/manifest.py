"""`index.json`: the version of an index that readers see; it is replaced as a whole.

A shard that no manifest names does not exist. Rows that left are marked in the manifest and stay in their shard until
that is rewritten.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from weevit._version import __version__
from weevit.errors import MalformedFileError
from weevit.images.source import stamp
from weevit.search.shards import Bools, Shard
from weevit.search.space import Space
from weevit.store.files import sha256_file
from weevit.store.folder import FAILURES, Kind
from weevit.zoo import fields
from weevit.zoo.records import Count, Name, Sha256, Text, items, number, read_record_file, record, words

MANIFEST, DATA = "index.json", "data"
SCHEMA = "weevit.index/2"
SHARDS = "shard-*.safetensors"

MAX_ROWS = 1 << 20
"""Rows of a shard."""

MAX_SHARDS = 1 << 16
MAX_NUMBER = 999_999
"""Of a shard; the next one begins at 0 again, since the rest of a name is drawn."""

_name = words(64, r"shard-[0-9]{6}-[0-9a-f]{8}\.safetensors", "the name of a shard")


def _holds_shards(data: Path) -> bool:
    return data.is_dir() and all(fnmatchcase(path.name, SHARDS) for path in data.iterdir() if path.name[0] != ".")


INDEX = Kind(
    name="index",
    record=MANIFEST,
    schemas=("weevit.index",),
    files={"": (MANIFEST, FAILURES, DATA), DATA: ("*",)},
    unfinished={DATA: _holds_shards, FAILURES: Path.is_file},
    resumed=True,
    kept="Every shard that was finished is kept.",
    again="Free some room, or make it writable, and rerun the command to resume.",
    wait="Wait for it: searches go on meanwhile.",
)


@dataclass(frozen=True)
class Line:
    """One shard.

    Attributes:
        file: its name in `data/`.
        rows: rows in it.
        bytes: size of the file.
        sha256: of the file.
        stamp: of its size and time: a file with this stamp is the one that was hashed.
        error: what a cosine of codes is off by at most.
        gone: rows that left, as bits in base64; empty where none did.
    """

    file: Annotated[str, _name]
    rows: Annotated[int, fields.whole(1, MAX_ROWS)]
    bytes: Count
    sha256: Sha256
    stamp: Name
    error: Annotated[float, number(0, 2)]
    gone: Annotated[str, words(4 * MAX_ROWS // 24 + 8)] = ""

    def left(self) -> Bools:
        """(rows) bool: the rows that left."""
        if not self.gone:
            return np.zeros(self.rows, bool)
        try:
            bits = np.frombuffer(base64.b64decode(self.gone, validate=True), np.uint8)
        except (binascii.Error, ValueError):
            bits = np.zeros(0, np.uint8)
        if len(bits) != -(-self.rows // 8):
            raise MalformedFileError(f"{MANIFEST}: the rows that left {self.file} are damaged.")
        return np.unpackbits(bits, count=self.rows).astype(bool)

    def without(self, rows: Bools) -> Line:
        """The line after more rows left."""
        left = self.left() | rows
        return replace(self, gone=base64.b64encode(np.packbits(left).tobytes()).decode() if left.any() else "")

    @property
    def alive(self) -> int:
        """Rows that did not leave."""
        return self.rows - int(self.left().sum())


@dataclass(frozen=True)
class Manifest:
    """One version of an index.

    Attributes:
        space: of its vectors.
        version: counts the changes.
        base: the folder that relative names start from.
        next: number of the next shard.
        shards: its shards.
        weevit: the version of weevit that wrote it.
    """

    space: Space
    version: Count = 0
    base: Text = ""
    next: Annotated[int, fields.whole(0, MAX_NUMBER)] = 0
    shards: Annotated[tuple[Line, ...], items(record(Line), MAX_SHARDS)] = field(default=())
    weevit: Name = __version__

    @property
    def images(self) -> int:
        """Images in the index."""
        return sum(line.alive for line in self.shards)

    def as_json(self) -> dict[str, Any]:
        """As it is written."""
        return {"schema": SCHEMA, **asdict(self)}


def read_manifest(folder: Path) -> Manifest:
    """The current version.

    Raises:
        FileNotFoundError: there is none.
        MalformedFileError: it is damaged, or of another version of weevit.
    """
    try:
        manifest = read_record_file(Manifest, folder / MANIFEST, SCHEMA)
        if len({line.file for line in manifest.shards}) < len(manifest.shards):
            raise MalformedFileError(f"{folder / MANIFEST} names a shard twice.")
        return manifest
    except MalformedFileError as error:
        raise MalformedFileError(
            error.message, f"Make it again in another folder, or delete {folder}: its images are not in it."
        ) from error


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Make a version the current one; OutputError where the disk does not take it."""
    INDEX.write(folder, MANIFEST, manifest.as_json())


def open_shard(folder: Path, line: Line, width: int, hashed: bool = False) -> Shard:
    """A shard, checked: by its size and time, or by its bytes where those differ or `hashed`.

    Raises:
        FileNotFoundError: it does not exist.
        MalformedFileError: its bytes are others.
    """
    path = folder / DATA / line.file
    shard = Shard(path, line.rows, width)
    if (hashed or stamp(path) != line.stamp) and sha256_file(path) != line.sha256:
        raise MalformedFileError(
            f"{path} is damaged: its sha256 is not the recorded one.",
            "Rerun weevit index: its images are embedded anew.",
        )
    return shard
