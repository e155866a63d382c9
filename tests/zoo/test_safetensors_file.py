"""Malformed files are refused before a tensor is made; sound ones read to the numbers that the library reads."""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import dump, file_bytes
from safetensors.numpy import load_file, save_file

from weevit.errors import CheckpointError, MalformedFileError
from weevit.zoo.safetensors_file import MAX_HEADER_BYTES, read_header, read_tensors


def entry(**changes: Any) -> dict[str, Any]:
    """A float32 tensor of 4 numbers at the start of the data, or something else."""
    return {**{"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}, **changes}


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in entry().items() if name != key}


DATA = bytes(16)
SOUND = {"a": entry()}
TEXT = json.dumps(SOUND)
TWO = {"a": entry(), "b": entry(data_offsets=[16, 32])}

MALFORMED: dict[str, bytes] = {
    "empty": b"",
    "three bytes": b"\x01\x02\x03",
    "length beyond the file": file_bytes(SOUND, DATA, length=10_000),
    "length 2^63": file_bytes(SOUND, DATA, length=2**63),
    "length 2^64 - 1": file_bytes(SOUND, DATA, length=2**64 - 1),
    "length 0": file_bytes(b"", DATA),
    "header over the limit": file_bytes(b'{"a":1}'.ljust(MAX_HEADER_BYTES + 1), DATA),
    "not UTF-8": file_bytes(b'{"\xff\xfe": {}}', DATA),
    "UTF-16": file_bytes(TEXT.encode("utf-16"), DATA),
    "byte order mark": file_bytes(b"\xef\xbb\xbf" + TEXT.encode(), DATA),
    "not JSON": file_bytes(b"{not json at all}", DATA),
    "an array": file_bytes([SOUND], DATA),
    "JSON cut short": file_bytes(TEXT.encode()[:-5], DATA),
    "garbage after the JSON": file_bytes(TEXT.encode() + b"garbage", DATA),
    "spaces before the JSON": file_bytes(b"  " + TEXT.encode(), DATA),
    "equal names": file_bytes(TEXT[:-1].encode() + b"," + TEXT[1:].encode(), DATA),
    "equal keys in an entry": file_bytes(TEXT.replace('"F32"', '"F16", "dtype": "F32"').encode(), DATA),
    "200,000 equal names": file_bytes(b'{"a":1' + b',"a":1' * 160_000 + b"}", DATA),
    "NaN literal": file_bytes(TEXT.replace("[4]", "[NaN]").encode(), DATA),
    "Infinity literal": file_bytes(TEXT.replace("[4]", "[Infinity]").encode(), DATA),
    "nested deep": file_bytes(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", DATA),
    "objects nested deep": file_bytes(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, DATA),
    "number of 100,000 digits": file_bytes(TEXT.replace("[4]", f"[{'9' * 100_000}]").encode(), DATA),
    "no tensors": file_bytes({}),
    "only metadata": file_bytes({"__metadata__": {"format": "pt"}}),
    "NUL in a name": file_bytes({"a\0b": entry()}, DATA),
    "../../ in a name": file_bytes({"../../etc/passwd": entry()}, DATA),
    "absolute name": file_bytes({"/etc/passwd": entry()}, DATA),
    "empty name": file_bytes({"": entry()}, DATA),
    "name of 100,000 letters": file_bytes({"a" * 100_000: entry()}, DATA),
    "control codes in a name": file_bytes({"\x1b[2J": entry()}, DATA),
    "lone surrogate in a name": file_bytes(b'{"\\ud800": ' + json.dumps(entry()).encode() + b"}", DATA),
    "unknown dtype": file_bytes({"a": entry(dtype="F33")}, DATA),
    "dtype a number": file_bytes({"a": entry(dtype=32)}, DATA),
    "no dtype": file_bytes({"a": without("dtype")}, DATA),
    "no shape": file_bytes({"a": without("shape")}, DATA),
    "no data_offsets": file_bytes({"a": without("data_offsets")}, DATA),
    "a key too many": file_bytes({"a": entry(code="import os")}, DATA),
    "entry a list": file_bytes({"a": ["F32", [4], [0, 16]]}, DATA),
    "negative dimension": file_bytes({"a": entry(shape=[-4])}, DATA),
    "two negative dimensions": file_bytes({"a": entry(shape=[-2, -2])}, DATA),
    "float dimension": file_bytes({"a": entry(shape=[4.0])}, DATA),
    "bool dimension": file_bytes({"a": entry(shape=[4, True])}, DATA),
    "text dimension": file_bytes({"a": entry(shape=["4"])}, DATA),
    "shape a number": file_bytes({"a": entry(shape=4)}, DATA),
    "dimensions that overflow 64 bits": file_bytes({"a": entry(shape=[2**62, 2**62, 4])}, DATA),
    "dimensions that overflow to the length": file_bytes({"a": entry(shape=[2**62 + 4])}, DATA),
    "nine dimensions": file_bytes({"a": entry(shape=[4] + [1] * 8)}, DATA),
    "an empty tensor": file_bytes({"a": entry(shape=[0], data_offsets=[0, 0])}),
    "15,000 empty tensors": file_bytes({f"t{i}": entry(shape=[0], data_offsets=[0, 0]) for i in range(15_000)}),
    "200,000 empty tensors": file_bytes({f"t{i}": entry(shape=[0], data_offsets=[0, 0]) for i in range(200_000)}),
    "offsets reversed": file_bytes({"a": entry(data_offsets=[16, 0])}, DATA),
    "offsets negative": file_bytes({"a": entry(data_offsets=[-16, 0])}, DATA),
    "offsets out of range": file_bytes({"a": entry(data_offsets=[16, 32])}, DATA),
    "offsets huge": file_bytes({"a": entry(data_offsets=[2**64 - 16, 2**64])}, DATA),
    "three offsets": file_bytes({"a": entry(data_offsets=[0, 8, 16])}, DATA),
    "offsets floats": file_bytes({"a": entry(data_offsets=[0.0, 16.0])}, DATA),
    "overlap": file_bytes({"a": entry(), "b": entry(data_offsets=[8, 24])}, bytes(24)),
    "the same bytes twice": file_bytes({"a": entry(), "b": entry()}, DATA),
    "hole": file_bytes({"a": entry(), "b": entry(data_offsets=[24, 40])}, bytes(40)),
    "not from 0": file_bytes({"a": entry(data_offsets=[8, 24])}, bytes(24)),
    "length not that of the shape": file_bytes({"a": entry(shape=[3])}, DATA),
    "length not that of the dtype": file_bytes({"a": entry(dtype="F16")}, DATA),
    "bytes after the last tensor": file_bytes(SOUND, bytes(17)),
    "cut in the data": file_bytes(TWO, bytes(31)),
    "all data missing": file_bytes(TWO),
    "metadata a list": file_bytes({"__metadata__": [], **SOUND}, DATA),
    "metadata nested": file_bytes({"__metadata__": {"a": {"b": "c"}}, **SOUND}, DATA),
    "metadata a number": file_bytes({"__metadata__": {"a": 1}, **SOUND}, DATA),
    "gzip": b"\x1f\x8b\x08\x00" + bytes(64),
    "zip": b"PK\x03\x04" + bytes(64),
    "pickle": pickle.dumps({"a": list(range(50))}),
    "old pickle": pickle.dumps({"a": list(range(50))}, protocol=0),
    "git-lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n",
    "a compressed bomb": file_bytes({"a": entry(shape=[1 << 40], data_offsets=[0, 4 << 40])}, b"\x1f\x8b" + bytes(200)),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize("form", MALFORMED)
def test_malformed_is_refused(form: str, file: Path) -> None:
    file.write_bytes(MALFORMED[form])
    times = []
    for _ in range(3):  # the best of three, in this process's time: others may be busy on the machine
        start = time.process_time()
        with pytest.raises(MalformedFileError) as caught:
            read_header(file)
        times.append(time.process_time() - start)
    assert min(times) < 0.1
    assert len(str(caught.value)) < 1000
    assert str(caught.value).isprintable() or "\n" in str(caught.value)


def test_90_mb_of_padding_are_refused_unread(file: Path) -> None:
    with file.open("wb") as handle:
        handle.write(file_bytes(TEXT.encode(), length=90_000_000))
        handle.truncate(8 + 90_000_000 + 16)
    with pytest.raises(MalformedFileError, match="header of 90,000,000 bytes"):
        read_header(file)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("dtype", "kind"), [("F32", np.float32), ("F16", np.float16), ("F64", np.float64)])
def test_weights_that_are_not_finite_are_refused(number: float, dtype: str, kind: type, file: Path) -> None:
    file.write_bytes(dump({"fine": np.ones(3, kind), "head.bias": np.array([0, number], kind)}, dtype))
    with pytest.raises(MalformedFileError, match=r"head\.bias holds NaN or infinity"):
        read_tensors(file)


def test_a_float64_beyond_float32_is_refused(file: Path) -> None:
    file.write_bytes(dump({"a": np.array([1e39])}, "F64"))
    with pytest.raises(MalformedFileError, match="infinity"):
        read_tensors(file)


@pytest.mark.parametrize("dtype", ["I64", "U64", "F8_E4M3", "BOOL"])
def test_other_dtypes_are_named(dtype: str, file: Path) -> None:
    file.write_bytes(dump({"a": np.ones(4, np.int64 if "64" in dtype else np.int8)}, dtype))
    with pytest.raises(CheckpointError, match=dtype):
        read_tensors(file)


def test_sound_files_read_as_the_library_reads_them(file: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {f"t{i}.weight": rng.standard_normal((i + 1, 3), np.float32) for i in range(20)}
    save_file(arrays, file, metadata={"format": "pt"})
    found, digest = read_tensors(file)
    assert digest == hashlib.sha256(file.read_bytes()).hexdigest()
    library = load_file(file)
    assert found.keys() == library.keys()
    for name, tensor in found.items():
        assert tensor.dtype == np.float32
        assert tensor.flags.c_contiguous
        np.testing.assert_array_equal(tensor, library[name])


@pytest.mark.parametrize(("dtype", "kind"), [("F16", np.float16), ("F64", np.float64)])
def test_other_widths_become_float32(dtype: str, kind: type, file: Path) -> None:
    values = np.array([0.5, -3.25, 1e-3, 0], kind)
    file.write_bytes(dump({"a": values}, dtype))
    np.testing.assert_array_equal(read_tensors(file)[0]["a"], values.astype(np.float32))


def test_bfloat16_is_the_upper_half_of_float32(file: Path) -> None:
    file.write_bytes(dump({"a": np.array([0x3F80, 0xC049, 0x0000], np.uint16)}, "BF16"))
    np.testing.assert_array_equal(read_tensors(file)[0]["a"], np.array([1.0, -3.140625, 0.0], np.float32))


def test_scalars(file: Path) -> None:
    file.write_bytes(dump({"a": np.array(2.5, np.float32)}))
    assert read_tensors(file)[0]["a"].shape == ()


def test_a_header_whose_length_looks_like_a_pickle_is_read(file: Path) -> None:
    header = TEXT.encode().ljust(0x0480)  # little-endian: 80 04
    file.write_bytes(struct.pack("<Q", len(header)) + header + DATA)
    assert list(read_header(file)) == ["a"]


def test_numbers_whose_sum_overflows_are_fine(file: Path) -> None:
    values = np.full(4, 3e38, np.float32)
    file.write_bytes(dump({"a": values}))
    np.testing.assert_array_equal(read_tensors(file)[0]["a"], values)


def test_what_is_not_a_regular_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not a regular file"):
        read_header(tmp_path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_header(tmp_path / "nothing.safetensors")


def test_a_file_over_the_limit_is_refused_by_its_size(file: Path) -> None:
    with file.open("wb") as handle:
        handle.truncate(5 << 30)  # no blocks are written
    with pytest.raises(CheckpointError, match="the limit"):
        read_header(file)


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.pkl", bytes(20_000_000))
    with pytest.raises(MalformedFileError, match="zip archive"):
        read_header(path)


def test_the_real_file(vit_tiny: Path) -> None:
    path = vit_tiny / "model.safetensors"
    library = load_file(path)
    found, digest = read_tensors(path)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.keys() == library.keys()
    assert all(np.array_equal(found[name], library[name]) for name in library)
