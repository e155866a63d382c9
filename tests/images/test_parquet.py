"""Parquet: every type that an image, a path or a class may have, and what a few kilobytes may unpack to."""

from __future__ import annotations

import gc
import json
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import containers
import pytest

from weevit.errors import ImageError, MissingImageError, TooLargeImageError, UsageError
from weevit.images import parquet
from weevit.images.source import Source, open_image
from weevit.images.sources import expand

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

PNG = containers.png()


def write(path: Path, columns: dict[str, Any], metadata: dict[str, str] | None = None, **how: Any) -> Path:
    table = pa.table(columns)
    pq.write_table(table.replace_schema_metadata(metadata) if metadata else table, path, **how)
    return path


def sources(path: Path) -> list[Source]:
    return list(expand(path))


def encoded(kind: str, values: list[bytes | None]) -> Any:
    """The values in another of Arrow's types of bytes."""
    if kind == "fixed":
        return pa.array([value and value.ljust(100, b"\xff") for value in values], pa.binary(100))
    if kind == "dictionary":
        return pa.array(values, pa.binary()).dictionary_encode()
    if kind == "view":
        return pa.array(values, pa.binary_view())
    if kind == "extension":
        return pa.ExtensionArray.from_storage(_Ours(), pa.array(values, pa.binary()))
    return pa.array(values, pa.large_binary() if kind == "large" else pa.binary())


class _Ours(pa.ExtensionType):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(pa.binary(), "weevit.tests.ours")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage: Any, serialized: bytes) -> _Ours:
        return cls()


@pytest.mark.parametrize("kind", ["binary", "large", "fixed", "dictionary", "view", "extension"])
@pytest.mark.parametrize("shape", ["plain", "struct", "other names", "path column"])
def test_images_are_images_whatever_arrow_calls_their_type(tmp_path: Path, kind: str, shape: str) -> None:
    cells = encoded(kind, [PNG, None, containers.png(9)])
    if shape == "struct":
        cells = pa.StructArray.from_arrays([cells, pa.nulls(3, pa.string())], ["bytes", "path"])
    elif shape == "other names":
        cells = pa.StructArray.from_arrays([pa.array(["a", "b", "c"]), cells], ["file", "data"])
    first, empty, last = sources(write(tmp_path / "t.parquet", {"path" if shape == "path column" else "image": cells}))
    assert [open_image(source).getpixel((0, 0)) for source in (first, last)] == [(0, 0, 7), (9, 0, 7)]
    assert [source.name for source in (first, last)] == [f"{tmp_path}/t.parquet#row{n}" for n in (1, 3)]
    with pytest.raises(MissingImageError):
        open_image(empty)


@pytest.mark.parametrize(
    "kind",
    [
        *("string", "large_string", "string_view", "binary", "large_binary", "binary_view"),
        *("dictionary of string", "dictionary of binary"),
    ],
)
def test_paths_are_paths_whatever_their_type(tmp_path: Path, kind: str) -> None:
    (tmp_path / "ä.png").write_bytes(PNG)
    plain = kind.removeprefix("dictionary of ")
    values = ["ä.png", None, "gone.png", "ä.png"]
    cells = pa.array(
        [value and value.encode() for value in values] if "binary" in kind else values, getattr(pa, plain)()
    )
    cells = cells.dictionary_encode() if plain != kind else cells
    ids = cells.cast(pa.binary()) if "binary" in kind else cells
    first, empty, gone, last = sources(write(tmp_path / "t.parquet", {"path": cells, "label": ids}))
    assert [source.name for source in (first, gone)] == ["ä.png", "gone.png"]
    assert [source.target for source in (first, empty)] == ["ä.png", None]
    assert open_image(first).size == open_image(last).size == (4, 3)
    for source in (empty, gone):
        with pytest.raises(MissingImageError):
            open_image(source)


def test_bytes_are_never_a_name(tmp_path: Path) -> None:
    keys = [b"0001", b"\x00\xff" * 8, PNG * 100]
    found = sources(write(tmp_path / "t.parquet", {"id": keys, "image": [PNG] * 3, "label": [b"cat", b"\xff", None]}))
    assert [source.name for source in found] == ["0001", *(f"{tmp_path}/t.parquet#row{n}" for n in (2, 3))]
    assert [source.target for source in found] == ["cat", None, None]


@pytest.mark.parametrize(
    ("column", "cells"),
    [("image", [[PNG], [PNG]]), ("path", [{"a": 1}, {"a": 2}]), ("label", [{"a": 1}, {"a": 2}])],
)
def test_what_is_no_image_path_or_class_is_refused_or_told(tmp_path: Path, column: str, cells: list[Any]) -> None:
    columns = {column: cells} if column != "label" else {"path": ["a.png", "b.png"], "label": cells}
    path = write(tmp_path / "t.parquet", columns)
    if column != "image":
        with pytest.raises(UsageError, match=rf"column '{column}' holds"):
            sources(path)
        return
    for source in sources(path):
        with pytest.raises(ImageError) as caught:
            open_image(source)
        assert len(source.name) + len(str(caught.value)) < 1000


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    two = pa.Table.from_arrays([pa.array([PNG]), pa.array([PNG])], ["image", "image"])
    pq.write_table(two, tmp_path / "t.parquet")
    with pytest.raises(UsageError, match="2 columns called 'image'"):
        sources(tmp_path / "t.parquet")
    other = pa.Table.from_arrays([pa.array([PNG]), pa.array([1]), pa.array([2])], ["image", "x", "x"])
    pq.write_table(other, tmp_path / "t.parquet")
    (source,) = sources(tmp_path / "t.parquet")
    assert open_image(source).size == (4, 3)


def features(label: Any) -> dict[str, str]:
    return {"huggingface": json.dumps({"info": {"features": {"label": label, "image": {"_type": "Image"}}}})}


NAMES = {"names": ["cat", "dog", "bee"], "_type": "ClassLabel"}


@pytest.mark.parametrize(
    ("label", "values", "targets"),
    [
        (NAMES, [2, 0, -1, 7], ["bee", "cat", None, None]),
        ({"_type": "Value", "dtype": "int64"}, [2, 0, -1, 7], ["2", "0", "-1", "7"]),
        ({"_type": "ClassLabel", "names": [1, 2]}, [1, 0, 1, 0], ["1", "0", "1", "0"]),
        ("junk", [1, 0, 1, 0], ["1", "0", "1", "0"]),
    ],
)
def test_numbers_have_the_names_that_the_file_gives_them(
    tmp_path: Path, label: Any, values: list[int], targets: list[str | None]
) -> None:
    path = write(tmp_path / "t.parquet", {"image": [PNG] * 4, "label": values}, features(label))
    assert [source.target for source in sources(path)] == targets


@pytest.mark.parametrize("text", ["", "[" * 100_000, '{"info": null}', "\xff", '{"info": {"features": [1]}}'])
def test_what_is_no_description_is_none(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "t.parquet", {"image": [PNG], "label": [3]}, {"huggingface": text})
    assert [source.target for source in sources(path)] == ["3"]


# ---- what is held


@pytest.mark.parametrize("shape", ["binary", "struct"])
def test_rows_come_in_any_order_while_little_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: str
) -> None:
    monkeypatch.setattr(parquet, "_KEPT_BYTES", 1000)
    cells: Any = [containers.png(number) for number in range(60)]
    cells = [{"bytes": cell, "path": None} for cell in cells] if shape == "struct" else cells
    found = sources(write(tmp_path / "t.parquet", {"image": cells}, row_group_size=25))
    order = [*range(60), *random.Random(0).sample(range(60), 60)]
    with ThreadPoolExecutor(4) as pool:
        colours = list(pool.map(lambda place: open_image(found[place]).getpixel((0, 0)), order))
    assert colours == [(place, 0, 7) for place in order]
    kept = [len(reel._kept) for reel in parquet._reels.values()]
    assert len(kept) <= parquet._REELS
    assert max(kept) <= 1000 // len(PNG)


def test_nothing_is_kept_of_a_table_that_is_gone(tmp_path: Path) -> None:
    found = sources(write(tmp_path / "t.parquet", {"image": [PNG] * 4}))
    open_image(found[0])
    assert parquet._reels
    del found
    gc.collect()
    assert not parquet._reels


def test_a_row_group_that_is_packed_to_nothing_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = [PNG + bytes(100_000)] * 2
    (first, _) = sources(write(tmp_path / "t.parquet", {"image": cells}, compression="zstd", use_dictionary=False))
    assert open_image(first).size == (4, 3)
    monkeypatch.setattr(parquet, "MAX_ROW_GROUP_BYTES", 10_000)
    (first, _) = sources(tmp_path / "t.parquet")
    with pytest.raises(TooLargeImageError, match="row group"):
        open_image(first)


@pytest.mark.parametrize("shape", ["binary", "struct", "path", "label"])
def test_one_value_over_and_over_is_not_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: str
) -> None:
    monkeypatch.setattr(parquet, "MAX_UNPACKED_BYTES", 1 << 20)
    monkeypatch.setattr(parquet, "MAX_RATIO", 10)
    monkeypatch.setattr(parquet, "_BATCH_BYTES", 1 << 18)
    path = containers.parquet_of_one(tmp_path / "t.parquet", 500, 10_000, shape)
    *before, last = sources(path)
    with pytest.raises(TooLargeImageError, match="rows of a group take more than"):
        open_image(last)
    assert len(before) == 499 if shape in ("binary", "struct") else 0 < len(before) < 200
