"""Stdin in place of inputs: lists in every spelling, one image, and nothing at all."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import containers
import pytest
from PIL import Image

from weevit.cli.answers import read_inputs
from weevit.cli.stdin import as_they_come
from weevit.errors import ImageError, UsageError
from weevit.images.source import PAUSE, Source, open_image


class _Stdin:
    def __init__(self, data: bytes) -> None:
        self.buffer = io.BufferedReader(io.BytesIO(data))  # type: ignore[arg-type]


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b c.png", "ä.png", "BM1.png"):
        (tmp_path / name).write_bytes(containers.png())

    def give(data: bytes, streamed: bool = True) -> list[Source]:
        stdin = _Stdin(data)
        monkeypatch.setattr(sys, "stdin", stdin)
        found = [source for source in read_inputs(["-"], streamed) if source is not PAUSE]
        assert not stdin.buffer.closed
        return found

    return give


@pytest.mark.parametrize(
    "data",
    [
        b"a.png\nb c.png\n\xc3\xa4.png",
        b"a.png\r\nb c.png\r\n\r\n   \r\n\xc3\xa4.png\r\n",
        b"\xef\xbb\xbfa.png\nb c.png\n\xc3\xa4.png\n",
        "\ufeffa.png\r\nb c.png\r\nä.png\r\n".encode("utf-16-le"),
        b"a.png\0b c.png\0\xc3\xa4.png\0",  # find -print0
    ],
)
def test_paths_on_stdin(given: Any, data: bytes) -> None:
    for streamed in (True, False):
        found = given(data, streamed)
        assert [source.name for source in found] == ["a.png", "b c.png", "ä.png"]
        assert {open_image(source).size for source in found} == {(4, 3)}


def test_odd_lines_are_rows(given: Any) -> None:
    found = given(b"a.png\n\xff\xfe.png\n" + b"x" * 3_000_000 + b"\nBM1.png\n")
    assert [source.name for source in found] == ["a.png", "\\udcff\\udcfe.png", "-#line3", "BM1.png"]
    for source in found[1:3]:
        with pytest.raises(ImageError):
            open_image(source)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000"])
def test_an_image_on_stdin_is_one_input(given: Any, kind: str) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(stream, kind)
    (source,) = given(stream.getvalue())
    assert (source.name, open_image(source).size) == ("-", (40, 30))


@pytest.mark.parametrize("data", [b"%PDF-1.7\n%x", b"<svg xmlns=''></svg>", b"\0\0\0\x0cJXL \r\n\x87\n"])
def test_an_image_that_is_not_read_is_one_failed_row(given: Any, data: bytes) -> None:
    (source,) = given(data)
    with pytest.raises(ImageError, match="files are not read"):
        open_image(source)


def test_a_path_that_begins_like_an_image_is_a_path(given: Any) -> None:
    assert [source.name for source in given(b"BM1.png\na.png\n")] == ["BM1.png", "a.png"]


def test_nothing_on_stdin_is_an_error(given: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="which is empty"):
        given(b"")
    for blank in (b"\n", b"\r\n  \r\n", b"\n\0\n"):
        for streamed in (True, False):
            with pytest.raises(UsageError, match="empty lines only"):
                given(blank, streamed)
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UsageError, match="closed"):
        read_inputs(["-"])


@pytest.mark.parametrize("words", [["-", "cat.png"], ["cat.png", "-"], ["-", "-"]])
def test_stdin_beside_others_is_refused(words: list[str]) -> None:
    """It was looked for as a file, and stdin was not read."""
    with pytest.raises(UsageError, match="stands alone"):
        read_inputs(words)
    assert [source.name for source in read_inputs(["./-"])] == ["-"]


@pytest.mark.parametrize("words", [[""], ["a.png", "  "], ["\t"]])
def test_an_empty_word_is_an_error_and_never_the_folder(words: list[str]) -> None:
    with pytest.raises(UsageError, match="An input is a path"):
        read_inputs(words)


def test_lines_that_come_slowly_are_answered_as_they_come(tmp_path: Path) -> None:
    """The next line is written when the answer to the one before it has been read."""
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(containers.png())
    command = [sys.executable, "-m", "weevit", "classify", "-", "--model", "digits", "--json"]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, cwd=tmp_path, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        for name in ("0.png", "1.png", "missing.png", "2.png"):
            process.stdin.write(f"{name}\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["input"] == name
        process.stdin.close()
        assert process.stdout.read() == ""
        assert process.wait(60) == 0


def test_what_breaks_while_stdin_is_read_is_raised() -> None:
    def broken() -> Iterator[str]:
        yield "a.png"
        raise UsageError("no more")

    with pytest.raises(UsageError, match="no more"):
        list(as_they_come(broken()))


@pytest.mark.skipif(os.name == "nt", reason="a shell of POSIX closes them")
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_error(tmp_path: Path, closed: str) -> None:
    """As some services start a program; the numbers of the streams are not those of a file that is opened then."""
    Image.new("L", (9, 9)).save(tmp_path / "a.png")
    command = f"{sys.executable} -m weevit classify a.png -m digits -o out.csv {closed}"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, check=False)
    assert done.returncode == 0
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 2
