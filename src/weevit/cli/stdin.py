"""Inputs from stdin: paths, one per line, or one image."""

from __future__ import annotations

import codecs
import io
import queue
import re
import sys
import threading
from collections.abc import Iterator
from typing import Any

from weevit.errors import NotAnImageError, UnreadableImageError, UnsupportedImageError, UsageError
from weevit.images.decode import DEFAULT_LIMITS, recognise
from weevit.images.lines import MAX_LINE, lines
from weevit.images.source import PAUSE, Source

NAME = "-"
"""Name of an image on stdin."""

PATIENCE = 0.02
"""Seconds that an image waits for others in its batch."""

_EXAMPLE = "ls *.jpg | weevit classify -"
_READ_AHEAD = 1024
_BEGINNING = 512
_NO_TEXT = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f]")


def stdin_inputs() -> Iterator[str | Source]:
    """The image, or the paths as they come, ended by line breaks or NULs; UsageError for a closed or empty stdin."""
    if sys.stdin is None:
        raise UsageError("`-` reads stdin, which is closed.", _EXAMPLE)
    given: Any = sys.stdin.buffer
    raw = given if hasattr(given, "peek") else io.BufferedReader(given)
    head = raw.peek(1)[:_BEGINNING]
    if not head:
        raise UsageError("`-` reads stdin, which is empty.", _EXAMPLE)
    if _is_image(head):
        return iter([Source(NAME, raw.read(DEFAULT_LIMITS.max_bytes + 1))])
    wide = head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    return as_they_come(_any(_between_nuls(raw) if b"\0" in head and not wide else _lines(raw, wide)))


def _any(paths: Iterator[str | Source]) -> Iterator[str | Source]:
    """The paths; UsageError where there is none."""
    found = False
    for path in paths:
        found = True
        yield path
    if not found:
        raise UsageError("`-` reads stdin, which has empty lines only.", _EXAMPLE)


def as_they_come(inputs: Iterator[str | Source]) -> Iterator[str | Source]:
    """The inputs, read by a thread, with a `PAUSE` while the next one is awaited."""
    come: queue.Queue[str | Source | BaseException | None] = queue.Queue(_READ_AHEAD)

    def read() -> None:
        try:
            for one in inputs:
                come.put(one)
            come.put(None)
        except BaseException as error:  # raised where the inputs are asked for
            come.put(error)

    threading.Thread(target=read, name="weevit-stdin", daemon=True).start()
    paused = True
    while True:
        try:
            one = come.get(timeout=None if paused else PATIENCE)
        except queue.Empty:
            paused = True
            yield PAUSE
            continue
        if one is None:
            return
        if isinstance(one, BaseException):
            raise one
        paused = False
        yield one


def _is_image(head: bytes) -> bool:
    """Whether the bytes begin an image, and not a path with such a name: `BM/1.jpg` could be a bitmap."""
    try:
        recognise(head)
    except NotAnImageError:
        return False
    except UnsupportedImageError:
        pass
    return head[:1] in b"P%<" or _NO_TEXT.search(head) is not None


def _lines(raw: Any, wide: bool) -> Iterator[str | Source]:
    encoding, errors = ("utf-16", "replace") if wide else ("utf-8-sig", "surrogateescape")
    text = io.TextIOWrapper(raw, encoding=encoding, errors=errors, newline="")
    try:
        for number, line in enumerate(lines(text), 1):
            if line is None:
                name = f"{NAME}#line{number}"
                yield Source(name, UnreadableImageError(f"{name}: a line of more than {MAX_LINE:,} characters"))
            elif not line.isspace():
                yield line.rstrip("\r\n")
    finally:
        text.detach()  # or it would close stdin


def _between_nuls(raw: Any) -> Iterator[str]:
    rest = b""
    while data := raw.read1(1 << 16):
        *whole, rest = (rest + data).split(b"\0")
        yield from (part.decode("utf-8", "surrogateescape") for part in whole if part.strip())
        if len(rest) > MAX_LINE:
            raise UsageError(f"A path of more than {MAX_LINE:,} bytes on stdin.", "find . -print0 | weevit classify -")
    if rest.strip():
        yield rest.decode("utf-8", "surrogateescape")
