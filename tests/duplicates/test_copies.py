"""Copies are found by their bytes and by how they look; different images are not."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image, ImageOps
from scenes import encoded, scaled, scene

from weevit.duplicates import copies
from weevit.duplicates.copies import Group, exact_groups, near_groups
from weevit.duplicates.looks import Look, look_at
from weevit.images.decode import DEFAULT_LIMITS
from weevit.images.source import Source
from weevit.search import neighbours


def looks(*data: bytes) -> list[Look]:
    return look_at([Source(f"{number}.jpg", own) for number, own in enumerate(data)], 2, DEFAULT_LIMITS)


def near(*data: bytes) -> list[Group]:
    seen = looks(*data)
    return near_groups(seen, exact_groups(seen))


def test_the_same_bytes_are_exact_copies() -> None:
    one, other = encoded(scene(1)), encoded(scene(2))
    assert exact_groups(looks(one, other, one, one, encoded(scene(3)), other)) == [
        Group("exact", (0, 2, 3)),
        Group("exact", (1, 5)),
    ]


def test_broken_files_are_no_copies_of_each_other() -> None:
    assert exact_groups(looks(b"<html>", b"<html>", b"<html>")) == []


ANEW = {
    "quality 20": lambda image: encoded(image, quality=20),
    "half": lambda image: encoded(scaled(image, 0.5), quality=85),
    "a third": lambda image: encoded(scaled(image, 0.33), quality=85),
    "twice": lambda image: encoded(scaled(image, 2), quality=85),
    "squeezed": lambda image: encoded(image.resize((96, 96)), quality=85),
    "WebP": lambda image: encoded(image, "WEBP", quality=60),
    "PNG": lambda image: encoded(image, "PNG"),
    "brighter": lambda image: encoded(image.point(lambda level: level * 0.7 + 60), quality=90),
}


@pytest.mark.parametrize("way", list(ANEW))
def test_what_was_made_anew_is_a_near_copy(way: str) -> None:
    originals = [encoded(scene(seed), quality=95) for seed in range(12)]
    found = near(*originals, *(ANEW[way](scene(seed)) for seed in range(12)))
    assert [(group.kind, group.members) for group in found] == [("near", (seed, 12 + seed)) for seed in range(12)]
    assert all(0 <= group.distance <= copies.FARTHEST for group in found)


def test_what_was_mirrored_is_told_apart_from_what_was_not() -> None:
    data = [
        *(encoded(scene(1)), encoded(ImageOps.mirror(scene(1)), quality=60)),
        *(encoded(scene(2)), encoded(ImageOps.mirror(scene(2))), encoded(scene(2), quality=40)),
        encoded(ImageOps.flip(scene(1))),
    ]
    assert [(group.kind, group.members) for group in near(*data)] == [("mirrored", (0, 1)), ("near", (2, 3, 4))]


def test_an_upright_image_and_one_that_exif_turns_are_copies() -> None:
    turned = scene(4).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees, clockwise
    stream = io.BytesIO()
    turned.save(stream, "JPEG", exif=exif, quality=90)
    assert [group.members for group in near(encoded(scene(4)), stream.getvalue())] == [(0, 1)]


def test_different_images_and_plain_ones_are_no_copies() -> None:
    plain = [encoded(Image.new("RGB", (90, 80), (level, level, level)), "PNG") for level in (0, 100, 101, 255)]
    assert near(*(encoded(scene(seed)) for seed in range(60)), *plain) == []


def test_plain_colours_are_no_copies_of_each_other() -> None:
    colours = [(200, 30, 30), (100, 15, 15), (250, 180, 180), (30, 30, 200), (10, 10, 66)]
    assert near(*(encoded(Image.new("RGB", (90, 80), colour), "PNG") for colour in colours)) == []


def test_copies_of_copies_are_one_group_with_all_their_exact_ones() -> None:
    first = encoded(scene(7), quality=95)
    data = [first, encoded(scene(8)), encoded(scene(7), quality=60), first, encoded(scaled(scene(7), 0.6)), first]
    (group,) = near(*data)
    assert (group.kind, group.members) == ("near", (0, 2, 3, 4, 5))


@pytest.mark.parametrize("block", [1, 3, 7, 100])
def test_the_size_of_a_block_changes_nothing(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    data = [encoded(scene(seed % 9), quality=95 - 5 * (seed // 9)) for seed in range(20)]
    seen = looks(*data)
    whole = near_groups(seen, exact_groups(seen))
    monkeypatch.setattr(neighbours, "_BLOCK", block)
    cut = near_groups(seen, exact_groups(seen))
    assert [group.members for group in cut] == [group.members for group in whole]
    assert [group.distance for group in cut] == pytest.approx([group.distance for group in whole], abs=1e-6)
    assert len(whole) == 9


@pytest.mark.parametrize("data", [[], [encoded(scene(1))], [b"", b"x"]])
def test_nothing_to_compare_is_no_error(data: Sequence[bytes]) -> None:
    assert near(*data) == []


def test_the_shared_clothes_have_one_pair_of_near_copies(shared: Path) -> None:
    """Found by the check itself: one photo of shorts is there a second time, as a skirt. All others are different."""
    folder = shared / "data" / "clothing" / "train"
    paths = sorted([*(folder / "shorts").iterdir(), *(folder / "skirt").iterdir()])
    seen = look_at([Source(path.name, path) for path in paths], 2, DEFAULT_LIMITS)
    assert exact_groups(seen) == []
    (group,) = near_groups(seen, [])
    assert {paths[place].stem.partition("-")[0] for place in group.members} == {"6075b4a5", "637a56e4"}
