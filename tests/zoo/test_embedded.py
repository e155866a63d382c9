"""The model that comes with weevit: what it scores, that it needs no hub and no torch, and that timm agrees with it."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

import weevit
from weevit.errors import UsageError
from weevit.zoo.resolve import EMBEDDED, resolve

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "digits"
FOLDER = EMBEDDED / "digits"


@pytest.fixture(scope="module")
def made() -> ModuleType:
    """The script that made the images and the model."""
    pytest.importorskip("sklearn")
    spec = importlib.util.spec_from_file_location("digits_micro", ROOT / "benchmarks" / "digits_micro.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_is_found_without_a_hub() -> None:
    for name in ("digits", "vit_micro_patch16_reg1_gap_64", "vit_micro_patch16_reg1_gap_64.digits"):
        found = resolve(name)
        assert (found.name, found.license) == ("vit_micro_patch16_reg1_gap_64.digits", "apache-2.0")
        assert found.path == FOLDER / "model.safetensors"
        assert [label.id for label in found.labels or ()] == list("0123456789")
        assert found.recorded == found.sha256
    with pytest.raises(UsageError, match="has no revision 'v2'"):
        resolve("digits", revision="v2")


def test_it_is_small_and_says_where_it_is_from() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 2_000_000
    from weevit.recipes.recipe import difference, load_recipe

    changed = [key for key, *_ in difference(load_recipe(FOLDER / "recipe.yaml"), load_recipe("digits_micro"))]
    assert set(changed) <= {"data.path", "loop.workers", "loop.accumulate"}
    assert json.loads((FOLDER / "run.json").read_text())["classes"] == list("0123456789")
    assert (FOLDER / "log.txt").stat().st_size
    assert "/tmp" not in (FOLDER / "recipe.yaml").read_text() + (FOLDER / "log.txt").read_text()


def test_it_reads_the_example_images() -> None:
    files = sorted((EXAMPLES / "test").glob("*/*.png"))
    results = list(weevit.load("digits").stream(files, outputs=("logits",), topk=1))
    right = [result.top[0].id == path.parent.name for result, path in zip(results, files, strict=True)]
    assert len(files) == 80
    assert np.mean(right) >= 0.97


def test_it_reads_97_of_100_digits_that_it_was_not_trained_on(made: ModuleType) -> None:
    del made
    code = (
        "import sys; sys.path.insert(0, 'benchmarks'); from digits_micro import accuracy\n"
        "print(*accuracy('digits'), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    right, total, with_torch = done.stdout.split()
    assert (total, with_torch) == ("360", "False")
    assert int(right) / int(total) >= 0.97
    stated = re.search(r"(\d+) of the 360 test images", (ROOT / "docs" / "recipes.md").read_text())
    assert stated is not None
    assert abs(int(stated[1]) - int(right)) <= 1  # another Pillow may scale a image by one grey level differently


def test_the_test_split_is_apart_and_even(made: ModuleType) -> None:
    found = [(split, number, place) for split, number, place, _ in made.digits()]
    assert len({place for *_, place in found}) == len(found) == 1797
    test = [number for split, number, _ in found if split == "test"]
    assert np.bincount(test).tolist() == [36] * 10


def test_the_examples_are_those_images(made: ModuleType) -> None:
    images = {(split, number, place): image for split, number, place, image in made.digits()}
    files = sorted(EXAMPLES.glob("*/*/*.png"))
    assert len(files) == 200
    for path in files:
        made_now = images[path.parts[-3], int(path.parts[-2]), int(path.stem)]
        with Image.open(path) as shipped:
            assert np.abs(np.asarray(shipped, np.int16) - np.asarray(made_now, np.int16)).max() <= 1


@pytest.mark.oracle
def test_timm_gives_the_same_logits() -> None:
    timm, torch = pytest.importorskip("timm"), pytest.importorskip("torch")
    import timm_rows  # noqa: F401  (weevit's own row)
    from safetensors.torch import load_file

    theirs = timm.create_model("vit_micro_patch16_reg1_gap_64", num_classes=10).eval()
    theirs.load_state_dict(load_file(FOLDER / "model.safetensors"), strict=True)
    assert sum(tensor.numel() for tensor in theirs.state_dict().values()) < 500_000
    files = sorted((EXAMPLES / "test").glob("*/*.png"))[:16]
    pixels = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in files])
    with torch.inference_mode():
        expected = theirs((torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5).numpy()
    ours = np.stack([result.logits for result in weevit.load("digits").stream(files, outputs=("logits",))])
    assert np.abs(ours - expected).max() < 1e-4
