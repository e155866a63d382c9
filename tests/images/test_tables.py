"""Lists and tables of images: what a row is called, where its path leads, and what becomes of rows without one."""

from __future__ import annotations

import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from weevit.errors import (
    ImageError,
    MissingImageError,
    NotAnImageError,
    TooLargeImageError,
    UnreadableImageError,
    UsageError,
)
from weevit.images.decode import Limits
from weevit.images.lines import MAX_LINE
from weevit.images.source import Source, open_image
from weevit.images.sources import expand


def png(width: int = 4) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (width, 3), "red").save(stream, "PNG")
    return stream.getvalue()


def put(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def sources(inputs: object) -> list[Source]:
    return list(expand(inputs))  # type: ignore[arg-type]


def widths(found: list[Source]) -> list[int]:
    return [open_image(source).size[0] for source in found]


def parquet(path: Path, columns: dict[str, Any], rows: int | None = None, **types: Any) -> Path:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    arrays = {name: pa.array(values, types.get(name)) for name, values in columns.items()}
    pq.write_table(pa.table(arrays), path, row_group_size=rows)
    return path


def hub(path: Path, cells: list[dict[str, Any] | None], rows: int | None = None, **columns: Any) -> Path:
    """A table as the hub writes data sets of images."""
    pa = pytest.importorskip("pyarrow")
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return parquet(path, {"image": cells, **columns}, rows, image=kind)


def test_a_list_is_read_from_its_own_folder_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "photos/a.png", png(1))
    put(tmp_path / "photos/my images/b.png", png(2))
    put(tmp_path / "c.png", png(3))
    lines = ["a.png", "my images/b.png", "../c.png", str(tmp_path / "c.png"), "a.png"]
    put(tmp_path / "photos/list.txt", "\n".join(lines))
    monkeypatch.chdir(tmp_path)
    found = sources("photos/list.txt")
    assert [source.name for source in found] == lines  # as written, one that comes twice is answered twice
    assert widths(found) == [1, 2, 3, 3, 1]


@pytest.mark.parametrize("text", ["a.png\r\n\r\n   \r\nb.png\r\n", "\n\na.png\nb.png", "\ufeffa.png\nb.png\n\n"])
def test_windows_line_ends_a_byte_order_mark_and_empty_lines_are_no_part_of_a_name(tmp_path: Path, text: str) -> None:
    put(tmp_path / "a.png", png(1))
    put(tmp_path / "b.png", png(2))
    found = sources(put(tmp_path / "LIST.TXT", text))
    assert [source.name for source in found] == ["a.png", "b.png"]
    assert widths(found) == [1, 2]


def test_a_line_that_leads_nowhere_keeps_its_place(tmp_path: Path) -> None:
    put(tmp_path / "a.png", png())
    first, gone, folder, last = sources(put(tmp_path / "list.txt", "a.png\ngone.png\n.\na.png\n"))
    assert widths([first, last]) == [4, 4]
    with pytest.raises(MissingImageError, match="gone"):
        open_image(gone)
    with pytest.raises(UnreadableImageError):
        open_image(folder)


@pytest.mark.parametrize("name", ["list.txt", "list.csv"])
def test_bytes_that_are_not_utf8_are_a_files_name_all_the_same(tmp_path: Path, name: str) -> None:
    put(tmp_path / "a.png", png(1))
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")).write_bytes(png(2))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    found = sources(put(tmp_path / name, b"path\ncaf\xe9.png\nth\xe9.png\na.png\n"))[-3:]
    assert [source.name for source in found] == ["caf\\udce9.png", "th\\udce9.png", "a.png"]
    assert widths([found[0], found[2]]) == [2, 1]
    with pytest.raises(MissingImageError):
        open_image(found[1])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", ["list.txt", "list.csv"])
def test_lines_end_in_any_way_and_begin_with_any_mark(tmp_path: Path, name: str, encoding: str) -> None:
    for letter in "abcä":
        put(tmp_path / f"{letter}.png", png(ord(letter)))
    head = "path\r\n" if name.endswith("csv") else ""
    found = sources(put(tmp_path / name, f"{head}a.png\r\nb.png\nc.png\r\n\nä.png".encode(encoding)))
    assert widths(found) == [ord(letter) for letter in "abcä"]


@pytest.mark.parametrize("name", ["list.txt", "list.csv"])
def test_an_address_of_an_unknown_kind_is_the_failure_of_its_row(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fsspec")
    monkeypatch.setenv("WEEVIT_ALLOW_URLS", "public")
    put(tmp_path / "a.png", png(1))
    found = sources(put(tmp_path / name, "path\nnosuch://x/a.png\na.png\n"))[-2:]
    assert widths(found[1:]) == [1]
    with pytest.raises(ImageError, match="nosuch"):
        open_image(found[0])


@pytest.mark.parametrize("name", ["gone.txt", "gone.csv", "gone.tsv", "gone.parquet"])
def test_a_list_that_is_not_there_is_one_missing_source(tmp_path: Path, name: str) -> None:
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    (source,) = sources(tmp_path / name)
    assert source.name == str(tmp_path / name)
    with pytest.raises(MissingImageError, match="gone"):
        open_image(source)


def test_columns_of_a_csv_are_found_by_name_in_any_case(tmp_path: Path) -> None:
    put(tmp_path / "a.png", png(1))
    put(tmp_path / "sub/b.png", png(2))
    found = sources(put(tmp_path / "t.csv", "\ufeffLabel,Width, ID ,Image_Path\r\ncat,1,x1,a.png\r\n,2,,sub/b.png\r\n"))
    assert [(source.name, source.target) for source in found] == [("x1", "cat"), ("sub/b.png", None)]
    assert widths(found) == [1, 2]


def test_a_tsv_is_cut_at_tabs(tmp_path: Path) -> None:
    put(tmp_path / "a, b.png", png(5))
    (source,) = sources(put(tmp_path / "t.TSV", "filename\tclass\na, b.png\ta dog, small\n"))
    assert (source.name, source.target, widths([source])) == ("a, b.png", "a dog, small", [5])


def test_a_quoted_line_end_is_part_of_its_cell(tmp_path: Path) -> None:
    put(tmp_path / "a.png", png())
    found = sources(put(tmp_path / "t.csv", 'id,label,path\n1,"two\nlines, ""quoted""",a.png\n2,dog,a.png\n'))
    assert [(source.name, source.target) for source in found] == [("1", 'two\nlines, "quoted"'), ("2", "dog")]


def test_rows_without_a_path_keep_their_place(tmp_path: Path) -> None:
    put(tmp_path / "a.png", png())
    table = put(tmp_path / "t.csv", "id,path,label\n1,a.png,cat\n2\n3,,dog\n,,\n\n4,a.png\n5,a.png,cat,,\n")
    found = sources(table)
    assert [source.name for source in found] == ["1", "2", "3", f"{table}#row5", "4", "5"]  # an empty line is no row
    assert [source.target for source in found] == ["cat", None, "dog", None, None, "cat"]
    assert widths([found[0], found[4], found[5]]) == [4, 4, 4]
    for source in found[1:4]:
        with pytest.raises(MissingImageError, match="has no path"):
            open_image(source)


@pytest.mark.parametrize(("text", "shown"), [("name,Label\na.png,cat\n", "'name', 'Label'"), ("", "none")])
def test_a_csv_without_a_column_of_paths_is_refused_with_its_columns(tmp_path: Path, text: str, shown: str) -> None:
    with pytest.raises(UsageError, match=shown) as caught:
        sources(put(tmp_path / "t.csv", text))
    assert "image_path" in caught.value.hint


def test_a_header_without_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read as a table"):
        sources(put(tmp_path / "t.csv", '"path\na.png\n'))


@pytest.mark.parametrize(
    "line",
    [
        '"a.png,cat',  # swallows what follows, to the next quote or the end
        'a.png,"cat',
        'a.png,"a cat\nlarge',
        '"' + "x" * 200_000 + '",cat',  # over csv.field_size_limit()
        "x" * 3_000_000,
        'a.png,"' + "x" * 3_000_000,
        "a, b.png,cat",  # a comma without quotes moves the class
    ],
    ids=["path", "class", "lines", "cell", "line", "quoted-line", "comma"],
)
@pytest.mark.parametrize("after", ["b.png,dog", 'b.png,"dog"', '"b.png","dog ""big"""', 'b.png,"two\nlines"'])
def test_a_row_that_cannot_be_read_is_one_row(tmp_path: Path, line: str, after: str) -> None:
    put(tmp_path / "a.png", png(1))
    put(tmp_path / "b.png", png(2))
    found = sources(put(tmp_path / "t.csv", f"path,label\na.png,cat\n{line}\n" + f"{after}\n" * 100))
    first, *odd = found[:-100]
    assert widths([first, *found[-100:]]) == [1] + [2] * 100
    assert {source.target for source in found[-100:]} <= {"dog", 'dog "big"', "two\nlines"}
    assert len(odd) == 1 + (line.count("\n"))
    for source in odd:
        with pytest.raises(ImageError) as caught:
            open_image(source)
        assert len(source.name) + len(str(caught.value)) < 1000


def test_quotes_that_are_not_strict_are_read_as_they_always_were(tmp_path: Path) -> None:
    put(tmp_path / "a.png", png(1))
    found = sources(put(tmp_path / "t.csv", 'path,label\na.png,5" tall\na.png,"5" tall\n"a.png" ,cat\n'))
    assert [source.target for source in found] == ['5" tall', "5 tall", "cat"]


@pytest.mark.parametrize("text", ["path,label,Path\na.png,x,b.png\n", "label,path,LABEL\nx,a.png,y\n"])
def test_two_columns_of_one_name_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="2 columns called"):
        sources(put(tmp_path / "t.csv", text))


@pytest.mark.parametrize("text", ["", "\n\n", "   \n"])
def test_a_list_that_names_nothing_is_one_failing_source(tmp_path: Path, text: str) -> None:
    (source,) = sources(put(tmp_path / "list.txt", text))
    with pytest.raises(MissingImageError, match="no image"):
        open_image(source)


def test_a_parquet_of_paths_with_classes_as_numbers(tmp_path: Path) -> None:
    put(tmp_path / "a.png", png(1))
    table = {"path": ["a.png", None, "gone.png"], "Key": [10, 11, None], "label": [0, 1, None]}
    found = sources(parquet(tmp_path / "t.parquet", table, rows=2))
    assert [(source.name, source.target) for source in found] == [("10", "0"), ("11", "1"), ("gone.png", None)]
    assert widths(found[:1]) == [1]
    for source in found[1:]:
        with pytest.raises(MissingImageError):
            open_image(source)


def test_a_parquet_with_encoded_images(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    cells = [png(1), png(2), b"no image", b"", png(5)]
    table = parquet(tmp_path / "t.parquet", {"jpg": cells, "path": list("abcde")}, rows=2, jpg=pa.large_binary())
    found = sources(table)  # the images themselves go before their paths
    assert [source.name for source in found] == [f"{table}#row{number}" for number in range(1, 6)]
    assert widths([found[4], found[0], found[1]]) == [5, 1, 2]
    with pytest.raises(NotAnImageError):
        open_image(found[2])


def test_the_hubs_struct_of_bytes_and_path(tmp_path: Path) -> None:
    put(tmp_path / "beside.png", png(7))
    cells = [{"bytes": png(width), "path": f"{width}.png"} for width in range(1, 6)]
    more = [None, {"bytes": None, "path": None}, {"bytes": None, "path": "beside.png"}]
    found = sources(hub(tmp_path / "t.parquet", [*cells, *more], 3, label=[*range(8)], image_id=[*"abcdefgh"]))
    assert [(source.name, source.target) for source in found] == [(key, str(n)) for n, key in enumerate("abcdefgh")]
    assert widths([*found[:5], found[7]]) == [1, 2, 3, 4, 5, 7]
    for source, row in ((found[5], 6), (found[6], 7)):
        with pytest.raises(MissingImageError, match=f"row {row} holds no image"):
            open_image(source)


def test_a_image_in_a_table_is_held_to_the_limit_of_bytes(tmp_path: Path) -> None:
    size = len(png())
    (source,) = sources(hub(tmp_path / "t.parquet", [{"bytes": png(), "path": None}]))
    assert open_image(source, Limits(max_bytes=size)).size == (4, 3)
    with pytest.raises(TooLargeImageError, match=str(size)):
        open_image(source, Limits(max_bytes=size - 1))


def test_several_threads_may_open_the_rows_of_one_table(tmp_path: Path) -> None:
    found = sources(hub(tmp_path / "t.parquet", [{"bytes": png(width), "path": None} for width in range(1, 61)], 7))
    order = [place for start in range(6) for place in range(start, 60, 6)]  # each thread wants another row group
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(lambda place: open_image(found[place]).size[0], order)) == [place + 1 for place in order]


@pytest.mark.parametrize("text", ["", "not a table", "PAR1" + "\0" * 50 + "PAR1"])
def test_a_file_that_is_no_parquet_is_unreadable(tmp_path: Path, text: str) -> None:
    pytest.importorskip("pyarrow")
    (source,) = sources(put(tmp_path / "t.parquet", text))
    with pytest.raises(UnreadableImageError, match="not a whole Parquet file"):
        open_image(source)


def test_a_parquet_that_breaks_off_is_one_unreadable_input_among_others(tmp_path: Path) -> None:
    """As an archive is: one of a thousand files does not end a run."""
    whole = hub(tmp_path / "t.parquet", [{"bytes": png(), "path": None}] * 3)
    cut = put(tmp_path / "cut.parquet", whole.read_bytes()[:-20])
    found = list(expand([cut, whole]))
    assert len(found) == 4
    with pytest.raises(UnreadableImageError, match=r"cut\.parquet: not a whole Parquet file"):
        open_image(found[0])


def test_damaged_rows_of_a_parquet_are_unreadable(tmp_path: Path) -> None:
    whole = hub(tmp_path / "t.parquet", [{"bytes": png(), "path": None}]).read_bytes()
    (source,) = sources(put(tmp_path / "bad.parquet", whole[:4] + b"\xff" * 60 + whole[64:]))
    with pytest.raises(UnreadableImageError):
        open_image(source)


def test_damaged_names_in_a_parquet_are_an_error_of_ours(tmp_path: Path) -> None:
    whole = parquet(tmp_path / "t.parquet", {"path": [f"{number}.png" for number in range(100)]}).read_bytes()
    (source,) = sources(put(tmp_path / "bad.parquet", whole[:4] + b"\xff" * 60 + whole[64:]))
    with pytest.raises(UnreadableImageError):
        open_image(source)


def test_a_parquet_without_images_is_refused_with_its_columns(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'image_no', 'label'"):
        sources(parquet(tmp_path / "t.parquet", {"image_no": [1], "label": [2]}))


def test_fingerprints_of_rows_differ_and_change_with_the_table(tmp_path: Path) -> None:
    def stamps(*cells: int) -> list[str]:
        images = [{"bytes": png(width), "path": None} for width in cells]
        return [source.fingerprint() for source in sources(hub(tmp_path / "t.parquet", images))]

    first = stamps(1, 2)
    assert len(set(first)) == 2
    assert [source.fingerprint() for source in sources(tmp_path / "t.parquet")] == first
    assert not set(stamps(1, 2, 3)) & set(first)


def test_a_row_that_is_no_row_says_why(tmp_path: Path) -> None:
    put(tmp_path / "a.png", png())
    table = put(tmp_path / "t.csv", "path,label\na.png,x\n" + "b" * (MAX_LINE + 1) + ",x\na.png,x\n")
    first, broken, last = sources(table)
    with pytest.raises(ImageError, match=rf"line 3: a line of more than {MAX_LINE:,} characters"):
        open_image(broken)
    assert widths([first, last]) == [4, 4]


@pytest.mark.parametrize("cell", ["data:;base64,iVBORw0KGgo", "data:image/png;base64;iVBORw0KGgo", "data:text/plain;x"])
def test_a_data_uri_in_a_table_is_told_from_a_path(tmp_path: Path, cell: str) -> None:
    (source,) = sources(put(tmp_path / "t.csv", f'path\n"{cell}"\n'))
    with pytest.raises(ImageError) as caught:
        open_image(source)
    assert ("a data URI, not a path" in str(caught.value)) == (cell != "data:text/plain;x")


@pytest.mark.parametrize(("name", "sign"), [("a.csv", ";"), ("a.csv", "\t"), ("a.tsv", ",")])
def test_a_table_with_other_separators_says_so(tmp_path: Path, name: str, sign: str) -> None:
    (tmp_path / name).write_text(f"path{sign}label\na.jpg{sign}1\n")
    with pytest.raises(UsageError, match="has no column of images") as caught:
        list(expand(tmp_path / name))
    assert f"separated by {sign!r}" in caught.value.hint
