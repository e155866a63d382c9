"""Copies and moments: what is certain, what is to be looked at, and what is neither."""

from __future__ import annotations

import random
import tarfile
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import fakes
import labelled
import numpy as np
import pytest
from PIL import Image, ImageOps
from scenes import encoded, scaled, scene

import weevit
from weevit.duplicates import resembling
from weevit.duplicates.find import UNCHECKED, find_duplicates
from weevit.duplicates.groups import DuplicateGroup, Duplicates
from weevit.duplicates.looks import Progress
from weevit.duplicates.moments import of_one_moment
from weevit.errors import UsageError
from weevit.images.taken import Taken
from weevit.zoo.architectures import get_architecture
from weevit.zoo.writing import write_checkpoint

PHOTO = (320, 240)


def names(groups: tuple[DuplicateGroup, ...]) -> list[tuple[str, list[str]]]:
    return [(group.kind, [Path(image.id).name for image in group.members]) for group in groups]


def taken(time: str, fraction: str = "") -> bytes:
    exif = Image.Exif()
    own = exif.get_ifd(0x8769)
    own[0x9003] = time
    if fraction:
        own[0x9291] = fraction
    return exif.tobytes()


def put(top: Path, **files: bytes) -> Path:
    for name, data in files.items():
        labelled.put(top / f"{name}.jpg", data)
    return top


def without_model(top: Path) -> Duplicates:
    return find_duplicates(top, embeddings=False)


def test_each_copy_is_told_with_its_relation(tmp_path: Path) -> None:
    image = scene(1, PHOTO)
    put(
        tmp_path, original=encoded(image, quality=95), same=encoded(image, quality=95),
        small=encoded(scaled(image, 0.5)), mirrored=encoded(ImageOps.mirror(scaled(image, 0.7))),
        other=encoded(scene(2, PHOTO)),
    )  # fmt: skip
    found = without_model(tmp_path)
    (group,) = found.copies
    assert group.kind == "mirrored"
    assert {Path(image.id).stem: image.kind for image in group.members} == {
        "original": "", "same": "exact", "mirrored": "mirrored", "small": "near"
    }  # fmt: skip
    assert group.why == "the same bytes; the same image, compressed or scaled again; the same image, mirrored"
    assert (found.images, found.spares, found.moments, found.unchecked) == (5, 3, (), (UNCHECKED,))
    assert found.spare == sum(image.bytes for image in group.members[1:])


@pytest.mark.parametrize(
    ("one", "other", "copies"),
    [
        (("2026:11:28 09:00:00", ""), ("2026:11:28 09:00:00", ""), True),
        (("2026:11:28 09:00:00", "25"), ("2026:11:28 09:00:00", ""), True),  # the fraction was lost on the way
        (("2026:11:28 09:00:00", "25"), ("2026:11:28 09:00:00", "35"), False),  # a burst
        (("2026:11:28 09:00:00", ""), ("2026:11:28 09:00:01", ""), False),
        (("2026:11:28 09:00:00", ""), ("0000:00:00 00:00:00", ""), True),
    ],
)
def test_what_was_taken_at_another_time_is_no_copy(
    tmp_path: Path, one: tuple[str, str], other: tuple[str, str], copies: bool
) -> None:
    """A camera on a stand takes photos that no comparison of pixels tells apart."""
    image = scene(1, PHOTO)
    put(tmp_path, a=encoded(image, quality=95, exif=taken(*one)), b=encoded(image, quality=80, exif=taken(*other)))
    found = without_model(tmp_path)
    assert (len(found.copies), len(found.moments)) == ((1, 0) if copies else (0, 1))
    if not copies:
        assert "apart" in found.moments[0].why


def test_alike_thumbnails_with_another_detail_are_to_be_looked_at(tmp_path: Path) -> None:
    image = scene(1, PHOTO)
    edited = image.copy()
    edited.paste(ImageOps.invert(image.crop((100, 100, 118, 112))), (100, 100))
    put(tmp_path, a=encoded(image, quality=95), b=encoded(edited, quality=90))
    found = without_model(tmp_path)
    assert found.copies == ()
    assert names(found.moments) == [("same look", ["a.jpg", "b.jpg"])]
    assert found.moments[0].why == "alike as thumbnails, but not the same pixels"


LARGE = (1400, 1000)


def test_large_images_that_differ_in_little_are_no_copies(tmp_path: Path) -> None:
    """As two letters of one form, or screenshots: the same at 128 pixels."""
    image = scene(1, LARGE)
    other = image.copy()
    other.paste(ImageOps.invert(image.crop((700, 500, 740, 530))), (700, 500))
    put(tmp_path, a=encoded(image, quality=95), b=encoded(other, quality=90))
    found = without_model(tmp_path)
    assert found.copies == ()
    assert names(found.moments) == [("same look", ["a.jpg", "b.jpg"])]


def test_large_images_are_copies_at_any_size_and_quality(tmp_path: Path) -> None:
    image = scene(2, LARGE)
    put(
        tmp_path, a=encoded(image, quality=95), b=encoded(image, quality=20), c=encoded(scaled(image, 0.5)),
        d=encoded(scaled(image, 0.3)), e=encoded(ImageOps.mirror(scaled(image, 0.7)), "WEBP", quality=60),
        f=encoded(image.resize((900, 900))), g=encoded(image.crop((3, 2, 1397, 998)), quality=80),
    )  # fmt: skip
    (group,) = without_model(tmp_path).copies
    assert len(group.members) == 7


def test_a_chain_is_cut_where_it_is_no_copy_of_the_kept_one(tmp_path: Path) -> None:
    """Each is within reach of the next; the last is none of the first."""
    image, other = scene(1, PHOTO), scene(5, PHOTO)
    for step in range(6):
        labelled.put(tmp_path / f"{step}.jpg", encoded(Image.blend(image, other, 0.04 * step), quality=95 - step))
    found = without_model(tmp_path)
    kept = {Path(group.kept.id).name for group in found.copies}
    for group in found.copies:
        for member in group.members[1:]:
            assert member.distance <= 0.01
    assert len(kept) == len(found.copies)
    ids = [image.id for group in found.copies for image in group.members]
    assert len(ids) == len(set(ids))


def test_a_part_is_a_copy_of_the_whole_even_with_more_pixels(tmp_path: Path, digits: weevit.Predictor) -> None:
    for seed in range(6):
        image = scene(seed, PHOTO)
        labelled.put(tmp_path / f"{seed}.jpg", encoded(image, quality=90))
    part = scene(2, PHOTO).crop((20, 15, 300, 230))
    put(tmp_path, part=encoded(scaled(part, 1.5), quality=90), copy=encoded(scaled(part, 0.8), quality=80))
    found = find_duplicates(tmp_path, digits)
    (group,) = found.copies
    assert (group.kind, Path(group.kept.id).name) == ("cropped", "2.jpg")
    assert {Path(image.id).name: image.kind for image in group.members[1:]} == {
        "part.jpg": "cropped", "copy.jpg": "cropped"
    }  # fmt: skip


def test_the_same_moment_needs_both_time_and_likeness(tmp_path: Path, digits: weevit.Predictor) -> None:
    image = scene(1, PHOTO)
    for name, seed, time in (("a", 1, "00"), ("b", 1, "05"), ("far", 9, "02")):
        shot = Image.blend(image, scene(seed + 50, PHOTO), 0.08) if name == "b" else scene(seed, PHOTO)
        labelled.put(tmp_path / f"{name}.jpg", encoded(shot, exif=taken(f"2026:11:28 09:00:{time}")))
    labelled.put(tmp_path / "late.jpg", encoded(scene(30, PHOTO), exif=taken("2026:11:28 10:00:00")))
    found = find_duplicates(tmp_path, digits)
    assert found.copies == ()
    assert names(found.moments)[0] == ("same time", ["a.jpg", "b.jpg"]) or names(found.moments)[0] == (
        "same time", ["b.jpg", "a.jpg"]
    )  # fmt: skip
    assert found.moments[0].why.startswith("taken within 30 s")
    assert found.model == digits.checkpoint.name


def test_moments_of_many_images_with_one_time_end() -> None:
    """A batch of scans has one time for all; each is compared with the next 50 only."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((3000, 8)).astype(np.float32)
    pairs = list(of_one_moment(vectors, range(3000), [Taken(1e9)] * 3000))
    assert all(pair.distance < 0.25 for pair in pairs)
    assert len(pairs) < 3000 * 50


def test_inputs_of_every_kind_and_failures(tmp_path: Path) -> None:
    image = scene(1, PHOTO)
    put(tmp_path / "photos", a=encoded(image, quality=95), cut=encoded(image)[:900], empty=b"")
    labelled.put(tmp_path / "photos" / "notes.txt", "x")
    with tarfile.open(tmp_path / "more.tar", "w") as archive:
        archive.add(tmp_path / "photos" / "a.jpg", "in/a.jpg")
    labelled.put(tmp_path / "list.csv", "path\nphotos/a.jpg\n")
    given = [str(tmp_path / "photos"), tmp_path / "more.tar", str(tmp_path / "list.csv"), encoded(image, quality=70)]
    found = find_duplicates(given, embeddings=False)
    (group,) = found.copies
    assert len(group.members) == 3  # a file that two inputs name is no copy of itself
    assert [image.place is None for image in group.members] == [False, True, True]
    assert {(Path(one.input).name, one.status) for one in found.failures} == {
        ("cut.jpg", "decode_error"), ("empty.jpg", "decode_error")
    }  # fmt: skip
    assert found.left_out == {".txt": 1}
    with pytest.raises(UsageError, match="in memory only"):
        find_duplicates(np.zeros((9, 9, 3), np.uint8), embeddings=False)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_images_have_no_duplicates(tmp_path: Path, count: int, digits: weevit.Predictor) -> None:
    for seed in range(count):
        labelled.put(tmp_path / f"{seed}.jpg", encoded(scene(seed)))
    found = find_duplicates(tmp_path, digits)
    assert (found.images, found.copies, found.moments, len(found.failures)) == (count, (), (), 1 - count)


def test_images_that_the_model_does_not_embed_are_told(tmp_path: Path) -> None:
    arch, spec = get_architecture("vit_micro_patch16_reg1_gap_64"), weevit.load("digits").preprocessing
    grey = replace(spec, mean=(0.5,), std=(0.5,))
    write_checkpoint(tmp_path / "grey", arch, fakes.tensors(arch, 0, (4, 4), in_chans=1), grey)
    for seed in range(2):
        labelled.put(tmp_path / "photos" / f"{seed}.jpg", encoded(scene(seed)))
    found = find_duplicates(tmp_path / "photos", tmp_path / "grey")
    (said,) = found.unchecked
    assert said.startswith("parts and the same moment of 2 of 2 images, which the model does not embed (unsupported: ")


def test_flat_images_are_copies_by_their_bytes_only(tmp_path: Path, digits: weevit.Predictor) -> None:
    for name, level in (("a", 10), ("b", 10), ("c", 11)):
        labelled.put(tmp_path / f"{name}.png", encoded(Image.new("RGB", (60, 60), (level,) * 3), "PNG"))
    assert names(find_duplicates(tmp_path, digits).copies) == [("exact", ["a.png", "b.png"])]


@pytest.mark.parametrize("ending", ["gif", "webp", "png", "tif"])
def test_frames_and_pages_behind_the_first_are_no_copies(tmp_path: Path, ending: str) -> None:
    first, second, third = (scene(seed, PHOTO) for seed in (1, 2, 3))
    first.save(tmp_path / "still.png")
    for name, last in (("one", second), ("other", third)):
        first.save(tmp_path / f"{name}.{ending}", save_all=True, append_images=[last])
    found = find_duplicates(tmp_path, embeddings=False)
    assert found.copies == ()
    assert "only the first of several frames or pages was compared" in found.moments[0].why


def test_an_image_over_white_is_no_copy_of_a_transparent_one(tmp_path: Path) -> None:
    clear = scene(1, PHOTO).convert("RGBA")
    clear.putalpha(Image.new("L", clear.size, 255))
    clear.save(tmp_path / "opaque.png")
    scene(1, PHOTO).save(tmp_path / "photo.jpg", quality=95)
    hole = Image.new("L", clear.size, 255)
    hole.paste(0, (0, 0, 40, clear.height))
    clear.putalpha(hole)
    clear.save(tmp_path / "clear.png")
    clear.save(tmp_path / "clear.webp", lossless=True)
    Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB").save(tmp_path / "flat.bmp")
    found = find_duplicates(tmp_path, embeddings=False)
    assert {frozenset(group[1]) for group in names(found.copies)} == {
        frozenset({"opaque.png", "photo.jpg"}), frozenset({"clear.png", "clear.webp"})
    }  # fmt: skip
    assert any("one is transparent in places" in group.why for group in found.moments)


def test_of_many_alike_images_the_nearest_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a camera on a stand: every thumbnail is like every other, and few are copies."""
    image, compared = scene(1, PHOTO), []
    for number in range(14):
        edited, place = image.copy(), (10 * number, 8 * number)
        edited.paste(ImageOps.invert(image.crop((*place, place[0] + 18, place[1] + 12))), place)
        labelled.put(tmp_path / f"{number}.jpg", encoded(edited, quality=95))
        labelled.put(tmp_path / f"{number}-copy.jpg", encoded(edited, quality=90))
    monkeypatch.setattr(resembling, "MOST", 3)
    own = resembling.Resembling._relation
    monkeypatch.setattr(
        resembling.Resembling, "_relation", lambda self, *pair: compared.append(pair) or own(self, *pair)
    )
    found = without_model(tmp_path)
    assert {frozenset(group[1]) for group in names(found.copies)} == {
        frozenset({f"{number}.jpg", f"{number}-copy.jpg"}) for number in range(14)
    }
    assert len(compared) <= 28 * 6


def test_progress_is_told(tmp_path: Path, digits: weevit.Predictor) -> None:
    put(tmp_path, a=encoded(scene(1)), b=encoded(scene(2)), cut=encoded(scene(3))[:800])
    told: list[tuple[str, int, int, int]] = []

    def watch(progress: Progress) -> None:
        told.append((progress.stage, progress.done, progress.total, progress.broken.total()))

    find_duplicates(tmp_path, digits, watch=watch)
    assert ("reading", 3, 3, 1) in told
    assert ("embedding", 2, 2, 0) in told


# ---- real photos

ALTERED: dict[str, Callable[[Image.Image, random.Random], bytes]] = {
    "quality 20": lambda image, draw: encoded(image, quality=20),
    "half": lambda image, draw: encoded(scaled(image, 0.5), quality=85),
    "30 %": lambda image, draw: encoded(scaled(image, 0.3), quality=85),
    "squeezed": lambda image, draw: encoded(image.resize((224, 224)), quality=85),
    "mirrored": lambda image, draw: encoded(ImageOps.mirror(image), quality=85),
    "WebP": lambda image, draw: encoded(image, "WEBP", quality=60),
    "cut by 10 %": lambda image, draw: encoded(
        image.crop([round(side * part) for side, part in zip(image.size * 2, (0.1, 0.1, 0.9, 0.9), strict=True)]),
        quality=85,
    ),
}


def test_what_is_planted_among_real_photos_is_found_and_nothing_else(
    photos: list[Path], vit_tiny: Path, tmp_path: Path
) -> None:
    """The short version of benchmarks/dedup.py."""
    draw = random.Random(4)
    own = draw.sample(photos, 60)
    planted = set()
    for place, path in enumerate(own):
        labelled.put(tmp_path / f"{place}.jpg", path.read_bytes())
    for place, (way, alter) in enumerate(ALTERED.items()):
        for number in (place, place + len(ALTERED)):
            name = f"{number}-{way.replace(' ', '-').replace('%', '')}.jpg"
            labelled.put(tmp_path / name, alter(Image.open(own[number]).convert("RGB"), draw))
            planted.add((f"{number}.jpg", name))
    found = find_duplicates(tmp_path, vit_tiny)
    pairs = {
        tuple(sorted((Path(one.id).name, Path(two.id).name), key=len))
        for group in found.copies
        for one, two in combinations(group.members, 2)
    }
    assert pairs == planted
