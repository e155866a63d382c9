"""Every module that holds a parameter is called: LoRA, hooks and quantisation have the effect they have in timm."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import oracle
import pytest

torch = pytest.importorskip("torch")

import weevit  # noqa: E402 - after the skip
from weevit.nn.vit import Options, VisionTransformer  # noqa: E402
from weevit.zoo.architectures import ARCHITECTURES, get_architecture  # noqa: E402

TINY = "vit_tiny_patch16_224"
ROPE = "vit_medium_patch16_rope_reg1_gap_256"


def small(name: str, **options: Any) -> Any:
    row = replace(get_architecture(name), depth=2)
    return VisionTransformer(row, Options(num_classes=5, img_size=(32, 48), **options))


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("fused", [True, False])
def test_every_module_with_a_parameter_is_called(name: str, fused: bool) -> None:
    model = small(name)
    called = []
    for path, module in model.named_modules():
        if path.endswith("attn") or "block" in type(module).__name__.lower():
            module.fused_attn = fused
        module.register_forward_hook(lambda _module, _inputs, _output, path=path: called.append(path))
    model(torch.zeros(1, 3, 32, 48))
    # Dropout of attention maps is part of the fused kernel, as in timm; a list of blocks is not a module to be called.
    silent = ("attn_drop",) if fused else ()
    expected = [path for path, module in model.named_modules() if not path.endswith(silent) or not silent]
    if get_architecture(name).position == "rope":
        expected.remove("blocks")
    assert sorted(called) == sorted(expected)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_no_forward_reads_a_childs_weight(name: str) -> None:
    """A child that is replaced by another callable is enough: nothing asks for `.weight` or `.bias`."""

    class Wrapped(torch.nn.Module):
        def __init__(self, layer: Any) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, *inputs: Any) -> Any:
            return self.layer(*inputs) + 1e-3

    torch.manual_seed(0)
    model = small(name)
    x = torch.randn(1, 3, 32, 48)
    before = model(x)
    for path, layer in list(model.named_modules()):
        if isinstance(layer, torch.nn.Linear) and path != "head":
            parent, _, last = path.rpartition(".")
            setattr(model.get_submodule(parent), last, Wrapped(layer))
    assert (model(x) != before).any()


@pytest.mark.oracle
@pytest.mark.parametrize("name", [TINY, "vit_dwee_patch16_reg1_gap_256"])
def test_lora_learns_as_with_timm(name: str) -> None:
    peft = pytest.importorskip("peft")
    timm = pytest.importorskip("timm")
    config = peft.LoraConfig(r=4, target_modules=["qkv"], init_lora_weights=False)
    torch.manual_seed(0)
    theirs = peft.get_peft_model(timm.create_model(name, num_classes=3), config)
    ours = peft.get_peft_model(weevit.create_model(name, num_classes=3), config)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    side = get_architecture(name).img_size
    x = torch.randn(1, 3, side, side)
    for model in (ours, theirs):
        model(x).square().sum().backward()
    gradients = {key: own.grad for key, own in theirs.named_parameters() if own.requires_grad}
    learned = {key: own.grad for key, own in ours.named_parameters() if own.requires_grad}
    assert set(learned) == set(gradients)
    assert len(learned) == 2 * get_architecture(name).depth
    assert all(own is not None and float(own.abs().max()) > 0 for own in learned.values())
    most = max(float(own.abs().max()) for own in gradients.values())
    assert all(float((own - gradients[key]).abs().max()) < 1e-4 * most for key, own in learned.items())


def test_lora_learns_where_biases_are_kept_apart() -> None:
    """timm's RoPE models read `qkv.weight` themselves, and LoRA learns nothing there."""
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(small(ROPE), peft.LoraConfig(r=4, target_modules=["qkv"], init_lora_weights=False))
    model(torch.randn(1, 3, 32, 48)).square().sum().backward()
    learned = [own.grad for own in model.parameters() if own.requires_grad]
    assert len(learned) == 4
    assert all(own is not None and float(own.abs().max()) > 0 for own in learned)


@pytest.mark.oracle
def test_dynamic_quantisation_is_timms() -> None:
    timm = pytest.importorskip("timm")
    theirs = oracle.timm_model(replace(get_architecture(TINY), depth=2))
    ours = VisionTransformer(replace(get_architecture(TINY), depth=2), Options(num_classes=oracle.NUM_CLASSES)).eval()
    ours.load_state_dict(theirs.state_dict())
    assert timm.__version__
    answers = []
    for model in (ours, theirs):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch announces its successor
            model = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
            with torch.inference_mode():
                answers.append(model(torch.linspace(-1, 1, 3 * 224 * 224).view(1, 3, 224, 224)))
        assert "quantized" in str(type(model.blocks[0].attn.qkv))
    assert torch.equal(*answers)


@pytest.mark.parametrize("name", [ROPE, "vit_dpwee_patch16_reg1_gap_256"])
def test_dynamic_quantisation_runs(name: str) -> None:
    model = small(name).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
        with torch.inference_mode():
            assert model(torch.zeros(1, 3, 32, 48)).isfinite().all()


@pytest.mark.oracle
@pytest.mark.parametrize("name", [TINY, "vit_dwee_patch16_reg1_gap_256", "vit_pwee_patch16_reg1_gap_256", ROPE])
def test_attention_maps_by_a_hook_are_timms(name: str) -> None:
    """`fused_attn = False` and a hook on `attn_drop`: how attention maps are usually taken from timm's models."""
    pytest.importorskip("timm")
    row = replace(get_architecture(name), depth=2)
    theirs = oracle.timm_model(row)
    ours = VisionTransformer(row, Options(num_classes=oracle.NUM_CLASSES)).eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(1, 3, 32, 48)
    seen: list[list[Any]] = []
    for model in (ours, theirs):
        maps: list[Any] = []
        model.set_input_size((32, 48))
        for module in model.modules():
            if hasattr(module, "fused_attn"):
                module.fused_attn = False
                module.attn_drop.register_forward_hook(lambda _module, _inputs, output, maps=maps: maps.append(output))
        with torch.inference_mode():
            model(x)
        seen.append(maps)
    assert len(seen[0]) == 2
    assert all(oracle.difference(a.numpy(), b.numpy()) < 1e-5 for a, b in zip(*seen, strict=True))
