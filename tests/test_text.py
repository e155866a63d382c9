"""Text of strangers: nothing that a terminal obeys, nothing that a spreadsheet computes, one row a row."""

from __future__ import annotations

import csv
import io
import json

import pytest

from weevit.text import csv_bytes, json_line, list_line, on_screen, one_line, plain_cell

ODD = (
    *("a\rb.png", "a\nb.png", "a\r\nb.png", "=1+1", "'=x", "  =y", "-1", "@SUM(A1)", "+1.5", "\t=x", "\r=cmd", "''="),
    *('q"uo"te.png', "a,b;c", "a;=1+1", "\x1b]0;t\x07.png", "a\u2028b\u2029c\x85d", "\u202egnp.exe", "\uff1d1+1"),
    *("\x0b\x0cx", " lead", "trail ", "a\tb", "C:\\x\\y", "\\", "", "猫 ü.png", "12", "a|b", "it's", "\ufeffx"),
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x1b]52;c;aGk=\x1b\\", "\\x1b]52;c;aGk=\\x1b\\"),
        ("\x9b2K", "\\x9b2K"),
        ("a\rb\tc\x00\x7f\x08", "a\\x0db\\x09c\\x00\\x7f\\x08"),
        ("\u202egnp\u2066x\u200f", "\\u202egnp\\u2066x\\u200f"),
        ("zero\u200bwidth\u200d\ufeff\u2060", "zero\\u200bwidth\\u200d\\ufeff\\u2060"),
        ("\u2028\u2029\x85", "\\u2028\\u2029\\x85"),
        ("\udcff\U000e0041", "\\udcff\\U000e0041"),
        ("\uffff\U0001ffff\xad\u0378", "\\uffff\\U0001ffff\\xad\\u0378"),
        ("[red]x[/red]", "[red]x[/red]"),
        ("猫 ü é 83.3\u00a0% █▉ · 日本\u3000語", "猫 ü é 83.3\u00a0% █▉ · 日本\u3000語"),
    ],
)
def test_what_a_terminal_would_obey_is_spelled_out(text: str, shown: str) -> None:
    assert on_screen(text) == one_line(text) == shown
    assert on_screen(f"{text}\n{text}") == f"{shown}\n{shown}"
    assert one_line(f"{text}\n{text}") == f"{shown}\\n{shown}"


def test_of_all_characters_none_moves_a_cursor() -> None:
    everything = "".join(map(chr, range(0x110000)))
    seen = one_line(everything)
    assert not set(seen) & {*map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0)), *"\u2028\u2029\u200e\u202e\u2066"}
    seen.encode()


def test_a_table_reads_back_as_it_was() -> None:
    rows = [[name, "ok" if i % 2 else None, i, 0.1 + i, i % 2 == 0, None] for i, name in enumerate(ODD)]
    data = csv_bytes(["input", "status", "width", "share", "right", "none"], rows)
    _, *read = csv.reader(io.StringIO(data.decode(), newline=""))
    assert [plain_cell(row[0]) for row in read] == list(ODD)
    assert [row[1:] for row in read] == [
        ["ok" if i % 2 else "", str(i), repr(0.1 + i), str(int(i % 2 == 0)), ""] for i in range(len(ODD))
    ]
    lines = data.decode().replace("\r\n", "\n")
    assert csv_bytes(["a"], [[-1.5], [float("inf")]]) == b"a\n-1.5\ninf\n"
    assert lines.count("\n") == len(ODD) + 1 + sum(name.count("\n") for name in ODD)


def test_no_cell_is_computed_whatever_separator_is_looked_for() -> None:
    for separator in ",;\t|":
        for row in csv.reader(
            io.StringIO(csv_bytes(["n"], [[name] for name in ODD]).decode(), newline=""), delimiter=separator
        ):
            assert not any(cell.lstrip().startswith(("=", "+", "-", "@", "\uff1d")) for cell in row), row


def test_no_reader_splits_a_row() -> None:
    rows = [[name, i, None if i % 3 else 0.5] for i, name in enumerate(ODD)]
    data = csv_bytes(["input", "width", "share"], rows)
    polars, pandas = pytest.importorskip("polars"), pytest.importorskip("pandas")
    by_polars = polars.read_csv(io.BytesIO(data))
    by_pandas = pandas.read_csv(io.BytesIO(data), keep_default_na=False, na_values={"share": [""]})
    assert [plain_cell(name or "") for name in by_polars["input"]] == list(ODD)
    assert [plain_cell(str(name)) for name in by_pandas["input"]] == list(ODD)
    assert by_polars["width"].to_list() == by_pandas["width"].tolist() == list(range(len(ODD)))


def test_what_no_encoding_has_is_spelled_out() -> None:
    assert csv_bytes(["a"], [["\udcff"], ["x\0y"]]) == b'a\n\\udcff\n"x\\x00y"\n'


def test_a_line_of_a_list_is_one_line() -> None:
    for name in ODD:
        assert len(f"{list_line(name)}\n".splitlines()) == 1
        assert list_line(name).encode().decode("unicode_escape").encode("latin-1", "ignore") or not name
    assert list_line("a\r\nb\\c\u2028") == "a\\r\\nb\\\\c\\u2028"


def test_json_is_exact_and_plain() -> None:
    values = {"name": "".join(map(chr, range(0x300))) + "\u2028\udcff"}
    line = json_line(values)
    assert json.loads(line) == values
    assert line.isprintable()
    assert line.isascii()
