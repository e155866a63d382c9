"""What is given, what it is called, what is left out, and that nothing is lost."""

from __future__ import annotations

import io
import os
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from weevit.errors import (
    CorruptImageError,
    ImageError,
    MissingImageError,
    TooLargeImageError,
    UnreadableImageError,
    UsageError,
)
from weevit.images.decode import Limits
from weevit.images.files import LocalFile
from weevit.images.formats import EXTENSIONS, FORMATS
from weevit.images.source import Source, natural_key, open_image
from weevit.images.sources import expand


def picture(path: Path, colour: str = "red") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 3), colour).save(path, "PNG")
    return path


def png_bytes() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (4, 3), "red").save(stream, "PNG")
    return stream.getvalue()


def names(inputs: object) -> list[str]:
    return [source.name for source in expand(inputs)]  # type: ignore[arg-type]


RED = [255, 0, 0]


def test_one_of_each_kind_opens_to_the_same_picture(tmp_path: Path) -> None:
    data = png_bytes()
    inputs = [
        str(picture(tmp_path / "a.png")),
        tmp_path / "a.png",
        data,
        bytearray(data),
        memoryview(data),
        Image.new("RGBA", (4, 3), "red"),
        np.full((3, 4, 3), RED, np.uint8),
    ]
    sources = list(expand(inputs))
    path = str(tmp_path / "a.png")
    assert [s.name for s in sources] == [path, path, "bytes[2]", "bytes[3]", "bytes[4]", "image[5]", "array[6]"]
    for source in sources:
        image = open_image(source)
        assert (image.mode, image.size, image.getpixel((3, 2))) == ("RGB", (4, 3), tuple(RED))


@pytest.mark.parametrize("single", [png_bytes(), Image.new("L", (2, 2)), np.zeros((2, 2), np.uint8)])
def test_a_single_value_needs_no_list(single: object) -> None:
    (source,) = expand(single)  # type: ignore[arg-type]
    assert source.name.endswith("[0]")
    assert open_image(source).mode == "RGB"


def test_a_generator_is_read_lazily() -> None:
    def endless() -> object:
        while True:
            yield np.zeros((1, 1), np.uint8)

    stream = iter(expand(endless()))  # type: ignore[arg-type]
    assert [next(stream).name for _ in range(3)] == ["array[0]", "array[1]", "array[2]"]


@pytest.mark.parametrize("wrong", [None, 3, [1.5], [object()], [[png_bytes()]]])
def test_other_types_are_refused(wrong: object) -> None:
    with pytest.raises(UsageError, match="is not an image"):
        list(expand(wrong))  # type: ignore[arg-type]


def test_a_folder_gives_its_pictures_in_natural_order_and_counts_the_rest(tmp_path: Path) -> None:
    for name in ("img10.png", "img2.PNG", "IMG1.jpg", "a/x.webp", "z/deep/y.tiff", ".hidden.png", ".git/z.png"):
        picture(tmp_path / name)
    for name in ("notes.txt", "a/more.TXT", "no_ending", "clip.mp4"):
        (tmp_path / name).write_text("x")
    found = expand([tmp_path])
    expected = ["a/x.webp", "IMG1.jpg", "img2.PNG", "img10.png", "z/deep/y.tiff"]
    assert [Path(s.name).relative_to(tmp_path).as_posix() for s in found] == expected
    assert found.left_out == {".txt": 2, "": 1, ".mp4": 1}
    assert len(list(found)) == 5
    assert found.left_out.total() == 4  # starts afresh: not 8


def test_names_are_as_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "photos" / "a.png")
    monkeypatch.chdir(tmp_path)
    assert names(["photos", "photos/a.png", Path("photos/a.png")]) == [str(Path("photos/a.png"))] * 3


def test_a_named_file_is_a_source_whatever_its_ending(tmp_path: Path) -> None:
    (source,) = expand(picture(tmp_path / "picture.dat"))
    assert open_image(source).size == (4, 3)


def test_the_endings_come_from_the_formats() -> None:
    assert {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".jp2", ".mpo"} <= EXTENSIONS
    assert not {".eps", ".pdf", ".svg", ".mp4", ".txt", ".ico"} & EXTENSIONS


def test_endings_are_those_that_pillow_knows() -> None:
    Image.init()
    own = {row.name: row.endings.split() for row in FORMATS if row.name != "HEIC"}
    read = {ending for endings in own.values() for ending in endings}
    assert {ending for ending, name in Image.EXTENSION.items() if name in own} == read - {".mpo"}
    assert read <= EXTENSIONS


def test_missing_paths_keep_their_place(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    first, missing, last = expand([tmp_path / "a.png", tmp_path / "gone.png", tmp_path / "a.png"])
    with pytest.raises(MissingImageError, match="gone"):
        open_image(missing)
    assert open_image(first).size == open_image(last).size


def test_a_path_through_a_file_is_missing(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    with pytest.raises(MissingImageError, match="no such file"):
        open_image(next(iter(expand([tmp_path / "a.png" / "b.png"]))))
    with pytest.raises(MissingImageError, match="no such file"):  # it was there when the inputs were listed
        LocalFile(tmp_path / "a.png" / "b.png").open()


@pytest.mark.parametrize("others", [(), ("notes.txt", "deep/clip.mp4")])
def test_a_folder_without_a_picture_is_one_failing_source(tmp_path: Path, others: tuple[str, ...]) -> None:
    folder = tmp_path / "x.jpg"  # a folder's name may look like a picture's
    folder.mkdir()
    for name in others:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("x")
    found = expand([folder])
    (source,) = found
    assert source.name == str(folder)
    assert found.left_out.total() == len(others)
    with pytest.raises(MissingImageError, match="no image") as caught:
        open_image(source)
    assert caught.value.status == "missing"


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    picture(tmp_path / "elsewhere" / "far.png")
    picture(tmp_path / "photos" / "a" / "near.png")
    (tmp_path / "photos" / "a" / "up").symlink_to(tmp_path / "photos", target_is_directory=True)
    (tmp_path / "photos" / "self").symlink_to(".", target_is_directory=True)
    (tmp_path / "photos" / "round").symlink_to("round", target_is_directory=True)
    (tmp_path / "photos" / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "photos" / "same").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    found = [Path(name).relative_to(tmp_path).as_posix() for name in names([tmp_path / "photos"])]
    assert found == ["photos/a/near.png", "photos/linked/far.png"]


def test_a_dangling_link_in_a_folder_is_a_missing_picture(tmp_path: Path) -> None:
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (source,) = expand([tmp_path])
    with pytest.raises(MissingImageError, match=r"gone\.jpg"):
        open_image(source)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_a_folder_is_unreadable_and_nobody_waits(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.jpg")
    (source,) = expand([tmp_path])
    with pytest.raises(UnreadableImageError):
        open_image(source)


def test_a_folder_that_cannot_be_listed_is_one_failing_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "open" / "a.png")
    picture(tmp_path / "shut" / "b.png")
    real = os.scandir

    def scandir(path: Path) -> Any:
        if Path(path).name == "shut":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)  # root may list everything, so the system's own answer is no test
    good, shut = expand([tmp_path])
    assert open_image(good).size == (4, 3)
    assert shut.name == str(tmp_path / "shut")
    with pytest.raises(UnreadableImageError, match="Permission denied"):
        open_image(shut)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_names_that_are_not_utf8_can_be_printed_and_opened(tmp_path: Path) -> None:
    raw = os.path.join(os.fsencode(tmp_path), b"caf\xe9.png")  # noqa: PTH118 - bytes
    try:
        Path(os.fsdecode(raw)).write_bytes(png_bytes())
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    (source,) = expand([tmp_path])
    assert source.name.encode("utf-8").endswith(b"caf\\udce9.png")
    assert open_image(source).size == (4, 3)


def test_limits_reach_every_kind_of_input(tmp_path: Path) -> None:
    values = [picture(tmp_path / "a.png"), png_bytes(), Image.new("L", (4, 3)), np.zeros((3, 4), np.uint8)]
    for source in expand(values):
        with pytest.raises(TooLargeImageError):
            open_image(source, Limits(max_pixels=11))


def test_a_known_error_is_raised_on_opening() -> None:
    with pytest.raises(ImageError) as caught:
        open_image(Source("x", CorruptImageError("no")))
    assert caught.value.kind == "corrupt"


def test_natural_order() -> None:
    given = ["img10", "IMG2", "img1", "b", "A", "img01", "7", "10", "img2"]
    assert sorted(given, key=natural_key) == ["7", "10", "A", "b", "img01", "img1", "IMG2", "img2", "img10"]


def test_a_folder_in_work_holds_its_names_and_little_more(tmp_path: Path) -> None:
    """A million pictures of 12 letters are 13 MB, not 300."""
    count = 5_000
    for index in range(count):
        (tmp_path / f"{index:08d}.jpg").touch()
    tracemalloc.start()
    try:
        sources = iter(expand(tmp_path))
        next(sources)
        held, _ = tracemalloc.get_traced_memory()
        assert sum(1 for _ in sources) == count - 1
    finally:
        tracemalloc.stop()
    assert held < count * 20


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="no file that can be opened and not read")
@pytest.mark.parametrize("ending", ["txt", "csv", "tsv", "tar", "tgz"])
def test_an_error_of_the_disk_within_a_container_is_one_failing_source(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"x.{ending}").symlink_to("/proc/self/mem")
    (source,) = expand(tmp_path / f"x.{ending}")
    with pytest.raises(UnreadableImageError, match=rf"x\.{ending}: "):
        open_image(source)
