"""`create_model`, `save` and `weevit.data`: timm's arguments, timm's folders, timm's results."""

from __future__ import annotations

import inspect
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
from loopback_hub import LoopbackHub
from PIL import Image

torch = pytest.importorskip("torch")

import weevit  # noqa: E402 - after the skip
from weevit.nn.create import ModuleOptions, MoreOptions, _size_for, create_model  # noqa: E402
from weevit.nn.vit import Options, VisionTransformer  # noqa: E402
from weevit.zoo.architectures import get_architecture  # noqa: E402
from weevit.zoo.checkpoint import read_checkpoint  # noqa: E402
from weevit.zoo.weights import DEFAULT_MODEL  # noqa: E402

PWEE = "vit_pwee_patch16_reg1_gap_256"
ROPE = "vit_medium_patch16_rope_reg1_gap_256.sbb_in1k"


@pytest.fixture(scope="session")
def fake_pwee(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.folder(tmp_path_factory.mktemp("models") / DEFAULT_MODEL, fakes.config(DEFAULT_MODEL))


def logits(model: Any, size: tuple[int, int] = (256, 256), channels: int = 3) -> Any:
    x = torch.randn(1, channels, *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return model.eval()(x)


def same(ours: Any, theirs: Any, bound: float = 1e-5) -> bool:
    return ours.shape == theirs.shape and float((ours - theirs).abs().max()) <= bound * float(theirs.abs().max())


# ---- create_model


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_classes": -1}, {"num_classes": 1.5}, {"num_classes": 10**9}, {"in_chans": 0}, {"in_chans": 3.0},
        {"img_size": "large"}, {"img_size": 64.0}, {"img_size": (64, None)}, {"img_size": (64,)}, {"drop_rate": 2},
        {"drop_rate": float("nan")}, {"drop_path_rate": -1}, {"attn_drop_rate": "a"},
    ],
    ids=str,
)  # fmt: skip
def test_wrong_values_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(weevit.WeevitError, match="img_size|image size|" + next(iter(wrong))):
        create_model(PWEE, **wrong)


def test_none_is_the_default_as_in_timm(fake_pwee: Path) -> None:
    nothing: dict[str, Any] = dict.fromkeys(field.name for field in fields(Options))
    assert create_model(PWEE, **nothing).options == create_model(PWEE).options
    assert create_model(PWEE, **nothing).num_classes == 1000
    assert create_model("", checkpoint_path=fake_pwee, **nothing).img_size == (256, 256)


def test_a_type_checker_knows_every_argument() -> None:
    assert set(ModuleOptions.__annotations__) == {field.name for field in fields(Options)}
    named = set(inspect.signature(create_model).parameters) - {"options"} | set(ModuleOptions.__annotations__)
    assert named - set(MoreOptions.__annotations__) == {"model_name", "pretrained", "checkpoint_path", "features_only"}


@pytest.mark.oracle
@pytest.mark.parametrize(
    "arguments",
    [
        {}, {"num_classes": 0}, {"img_size": 192}, {"img_size": (128, 192)}, {"in_chans": 1}, {"in_chans": 5},
        {"dynamic_img_size": True}, {"global_pool": ""},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("name", ["tiny", "pwee"])
def test_pretrained_as_timm(name: str, arguments: dict[str, Any], fake_tiny: Path, fake_pwee: Path) -> None:
    timm = pytest.importorskip("timm")
    folder = fake_tiny if name == "tiny" else fake_pwee
    if arguments == {"global_pool": ""} and name == "pwee":
        pytest.skip("timm moves the norm there and then cannot load the weights")
    ours = weevit.create_model(f"local-dir:{folder}", pretrained=True, **arguments)
    theirs = timm.create_model(f"local-dir:{folder}", pretrained=True, **arguments)
    side = 224 if name == "tiny" else 256
    size = arguments.get("img_size", side)
    size = (size, size) if isinstance(size, int) else size
    assert same(logits(ours, size, arguments.get("in_chans", 3)), logits(theirs, size, arguments.get("in_chans", 3)))
    own, other = weevit.data.resolve_model_data_config(ours), timm.data.resolve_model_data_config(theirs)
    other = {key: tuple(value) if isinstance(value, list) else value for key, value in other.items()}
    # timm keeps the checkpoint's input size here, which a model of another size then refuses; ours is the model's own.
    other["input_size"] = (arguments.get("in_chans", 3), *size)
    assert own == other


@pytest.mark.oracle
@pytest.mark.parametrize("arguments", [{"num_classes": 0, "global_pool": "avg"}, {"num_classes": 0, "global_pool": ""}])
@pytest.mark.parametrize("name", ["tiny", "pwee"])
def test_a_pool_that_moves_the_norm(name: str, arguments: dict[str, Any], fake_tiny: Path, fake_pwee: Path) -> None:
    """With another head timm leaves the moved norm fresh: so it is here, and a warning says it."""
    timm = pytest.importorskip("timm")
    folder = fake_tiny if name == "tiny" else fake_pwee
    moved = (arguments["global_pool"] == "avg") == (name == "tiny")
    theirs = timm.create_model(f"local-dir:{folder}", pretrained=True, **arguments)
    with pytest.warns(UserWarning, match="starts fresh") if moved else nullcontext():
        ours = weevit.create_model(f"local-dir:{folder}", pretrained=True, **arguments)
    size = (224, 224) if name == "tiny" else (256, 256)
    assert same(logits(ours, size), logits(theirs, size))


def test_another_head_starts_fresh(fake_pwee: Path) -> None:
    torch.manual_seed(0)
    model = weevit.create_model(str(fake_pwee), pretrained=True, num_classes=7)
    assert model.head.weight.shape == (7, 256)
    assert float(model.head.weight.detach().std()) == pytest.approx(0.02, rel=0.1)
    assert all(parameter.requires_grad and not parameter.is_meta for parameter in model.parameters())
    assert "label_names" not in model.pretrained_cfg


def test_a_model_that_was_changed_says_so(fake_pwee: Path) -> None:
    model = weevit.create_model(str(fake_pwee), pretrained=True)
    assert "label_names" in model.pretrained_cfg
    model.reset_classifier(1000)
    model.set_input_size((128, 192))
    assert "label_names" not in model.pretrained_cfg
    assert weevit.data.resolve_model_data_config(model)["input_size"] == (3, 128, 192)


def test_features_only(fake_pwee: Path) -> None:
    whole = weevit.create_model(str(fake_pwee), pretrained=True)
    model = weevit.create_model(str(fake_pwee), pretrained=True, features_only=True)
    maps = logits(model)
    assert [tuple(own.shape) for own in maps] == [(1, 256, 16, 16)] * 3
    assert model.feature_info.channels() == [256] * 3
    assert model.feature_info.reduction() == [16] * 3
    x = torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        taps = whole.eval().forward_intermediates(x, 3, intermediates_only=True)
    assert all(same(own, tap) for own, tap in zip(maps, taps, strict=True))
    one = weevit.create_model(PWEE, features_only=True, out_indices=[2])
    assert len(one.model.blocks) == 3


def test_fresh_models_and_their_names() -> None:
    with torch.device("meta"):
        assert weevit.create_model("little-in12k").num_classes == 11821
        assert weevit.create_model(PWEE, num_classes=3, drop_path_rate=0.1).head.weight.shape == (3, 256)
        assert weevit.create_model("vit_base_patch16_reg4_gap_256").num_classes == 1000
    assert len(weevit.list_models()) == 28
    assert weevit.list_models("*rope*", pretrained=True)[0].endswith("sbb_in1k")
    assert weevit.list_models(["*dwee*", "*dpwee*"]) == [
        "vit_dpwee_patch16_reg1_gap_256", "vit_dwee_patch16_reg1_gap_256",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"drop_path": 0.1}, "Did you mean 'drop_path_rate'"),
        ({"num_classes": 3, "qk_norm": True}, "It takes num_classes, in_chans"),
        ({"global_pool": "map"}, "'token', 'avg' or ''"),
        ({"img_size": 100}, "multiple of 16"),
        ({"img_size": 100_000}, "at most 4,096"),
        ({"fix_init": "no"}, "fix_init is True or False"),
        ({"dynamic_img_size": 1}, "dynamic_img_size is True or False"),
        ({"device": "gpu"}, "device='gpu': there is no such device"),
        ({"device": "cuda:99"}, "device='cuda:99': PyTorch finds"),
        ({"dtype": "float16"}, "dtype is a floating-point type"),
        ({"dtype": torch.int8}, "dtype is a floating-point type"),
        ({"features_only": True, "out_indices": "3"}, "The blocks are 0 to 15"),
    ],
)
def test_arguments_that_cannot_be_meant(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(weevit.UsageError, match=message):
        weevit.create_model(PWEE, **arguments)


def test_a_checkpoint_path_is_of_the_model_that_is_named(fake_tiny: Path, fake_pwee: Path) -> None:
    for name in ("tiny", "vit_tiny_patch16_224", "", str(fake_tiny)):
        assert create_model(name, checkpoint_path=fake_tiny).arch.name == "vit_tiny_patch16_224"
    with pytest.raises(weevit.UsageError, match="weights of vit_tiny_patch16_224, and model_name 'wee' means vit_wee"):
        create_model("wee", checkpoint_path=fake_tiny)
    with pytest.raises(weevit.UsageError, match="means vit_pwee"):
        create_model(str(fake_pwee), checkpoint_path=fake_tiny)
    with pytest.raises(weevit.UnknownModelError):
        create_model("no-such-model", checkpoint_path=fake_tiny)


def test_a_checkpoint_path_takes_the_size_that_is_named(fake_pwee: Path) -> None:
    betwixt = replace(read_checkpoint(fake_pwee), architecture=get_architecture("vit_betwixt_patch16_reg4_gap_256"))
    assert _size_for(betwixt, "vit_betwixt_patch16_reg4_gap_256", None) == {}
    assert _size_for(betwixt, "vit_betwixt_patch16_reg4_gap_384", None) == {"img_size": (384, 384)}
    with pytest.raises(weevit.UsageError, match="reg1"):
        _size_for(betwixt, "vit_betwixt_patch16_reg1_gap_256", None)


@pytest.mark.parametrize("name", [None, 5, ["tiny"]])
def test_a_name_is_text(name: Any) -> None:
    with pytest.raises(weevit.UsageError, match="is a name or a path"):
        create_model(name)


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(weevit.UnknownModelError, match="Did you mean"):
        weevit.create_model("vit_pwe_patch16_reg1_gap_256")


# ---- save


@pytest.mark.parametrize("name", [PWEE, "vit_dwee_patch16_reg1_gap_256", ROPE, "tiny"])
def test_saved_models_load_everywhere(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = weevit.create_model(name, num_classes=3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    model.pretrained_cfg = model.pretrained_cfg or weevit.create_model(DEFAULT_MODEL, num_classes=1).pretrained_cfg
    checkpoint = weevit.save(model, tmp_path / "m", class_names=["cat", "dog", "owl"])
    expected = logits(model, model.img_size)
    again = weevit.create_model(str(tmp_path / "m"), pretrained=True)
    assert torch.equal(logits(again, model.img_size), expected)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8))
    config = weevit.data.resolve_model_data_config(again)
    x = weevit.data.create_transform(**config)(image)
    graph = weevit.load(tmp_path / "m", cache=False).run(image)
    with torch.inference_mode():
        assert same(torch.from_numpy(graph.logits), again.eval()(x[None])[0], 1e-4)
    assert set(graph.labels) == {"cat", "dog", "owl"}
    assert checkpoint.labels is not None
    check_timm(tmp_path / "m", model.img_size, expected)
    check_transformers(tmp_path / "m", model.img_size, expected)


def check_timm(folder: Path, size: tuple[int, int], expected: Any) -> None:
    timm = pytest.importorskip("timm")
    theirs = timm.create_model(f"local-dir:{folder}", pretrained=True)
    assert same(logits(theirs, size), expected)
    assert list(theirs.pretrained_cfg["label_names"]) == ["cat", "dog", "owl"]


def check_transformers(folder: Path, size: tuple[int, int], expected: Any) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
    x = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert same(theirs(pixel_values=x).logits, expected)
    theirs.save_pretrained(folder / "again")
    assert same(logits(weevit.create_model(str(folder / "again"), pretrained=True), size), expected)


@pytest.mark.oracle
def test_what_timm_saves_loads_here(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    from timm.models._hub import save_for_hf

    theirs = timm.create_model(ROPE, num_classes=4)
    save_for_hf(theirs, tmp_path, model_config={"label_names": list("abcd")}, safe_serialization=True)
    ours = weevit.create_model(f"local-dir:{tmp_path}", pretrained=True)
    assert same(logits(ours), logits(theirs))
    assert ours.pretrained_cfg["label_names"] == list("abcd")


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    model = VisionTransformer(get_architecture(PWEE))
    with pytest.raises(weevit.UsageError, match="pretrained_cfg is empty"):
        weevit.save(model, tmp_path)
    model = weevit.create_model("pwee", num_classes=2)
    with pytest.raises(weevit.UsageError, match="3 class names for 2 classes"):
        weevit.save(model, tmp_path, ["a", "b", "c"])
    with torch.no_grad():
        model.head.weight[0, 0] = float("nan")
    with pytest.raises(weevit.CheckpointError, match="NaN"):
        weevit.save(model, tmp_path)
    assert not list(tmp_path.iterdir())


# ---- data


@pytest.mark.oracle
def test_the_transform_is_timms(fake_tiny: Path) -> None:
    timm = pytest.importorskip("timm")
    config = weevit.data.resolve_model_data_config(weevit.create_model(str(fake_tiny), pretrained=True))
    ours = weevit.data.create_transform(**config, is_training=False)
    theirs = timm.data.create_transform(**config, is_training=False)
    for size in ((300, 200), (90, 500), (224, 224)):
        pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        assert torch.equal(ours(Image.fromarray(pixels)), theirs(Image.fromarray(pixels)))
    with pytest.raises(weevit.UsageError, match="comes with training"):
        weevit.data.create_transform(**config, is_training=True)


CARD = """
from urllib.request import urlopen
from PIL import Image
import torch
import weevit as timm

img = Image.open(urlopen(IMAGE))

model = timm.create_model('vit_pwee_patch16_reg1_gap_256.sbb_in1k', pretrained=True)
model = model.eval()
data_config = timm.data.resolve_model_data_config(model)
transforms = timm.data.create_transform(**data_config, is_training=False)
output = model(transforms(img).unsqueeze(0))
top5_probabilities, top5_class_indices = torch.topk(output.softmax(dim=1) * 100, k=5)
assert top5_probabilities.shape == (1, 5)

model = timm.create_model('vit_pwee_patch16_reg1_gap_256.sbb_in1k', pretrained=True, features_only=True)
output = model.eval()(transforms(img).unsqueeze(0))
assert [tuple(o.shape) for o in output] == [(1, 256, 16, 16)] * 3

model = timm.create_model('vit_pwee_patch16_reg1_gap_256.sbb_in1k', pretrained=True, num_classes=0).eval()
output = model(transforms(img).unsqueeze(0))
assert output.shape == (1, 256)
output = model.forward_features(transforms(img).unsqueeze(0))
assert output.shape == (1, 257, 256)
output = model.forward_head(output, pre_logits=True)
assert output.shape == (1, 256)
"""


def test_the_model_card_runs_unchanged(fake_pwee: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = Path(__file__).resolve().parents[2] / "examples" / "photos" / "cat.jpg"
    with LoopbackHub() as hub:
        hub.add(f"timm/{DEFAULT_MODEL}", {path.name: path.read_bytes() for path in fake_pwee.iterdir()})
        hub.add("timm/images", {"cat.jpg": image.read_bytes()})
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path))
        code = CARD.replace("IMAGE", repr(f"{hub.url}/timm/images/resolve/main/cat.jpg"))
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_another_cache_folder(fake_pwee: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with LoopbackHub() as hub:
        hub.add(f"timm/{DEFAULT_MODEL}", {path.name: path.read_bytes() for path in fake_pwee.iterdir()})
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "default"))
        first = weevit.create_model("pwee", pretrained=True, cache_dir=tmp_path / "own")
        hub.requests.clear()
        again = weevit.create_model("pwee", pretrained=True, cache_dir=tmp_path / "own")
        assert not hub.requests
    assert torch.equal(logits(first), logits(again))
    assert (tmp_path / "own" / f"models--timm--{DEFAULT_MODEL}").is_dir()
    assert not (tmp_path / "default" / "hub").exists()


@pytest.mark.long
def test_real_photos_through_the_card(vit_tiny: Path, photos: list[Path]) -> None:
    model = weevit.create_model(f"local-dir:{vit_tiny}", pretrained=True).eval()
    transform = weevit.data.create_transform(**weevit.data.resolve_model_data_config(model), is_training=False)
    truth, top5 = [], []
    with torch.inference_mode():
        for start in range(0, len(photos), 20):
            batch = photos[start : start + 20]
            output = model(torch.stack([transform(Image.open(path)) for path in batch]))
            top5 += torch.topk(output.softmax(dim=1) * 100, k=5).indices.tolist()
            truth += [path.name.partition("_")[0] for path in batch]
    ids = model.pretrained_cfg["label_names"]
    named = [[ids[index] for index in own] for own in top5]
    assert sum(own[0] == true for own, true in zip(named, truth, strict=True)) == 413
    assert sum(true in own for own, true in zip(named, truth, strict=True)) == 478


@pytest.mark.parametrize("size", [64, (64, 64), (3, 64, 64)])
def test_the_size_of_a_transform_in_every_spelling(size: int | tuple[int, ...]) -> None:
    config = {"interpolation": "bicubic", "mean": (0.5,) * 3, "std": (0.5,) * 3, "crop_pct": 1.0, "crop_mode": "center"}
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 100, 3), np.uint8))
    found = weevit.data.create_transform(size, **config)(image)
    assert torch.equal(found, weevit.data.create_transform((3, 64, 64), **config)(image))
    assert found.shape == (3, 64, 64)


@pytest.mark.parametrize(
    ("args", "size"),
    [
        ({"img_size": 96}, (3, 96, 96)),
        ({"img_size": 96, "in_chans": 1}, (1, 96, 96)),
        ({"img_size": 96, "input_size": (3, 32, 64)}, (3, 32, 64)),
        ({"img_size": None}, (3, 64, 64)),
    ],
)
def test_sizes_as_on_timms_command_lines(args: dict[str, Any], size: tuple[int, ...]) -> None:
    config = {"interpolation": "bicubic", "mean": (0.5,) * 3, "std": (0.5,) * 3, "crop_pct": 1.0, "crop_mode": "center"}
    own = {"input_size": (3, 64, 64), **config}
    assert weevit.data.resolve_data_config(args, own)["input_size"] == size
    theirs = pytest.importorskip("timm").data.resolve_data_config(args, own)
    assert weevit.data.resolve_data_config(args, own)["input_size"] == theirs["input_size"]
