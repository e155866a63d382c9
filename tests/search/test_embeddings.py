"""Embeddings that are kept: the same as those that are computed, whatever became of the files."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import weevit
from weevit.images.source import Source
from weevit.images.sources import expand
from weevit.search import kept
from weevit.search.embeddings import Progress, embed_split
from weevit.search.kept import kept_folders

COUNT = 23
BROKEN = (3, 17)


@dataclass
class Images:
    """As much of a split as matters here."""

    sources: tuple[Source, ...]


@pytest.fixture(scope="module")
def model(fake_tiny: Path) -> weevit.Predictor:
    return weevit.load(fake_tiny, image_size=32, cache=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for seed in range(COUNT):
        pixels = np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed}.png")
    (folder / "3.png").write_bytes((folder / "3.png").read_bytes()[:300])
    (folder / "17.png").write_bytes(b"")
    return folder


@pytest.fixture
def split(folder: Path) -> Images:
    return Images(tuple(expand(folder)))


def files(cache: Path) -> list[Path]:
    return sorted(cache.rglob("*.npy"))


def test_kept_is_as_computed(model: weevit.Predictor, split: Images, tmp_path: Path) -> None:
    first = embed_split(model, split, tmp_path / "cache")
    good = [index for index in range(COUNT) if index not in BROKEN]
    assert (first.computed, first.cached, first.notes) == (len(good), 0, ())
    assert [index for index in range(COUNT) if not first.ok[index]] == list(BROKEN)
    np.testing.assert_allclose(first.vectors[good], model.embed([split.sources[i] for i in good]), atol=1e-6)
    assert not first.vectors[list(BROKEN)].any()
    assert [(Path(name).name, status) for name, status, _ in first.failures] == [
        ("3.png", "decode_error"),
        ("17.png", "decode_error"),
    ]
    second = embed_split(model, split, tmp_path / "cache")
    assert (second.computed, second.cached) == (0, len(good))
    assert second.vectors.tobytes() == first.vectors.tobytes()
    assert second.hashes == first.hashes
    assert second.failures == first.failures


def test_more_files_than_are_mapped_are_read(
    model: weevit.Predictor, split: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "ROWS_A_FILE", 2)
    monkeypatch.setattr(kept, "MOST_MAPPED", 3)
    first = embed_split(model, split, tmp_path / "cache")
    assert len(files(tmp_path / "cache")) > 3
    held = kept.Kept(model, tmp_path / "cache")
    assert sum(isinstance(rows, np.memmap) for rows in held._files) == 3
    again = embed_split(model, split, tmp_path / "cache")
    assert (again.computed, again.vectors.tobytes()) == (0, first.vectors.tobytes())


def test_a_image_is_known_by_its_bytes(model: weevit.Predictor, folder: Path, split: Images, tmp_path: Path) -> None:
    before = embed_split(model, split, tmp_path / "cache")
    (folder / "5.png").rename(folder / "moved.png")
    (folder / "6.png").write_bytes((folder / "7.png").read_bytes())
    Image.new("RGB", (9, 9)).save(folder / "8.png")
    after = embed_split(model, Images(tuple(expand(folder))), tmp_path / "cache")
    assert (after.computed, after.cached) == (1, COUNT - len(BROKEN) - 1)
    names = [Path(source.name).name for source in expand(folder)]
    assert (after.vectors[names.index("moved.png")] == before.vectors[5]).all()
    assert (after.vectors[names.index("6.png")] == before.vectors[7]).all()


def test_what_is_in_memory_or_missing(model: weevit.Predictor, folder: Path, tmp_path: Path) -> None:
    data, image = (folder / "0.png").read_bytes(), Image.open(folder / "1.png")
    found = Images(tuple(expand([data, image, folder / "none.png", folder / "0.png"])))
    for cached in (0, 2):
        result = embed_split(model, found, tmp_path / "cache")
        assert result.cached == cached
        assert result.ok.tolist() == [True, True, False, True]
        assert [digest is None for digest in result.hashes] == [False, True, True, False]
        assert result.failures[0][1:] == (
            "missing",
            f"missing: {folder / 'none.png'}: no such file, or a link that leads nowhere",
        )
        assert (result.vectors[0] == result.vectors[3]).all()


def test_other_models_and_sizes_have_rows_of_their_own(model: weevit.Predictor, split: Images, tmp_path: Path) -> None:
    embed_split(model, split, tmp_path / "cache")
    checkpoint = model.checkpoint
    pooled = replace(checkpoint, architecture=replace(checkpoint.architecture, pool="avg"))
    for other in (
        weevit.Predictor(checkpoint, image_size=48, cache=False),
        weevit.Predictor(pooled, image_size=32, cache=False),
        weevit.Predictor(checkpoint, image_size=32, cache=False, limits=weevit.Limits(max_pixels=10**6)),
    ):
        assert embed_split(other, split, tmp_path / "cache").cached == 0


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "foreign"])
def test_damaged_rows_are_computed_anew(
    model: weevit.Predictor, split: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setattr(kept, "ROWS_A_FILE", 8)
    sound = embed_split(model, split, tmp_path / "cache")
    assert [len(np.load(path)) for path in files(tmp_path / "cache")].count(8) == 2
    victim = next(path for path in files(tmp_path / "cache") if len(np.load(path)) == 8)
    content = bytearray(victim.read_bytes())
    content[-5] ^= 1
    changed = {"flip": bytes(content), "cut": bytes(content[:-9]), "empty": b"", "foreign": b"no array"}[damage]
    victim.write_bytes(changed)
    mended = embed_split(model, split, tmp_path / "cache")
    assert mended.computed == 8
    assert "damaged" in mended.notes[0]
    assert mended.vectors.tobytes() == sound.vectors.tobytes()
    assert embed_split(model, split, tmp_path / "cache").notes == ()


@pytest.mark.parametrize("how", ["asked", "ctrl-c"])
def test_what_was_computed_outlives_an_interruption(
    model: weevit.Predictor, split: Images, tmp_path: Path, how: str
) -> None:
    answered = 0

    def watch(progress: Progress) -> None:
        nonlocal answered
        answered = progress.computed
        if how == "ctrl-c" and answered == 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed_split(model, split, tmp_path / "cache", watch, lambda: how == "asked" and answered >= 1)
    assert 1 <= answered < COUNT - len(BROKEN)
    rest = embed_split(model, split, tmp_path / "cache")
    assert rest.cached == answered
    assert rest.vectors.tobytes() == embed_split(model, split, tmp_path / "other").vectors.tobytes()


def test_what_was_not_used_for_longest_goes_first(
    model: weevit.Predictor, split: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    embed_split(model, split, cache)
    (own, size), others, foreign = kept_folders(cache)[0], [cache / ("0" * 40), cache / ("1" * 40)], cache / "mine"
    for age, other in zip((400, 200, 100), (foreign, *others), strict=True):
        other.mkdir()
        (other / "rows.npy").write_bytes(bytes(size))
        os.utime(other, (time.time() - age,) * 2)
    os.utime(own, (time.time() - 300,) * 2)
    assert [folder for folder, _ in kept_folders(cache)] == [own, *others]

    assert embed_split(model, split, cache).computed == 0  # which uses it, and writes nothing
    assert [folder for folder, _ in kept_folders(cache)] == [*others, own]
    for limit, left in ((2.5, [others[1], own]), (0.5, [own])):
        monkeypatch.setattr(kept, "DEFAULT_LIMIT", int(limit * size))
        for path in files(own):
            path.unlink()
        assert embed_split(model, split, cache).computed > 0
        assert [folder for folder, _ in kept_folders(cache)] == left
    assert files(foreign)


def test_a_cache_that_cannot_be_written_costs_no_answer(model: weevit.Predictor, split: Images, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file, and no folder")
    result = embed_split(model, split, tmp_path / "cache")
    assert result.computed == COUNT - len(BROKEN)
    assert "could not be kept" in result.notes[0]


PROCESS = """
import sys
import weevit
from weevit.search import embeddings, kept
from weevit.images.sources import expand
kept.ROWS_A_FILE = 4
class Images: sources = tuple(expand(sys.argv[2]))
model = weevit.load(sys.argv[1], image_size=32, cache=False, threads=1)
print(embeddings.embed_split(model, Images).vectors.tobytes().hex())
"""


def test_two_processes_at_once(model: weevit.Predictor, fake_tiny: Path, folder: Path, split: Images) -> None:
    command = [sys.executable, "-c", PROCESS, str(fake_tiny), str(folder)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert printed[0] == printed[1]
    again = embed_split(model, split)
    assert (again.computed, again.notes) == (0, ())
    assert f"{again.vectors.tobytes().hex()}\n" == printed[0]


def _of_another_model(own: Path, cache: Path) -> None:
    """The same file in another model's folder."""
    other = cache / ("f" * 40)
    other.mkdir()
    (other / own.name).write_bytes(own.read_bytes())
    own.parent.joinpath(own.name).unlink()
    other.joinpath(own.name).rename(own)
    own.rename(own.with_name("0" * 64 + ".npy"))


def _a_link(own: Path, cache: Path) -> None:
    own.rename(cache / "outside")
    own.symlink_to(cache / "outside")


def _not_finite(own: Path, cache: Path) -> None:
    """Under a name that fits it."""
    rows = np.load(own)
    rows["vector"][0, 0] = np.nan
    np.save(own, rows)
    with own.open("rb") as file:
        own.rename(own.with_name(f"{kept._digest(own.parent, file)}.npy"))


def _another_owner(own: Path, cache: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may give files away")
    os.chown(own, 12345, 12345)


@pytest.mark.parametrize("plant", [_of_another_model, _a_link, _not_finite, _another_owner])
def test_planted_rows_are_not_used(
    model: weevit.Predictor, split: Images, tmp_path: Path, plant: Callable[[Path, Path], None]
) -> None:
    """Row M13 for embeddings."""
    cache = tmp_path / "cache"
    first = embed_split(model, split, cache)
    (own,) = files(cache)
    assert (cache.stat().st_mode & 0o777, own.parent.stat().st_mode & 0o777) == (0o700, 0o700)
    plant(own, cache)
    again = embed_split(model, split, cache)
    assert (again.computed, again.cached) == (first.computed, 0)
    assert again.vectors.tobytes() == first.vectors.tobytes()


def test_rows_are_bound_to_their_folder(model: weevit.Predictor, split: Images, tmp_path: Path) -> None:
    """A whole folder under another model's name."""
    first = embed_split(model, split, tmp_path / "cache")
    (own,) = files(tmp_path / "cache")
    bigger = weevit.Predictor(model.checkpoint, image_size=48, cache=False)
    own.parent.rename(own.parent.with_name(kept._key(bigger)))
    assert embed_split(bigger, split, tmp_path / "cache").computed == first.computed


def test_another_engine_or_precision_has_embeddings_of_its_own(
    model: weevit.Predictor, split: Images, tmp_path: Path
) -> None:
    """Engines differ in the last bits; whose the answers are is all that counts here, not which engine made them."""

    @dataclass
    class Other:
        engine: str = "onnxruntime"
        precision: str = "fp32"
        device: str = "cpu"

        def __getattr__(self, name: str) -> object:
            return getattr(model, name)

    cache = tmp_path / "cache"
    embed_split(model, split, cache)
    others = [Other(engine="another"), Other(precision="bf16"), Other(device="cuda")]
    for other in others:
        found = embed_split(other, split, cache)
        assert (found.computed, found.cached) == (COUNT - len(BROKEN), 0)
    assert len(list(cache.iterdir())) == 1 + len(others)
    assert embed_split(Other(), split, cache).computed == 0
