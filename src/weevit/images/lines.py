"""Lines and rows of strangers' text files: an odd one is reported, and does not affect the later ones."""

from __future__ import annotations

import codecs
import csv
import io
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO, cast

from weevit.images.files import File, reading

MAX_LINE = 1 << 20
"""Characters of a line; the rest of a longer one is skipped."""

MAX_LINES = 64
"""Lines of one row: cells may contain line ends in quotes. A quote that is still open then is a mistake."""


@contextmanager
def open_text(file: File) -> Iterator[TextIO]:
    """The file as UTF-8, or UTF-16 with a byte order mark.

    Bytes that are not UTF-8 are kept as `os.fsencode` restores them: the line may still be a file's name. An error of
    the disk while the block reads is an UnreadableImageError.
    """
    with file.open() as opened, reading(file.name):
        raw = io.BufferedReader(cast(io.RawIOBase, opened))  # of a bucket too, whose file is no RawIOBase
        wide = raw.peek(2)[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        encoding, errors = ("utf-16", "replace") if wide else ("utf-8-sig", "surrogateescape")
        with io.TextIOWrapper(raw, encoding=encoding, errors=errors, newline="") as text:
            yield text


def lines(text: TextIO) -> Iterator[str | None]:
    """Lines with their ends, `\\n`, `\\r\\n` or `\\r`; None for a line that is too long."""
    while line := text.readline(MAX_LINE):
        if len(line) < MAX_LINE or line[-1] in "\r\n":
            yield line
            continue
        while line and line[-1] not in "\r\n":
            line = text.readline(MAX_LINE)
        yield None


def rows(text: TextIO, delimiter: str) -> Iterator[tuple[int, list[str] | str]]:
    """Rows of a table: (number of the first line, cells), or a message in place of the cells.

    Quotes are read strictly first, since an unclosed one would swallow later rows. A line that is invalid that way is
    read alone, as leniently as possible, and the next row begins with the next line.
    """
    given = _Lines(text)
    reader = csv.reader(given, delimiter=delimiter, strict=True)
    number = 1
    while True:
        given.taken = []
        cells: list[str] | str
        try:
            cells = next(reader)
            used = len(given.taken)
        except StopIteration:
            return
        except csv.Error as error:
            cells, used = _alone(given.taken[0], delimiter, error), 1
            given.again.extendleft(reversed(given.taken[1:]))
            reader = csv.reader(given, delimiter=delimiter, strict=True)
        yield number, cells
        number += used


def _alone(line: str | None, delimiter: str, error: csv.Error) -> list[str] | str:
    """A line as a row of its own."""
    lines = cast(Iterator[str], iter((line, None)))  # None where a second line is asked for is an error of the module's
    try:
        return next(csv.reader(lines, delimiter=delimiter))
    except csv.Error:
        return str(error)


class _Lines:
    """Lines for a reader of rows.

    Attributes:
        taken: lines of the current row.
        again: lines to read once more.
    """

    def __init__(self, text: TextIO) -> None:
        self._lines = lines(text)
        self.taken: list[str | None] = []
        self.again: deque[str | None] = deque()

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        if len(self.taken) == MAX_LINES:
            raise csv.Error(f"a quote that is not closed within {MAX_LINES} lines")
        line = self.again.popleft() if self.again else next(self._lines)
        self.taken.append(line)
        if line is None:
            raise csv.Error(f"a line of more than {MAX_LINE:,} characters")
        return line
