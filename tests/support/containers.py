"""Containers that mean harm: a few kilobytes or megabytes that unpack to gigabytes, and rows that are odd."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image

MB = 1 << 20

FILLING = b"\xff" * MB
"""Behind an image: not zeros, which a reader of PNG takes for millions of chunks."""


def png(number: int = 0) -> bytes:
    """A small image that no other number gives."""
    stream = io.BytesIO()
    Image.new("RGB", (4, 3), (number % 256, number // 256 % 256, 7)).save(stream, "PNG")
    return stream.getvalue()


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A tar header of 512 bytes."""
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


def zeros(size: int, start: bytes = b"") -> Iterator[bytes]:
    """So many bytes, a megabyte at a time, in whole blocks: zeros, or what fills a file behind its beginning."""
    yield start
    left = -(-size // 512) * 512 - len(start)
    while left > 0:
        yield FILLING[: min(left, MB)] if start else bytes(min(left, MB))
        left -= MB


def packed(path: Path, parts: Iterator[bytes], level: int = 6) -> Path:
    """A gzip file, never held."""
    with gzip.GzipFile(path, "wb", level, mtime=0) as file:
        for part in parts:
            file.write(part)
    return path


def tar_of_zeros(
    members: int, size: int, keys: bool = False, start: bytes = b"", ending: str = "jpg"
) -> Iterator[bytes]:
    """Members of zeros under one key, or each under its own."""
    for number in range(members):
        yield header(f"{number}.{ending}" if keys else f"0.{number}.{ending}", size)
        yield from zeros(size, start)
    yield bytes(1024)


def tar_of_small(members: int, size: int, ending: str = ".png") -> Iterator[bytes]:
    """Very many members of one key."""
    for number in range(members):
        yield header(f"0.{number}{ending}", size)
        yield from zeros(size, png())
    yield bytes(1024)


def long_names(chain: int, size: int, global_: bool = False) -> Iterator[bytes]:
    """Headers in front of one member, each a name of this size or a comment about every member."""
    yield header("first.png", len(png()))
    yield from zeros(len(png()), png())
    kind = tarfile.XGLTYPE if global_ else tarfile.GNUTYPE_LONGNAME
    for number in range(chain):
        yield header("././@LongLink", size, kind)
        text = f"{size} comment{number}=".encode() + b"x" * size if global_ else b"n" * size
        yield (text[: size - 1] + b"\n").ljust(-(-size // 512) * 512, b"\0")
        if global_:
            yield header("README", 0)
    yield header("a.png", len(png()))
    yield from zeros(len(png()), png())
    yield bytes(1024)


def sparse(blocks: int) -> Iterator[bytes]:
    """A file with holes whose map goes on and on, and an image behind it."""
    yield header("first.png", len(png()))
    yield from zeros(len(png()), png())
    first = bytearray(header("a.png", 0, tarfile.GNUTYPE_SPARSE))
    first[482] = 1
    first[148:156] = b" " * 8
    first[148:156] = b"%06o\0 " % sum(first)
    yield bytes(first)
    entry = b"00000000001\0" * 2
    for number in range(blocks):
        yield entry * 21 + (b"\1" if number + 1 < blocks else b"\0") + bytes(7)
    yield header("b.png", len(png()))
    yield from zeros(len(png()), png())
    yield bytes(1024)


def parquet_of_one(path: Path, rows: int, size: int, shape: str = "binary") -> Path:
    """One value very often, which Parquet keeps once.

    Args:
        path: of the file.
        rows: how many.
        size: bytes of the value.
        shape: `binary`, `struct` (the hub's), `path`, `label` or `list`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    value = png() + b"\xff" * size
    if shape in ("path", "label"):
        text = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["x" * size]))
        other = pa.array(["a.png"] * rows)
        columns = {"path": text} if shape == "path" else {"path": other, "label": text}
        pq.write_table(pa.table(columns), path, compression="zstd")
        return path
    many = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array([value], pa.binary()))
    if shape == "struct":
        many = pa.StructArray.from_arrays([many, pa.nulls(rows, pa.string())], ["bytes", "path"])
    elif shape == "list":
        many = pa.ListArray.from_arrays(pa.array([0, rows], pa.int32()), many)
    pq.write_table(pa.table({"image": many}), path, compression="zstd")
    return path


def large_row_group(path: Path, rows: int, size: int) -> Path:
    """Images that do not get smaller, all in one row group."""
    import random

    import pyarrow as pa
    import pyarrow.parquet as pq

    draw = random.Random(0)
    schema = pa.schema([("image", pa.binary())])
    with pq.ParquetWriter(path, schema, use_dictionary=False, compression="none") as writer:
        batch = pa.table({"image": pa.array([png(n) + draw.randbytes(size) for n in range(rows)], pa.binary())})
        writer.write_table(batch, row_group_size=rows)
    return path


def huge_line(path: Path, size: int, before: str = "a.png\n", after: str = "\na.png\n", quote: str = "") -> Path:
    """A text file with one line of this many letters."""
    with path.open("w") as file:
        file.write(before + quote)
        for _ in range(size // MB):
            file.write("x" * MB)
        file.write(after)
    return path


Bomb = Callable[[Path, float], Path]

BOMBS: dict[str, tuple[str, Bomb]] = {
    "tgz, 12 members of 200 MB under one key": (
        ".tgz",
        lambda path, share: packed(path, tar_of_zeros(12, int(200 * MB * share))),
    ),
    "tgz, 12 members of 200 MB that begin like images": (
        ".tgz",
        lambda path, share: packed(path, tar_of_zeros(12, int(200 * MB * share), start=png(), ending="png")),
    ),
    "tgz, 12 members of 200 MB, a key each": (
        ".tgz",
        lambda path, share: packed(path, tar_of_zeros(12, int(200 * MB * share), keys=True)),
    ),
    "tgz, 60 members of 30 MB under one key": (
        ".tgz",
        lambda path, share: packed(path, tar_of_zeros(60, int(30 * MB * share), start=png(), ending="png")),
    ),
    "tgz, 12,000 members under one key": (
        ".tgz",
        lambda path, share: packed(path, tar_of_small(int(12_000 * share), 40_000)),
    ),
    "tgz, one member of 4 GB that is no image": (
        ".tgz",
        lambda path, share: packed(path, tar_of_zeros(1, int(4000 * MB * share), ending="bin")),
    ),
    "tgz, zeros before any header": (".tgz", lambda path, share: packed(path, zeros(int(2000 * MB * share)))),
    "tgz, 1,000 long names before one member": (
        ".tgz",
        lambda path, share: packed(path, long_names(int(1000 * share), MB - 512)),
    ),
    "tgz, 2,000 comments about every member": (
        ".tgz",
        lambda path, share: packed(path, long_names(int(2000 * share), 60_000, global_=True)),
    ),
    "tgz, a map of holes of 2 million blocks": (
        ".tgz",
        lambda path, share: packed(path, sparse(int(2_000_000 * share))),
    ),
    "parquet, one image 20,000 times": (
        ".parquet",
        lambda path, share: parquet_of_one(path, int(20_000 * share), 190_000),
    ),
    "parquet, one image of 20 MB 1,000 times": (
        ".parquet",
        lambda path, share: parquet_of_one(path, int(1_000 * share), 20 * MB),
    ),
    "parquet, one image 20,000 times in the hub's struct": (
        ".parquet",
        lambda path, share: parquet_of_one(path, int(20_000 * share), 190_000, "struct"),
    ),
    "parquet, one path of 1 MB 20,000 times": (
        ".parquet",
        lambda path, share: parquet_of_one(path, int(20_000 * share), MB, "path"),
    ),
    "parquet, one class of 1 MB 20,000 times": (
        ".parquet",
        lambda path, share: parquet_of_one(path, int(20_000 * share), MB, "label"),
    ),
    "parquet, 20,000 images in the list of one cell": (
        ".parquet",
        lambda path, share: parquet_of_one(path, int(20_000 * share), 190_000, "list"),
    ),
    "parquet, a row group of 1 GB": (".parquet", lambda path, share: large_row_group(path, int(1000 * share), MB)),
    "list, a line of 1 GB": (".txt", lambda path, share: huge_line(path, int(1000 * MB * share))),
    "csv, a line of 1 GB": (
        ".csv",
        lambda path, share: huge_line(path, int(1000 * MB * share), "path,label\na.png,x\n", "\na.png,y\n"),
    ),
    "csv, a quoted cell of 1 GB": (
        ".csv",
        lambda path, share: huge_line(path, int(1000 * MB * share), "path,label\na.png,x\n", '"\na.png,y\n', '"'),
    ),
    "csv, 200,000 quotes that are not closed": (
        ".csv",
        lambda path, share: _text(path, "path,label\n" + 'a.png,"x\n' * int(200_000 * share)),
    ),
}
"""What it is -> the file's ending, and what makes it at a share of its full size."""

OF_THEIR_SIZE = {"parquet, a row group of 1 GB": 2.5}
"""Of them, a file as large as what it holds -> how many times its bytes reading it may take: pyarrow reads a page
whole. It unpacks to nothing more, and pandas writes such files, so it is answered and not refused."""


def _text(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


# ---- odd rows

CONTAINERS = ("txt", "csv", "tsv", "parquet", "tar")

ODD_PATHS = {
    "nul": "a\0b.png",
    "long name": "x" * 300 + ".png",
    "long name of few letters": "ä" * 150 + ".png",
    "long path": "x/" * 3000 + "a.png",
    "41 KB": "y" * 41_000,
    "half a surrogate pair": "a\ud800.png",
    "bytes that are not UTF-8": "caf\udce9.png",
    "through a file": "a.png/b.png",
    "folder": "folder",
    "above": ".",
    "device": "/dev/null",
    "home": "~/a.png",
    "empty": "",
    "spaces": "   ",
    "data URI": "data:image/png;base64," + "iVBORw0KGgo" * 1000,
    "escape": "\x1b[2J.png",
    "missing": "gone.png",
    "address": "nosuch://host/a.png",
    "pattern": "*.nothing",
}
"""What it is -> a path that leads to no image."""


def odd_place(folder: Path) -> Path:
    """A folder with `a.png` and what the odd paths want."""
    (folder / "a.png").write_bytes(png())
    (folder / "folder").mkdir()
    return folder


def with_odd_row(folder: Path, kind: str, odd: str, good: int) -> Path | None:
    """A container with one odd row between twice as many good ones; None where that row cannot be written there."""
    path = folder / f"t.{kind}"
    paths = ["a.png"] * good + [odd] + ["a.png"] * good
    if kind == "tar":
        return _tar_with(path, odd, good)
    if kind == "parquet":
        return _parquet_with(path, paths)
    separator = {"txt": None, "csv": ",", "tsv": "\t"}[kind]
    rows = paths if separator is None else [f"path{separator}label", *(f"{own}{separator}x" for own in paths)]
    data = "\n".join(rows).encode("utf-8", "surrogatepass" if "\ud800" in odd else "surrogateescape")
    path.write_bytes(data)
    return path


def _tar_with(path: Path, odd: str, good: int) -> Path | None:
    if "\ud800" in odd or "\0" in odd or not odd.endswith(".png"):
        return None  # a member of another name is no image
    with tarfile.open(path, "w") as archive:
        for number in range(2 * good + 1):
            member = tarfile.TarInfo(odd if number == good else f"{number}.png")
            member.size = 0 if number == good else len(png())
            archive.addfile(member, io.BytesIO(b"" if number == good else png()))
    return path


def _parquet_with(path: Path, paths: list[str]) -> Path | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if any("\ud800" in own or "\udce9" in own for own in paths):
        return None  # text in Parquet is UTF-8
    pq.write_table(pa.table({"path": paths, "label": ["x"] * len(paths)}), path)
    return path
