"""WebDataset tars: what is in them, what is told about them, and archives that are broken or mean harm."""

from __future__ import annotations

import gzip
import io
import os
import random
import tarfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import containers
import pytest
from PIL import Image

from weevit.errors import (
    ImageError,
    NotAnImageError,
    TooLargeImageError,
    TruncatedImageError,
    UnreadableImageError,
)
from weevit.images import archives, packed
from weevit.images.decode import Limits
from weevit.images.source import Source, open_image
from weevit.images.sources import expand

ENDINGS = ("tar", "tar.gz", "tgz")


def png(width: int = 4) -> bytes:
    stream = io.BytesIO()
    Image.effect_noise((width, 30), 50).save(stream, "PNG")  # noise, so that a image takes several blocks
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
def test_images_come_in_the_archives_order_with_their_classes(tmp_path: Path, ending: str) -> None:
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
        ("c/0002.cls", b"no image's"),
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
def test_what_macos_writes_beside_each_file_is_no_image_and_parts_no_sample(tmp_path: Path, ending: str) -> None:
    attributes = b"\0\5\x16\7" + bytes(160)
    members = [("./._1.png", attributes), ("./1.png", png(1)), ("./._1.cls", attributes), ("./1.cls", b"cat")]
    found = expand(tar(tmp_path / f"x.{ending}", *members))
    assert [(source.name[-5:], source.target) for source in found] == [("1.png", "cat")]
    assert found.left_out == {"._*": 2}


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("1.cls", b" cat \r\n", "cat"),
        ("1.cls", b"\xef\xbb\xbfcat\n", "cat"),
        ("1.cls", "\ufeffcat\r\n".encode("utf-16-le"), "cat"),  # as PowerShell writes it
        ("1.cls", "\ufeffcat".encode("utf-16-be"), "cat"),
        ("1.json", b'\xef\xbb\xbf{"label": " cat"}', "cat"),
        ("1.cls", b"", None),
        ("1.cls", b" \n", None),
        ("1.json", b'{"label": " "}', None),
    ],
)
def test_a_class_is_text_or_none(tmp_path: Path, name: str, content: bytes, expected: str | None) -> None:
    for ending in ENDINGS:
        (source,) = sources(tar(tmp_path / f"x.{ending}", ("1.png", png()), (name, content)))
        assert source.target == expected


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


def test_a_name_that_comes_twice_is_two_images(tmp_path: Path) -> None:
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


def test_images_in_archives_fail_as_they_would_elsewhere(tmp_path: Path) -> None:
    small, text, empty = sources(tar(tmp_path / "x.tar", ("a.png", png()), ("b.png", b"no image"), ("c.png", b"")))
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
    with pytest.raises(TruncatedImageError, match="later images are lost"):
        open_image(found[-1])


@pytest.mark.parametrize("ending", ["tar.gz", "tgz"])
def test_a_compressed_archive_with_damage_inside_a_member_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.setattr(packed, "MAX_MEMBER_BYTES", 500)
    monkeypatch.setattr(packed, "_STEP", 256)
    data = tar(tmp_path / "x.tar", ("a.png", png(1)), ("b.png", png(900)), ("c.png", png(3))).read_bytes()
    stream = zlib.compressobj(wbits=31)
    sound = stream.compress(data[:16_000]) + stream.flush(zlib.Z_FULL_FLUSH)  # within b.png, which is read again
    path = tmp_path / f"x.{ending}"
    path.write_bytes(sound + b"\7" * 4000)  # no kind of block
    first, second, rest = sources(path)
    assert widths([first, first]) == [1, 1]
    for source, error in ((second, UnreadableImageError), (rest, TruncatedImageError), (second, UnreadableImageError)):
        with pytest.raises(error):
            open_image(source)
    assert widths([first]) == [1]


def test_a_damaged_header_in_the_middle_is_not_taken_for_the_end(tmp_path: Path) -> None:
    path = tar(tmp_path / "x.tar", ("a.png", png(1)), ("b.png", png(2)), ("c.png", png(3)))
    path.write_bytes(path.read_bytes().replace(b"b.png\0", b"q.png\0"))  # the checksum does not fit any more
    first, rest = sources(path)
    assert widths([first]) == [1]
    with pytest.raises(TruncatedImageError, match="later images are lost"):
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
    with pytest.raises(TruncatedImageError, match="later images are lost"):
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


# ---- which class is whose


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("22.05.JPG 22.05.cls=7 22.06.JPG 22.06.cls=9", "7 9"),
        ("22.05.cls=7 22.05.JPG 22.06.cls=9 22.06.JPG", "7 9"),
        ("22.05.JPG 22.06.JPG 22.05.cls=7 22.06.cls=9", "7 9"),
        ("22.05.JPG 22.05.CLS=7 22.06.JPG", "7 -"),
        ("22.JPG 22.cls=1 22.05.JPG 22.05.cls=7 22.06.JPG", "1 7 -"),  # 22.06 may be of 22, or lack its own
        ("0001.png 0001.seg.png 0001.cls=3 0002.seg.png 0002.cls=4", "3 3 4"),
        ("0001.cls=3 0001.a.b.c.png", "3"),
        ("a.b/22.05.png a.b/22.05.cls=1 a.c/22.05.png a.c/22.05.cls=2", "1 2"),
        ("2022.05.seg.png 2022.05.png 2022.05.cls=5 2022.06.seg.png 2022.06.cls=6", "5 5 6"),
        ("a.png a.cls=1 a.png a.cls=2", "1 2"),
        ("a.cls=1 a.png a.cls=2 a.png", "1 2"),
        ("a.png b.png a.cls=1 b.cls=2", "- -"),  # members of one sample follow one another
        ("a.png a.json=!", "-"),
        ('a.png a.json={"label":"cat"} b.png b.json={"label":5} c.png c.json={"x":1}', "cat 5 -"),
        ('a.png a.json={"label":"cat"} a.cls=3', "3"),
        ('a.png a.json={"label":["cat"]} b.json={"label":true} b.png', "- -"),
        ("22.05.JPG 22.cls=1", "1"),
        ("x.1.2.3.4.5.6.7.8.9.10.11.12.13.14.15.16.17.18.png x.cls=1", "-"),
    ],
)
def test_each_image_has_its_own_class_or_none(tmp_path: Path, ending: str, names: str, expected: str) -> None:
    members = []
    for word in names.split():
        name, _, content = word.partition("=")
        members.append((name, content.encode() if content else png()))
    found = sources(tar(tmp_path / f"x.{ending}", *members))
    assert [source.target or "-" for source in found] == expected.split()


def test_images_do_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_MAX_WAITING", 3)
    members = [
        *((f"2026.{number}.png", png(number)) for number in range(1, 7)),
        ("2026.5.cls", b"5"),
        ("2026.cls", b"0"),
    ]
    found = sources(tar(tmp_path / "x.tgz", *members))
    assert widths(found) == [1, 2, 3, 4, 5, 6]
    assert [source.target for source in found] == [None, None, None, None, "5", None]


# ---- what a small archive may unpack to


def test_an_archive_without_an_image_is_one_failing_source(tmp_path: Path) -> None:
    for path in (tar(tmp_path / "x.tar"), tar(tmp_path / "x.tgz", ("README", b"x"))):
        (source,) = sources(path)
        with pytest.raises(ImageError, match="no image in this file"):
            open_image(source)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(("size", "chain", "fits"), [(300, 1, True), (1 << 19, 1, True), (1 << 19, 3, False)])
def test_long_names_are_read_up_to_a_limit(tmp_path: Path, ending: str, size: int, chain: int, fits: bool) -> None:
    data = b"".join(containers.long_names(chain, size))
    path = tmp_path / f"x.{ending}"
    path.write_bytes(data if ending == "tar" else gzip.compress(data))
    found = expand(path)
    first, *others = found
    assert open_image(first).size == (4, 3)
    if fits:
        assert not others
        assert found.left_out.total() == 1  # a name that does not end like an image's
        return
    (last,) = others
    assert last.name == f"{path}#rest"
    with pytest.raises(TruncatedImageError, match="a header for"):
        open_image(last)


def test_a_comment_about_all_members_is_read_up_to_a_limit(tmp_path: Path) -> None:
    few, many = tmp_path / "few.tar", tmp_path / "many.tar"
    few.write_bytes(b"".join(containers.long_names(2, 20_000, global_=True)))
    many.write_bytes(b"".join(containers.long_names(20, 20_000, global_=True)))
    assert [source.name for source in sources(few)] == [f"{few}/first.png", f"{few}/a.png"]
    assert [source.name for source in sources(many)] == [f"{many}/first.png", f"{many}#rest"]


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_a_broken_extended_header_is_no_end(tmp_path: Path, kind: bytes) -> None:
    path, record = tmp_path / "x.tar", b"0 path=b.png\n"
    header = containers.header("./PaxHeaders/a.png", len(record), kind) + record.ljust(512, b"\0")
    whole = b"".join(containers.long_names(0, 0))
    second = whole.index(b"a.png")
    path.write_bytes(whole[:second] + header + whole[second:])
    assert [source.name for source in sources(path)] == [f"{path}/first.png", f"{path}#rest"]


@pytest.mark.parametrize(("blocks", "rows"), [(900, ["a.png", "b.png"]), (1100, ["#rest"])])
def test_a_map_of_holes_ends(tmp_path: Path, blocks: int, rows: list[str]) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(b"".join(containers.sparse(blocks)))
    _, *found = sources(path)
    assert [source.name.removeprefix(str(path)).lstrip("/") for source in found] == rows
    with pytest.raises(ImageError):
        open_image(found[0])
    assert len(rows) == 1 or open_image(found[1]).size == (4, 3)


@pytest.mark.parametrize("ending", ["tar.gz", "tgz"])
def test_members_that_are_not_held_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    monkeypatch.setattr(packed, "MAX_HELD_BYTES", 2000)
    monkeypatch.setattr(packed, "MAX_MEMBER_BYTES", 500)
    sizes = [*range(1, 31), 200, *range(31, 41)]  # one is too large to be held at all
    found = sources(tar(tmp_path / f"x.{ending}", *((f"{number}.png", png(number)) for number in sizes)))
    held = [source.value.data is not None for source in found if isinstance(source.value, packed.Member)]
    assert len(held) == len(sizes)
    assert held[0]
    assert not held[30]
    assert not any(held[31:])
    assert sum(len(png(size)) for size, own in zip(sizes, held, strict=True) if own) <= 2000
    order = [*range(len(sizes)), *random.Random(0).sample(range(len(sizes)), 20)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda place: open_image(found[place]).size[0], order)) == [sizes[n] for n in order]
    assert len({source.fingerprint() for source in found}) == len(sizes)


def test_what_was_opened_is_held_no_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "MAX_HELD_BYTES", 5000)
    path = tar(tmp_path / "x.tgz", *((f"{number}.png", png(4)) for number in range(100)))
    for source in expand(path):
        assert isinstance(source.value, packed.Member)
        assert source.value.data is not None


def test_a_member_that_is_packed_to_nothing_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "MAX_MEMBER_BYTES", 4 << 20)
    monkeypatch.setattr(packed, "_STEP", 1 << 16)
    noise = random.Random(0).randbytes(5 << 20)
    members = [
        ("a.png", png(1)),
        ("zeros.png", png(2) + bytes(8 << 20)),
        ("noise.png", png(3) + noise),
        ("b.png", png(4)),
    ]
    found = sources(tar(tmp_path / "x.tgz", *members))
    assert widths([found[0], *found[2:]]) == [1, 3, 4]
    with pytest.raises(TooLargeImageError, match="packed to less than"):
        open_image(found[1])


def test_an_archive_that_is_packed_to_nothing_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_MAX_BYTES", 4 << 20)
    monkeypatch.setattr(archives, "_STEP", 1 << 20)
    path = tar(tmp_path / "x.tgz", ("a.png", png(1)), ("zeros.bin", bytes(16 << 20)), ("b.png", png(2)))
    first, rest = sources(path)
    assert widths([first]) == [1]
    with pytest.raises(TruncatedImageError, match="unpacks to more than 200 times"):
        open_image(rest)
