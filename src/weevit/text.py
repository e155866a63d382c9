"""Strangers' text on a screen or in a table: names of files, classes and models, and messages of libraries.

On a screen an escape sequence renames the window, fills the clipboard or wipes out a line, and a mark for writing from
right to left makes one name look like another: `on_screen` shows such characters as `\\x1b` or `\\u202e`. In a table a
carriage return splits a row for some readers, and a cell that begins with `=` is computed: `csv_bytes` quotes the
first and writes an apostrophe in front of the second, which `plain_cell` removes again.
"""

from __future__ import annotations

import json
import re
import shlex
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

_SIGNS = "=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20"
"""First characters that make a cell a formula; the last four are `=+-@` in the width of East Asian characters."""

_COMPUTED = re.compile(rf"['\s]*[{_SIGNS}]")
_PUT_IN_FRONT = re.compile(rf"'['\s]*[{_SIGNS}]")
_BARE = re.compile(r"[^\s\"',;|\\`=+@\x00-\x1f\x7f-\x9f]*(?: [^\s\"',;|\\`=+@\x00-\x1f\x7f-\x9f]+)*")
"""Cells that need no quotes with any separator."""

_LINE_ENDS = re.compile("[\\\\\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029]")
"""The separators of `str.splitlines`, and the backslash that escapes them."""


def on_screen(text: str) -> str:
    """A text that is safe on a terminal: control and direction characters are escaped. Line feeds stay."""
    return text if text.isprintable() else "".join(map(_seen, text))


def one_line(text: object) -> str:
    """A name or a message that is safe on a terminal, without line feeds: it must not begin a line of its own."""
    return on_screen(str(text)).replace("\n", "\\n")


def typed(path: object) -> str:
    """A path as typed into a shell, for the commands in hints."""
    return shlex.quote(str(path))


def some(names: Sequence[str], shown: int) -> str:
    """`a, b and 3 more`: the first `shown` names, and how many more there are."""
    more = f" and {len(names) - shown:,} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def counted(count: int, one: str, several: str = "") -> str:
    """3, `image` -> `3 images`; 1 -> `1 image`."""
    return f"{count:,} {one if count == 1 else several or one + 's'}"


def span(seconds: float) -> str:
    """`45 s`, `12 min`, `3.4 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def kinds(counts: Counter[str]) -> str:
    """`2 truncated, 1 missing`, the most frequent first."""
    return ", ".join(f"{count:,} {kind}" for kind, count in counts.most_common())


def signed(sign: str, names: Sequence[str], shown: int) -> list[str]:
    """Lines of a message, `  + name` for each of the first `shown` names and `  + ... and 3 more` for the others."""
    lines = [f"  {sign} {one_line(name)}" for name in names[:shown]]
    return [*lines, f"  {sign} ... and {len(names) - shown:,} more"] if len(names) > shown else lines


def _seen(letter: str) -> str:
    """Spaces of other widths are not printable for Python, and harmless."""
    if letter.isprintable() or letter == "\n" or unicodedata.category(letter) == "Zs":
        return letter
    code = ord(letter)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def json_line(values: dict[str, Any]) -> str:
    """An object on a line, in ASCII without control characters; NaN is refused."""
    return json.dumps(values, ensure_ascii=True, allow_nan=False)


def list_line(name: str) -> str:
    """A name as a line of a list: line ends and backslashes in it are written as `\\n`, `\\u2028`, `\\\\`."""
    return _LINE_ENDS.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), name)


def csv_bytes(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """A table with a header, as `csv_row` writes it, in UTF-8."""
    return "".join([csv_row(columns), *map(csv_row, rows)]).encode("utf-8", "backslashreplace")


def csv_row(cells: Iterable[Any]) -> str:
    """A line of CSV (RFC 4180, ended by a line feed) that every program reads as one row, and that computes nothing.

    Numbers stay numbers, floats to the last digit; True and False are 1 and 0; None is empty. Text that a spreadsheet
    would take for a formula gets an apostrophe in front. Python's own writer leaves a carriage return without quotes
    before 3.13, and any separator but its own.
    """
    return ",".join(map(_cell, cells)) + "\n"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        return str(int(value) if isinstance(value, bool) else value)
    text = value.replace("\0", "\\x00")  # readers disagree about this one
    text = f"'{text}" if _COMPUTED.match(text) else text
    if _BARE.fullmatch(text):
        return text
    quoted = text.replace('"', '""')
    return f'"{quoted}"'


def plain_cell(text: str) -> str:
    """A cell without the apostrophe of `csv_row`."""
    return text[1:] if _PUT_IN_FRONT.match(text) else text
