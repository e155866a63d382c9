"""Modules answer to what code for timm says to them: each call of `timm_calls` on both, and the same answer."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from timm_calls import CALLS, NOT_HERE

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")
feature_extraction = pytest.importorskip("torchvision.models.feature_extraction")

import weevit  # noqa: E402 - after the skip

pytestmark = pytest.mark.oracle
PAGE = Path(__file__).resolve().parents[2] / "docs" / "coming-from-timm.md"
OWN = {"file", "source", "custom_load", "label_names", "label_descriptions", "license", "tag", "architecture"}
"""Keys of `pretrained_cfg` that say where a model came from, not what it is."""


@pytest.fixture(scope="module")
def models(fake_tiny: Path) -> dict[Any, Any]:
    """Both libraries' ViT-Ti, with the same tensors."""
    name = f"local-dir:{fake_tiny}"
    return {lib: lib.create_model(name, pretrained=True).eval() for lib in (timm, weevit)}


def answer(call: str, lib: Any, model: Any) -> Any:
    generator = torch.Generator().manual_seed(0)
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    scope = {
        "torch": torch, "copy": copy, "lib": lib, "model": copy.deepcopy(model), "OWN": OWN,
        "x": torch.randn(2, 3, 224, 224, generator=generator), "t": torch.randn(2, 197, 192, generator=generator),
        "image": Image.fromarray(pixels), "extract": feature_extraction.create_feature_extractor,
    }  # fmt: skip
    before, _, last = call.rpartition(";")
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracers, deprecations: timm's as well
        exec(before, scope)
        return eval(last.strip(), scope)


def same(ours: Any, theirs: Any) -> bool:
    if isinstance(theirs, torch.Tensor):
        ours, theirs = ours.detach(), theirs.detach()
        bound = 1e-5 * max(1e-30, float(theirs.abs().max())) if theirs.numel() else 0.0
        return (
            ours.shape == theirs.shape and ours.dtype == theirs.dtype and bool(((ours - theirs).abs() <= bound).all())
        )
    if isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(same(ours[key], own) for key, own in theirs.items())
    if isinstance(theirs, list | tuple):
        return len(ours) == len(theirs) and all(same(a, b) for a, b in zip(ours, theirs, strict=True))
    return bool(ours == theirs)


@pytest.mark.parametrize("call", CALLS)
def test_the_answer_is_timms(call: str, models: dict[Any, Any]) -> None:
    theirs, ours = (answer(call, lib, model) for lib, model in models.items())
    assert same(ours, theirs), (ours, theirs)


@pytest.mark.parametrize("call", NOT_HERE)
def test_what_is_not_here_is_named(call: str, models: dict[Any, Any]) -> None:
    """timm answers; weevit raises, and the page says so with these words."""
    answer(call, timm, models[timm])
    with pytest.raises((AttributeError, TypeError, ValueError, RuntimeError, NotImplementedError)):
        answer(call, weevit, models[weevit])
    assert NOT_HERE[call] in PAGE.read_text(encoding="utf-8")
