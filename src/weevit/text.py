"""What strangers wrote, where it meets a screen or a table: names of files, classes and models, and words of libraries.

On a screen an escape sequence renames the window, fills the clipboard or wipes out a line, and a mark for writing from
right to left makes one name look like another: `on_screen` shows such characters as `\\x1b` or `\\u202e`. In a table a
carriage return splits a row for some readers, and a cell that begins with `=` is computed: `csv_bytes` quotes the
first and writes an apostrophe in front of the second, which `plain_cell` takes away again.
"""

from __future__ import annotations

import json
import re
import shlex
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

_SIGNS = "=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20"
"""What makes a cell a formula where it comes first; the last four are `=+-@` in the width of East Asian signs."""

_COMPUTED = re.compile(rf"['\s]*[{_SIGNS}]")
_PUT_IN_FRONT = re.compile(rf"'['\s]*[{_SIGNS}]")
_BARE = re.compile(r"[^\s\"',;|\\`=+@\x00-\x1f\x7f-\x9f]*(?: [^\s\"',;|\\`=+@\x00-\x1f\x7f-\x9f]+)*")
"""Cells that need no quotes whatever separator a spreadsheet looks for."""

_LINE_ENDS = re.compile("[\\\\\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029]")
"""What `str.splitlines` and its kind split at, and the backslash, which says that one was there."""


def on_screen(text: str) -> str:
    """A text as a terminal may have it: whatever is no letter, sign or space is spelled out. Line feeds stay."""
    return text if text.isprintable() else "".join(map(_seen, text))


def one_line(text: object) -> str:
    """A name or a reason as a terminal may have it, without line feeds: it must not begin a line of its own."""
    return on_screen(str(text)).replace("\n", "\\n")


def typed(path: object) -> str:
    """A path as it is typed into a shell, for the commands in hints."""
    return shlex.quote(str(path))


def _seen(letter: str) -> str:
    """Python calls printable what has a shape; spaces of other widths have none, and do no harm."""
    if letter.isprintable() or letter == "\n" or unicodedata.category(letter) == "Zs":
        return letter
    code = ord(letter)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def json_line(values: dict[str, Any]) -> str:
    """One object, one line, in ASCII without control characters; NaN would be a lie and is refused."""
    return json.dumps(values, ensure_ascii=True, allow_nan=False)


def list_line(name: str) -> str:
    """A name as a line of a list: line ends and backslashes in it are written as `\\n`, `\\u2028`, `\\\\`."""
    return _LINE_ENDS.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), name)


def csv_bytes(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """A table with a header, as `csv_row` writes it, in UTF-8."""
    return "".join([csv_row(columns), *map(csv_row, rows)]).encode("utf-8", "backslashreplace")


def csv_row(cells: Iterable[Any]) -> str:
    """A line of CSV (RFC 4180, with a line feed at its end) that reads as one row everywhere and computes nothing.

    Numbers stay numbers, floats to the last digit; True and False are 1 and 0; nothing is written for None. Any text
    that a spreadsheet would take for a formula has an apostrophe in front. Python's own writer leaves a carriage
    return without quotes before 3.13, and any separator but its own.
    """
    return ",".join(map(_cell, cells)) + "\n"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        return str(int(value) if isinstance(value, bool) else value)
    text = value.replace("\0", "\\x00")  # no reader agrees with another about that one
    text = f"'{text}" if _COMPUTED.match(text) else text
    if _BARE.fullmatch(text):
        return text
    quoted = text.replace('"', '""')
    return f'"{quoted}"'


def plain_cell(text: str) -> str:
    """A cell as it was before `csv_row` put an apostrophe in front of it."""
    return text[1:] if _PUT_IN_FRONT.match(text) else text
