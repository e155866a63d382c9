"""Embeddings on the disk: by what was looked at and by what looked.

A row is found by the sha256 of an image's encoded bytes, a folder of rows by everything else that an embedding
depends on: weights, architecture, preprocessing, engine, precision, device, version. So an image that is renamed,
copied or put into another split is known, and one that is changed is not.

Rows lie in files named after the sha256 of their folder's name and their own content. Each is written whole or not at
all, so that an interrupted run keeps what it computed and two processes cannot spoil each other's files; and each is
checked against its name before a row of it is used. A damaged one is deleted, and its rows are computed anew. All
folders together have a limit: what was not used for longest goes first.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from weevit._version import __version__
from weevit.answers.results import Array
from weevit.engine.choice import DEFAULT
from weevit.errors import MalformedFileError
from weevit.predict import Predictor
from weevit.store.cache import cache_folder, evict, is_ours, make_own
from weevit.store.files import replace_file
from weevit.store.keys import Keys, first_8
from weevit.store.own import open_own

SCHEMA = "weevit.embeddings/2"

MAX_FILE_BYTES = 1 << 30
"""Ten times `ROWS_A_FILE` of the widest embedding in float64."""

SECONDS_A_FILE = 15.0
"""What a killed run loses at most; one that is interrupted or fails loses nothing."""

ROWS_A_FILE = 4096

MOST_MAPPED = 256
"""Files that are mapped, each of which stays open; the rows of further ones are read into memory."""

DEFAULT_LIMIT = 4 * 1024**3
"""Bytes of all that is kept; the folder in use stays even if it alone has more."""

_OWN = "[0-9a-f]" * 40
"""The names of our own folders: whatever else lies beside them is not ours to delete."""

_BLOCK = 1 << 20


def default_cache() -> Path | None:
    """`embeddings` under weevit's cache; None where there is no home folder for one."""
    folder = cache_folder()
    return folder / "embeddings" if folder else None


class Kept:
    """The rows of one model: those that were there, mapped from the disk, and those that are new.

    Args:
        predictor: the model.
        cache: the folder of all models' rows; None where there is none.
    """

    def __init__(self, predictor: Predictor, cache: Path | None) -> None:
        self._folder = cache / _key(predictor) if cache else None
        self._kind = np.dtype(
            [("hash", "u1", (32,)), ("vector", "<f4", (predictor.checkpoint.architecture.embed_dim,))]
        )
        self.notes: list[str] = []
        self._files: list[npt.NDArray[np.void]] = []
        self._new: dict[bytes, Array] = {}
        self._written = time.monotonic()
        if self._folder is None:
            self._note("embeddings are not kept: there is no home folder; WEEVIT_CACHE names another")
        else:
            self._load(self._folder)
        self._index()

    def get(self, digest: str | None) -> Array | None:
        """The embedding of the image with this sha256; None where there is none."""
        if digest is None:
            return None
        key = bytes.fromhex(digest)
        if key in self._new:
            return self._new[key]
        for position in self._keys.of(int.from_bytes(key[:8], "little")):
            row = self._files[position >> 32][position & 0xFFFFFFFF]
            if row["hash"].tobytes() == key:
                return np.array(row["vector"])
        return None

    def put(self, digest: str | None, vector: Array) -> None:
        """Keep an embedding; it is on the disk some seconds later, or after `write`."""
        if digest is None:
            return
        self._new[bytes.fromhex(digest)] = vector
        if len(self._new) >= ROWS_A_FILE or time.monotonic() - self._written > SECONDS_A_FILE:
            self.write()

    def write(self) -> None:
        """Put what is new on the disk. A full or read-only one costs time later, not the answer."""
        self._written = time.monotonic()
        new, self._new = self._new, {}
        if not new:
            return
        rows = np.zeros(len(new), self._kind)
        rows["hash"] = np.frombuffer(b"".join(new), np.uint8).reshape(-1, 32)
        rows["vector"] = np.stack(list(new.values()))
        self._files.append(self._mapped(rows))
        self._index()

    def _mapped(self, rows: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
        """The rows as a file that is mapped; themselves where they cannot be kept."""
        folder = self._folder
        if folder is None:
            return rows
        buffer = io.BytesIO()
        np.save(buffer, rows)
        content = buffer.getvalue()
        path = folder / f"{_digest(folder, io.BytesIO(content))}.npy"
        try:
            make_own(folder.parent)
            make_own(folder)
            replace_file(path, lambda tmp: tmp.write_bytes(content))
            evict(kept_folders(folder.parent), DEFAULT_LIMIT, folder, _remove)
            with path.open("rb") as file:
                return self._held(_map(file))
        except (OSError, ValueError) as error:
            self._note(f"embeddings could not be kept in {folder}: {getattr(error, 'strerror', None) or error}")
            return rows

    def _load(self, folder: Path) -> None:
        with contextlib.suppress(OSError):
            os.utime(folder)  # the time of last use, for eviction
        for path in sorted(folder.glob("*.npy")):
            rows = self._sound(path)
            if rows is not None:
                self._files.append(rows)
                continue
            self._note("damaged files of kept embeddings were deleted; their rows are computed anew")
            with contextlib.suppress(OSError):
                path.unlink()

    def _held(self, rows: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
        return rows if len(self._files) < MOST_MAPPED else np.array(rows)

    def _index(self) -> None:
        self._keys = Keys.of_parts([first_8(rows["hash"]) for rows in self._files])

    def _sound(self, path: Path) -> npt.NDArray[np.void] | None:
        """The rows of a file; None if its content is not what its name says, or another user's."""
        try:
            with open_own(path, MAX_FILE_BYTES) as file:
                if not (is_ours(path.parent) and is_ours(path)) or _digest(path.parent, file) != path.stem:
                    return None
                file.seek(0)
                rows = self._held(_map(file))
        except (OSError, ValueError, MalformedFileError):
            return None
        return rows if rows.dtype == self._kind and rows.ndim == 1 and np.isfinite(rows["vector"]).all() else None

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def _map(file: BinaryIO) -> npt.NDArray[np.void]:
    """The array of an open `.npy` file, mapped; ValueError where it holds none, or one with objects."""
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"version {version}")
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.hasobject:
        raise ValueError("an array of objects")
    return np.memmap(file, dtype, "r", file.tell(), shape)


def _digest(folder: Path, file: BinaryIO) -> str:
    """Of a file's place and content: the same rows in another model's folder have another."""
    digest = hashlib.sha256(f"{folder.name}\n".encode())
    while block := file.read(_BLOCK):
        digest.update(block)
    return digest.hexdigest()


def kept_folders(cache: Path | None = None) -> list[tuple[Path, int]]:
    """(folder, bytes) of everything that is kept, the least recently used first; arguments as for `embed_split`."""
    found = []
    top = cache or default_cache()
    for folder in top.glob(_OWN) if top else ():
        with contextlib.suppress(OSError):  # of another process, which may delete what it lists
            size = sum(path.stat().st_size for path in folder.glob("*.npy"))
            found.append((folder.stat().st_mtime, folder, size))
    return [(folder, size) for _, folder, size in sorted(found)]


def _remove(folder: Path) -> None:
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def _not_default(predictor: Predictor) -> dict[str, str]:
    """Precision and device where they are not the default: those of earlier versions were, and keep their key."""
    own = {"precision": predictor.precision, "device": predictor.device}
    return {name: value for name, value in own.items() if value != getattr(DEFAULT, name)}


def _key(predictor: Predictor) -> str:
    """Everything but the image that an embedding depends on, as one hash.

    The weights alone would not do: where the last norm stands and how tokens are pooled is written in `config.json`.
    """
    checkpoint = predictor.checkpoint
    parts = {
        "schema": SCHEMA,
        "checkpoint": checkpoint.sha256,
        "architecture": asdict(checkpoint.architecture),
        "grid": checkpoint.grid,
        "preprocessing": predictor.pixels_depend_on(),
        "engine": predictor.engine,
        **_not_default(predictor),
        "weevit": __version__,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:40]
