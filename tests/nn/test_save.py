"""`weevit.save`: wrapped and compiled modules, heads set by hand, any number of channels, class names in words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

import weevit  # noqa: E402 - after the skip
from weevit.images.preprocess import preprocess  # noqa: E402
from weevit.zoo.labels import imagenet_labels  # noqa: E402
from weevit.zoo.layout import from_timm_name  # noqa: E402

DIGITS = "vit_micro_patch16_reg1_gap_64"


def micro(**options: Any) -> Any:
    torch.manual_seed(0)
    return weevit.create_model("digits", **options)


def answers(model: Any, channels: int = 3) -> Any:
    x = torch.randn(2, channels, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return model.eval()(x)


def distributed(model: Any, folder: Path) -> Any:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder / 'store'}", rank=0, world_size=1)
    try:
        return torch.nn.parallel.DistributedDataParallel(model)
    finally:
        torch.distributed.destroy_process_group()


def compiled_blocks(model: Any, folder: Path) -> Any:
    for index, block in enumerate(model.blocks):
        model.blocks[index] = torch.compile(block, backend="eager")
    return model


class Doubled(torch.nn.Linear):
    def forward(self, x: Any) -> Any:
        return super().forward(x) * 2


class Tempered(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.temperature = torch.nn.Linear(64, 10), torch.nn.Parameter(torch.tensor(3.0))

    def forward(self, x: Any) -> Any:
        return self.linear(x) * self.temperature


WRAPPERS: dict[str, Callable[[Any, Path], Any]] = {
    "compiled": lambda model, _: torch.compile(model, backend="eager"),
    "distributed": distributed,
    "data parallel": lambda model, _: torch.nn.DataParallel(model),
    "averaged": lambda model, _: torch.optim.swa_utils.AveragedModel(model),
    "compiled and averaged": lambda model, _: torch.optim.swa_utils.AveragedModel(torch.compile(model)),
    "compiled blocks": compiled_blocks,
}


@pytest.mark.filterwarnings("ignore")  # what torch says of its own wrappers
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_wrapped_module_is_saved_as_what_it_is(wrapper: str, tmp_path: Path) -> None:
    model = micro()
    expected = answers(model)
    weevit.save(WRAPPERS[wrapper](model, tmp_path), tmp_path / "m", class_names=list("abcdefghij"))
    again = weevit.create_model(str(tmp_path / "m"), pretrained=True)
    assert torch.equal(answers(again), expected)


@pytest.mark.parametrize(
    ("head", "classes"),
    [
        (lambda: torch.nn.Linear(64, 7), 7),
        (lambda: torch.nn.Linear(64, 7, bias=False), 7),
        (lambda: torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(64, 3)), 3),
        (torch.nn.Identity, 0),
    ],
)
def test_a_head_set_by_hand(head: Callable[[], Any], classes: int, tmp_path: Path) -> None:
    model = micro()
    model.head = head()
    expected = answers(model)
    names = [f"class {index}" for index in range(classes)]
    checkpoint = weevit.save(model, tmp_path / "m", class_names=names or None)
    assert checkpoint.num_classes == classes
    assert torch.equal(answers(weevit.create_model(str(tmp_path / "m"), pretrained=True)), expected)
    assert classes == 0 or [label.id for label in checkpoint.labels or ()] == names


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: setattr(m, "head", torch.nn.Sequential(torch.nn.Linear(64, 8), torch.nn.Linear(8, 3))), "room for"),
        (lambda m: setattr(m, "head", torch.nn.Sequential(torch.nn.Linear(64, 8), torch.nn.ReLU())), "ReLU"),
        (lambda m: setattr(m, "blocks", m.blocks[:2]), "- blocks.2.norm1.weight"),
        (lambda m: setattr(m.blocks[0].attn, "norm", torch.nn.LayerNorm(64)), r"\+ blocks.0.attn.norm.weight"),
        (lambda m: setattr(m, "head", Tempered()), "Tempered, Linear"),
        (lambda m: setattr(m, "head", Doubled(64, 10)), "Doubled"),
        (lambda m: setattr(m.blocks[0].mlp, "act", torch.nn.ReLU()), r"blocks.0.mlp.act is ReLU\(\) in .* GELU"),
        (lambda m: setattr(m.fc_norm, "eps", 1e-2), "fc_norm is LayerNorm.*eps=0.01"),
        (lambda m: setattr(m, "norm_pre", torch.nn.GroupNorm(1, 17, affine=False)), "norm_pre is .* an identity in"),
        (lambda m: setattr(m.blocks[1].attn, "q_norm", torch.nn.Tanh()), "q_norm is Tanh"),
        (lambda m: m.pretrained_cfg.pop("mean"), "lacks mean"),
        (lambda m: m.pretrained_cfg.update(std=(0.1, 0.2, 0.3, 0.4)), "3 numbers, or one"),
        (lambda m: m.pretrained_cfg.update(mean=("a", "b", "c")), "3 numbers, or one"),
    ],
)
def test_what_the_format_has_no_place_for(change: Callable[[Any], None], message: str, tmp_path: Path) -> None:
    model = micro()
    change(model)
    with pytest.raises(weevit.UsageError, match=message):
        weevit.save(model, tmp_path / "m")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("names", "message"),
    [("abcdefghij", "a list of names"), (["\ud800", *"abcdefghi"], "half a character"), (iter("abc"), "3 class names")],
)
def test_class_names_that_no_file_may_hold(names: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(weevit.WeevitError, match=message):
        weevit.save(micro(), tmp_path / "m", class_names=names)
    assert not (tmp_path / "m").exists()


def test_what_only_training_uses_may_differ(tmp_path: Path) -> None:
    model = micro(drop_rate=0.1, drop_path_rate=0.2, proj_drop_rate=0.3)
    model.norm_pre = torch.nn.Dropout(0.1)
    model.pretrained_cfg.update(mean=np.full(3, 0.25), std=torch.full((3,), 0.5))
    checkpoint = weevit.save(model, tmp_path / "m", class_names=iter("abcdefghij"))
    assert checkpoint.preprocessing.mean == (0.25, 0.25, 0.25)


def test_a_stranger_is_refused(tmp_path: Path) -> None:
    with pytest.raises(weevit.UsageError, match="Linear is neither"):
        weevit.save(torch.nn.Linear(2, 2), tmp_path / "m")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 16])
def test_any_number_of_channels_comes_back(channels: int, tmp_path: Path) -> None:
    model = micro(in_chans=channels)
    expected = answers(model, channels)
    checkpoint = weevit.save(model, tmp_path / "m", class_names=list("abcdefghij"))
    assert checkpoint.in_chans == model.in_chans == channels
    again = weevit.create_model(str(tmp_path / "m"), pretrained=True)
    assert torch.equal(answers(again, channels), expected)
    assert weevit.data.resolve_model_data_config(again)["input_size"] == (channels, 64, 64)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_arrays_of_any_number_of_channels_are_answered(channels: int, engine: Any, tmp_path: Path) -> None:
    """As the module answers them, and each channel is resized as that of an RGB image is."""
    if engine == "openvino":
        pytest.importorskip("openvino")
    module = micro(in_chans=channels).eval()
    weevit.save(module, tmp_path / "m", class_names=list("abcdefghij"))
    model = weevit.load(tmp_path / "m", engine=engine, cache=False)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 90, 70, channels), dtype=np.uint8)
    spec = model.preprocessing
    planes = np.stack([np.dstack([one, one, one])[..., :3] for one in pixels.transpose(0, 3, 1, 2).reshape(-1, 90, 70)])
    cut = np.stack([preprocess(Image.fromarray(one), spec)[..., 0] for one in planes])
    seen = torch.from_numpy(cut.reshape(5, channels, spec.height, spec.width)).float() / 255
    mean, std = (torch.tensor(values)[:, None, None] for values in spec.of_channels(channels))
    with torch.no_grad():
        expected = module((seen - mean) / std).numpy()
    results = model.run(list(pixels))
    assert [(result.status, result.width, result.height) for result in results] == [("ok", 70, 90)] * 5
    assert np.abs(np.stack([result.logits for result in results]) - expected).max() < 1e-4
    assert len({result.logits.tobytes() for result in results}) == 5
    assert model.forward(np.moveaxis(cut.reshape(5, channels, spec.height, spec.width), 1, 3))["logits"].shape == (
        5,
        10,
    )


def test_what_has_other_channels_than_the_model_is_told(tmp_path: Path) -> None:
    weevit.save(micro(in_chans=4), tmp_path / "m")
    model = weevit.load(tmp_path / "m", cache=False)
    Image.new("RGB", (80, 80)).save(tmp_path / "a.png")
    good = np.zeros((80, 80, 4), np.uint8)
    results = model.run([good, tmp_path / "a.png", tmp_path / "gone.png", Image.new("RGB", (80, 80)), good])
    assert [result.status for result in results] == ["ok", "unsupported", "unsupported", "unsupported", "ok"]
    assert "a uint8 array (H, W, 4)" in results[1].error
    for wrong in (good[..., :3], good[..., 0], good.astype(np.float32), good[:0]):
        with pytest.raises(weevit.UsageError, match="no image for a model of 4 channels"):
            model.run(wrong)
    small = weevit.load(tmp_path / "m", cache=False, limits=weevit.Limits(max_pixels=100))
    assert small.run(good).status == "too_large"


def test_one_channel_may_be_left_out_of_the_shape(tmp_path: Path) -> None:
    weevit.save(micro(in_chans=1), tmp_path / "m")
    with weevit.load(tmp_path / "m", cache=False) as model:
        grey = np.random.default_rng(0).integers(0, 256, (80, 80), dtype=np.uint8)
        assert np.array_equal(model.embed(grey), model.embed(grey[..., None]))


@pytest.mark.oracle
def test_transformers_answers_in_words(tmp_path: Path, fake_tiny: Path) -> None:
    transformers = pytest.importorskip("transformers")
    model = weevit.create_model(str(fake_tiny), pretrained=True)
    checkpoint = weevit.save(model, tmp_path / "m")
    assert checkpoint.labels == imagenet_labels(1000)  # with ids and words, as before
    config = transformers.AutoConfig.from_pretrained(tmp_path / "m")
    assert config.id2label[285] == "Egyptian cat"
    again = weevit.create_model(str(tmp_path / "m"), pretrained=True)
    assert again.pretrained_cfg["label_names"][285] == "n02124075"


def test_lightnings_word_in_front_of_the_names(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    weevit.save(micro(), tmp_path / "m", class_names=list("abcdefghij"))
    expected = answers(weevit.create_model(str(tmp_path / "m"), pretrained=True))
    tensors = load_file(tmp_path / "m" / "model.safetensors")
    (tmp_path / "m" / "weevit-manifest.json").unlink()
    save_file({f"model._orig_mod.{name}": np.array(own) for name, own in tensors.items()},
              tmp_path / "m" / "model.safetensors")  # fmt: skip
    assert torch.equal(answers(weevit.create_model(str(tmp_path / "m"), pretrained=True)), expected)
    arch = weevit.create_model("digits").arch
    assert from_timm_name("model.head.weight", arch) == "head.weight"


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(weevit.OutputError, match=r"file/m cannot be written: Not a directory\."):
        weevit.save(micro(), tmp_path / "file" / "m")


def test_an_address_is_no_folder_and_a_tilde_is_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for folder, said in (("s3://bucket/m", "is an address"), ("", "an empty one was given"), ("m\0", "NUL")):
        with pytest.raises(weevit.UsageError, match=said):
            weevit.save(micro(), folder)
    assert list(tmp_path.iterdir()) == []
    assert weevit.save(micro(), "~/m").path == tmp_path / "home" / "m" / "model.safetensors"
