"""WebDataset tars: what is in them, what is told about them, and archives that are broken or mean harm."""

from __future__ import annotations

import gzip
import io
import os
import random
import tarfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

from weevit.errors import (
    ImageError,
    NotAnImageError,
    TooLargeImageError,
    TruncatedImageError,
    UnreadableImageError,
)
from weevit.images.decode import Limits
from weevit.images.source import Source, open_image
from weevit.images.sources import expand

ENDINGS = ("tar", "tar.gz", "tgz")


def png(width: int = 4) -> bytes:
    stream = io.BytesIO()
    Image.effect_noise((width, 30), 50).save(stream, "PNG")  # noise, so that a picture takes several blocks
    return stream.getvalue()


def tar(path: Path, *members: tuple[str, bytes | tarfile.TarInfo]) -> Path:
    """Members in this order; a TarInfo stands for one without content."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name) if isinstance(content, bytes) else content
            member.name = name
            if isinstance(content, bytes):
                member.size = len(content)
            archive.addfile(member, io.BytesIO(content) if isinstance(content, bytes) else None)
    data = stream.getvalue()
    path.write_bytes(data if path.suffix == ".tar" else gzip.compress(data))
    return path


def special(kind: bytes, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo()
    member.type, member.linkname = kind, target
    return member


def sources(inputs: object) -> list[Source]:
    return list(expand(inputs))  # type: ignore[arg-type]


def widths(found: list[Source]) -> list[int]:
    return [open_image(source).size[0] for source in found]


@pytest.mark.parametrize("ending", ENDINGS)
def test_pictures_come_in_the_archives_order_with_their_classes(tmp_path: Path, ending: str) -> None:
    path = tar(
        tmp_path / f"x.{ending}",
        ("b/0010.png", png(1)),
        ("b/0010.cls", b"7\n"),
        ("b/0010.json", b"{}"),
        ("a/0002.cls", b"cat"),  # the class may come first
        ("a/0002.PNG", png(2)),
        ("a/0002.seg.png", png(3)),
        ("a/0003.png", png(4)),
        ("a", special(tarfile.DIRTYPE)),
        ("README", b"x"),
        ("c/0002.cls", b"no picture's"),
    )
    found = expand(path)
    listed = list(found)
    inside = ["b/0010.png", "a/0002.PNG", "a/0002.seg.png", "a/0003.png"]
    assert [source.name for source in listed] == [f"{path}/{name}" for name in inside]
    assert [source.target for source in listed] == ["7", "cat", "cat", None]
    assert widths(listed) == [1, 2, 3, 4]
    assert widths(listed[::-1]) == [4, 3, 2, 1]
    assert found.left_out == {".json": 1, "": 1}


@pytest.mark.parametrize("ending", ENDINGS)
def test_members_that_are_no_honest_files_are_unreadable(tmp_path: Path, ending: str) -> None:
    (tmp_path / "in").mkdir()
    secret = tmp_path / "secret.png"
    secret.write_bytes(png())
    path = tar(
        tmp_path / "in" / f"x.{ending}",
        ("../up.png", png()),
        ("a/../../up.png", png()),
        (str(tmp_path / "absolute.png"), png()),
        ("link.png", special(tarfile.SYMTYPE, str(secret))),
        ("hard.png", special(tarfile.LNKTYPE, "good.png")),
        ("pipe.png", special(tarfile.FIFOTYPE)),
        ("folder.png", special(tarfile.DIRTYPE)),
        ("good.png", png()),
    )
    before = sorted(tmp_path.rglob("*"))
    *bad, good = sources(path)
    assert len(bad) == 7
    for source in bad:
        with pytest.raises(UnreadableImageError):
            open_image(source)
    assert widths([good]) == [4]
    assert sorted(tmp_path.rglob("*")) == before  # nothing is unpacked, inside or outside


def test_a_name_that_comes_twice_is_two_pictures(tmp_path: Path) -> None:
    found = sources(tar(tmp_path / "x.tar", ("a.png", png(1)), ("a.png", png(2)), ("b.png", png(3)), ("a.png", png(4))))
    assert [source.name[-5:] for source in found] == ["a.png", "a.png", "b.png", "a.png"]
    assert widths(found) == [1, 2, 3, 4]
    assert len({source.fingerprint() for source in found}) == 4


def test_names_are_printable(tmp_path: Path) -> None:
    long = "long/" * 60 + "é.png"
    found = sources(tar(tmp_path / "x.tar", ("a\x1b[2J\n.png", png()), (long, png()), ("caf\udce9.png", png())))
    inside = [source.name.partition("x.tar/")[2] for source in found]
    assert inside == ["a\\x1b[2J\\x0a.png", long, "caf\\udce9.png"]
    assert widths(found) == [4, 4, 4]


def test_pictures_in_archives_fail_as_they_would_elsewhere(tmp_path: Path) -> None:
    small, text, empty = sources(tar(tmp_path / "x.tar", ("a.png", png()), ("b.png", b"no picture"), ("c.png", b"")))
    with pytest.raises(TooLargeImageError, match="limit"):
        open_image(small, Limits(max_bytes=len(png()) - 1))
    with pytest.raises(NotAnImageError):
        open_image(text)
    with pytest.raises(ImageError, match="zero bytes"):
        open_image(empty)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("where", ["header", "member"])
def test_an_archive_that_breaks_off_says_so(tmp_path: Path, ending: str, where: str) -> None:
    rows = [(f"{number}.png", png(number)) for number in range(10, 20)]
    data = tar(tmp_path / "whole.tar", *rows).read_bytes()
    with tarfile.open(tmp_path / "whole.tar") as archive:
        member = archive.getmembers()[3]
    data = data[: member.offset + 200 if where == "header" else member.offset_data + 100]
    path = tmp_path / f"x.{ending}"
    path.write_bytes(data if ending == "tar" else gzip.compress(data))
    found = sources(path)
    assert widths(found[:3]) == [10, 11, 12]
    assert 1 <= len(found[3:]) <= 2  # the one that is cut, where its header is whole, and the rest
    assert found[-1].name == f"{path}#rest"
    for source in found[3:]:
        with pytest.raises(TruncatedImageError):
            open_image(source)


def test_a_compressed_archive_that_breaks_off_says_so(tmp_path: Path) -> None:
    path = tar(tmp_path / "x.tar.gz", *((f"{number}.png", png(number)) for number in range(100, 120)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found = sources(path)
    assert 2 < len(found) < 20
    assert widths(found[:2]) == [100, 101]
    with pytest.raises(TruncatedImageError, match="is lost"):
        open_image(found[-1])


def test_a_damaged_header_in_the_middle_is_not_taken_for_the_end(tmp_path: Path) -> None:
    path = tar(tmp_path / "x.tar", ("a.png", png(1)), ("b.png", png(2)), ("c.png", png(3)))
    path.write_bytes(path.read_bytes().replace(b"b.png\0", b"q.png\0"))  # the checksum does not fit any more
    first, rest = sources(path)
    assert widths([first]) == [1]
    with pytest.raises(TruncatedImageError, match="is lost"):
        open_image(rest)


def test_an_archive_without_the_mark_of_its_end_is_whole(tmp_path: Path) -> None:
    data = tar(tmp_path / "x.tar", ("a.png", png(1))).read_bytes()
    (tmp_path / "x.tar").write_bytes(data[: 512 + -(-len(png(1)) // 512) * 512])  # as when tars are put together
    assert widths(sources(tmp_path / "x.tar")) == [1]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("data", [b"", b"no archive", b"x" * 5000, b"\x1f\x8b"])
def test_what_is_no_archive_is_one_unreadable_source(tmp_path: Path, ending: str, data: bytes) -> None:
    path = tmp_path / f"x.{ending}"
    path.write_bytes(data)
    (source,) = sources(path)
    assert source.name == str(path)
    with pytest.raises(UnreadableImageError, match="not a tar archive"):
        open_image(source)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("size", [-1024, 1 << 60, 1 << 80])
def test_a_size_that_is_a_lie_leads_neither_in_circles_nor_on_for_ever(tmp_path: Path, ending: str, size: int) -> None:
    liar = tarfile.TarInfo()
    liar.pax_headers = {"size": str(size)}
    first, *rest = sources(tar(tmp_path / f"x.{ending}", ("a.png", png(1)), ("b.txt", liar), ("c.png", png(3))))
    assert widths([first]) == [1]
    with pytest.raises(TruncatedImageError, match="is lost"):
        open_image(rest[-1])


@pytest.mark.parametrize("ending", ENDINGS)
def test_whatever_is_in_an_archive_the_errors_are_ours(tmp_path: Path, ending: str) -> None:
    rows = [("a" * 120 + ".png", png(1)), ("b.png", png(2)), ("b.cls", b"3"), ("c.png", png(3))]
    whole = tar(tmp_path / "whole.tar", *rows).read_bytes()
    draw = random.Random(0)
    for _ in range(200):
        data = bytearray(whole)
        for place in draw.sample(range(0, len(data), 512), 2):
            start = place + draw.choice((100, 124, 136, 148, 156, 257, 300))
            data[start : start + 12] = draw.choice((b"\xff" * 12, b"\x80" + b"\x7f" * 11, b"99999999999\0", b"\0" * 12))
            head = data[place : place + 148] + b" " * 8 + data[place + 156 : place + 512]
            data[place + 148 : place + 156] = b"%06o\0 " % sum(head)  # the checksum fits again
        path = tmp_path / f"x.{ending}"
        path.write_bytes(data if ending == "tar" else gzip.compress(data, 1))
        for source in sources(path):
            with suppress(ImageError):
                open_image(source)


def test_several_threads_may_open_members(tmp_path: Path) -> None:
    found = sources(tar(tmp_path / "x.tar", *((f"{number}.png", png(number)) for number in range(1, 41))))
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(lambda source: open_image(source).size[0], found)) == list(range(1, 41))


def test_fingerprints_change_with_the_archive_and_only_then(tmp_path: Path) -> None:
    def stamps() -> list[str]:
        return [source.fingerprint() for source in sources(tmp_path / "x.tar")]

    rows = [("a.png", png(1)), ("b.png", png(2))]
    path = tar(tmp_path / "x.tar", *rows)
    first = stamps()
    assert stamps() == first
    assert len(set(first)) == 2
    tar(path, ("a.png", png(3)), rows[1])
    os.utime(path, ns=(0, 1))  # even if it was written within the clock's resolution
    assert not set(stamps()) & set(first)
    with gzip.open(tmp_path / "x.tar.gz", "wb") as packed:
        packed.write(path.read_bytes())
    assert len({source.fingerprint() for source in sources(tmp_path / "x.tar.gz")}) == 2
