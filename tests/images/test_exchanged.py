"""Files that are not what they were a moment ago, and pipes: no wait without end, and no check that comes too early."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from weevit.errors import ImageError, TooLargeImageError, UnreadableImageError, UsageError, WeevitError
from weevit.images.decode import Limits, decode, read_file
from weevit.images.files import LocalFile
from weevit.images.source import Source, open_image
from weevit.images.sources import expand

posix = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs POSIX")


def jpeg(side: int = 64) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


@contextmanager
def written_to_in_the_end(pipe: Path, seconds: float = 10) -> Iterator[None]:
    """A pipe whose reader is let go after a while: a test of a wait without end ends."""
    done = threading.Event()

    def let_go() -> None:
        end = time.monotonic() + seconds
        while not done.wait(0.05):
            if time.monotonic() > end:
                os.close(os.open(pipe, os.O_RDWR | os.O_NONBLOCK))
                end = time.monotonic() + 0.2

    thread = threading.Thread(target=let_go, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@posix
@pytest.mark.parametrize("name", ["x.csv", "x.txt", "x.tar", "x.parquet", "x.jpg"])
def test_a_pipe_by_any_name_is_an_answer_at_once(tmp_path: Path, name: str) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    pipe = tmp_path / name
    os.mkfifo(pipe)
    start = time.monotonic()
    with written_to_in_the_end(pipe):
        if not name.endswith("jpg"):
            with pytest.raises(UnreadableImageError, match="pipe"):
                LocalFile(pipe).open()
        found = list(expand(str(pipe))) if name.endswith("jpg") else _listed(pipe)
        assert [_status(source) for source in found] == ["unreadable"]
    assert time.monotonic() - start < 8


def _listed(pipe: Path) -> list[Source]:
    """What the pipe names: one input without an answer, or a refusal of the whole."""
    try:
        return list(expand(str(pipe)))
    except WeevitError as error:
        return [Source(pipe.name, UnreadableImageError(str(error)))] if "pipe" in str(error) else []


def _status(source: Source) -> str:
    with pytest.raises(ImageError) as caught:
        open_image(source)
    return caught.value.status


@posix
def test_a_file_that_became_a_pipe_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, file = tmp_path / "x.jpg", tmp_path / "y.jpg"
    os.mkfifo(pipe)
    file.write_bytes(jpeg())
    before = os.stat(file)  # noqa: PTH116 - as the code asks
    monkeypatch.setattr(os, "stat", lambda path, **_: before)
    with pytest.raises(UnreadableImageError, match="pipe"):
        read_file(pipe)


def test_a_file_that_grew_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = tmp_path / "small.jpg", tmp_path / "large.jpg"
    small.write_bytes(jpeg(16))
    large.write_bytes(jpeg(256))
    before = os.stat(small)  # noqa: PTH116
    monkeypatch.setattr(os, "stat", lambda path, **_: before)
    with pytest.raises(TooLargeImageError):
        read_file(large, Limits(max_bytes=before.st_size + 1))


def test_pillow_that_is_made_lenient_while_it_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread's library may do so at any moment: what was decoded meanwhile may be half grey."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", False)

    def enough(full: tuple[int, int]) -> tuple[int, int]:
        ImageFile.LOAD_TRUNCATED_IMAGES = True
        return full

    assert decode(jpeg(), enough=lambda full: full).size == (64, 64)
    with pytest.raises(UsageError, match="LOAD_TRUNCATED_IMAGES"):
        decode(jpeg(), enough=enough)
