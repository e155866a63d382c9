"""Read `.safetensors` files that other people made.

The header is checked completely before a tensor is made: the safetensors library lets through equal keys, names like
`../../x`, 200,000 empty tensors and 90 MB of padding, and its numpy reader knows no bfloat16. What is left to do after
the check is a `readinto` for each tensor: one copy of the weights in memory, and no mapping that a file cut short
by somebody else would turn into a crash. (For writing, the library is the better hand: see `checkpoint.py`.)

Layout: 8 bytes, little-endian: length of the header | the header, a JSON object | the tensors' bytes, end to end.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shlex
import stat
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np

from weevit.errors import CheckpointError, MalformedFileError
from weevit.zoo.strict_json import parse_json_object, shorten

MAX_FILE_BYTES = 4 << 30
"""Four times the largest model of the family in float64."""

MAX_HEADER_BYTES = 1 << 20
"""A header of the family has about 20 kB."""

MAX_DIMS = 8
MAX_NAME = 255

_ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip

FLOAT_DTYPES = ("F32", "F16", "BF16", "F64")
"""What weights may be stored as; all become float32."""

INTEGER_DTYPES = ("I8", "I32")
"""What a quantised checkpoint has besides."""

_NUMPY = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "F64": "<f8", "I8": "i1", "I32": "<i4"}

# What a parameter of a PyTorch module can be called: words joined by dots. Leaves no room for paths or control codes.
_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")

PICKLE_ENDINGS = (
    ".pth", ".pt", ".bin", ".pkl", ".pickle", ".ckpt", ".th", ".joblib", ".npz", ".npy", ".h5", ".pdparams",
    ".tar", ".zip", ".gz", ".tgz", ".bz2", ".xz", ".zst",
)  # fmt: skip
"""Endings of files that are pickles, may hold one, or are packed; none of them is ever opened as weights."""

_MAGIC = {
    b"PK\x03\x04": "a zip archive, as torch.save and numpy.savez write (with pickles inside)",
    b"\x80\x02": "a pickle",
    b"\x80\x03": "a pickle",
    b"\x80\x04": "a pickle",
    b"\x80\x05": "a pickle",
    b"\x1f\x8b": "a gzip archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ\x00": "an xz archive",
    b"(\xb5/\xfd": "a zstd archive",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a numpy file",
    b"version https://git-lfs": "a git-lfs pointer: the weights themselves were never fetched (git lfs pull)",
}

_CONVERT = """import timm, torch
from timm.models import load_state_dict, save_for_hf
c = torch.load({file}, map_location="cpu", weights_only=False)
s = load_state_dict({file}, weights_only=False)
p = s.get("pos_embed")
k = dict() if p is None else dict(img_size=16 * int(p.shape[1] ** 0.5))
m = timm.create_model(c.get("arch") or "ARCHITECTURE", num_classes=len(s.get("head.weight", ())), **k)
m.load_state_dict(s)
save_for_hf(m, {folder}, safe_serialization=True)"""
"""What timm's `train.py` saves names its architecture; where nothing does, a person has to. The number of classes and
the image size are those of the tensors."""


def convert_hint(file: Path | None = None) -> str:
    """How a checkpoint that is a pickle becomes one that is not: a command for a machine that may run its code.

    Args:
        file: the checkpoint; None where it has no name here.
    """
    if file is None:
        names = "FILE", "FOLDER"
    else:
        stem = file.name.removesuffix(file.suffix).removesuffix(".pth") or file.name
        names = str(file), str(file.with_name(f"{stem}-safetensors"))
    code = _CONVERT.format(file=_literal(names[0]), folder=_literal(names[1])).replace("\n", "; ")
    return f"Convert it once, on a machine that may run its code:\n  python -c {shlex.quote(code)}"


def _literal(text: str) -> str:
    """A string as Python writes it, in double quotes, and in ASCII where it would not be text else."""
    return json.dumps(text, ensure_ascii=not text.isprintable())


CONVERT_HINT = convert_hint()


@dataclass(frozen=True)
class Entry:
    """One tensor as the header declares it.

    Attributes:
        name: as in the file.
        dtype: as in the file: `F32`, `BF16`, ...
        shape: at most 8 dimensions, none of them zero.
        begin, end: where its bytes are, counted from the start of the file.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_header(path: Path) -> dict[str, Entry]:
    """Check the whole header against the format and the file's size; makes no tensor.

    Returns:
        Name -> entry, in the order of the bytes.

    Raises:
        MalformedFileError: the file is not a sound safetensors file; the message says where it is not.
        CheckpointError: it is a pickle, an archive, not a regular file, or too large.
    """
    with open_regular(path, MAX_FILE_BYTES) as file:
        return _parse(*_header_bytes(file, path), path)


def read_tensors(path: Path, hashed: bool = True, integers: bool = False) -> tuple[dict[str, np.ndarray], str | None]:
    """Read every tensor, checked: sound header, finite numbers.

    Args:
        path: a `.safetensors` file.
        hashed: whether the caller has something to compare the bytes with.
        integers: whether tensors may be int8 or int32 too, as in a quantised checkpoint; those stay what they are.

    Returns:
        Name (as in the file) -> float32, C-contiguous; and, if `hashed`, the sha256 of the very bytes that were read: a
        file that was exchanged after it was looked at is found so.

    Raises:
        MalformedFileError: unsound, or a tensor holds NaN or infinity.
        CheckpointError: a tensor is not of floating point.
    """
    # One thread hashes a tensor (hashlib lets go of the interpreter) while this one reads and checks the next.
    with open_regular(path, MAX_FILE_BYTES) as file, ThreadPoolExecutor(1, "weevit-hash") as hasher:
        header, size = _header_bytes(file, path)
        entries = _parse(header, size, path)
        digest = hashlib.sha256(len(header).to_bytes(8, "little") + header)
        tensors = {}
        for entry in entries.values():
            if entry.dtype not in FLOAT_DTYPES + INTEGER_DTYPES * integers:
                raise CheckpointError(
                    f"{path}: tensor {entry.name} is {entry.dtype}; weights are {', '.join(FLOAT_DTYPES[:-1])} or F64."
                )
            stored = _read(file, entry, path)
            if hashed:
                hasher.submit(digest.update, stored.reshape(-1).view(np.uint8).data)
            tensors[entry.name] = stored if entry.dtype in INTEGER_DTYPES else _as_float32(stored, entry, path)
    return tensors, digest.hexdigest() if hashed else None  # the hasher has done all of it when the `with` ends


def open_regular(path: Path, limit: int) -> BufferedReader:
    """Open a file that somebody else named: only a regular one (a pipe would wait for ever), only up to a size.

    Raises:
        CheckpointError: missing, unreadable, not a regular file, or larger than `limit` bytes.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise CheckpointError(f"{path} is not a regular file.")
        if status.st_size > limit:
            raise CheckpointError(f"{path} has {status.st_size:,} bytes; the limit for such a file is {limit:,}.")
        return path.open("rb")
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from None


def refuse_pickle(path: Path) -> None:
    """Say what to do instead, where a file's ending says that it is a pickle or an archive; the file is not opened.

    Raises:
        CheckpointError: it is one.
    """
    if path.suffix.lower() in PICKLE_ENDINGS:
        raise CheckpointError(
            f"{path.name} is not opened: {path.suffix} files are pickles or archives, and reading a pickle runs the "
            "code in it. Weights are read from .safetensors files only.",
            convert_hint(path),
        )


def _header_bytes(file: BufferedReader, path: Path) -> tuple[bytes, int]:
    """The header and the size of the whole file."""
    size = os.fstat(file.fileno()).st_size
    start = file.read(32)
    for magic, what in _MAGIC.items():
        # A header that begins right is let through: these bytes are also the length of an odd but sound header.
        if start.startswith(magic) and start[8:9] != b"{":
            raise MalformedFileError(
                f"{path} is not a safetensors file but {what}; it is not opened.", convert_hint(path)
            )
    if size < 8:
        raise MalformedFileError(f"{path} has {size} bytes; a safetensors file begins with 8 bytes of header length.")
    length = int.from_bytes(start[:8], "little")
    if length > MAX_HEADER_BYTES:
        raise MalformedFileError(f"{path} declares a header of {length:,} bytes; the limit is {MAX_HEADER_BYTES:,}.")
    if 8 + length > size:
        raise MalformedFileError(f"{path} declares a header of {length:,} bytes, but has only {size:,} in all.")
    file.seek(8)
    header = file.read(length)
    if not header.startswith(b"{"):
        raise MalformedFileError(f"The header of {path} does not begin with '{{'.")
    return header, size


def _parse(header: bytes, size: int, path: Path) -> dict[str, Entry]:
    raw = parse_json_object(header, f"The header of {path}")
    _check_metadata(raw.pop("__metadata__", {}), path)
    if not raw:
        raise MalformedFileError(f"{path} holds no tensors.")
    start = 8 + len(header)
    entries = sorted((_entry(name, value, start, path) for name, value in raw.items()), key=lambda e: e.begin)
    expected = start
    for entry in entries:
        if entry.begin != expected:
            kind = "overlaps the tensor before it" if entry.begin < expected else "leaves a hole before it"
            raise MalformedFileError(f"{path}: tensor {entry.name} {kind} (bytes {entry.begin} to {entry.end}).")
        expected = entry.end
    if expected != size:
        state = "is cut short" if expected > size else "has bytes that belong to no tensor"
        raise MalformedFileError(f"{path} {state}: its header declares {expected:,} bytes, the file has {size:,}.")
    return {entry.name: entry for entry in entries}


def _check_metadata(metadata: object, path: Path) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise MalformedFileError(f"{path}: __metadata__ must map strings to strings.")


def _entry(name: str, value: Any, start: int, path: Path) -> Entry:
    def refuse(why: str) -> MalformedFileError:
        return MalformedFileError(f"{path}: tensor {shorten(name)}: {why}.")

    if len(name) > MAX_NAME or not _NAME.fullmatch(name):
        raise refuse(f"a name is at most {MAX_NAME} letters, digits, '_' and '-', joined by dots")
    if not isinstance(value, Mapping) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise refuse("an entry has exactly the keys dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _ITEM_BYTES:
        raise refuse(f"unknown dtype {shorten(dtype)}")
    if not _integers(shape) or len(shape) > MAX_DIMS or 0 in shape:
        raise refuse(f"shape {shorten(shape)} is not a list of at most {MAX_DIMS} positive integers")
    if not _integers(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise refuse(f"data_offsets {shorten(offsets)} are not [begin, end]")
    # Python's integers do not overflow, so a product of huge dimensions is simply not the length.
    if math.prod(shape) * _ITEM_BYTES[dtype] != offsets[1] - offsets[0]:
        raise refuse(f"{offsets[1] - offsets[0]} bytes cannot be {dtype} of shape {shorten(shape)}")
    return Entry(name, dtype, tuple(shape), start + offsets[0], start + offsets[1])


def _integers(values: object) -> bool:
    # `type is int` and not `isinstance`: JSON's true is an int to Python.
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _read(file: BufferedReader, entry: Entry, path: Path) -> np.ndarray:
    stored = np.empty(entry.shape, _NUMPY[entry.dtype])
    view = stored.reshape(-1).view(np.uint8).data
    if file.readinto(view) != len(view):
        raise MalformedFileError(f"{path} was cut short while it was read, in tensor {entry.name}.")
    return stored


def _as_float32(stored: np.ndarray, entry: Entry, path: Path) -> np.ndarray:
    if entry.dtype == "BF16":  # the upper half of a float32
        stored = (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)
    with np.errstate(over="ignore"):  # a float64 too large for float32 becomes infinity, which is refused below
        tensor = stored.astype(np.float32, copy=False)
    # A sum is finite only if all of it is, and costs a fifth of looking at each; large numbers may overflow it.
    with np.errstate(over="ignore", invalid="ignore"):
        suspect = not np.isfinite(tensor.sum())
    if suspect and not np.isfinite(tensor).all():
        raise MalformedFileError(f"{path}: tensor {entry.name} holds NaN or infinity; such weights have no answer.")
    return tensor
