"""Maps by what must hold of them: small cases by hand, sums, every kind of model; on real photos by deletion."""

from __future__ import annotations

import json
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import fakes
import numpy as np
import pytest
from PIL import Image

import weevit
from weevit.cli.app import main
from weevit.errors import UnsupportedImageError
from weevit.explain.draw import draw_explanation, heat, principal_colours
from weevit.explain.relevance import deletion, explain_source, rollout
from weevit.images.source import Source
from weevit.images.sources import expand
from weevit.predict import Predictor
from weevit.zoo.architectures import get_architecture
from weevit.zoo.checkpoint import read_checkpoint
from weevit.zoo.labels import Label
from weevit.zoo.weights import HALF, Preprocessing
from weevit.zoo.writing import write_checkpoint

KINDS = [
    "vit_tiny_patch16_224",
    "vit_dwee_patch16_reg1_gap_256",
    "vit_pwee_patch16_reg1_gap_256",
    "vit_dpwee_patch16_reg1_gap_256",
    "vit_betwixt_patch16_rope_reg4_gap_256",
    "vit_so150m_patch16_reg4_gap_256",
]


def noise(size: tuple[int, int] = (90, 70)) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1] // 10, size[0] // 10, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size)


def test_rollout_by_hand() -> None:
    start = np.array([1, 0, 0], np.float32)
    assert rollout([np.eye(3, dtype=np.float32)] * 4, start).tolist() == [1, 0, 0]
    moves = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]], np.float32)
    assert rollout([moves], start).tolist() == [0.5, 0.5, 0]
    assert rollout([moves, moves], start).tolist() == [0.25, 0.5, 0.25]
    random = np.random.default_rng(0).random((5, 3, 3)).astype(np.float32)
    steps = list(random / random.sum(axis=2, keepdims=True))
    assert rollout(steps, start).sum() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_model(name: str, fake_tiny: Path) -> None:
    arch = replace(get_architecture(name), depth=3)
    spec = Preprocessing(64, 96, 1.0, "center", "bicubic", *HALF)
    checkpoint = replace(
        read_checkpoint(fake_tiny), architecture=arch, grid=(4, 6), num_classes=4, labels=None, preprocessing=spec
    )
    tensors = {key: 5 * value for key, value in fakes.tensors(arch, 4, (4, 6)).items()}
    object.__setattr__(checkpoint, "tensors", lambda: tensors)
    model = Predictor(checkpoint, cache=False)
    found = explain_source(model, Source("x", noise()), layer=1)
    assert found.relevance.shape == (4, 6)
    assert found.relevance.sum() == pytest.approx(1, abs=1e-5)
    assert (found.relevance >= 0).all()
    assert found.heads.shape == (arch.num_heads, 4, 6)
    assert found.prefix.shape == (arch.num_prefix, 4, 6)
    assert found.prefix_share.shape == (3,)
    assert ((found.prefix_share >= 0) & (found.prefix_share <= 1)).all()
    assert draw_explanation(found, with_heads=True).width > 2 * 96


def test_a_member_of_an_archive_is_explained_as_the_file(fake_tiny: Path, tmp_path: Path) -> None:
    noise().save(tmp_path / "a.png")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(tmp_path / "a.png", "a.png")
    model = weevit.load(fake_tiny, image_size=64, cache=False)
    maps = []
    for name in ("a.png", "a.tar"):
        (source,) = expand(tmp_path / name)
        explanation = explain_source(model, source)
        assert explanation.result.input == source.name
        maps.append(explanation.relevance)
    assert (maps[0] == maps[1]).all()


def test_a_model_that_averages_finds_the_patch_that_speaks(tmp_path: Path) -> None:
    """A head that answers to one channel, and an image whose one bright patch drives it: the map must find it."""
    arch = get_architecture("vit_wee_patch16_reg1_gap_256")
    tensors = fakes.tensors(arch, 2, (4, 4))
    tensors["patch_embed.proj.weight"][...] = 0
    tensors["patch_embed.proj.weight"][0] = 1 / 768  # channel 0: brightness
    tensors["pos_embed"][...] = 0.001 * np.random.default_rng(0).standard_normal(tensors["pos_embed"].shape)
    for key in tensors:
        if "norm" in key:
            tensors[key][...] = key.endswith("weight")
    tensors["head.weight"][...], tensors["head.bias"][...] = 0, 0
    tensors["head.weight"][1, 0], tensors["head.bias"][1] = 1, 20
    spec = Preprocessing(64, 64, 1.0, "center", "bicubic", *HALF)
    for key in tensors:
        if key.endswith("gamma"):
            tensors[key][...] = 1e-5
    write_checkpoint(tmp_path / "m", arch, tensors, spec, [Label("dark", "dark"), Label("bright", "bright")])
    pixels = np.full((64, 64, 3), 100, np.uint8)
    pixels[16:32, 32:48] = 255
    model = weevit.load(tmp_path / "m", cache=False)
    found = explain_source(model, Source("x", pixels))
    assert found.result.labels[0] == "bright"
    assert np.unravel_index(found.relevance.argmax(), (4, 4)) == (1, 2)


def test_a_model_of_other_channels_says_that_it_is_not_drawn(tmp_path: Path) -> None:
    """Before, that the answer was not finite."""
    arch = get_architecture("vit_wee_patch16_reg1_gap_256")
    spec = Preprocessing(64, 64, 1.0, "center", "bicubic", *HALF)
    write_checkpoint(tmp_path / "m", arch, fakes.tensors(arch, 2, (4, 4), 4), spec, [Label("a", "a"), Label("b", "b")])
    model = weevit.load(tmp_path / "m", cache=False)
    for value in (noise(), np.zeros((64, 64, 4), np.uint8)):
        with pytest.raises(UnsupportedImageError, match="this model takes 4 channels"):
            explain_source(model, Source("x", value))


def test_colours_are_the_same_every_time() -> None:
    features = np.random.default_rng(0).standard_normal((16, 5, 7)).astype(np.float32)
    first = principal_colours(features)
    assert first.shape == (5, 7, 3)
    assert (first == principal_colours(features)).all()
    assert (first.min(axis=(0, 1)) == 0).all()
    assert (first.max(axis=(0, 1)) == 255).all()
    assert principal_colours(features[:, :1, :2]).shape == (1, 2, 3)


def test_heat_of_a_flat_map_is_flat() -> None:
    assert np.ptp(heat(np.ones((3, 3), np.float32), (30, 20)).reshape(-1, 3), axis=0).max() == 0


@pytest.mark.long
def test_the_map_is_faithful_on_real_photos(vit_tiny: Path, photos: list[Path]) -> None:
    model = weevit.load(vit_tiny)
    scores = [deletion(model, explain_source(model, Source(p.name, p)), steps=7) for p in photos[::42]]
    mean = {order: np.mean([getattr(score, order) for score in scores]) for order in ("map", "random", "reverse")}
    assert len(scores) == 12
    assert mean["map"] < 0.65 * mean["random"]
    assert mean["random"] < mean["reverse"]


# ---- the commands


def run(capfd: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    out, err = capfd.readouterr()
    return int(ended.value.code or 0), out, err


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    noise().save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_explain(capfd: pytest.CaptureFixture[str], photo: Path, fake_tiny: Path, tmp_path: Path) -> None:
    model = ("-m", fake_tiny, "--image-size", "48x64")
    code, out, _ = run(capfd, "explain", photo, *model, "-o", tmp_path / "out.png", "--heads", "--deletion")
    assert code == 0
    assert "deletion score" in out
    with Image.open(tmp_path / "out.png") as sheet:
        assert sheet.width == 3 * 64 + 4 * 8
    code, out, _ = run(capfd, "explain", photo, *model, "-o", tmp_path / "out.png", "--json")
    assert len(json.loads(out)["prefix_share"]) == 12


def test_explain_several(capfd: pytest.CaptureFixture[str], photo: Path, fake_tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(b"")
    (tmp_path / "maps").mkdir()
    words = ("explain", photo, tmp_path / "b.png", "-m", fake_tiny, "--image-size", 64)
    code, out, err = run(capfd, *words, "-o", tmp_path / "maps", "--json", "--strict")
    assert code == 3
    assert [json.loads(line)["status"] for line in out.splitlines()] == ["ok", "decode_error"]
    assert [path.name for path in (tmp_path / "maps").iterdir()] == ["a.0.png"]
    long = photo.rename(tmp_path / ("\u753b" * 80 + ".png"))  # 240 bytes, and maps have a number behind the name
    code, _, _ = run(capfd, "explain", long, *words[2:], "-o", tmp_path / "more" / "maps")
    assert code == 0
    assert [path.name for path in (tmp_path / "more" / "maps").iterdir()] == ["\u753b" * 33 + ".0.png"]
    photo = long.rename(photo)
    words = ("explain", photo, *words[2:])
    code, _, _ = run(capfd, "explain", tmp_path / "b.png", "-m", fake_tiny, "-o", tmp_path / "none")
    assert (code, (tmp_path / "none").exists()) == (1, False)
    assert "1 done · 1 failed (1 empty)" in err
    assert run(capfd, *words, "-o", tmp_path / "one.png")[0] == 2
    assert run(capfd, "explain", photo)[0] == 2
    assert run(capfd, "explain", photo, "-m", fake_tiny, "--layer", 12, "-o", tmp_path / "x.png")[0] == 2


def test_features_as_colours(capfd: pytest.CaptureFixture[str], photo: Path, fake_tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "pca.png"
    model = ("-m", fake_tiny, "--image-size", 64)
    assert run(capfd, "features", photo, *model, "--layers", "3,11", "--pca", path)[0] == 0
    with Image.open(path) as sheet:
        assert sheet.width == 3 * 64 + 4 * 8
    assert run(capfd, "features", photo, *model)[0] == 2
    assert run(capfd, "features", photo, *model, "--pca", tmp_path / "pca.jpg")[0] == 2


@pytest.mark.parametrize("kind", ["list.txt", "list.csv", "images.tar"])
def test_features_as_colours_of_an_image_whose_name_is_none_from_here(
    capfd: pytest.CaptureFixture[str],
    photo: Path,
    fake_tiny: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    """A file of the same name from here was drawn over, or none was found, and the maps were lost."""
    (tmp_path / "in").mkdir()
    shutil.copy(photo, tmp_path / "in" / photo.name)
    path = tmp_path / "in" / kind
    if kind.endswith(".tar"):
        with tarfile.open(path, "w") as archive:
            archive.add(photo, photo.name)
    else:
        path.write_text(f"{'path' if kind.endswith('csv') else ''}\n{photo.name}\n")
    monkeypatch.chdir(tmp_path)
    model = ("-m", fake_tiny, "--image-size", 64)
    assert run(capfd, "features", photo, *model, "--pca", "expected.png")[0] == 0
    Image.new("RGB", (64, 64)).save(photo)
    assert run(capfd, "features", f"in/{kind}", *model, "--pca", "pca.png", "-o", "maps.npz")[0] == 0
    assert (tmp_path / "pca.png").read_bytes() == (tmp_path / "expected.png").read_bytes()
    assert (tmp_path / "maps.npz").exists()
