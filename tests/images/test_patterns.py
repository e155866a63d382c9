"""Several files by one word: patterns, and ranges in braces."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from weevit.errors import MissingImageError
from weevit.images.source import open_image
from weevit.images.sources import expand, names_one_image


def names(inputs: str, folder: Path) -> list[str]:
    return [Path(source.name).relative_to(folder).as_posix() for source in expand(inputs)]


def tar(path: Path, width: int) -> None:
    """An archive of one image."""
    stream = io.BytesIO()
    Image.new("RGB", (width, 3)).save(stream, "PNG")
    member = tarfile.TarInfo(f"{width}.png")
    member.size = stream.tell()
    with tarfile.open(path, "w") as archive:
        archive.addfile(member, io.BytesIO(stream.getvalue()))


def test_ranges_in_braces(tmp_path: Path) -> None:
    def expanded(word: str) -> list[str]:
        return names(str(tmp_path / word), tmp_path)

    assert expanded("{8..11}.png") == ["8.png", "9.png", "10.png", "11.png"]
    assert expanded("{098..100}.png") == ["098.png", "099.png", "100.png"]
    assert expanded("{1..2}/{1..2}.png") == ["1/1.png", "1/2.png", "2/1.png", "2/2.png"]
    assert expanded("{2..0}.png") == ["2.png", "1.png", "0.png"]  # as a shell has it
    assert expanded("{a..b}.png") == ["{a..b}.png"]


def test_patterns(tmp_path: Path) -> None:
    for name in ("p/img10.png", "p/img2.png", "p/deep/er/img1.png", "p/notes.md", "q/[1].png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert names(str(tmp_path / "p/*.png"), tmp_path) == ["p/img2.png", "p/img10.png"]
    assert sorted(names(str(tmp_path / "**/*.png"), tmp_path))[:2] == ["p/deep/er/img1.png", "p/img10.png"]
    assert names(str(tmp_path / "p/**"), tmp_path)[0] == "p/deep/er/img1.png"  # folders are no images
    assert names(str(tmp_path / "p/img?.png"), tmp_path) == ["p/img2.png"]
    assert names(str(tmp_path / "q/[1].png"), tmp_path) == ["q/[1].png"]  # there is a file of this name


@pytest.mark.parametrize("name", ["[1].png", "c*.png", "a{1..3}.png", "{1..3}"])
def test_a_file_that_is_there_is_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (4, 3)).save(tmp_path / name, "PNG")
    (source,) = expand(name)  # as a shell gives it for `*`
    assert (source.name, open_image(source).size) == (name, (4, 3))
    assert names_one_image(name)


@pytest.mark.parametrize("pattern", ["*.png", "**/no*.tar", "p*"])
def test_a_pattern_that_nothing_fits_is_one_missing_source(tmp_path: Path, pattern: str) -> None:
    (tmp_path / "photos").mkdir()
    (source,) = expand(tmp_path / pattern)
    assert source.name == str(tmp_path / pattern)
    with pytest.raises(MissingImageError, match="no file has a name like this"):
        open_image(source)


def test_archives_that_are_not_there_keep_their_place(tmp_path: Path) -> None:
    tar(tmp_path / "x-000.tar", 4)
    tar(tmp_path / "x-002.tar", 5)
    first, gone, last = expand(str(tmp_path / "x-{000..002}.tar"))
    assert (open_image(first).size, open_image(last).size) == ((4, 3), (5, 3))
    assert gone.name == str(tmp_path / "x-001.tar")
    with pytest.raises(MissingImageError, match="x-001"):
        open_image(gone)


def test_a_pattern_of_archives_gives_what_they_hold(tmp_path: Path) -> None:
    tar(tmp_path / "x-10.tar", 4)
    tar(tmp_path / "x-9.tar", 5)
    assert names(str(tmp_path / "x-*.tar"), tmp_path) == ["x-9.tar/5.png", "x-10.tar/4.png"]
