"""A shard of an index: vectors, their codes for the first pass, and the names of the images, as one safetensors file.

    vectors  F16 (n, D)   embeddings as the model gave them
    codes    I8  (n, D)   round(vector * 127 / its largest number)
    factors  F16 (n)      codes * factor is nearly the vector of length 1
    keys     U8  (n, 12)  begin of the sha256 of the image's bytes
    stamps   U8  (n, 6)   hash of the file's size and time
    names    U8  (b)      ids of the images, 256 per block, each block packed by zlib
    blocks   I64 (m + 1)  begin of each block in names, and the end

Everything is mapped: a query reads the codes, some vectors, and the names that it returns.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from weevit.errors import MalformedFileError
from weevit.store.files import replace_file
from weevit.store.own import open_own
from weevit.zoo.safetensors_file import MAX_FILE_BYTES, Entry, read_header

NAMES_PER_BLOCK = 256
_MAX_BLOCK = 8 << 20
"""Bytes of a block of names, unpacked: 256 paths of 4,095 characters, six bytes each."""

_LARGEST = 127

_ROUNDING = 1e-5
"""What a sum of a thousand products in float32 is off by at most."""

_DTYPES = {"F16": "<f2", "I8": "i1", "U8": "u1", "I64": "<i8"}
_FORMS = {"vectors": "F16", "codes": "I8", "factors": "F16", "keys": "U8", "stamps": "U8", "names": "U8",
          "blocks": "I64"}  # fmt: skip
KEY_BYTES, STAMP_BYTES = 12, 6

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Rows:
    """Images with their vectors, in memory.

    Attributes:
        names: ids.
        keys: (n, 12) uint8.
        stamps: (n, 6) uint8.
        vectors: (n, D) float16.
    """

    names: Sequence[str]
    keys: npt.NDArray[np.uint8]
    stamps: npt.NDArray[np.uint8]
    vectors: npt.NDArray[np.float16]


def key_of(digest: str) -> npt.NDArray[np.uint8]:
    """(12) uint8: the key of an image by the sha256 of its bytes."""
    return np.frombuffer(bytes.fromhex(digest), np.uint8)[:KEY_BYTES]


def stamp_of(fingerprint: str) -> bytes:
    """6 bytes: the stamp of an image by what `Source.fingerprint` says."""
    return hashlib.blake2b(fingerprint.encode(), digest_size=STAMP_BYTES).digest()


def coded(vectors: npt.NDArray[np.float16]) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float16]]:
    """(n, D) int8 codes and (n) float16 factors of (n, D) vectors; of a vector of zeros both are 0."""
    rows = vectors.astype(np.float32)
    largest = np.abs(rows).max(axis=1, initial=0)
    norms = np.sqrt(np.einsum("nd,nd->n", rows, rows, dtype=np.float64))
    steps = np.where(largest > 0, largest / _LARGEST, 1).astype(np.float32)
    codes = np.rint(rows / steps[:, None]).astype(np.int8)
    return codes, np.where(norms > 0, steps / np.where(norms > 0, norms, 1), 0).astype(np.float16)


def error_of(vectors: npt.NDArray[np.float16]) -> float:
    """What a cosine of codes is off by at most: the greatest length of what they leave out of a vector of length 1."""
    codes, factors = coded(vectors)
    rows = vectors.astype(np.float64)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    units = rows / np.where(norms > 0, norms, 1)
    return float(np.linalg.norm(units - codes * factors[:, None].astype(np.float64), axis=1).max(initial=0)) + _ROUNDING


def write_shard(path: Path, rows: Rows) -> str:
    """Write a shard, whole or not at all; returns its sha256. Raises the operating system's errors."""
    from safetensors.numpy import save

    codes, factors = coded(rows.vectors)
    names, blocks = _packed(rows.names)
    tensors: dict[str, Any] = {
        "vectors": rows.vectors, "codes": codes, "factors": factors, "keys": rows.keys, "stamps": rows.stamps,
        "names": names, "blocks": blocks,
    }  # fmt: skip
    # The library writes bytes in the order of the memory, which of Fortran's arrays is another.
    ordered = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    content = save(ordered)  # in memory: the library's own errors do not say what the disk said
    replace_file(path, lambda tmp: tmp.write_bytes(content))
    return hashlib.sha256(content).hexdigest()


def _packed(names: Sequence[str]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    starts = range(0, len(names), NAMES_PER_BLOCK)
    blocks = [_packed_block(names[start : start + NAMES_PER_BLOCK]) for start in starts]
    ends = np.cumsum([0, *map(len, blocks)], dtype=np.int64)
    return np.frombuffer(b"".join(blocks), np.uint8), ends


def _packed_block(names: Sequence[str]) -> bytes:
    """Names by rows, or by columns of their letters, whichever is smaller; both are JSON, and begin with [ or with ".

    By columns what names share takes nothing, and a column of hexadecimal digits four bits each: 16 bytes for a UUID.
    """
    lines = [json.dumps(name).encode() for name in names]
    width = max(map(len, lines))
    padded = b"".join(line.ljust(width) + b"," for line in lines)
    columns = zlib.compressobj(9, strategy=zlib.Z_FILTERED)
    by_columns = columns.compress(_transposed(padded, len(lines))) + columns.flush()
    return min(by_columns, zlib.compress(b"[" + b",".join(lines) + b"]", 9), key=len)


def _unpacked_block(block: bytes, count: int) -> Any:
    """What `_packed_block` packed; ValueError or zlib.error where it did not pack this."""
    text = zlib.decompressobj().decompress(block, _MAX_BLOCK)
    if not text.startswith(b"["):
        text = b"[" + _transposed(text, len(text) // count)[:-1] + b"]"
    return json.loads(text)


def _transposed(text: bytes, rows: int) -> bytes:
    return np.frombuffer(text, np.uint8).reshape(rows, -1).T.tobytes()


class Shard:
    """A shard of the disk, mapped.

    Args:
        path: its file.
        rows, width: numbers of rows, and of numbers of a vector.

    Attributes:
        vectors, codes, factors, keys, stamps: as in the module's docstring.

    Raises:
        FileNotFoundError: it does not exist.
        MalformedFileError: it is no such shard.
    """

    def __init__(self, path: Path, rows: int, width: int) -> None:
        self.path = path
        with open_own(path, MAX_FILE_BYTES) as file:
            entries = read_header(path)
            if {name: entry.dtype for name, entry in entries.items()} != _FORMS:
                raise MalformedFileError(f"{path} is no shard of an index.")
            whole = np.memmap(file, np.uint8, "r").view(np.ndarray)  # once: each mapping holds the file open
        arrays = {name: _part(whole, entry) for name, entry in entries.items()}
        blocks = -(-rows // NAMES_PER_BLOCK)
        shapes = {"vectors": (rows, width), "codes": (rows, width), "factors": (rows,), "keys": (rows, KEY_BYTES),
                  "stamps": (rows, STAMP_BYTES), "blocks": (blocks + 1,)}  # fmt: skip
        for name, shape in shapes.items():
            if arrays[name].shape != shape:
                raise MalformedFileError(f"{path}: {name} has the shape {arrays[name].shape}, expected {shape}.")
        self.vectors, self.codes, self.factors = arrays["vectors"], arrays["codes"], arrays["factors"]
        self.keys, self.stamps = arrays["keys"], arrays["stamps"]
        self._names, self._blocks = arrays["names"], arrays["blocks"]

    def __len__(self) -> int:
        return len(self.factors)

    def name(self, row: int) -> str:
        """The id of an image."""
        return self._block(row // NAMES_PER_BLOCK)[row % NAMES_PER_BLOCK]

    def names(self) -> Iterator[str]:
        """All ids, in order."""
        for block in range(len(self._blocks) - 1):
            yield from self._block(block)

    def rows(self, chosen: npt.NDArray[np.int64]) -> Rows:
        """Some rows, as a copy."""
        wanted = set(chosen.tolist())
        names = [name for row, name in enumerate(self.names()) if row in wanted]
        return Rows(names, np.array(self.keys[chosen]), np.array(self.stamps[chosen]), np.array(self.vectors[chosen]))

    def _block(self, block: int) -> list[str]:
        start, end = (int(self._blocks[block + own]) for own in (0, 1))
        if not 0 <= start <= end <= len(self._names):
            raise MalformedFileError(f"{self.path}: its names are damaged.")
        expected = min(NAMES_PER_BLOCK, len(self) - block * NAMES_PER_BLOCK)
        try:
            names = _unpacked_block(self._names[start:end].tobytes(), expected)
        except (zlib.error, ValueError, RecursionError):
            names = None
        if not isinstance(names, list) or len(names) != expected or not all(isinstance(name, str) for name in names):
            raise MalformedFileError(f"{self.path}: its names are damaged.")
        return names


def _part(whole: npt.NDArray[np.uint8], entry: Entry) -> npt.NDArray[Any]:
    return whole[entry.begin : entry.end].view(_DTYPES[entry.dtype]).reshape(entry.shape)
