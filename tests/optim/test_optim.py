"""Optimisers and parameter groups against timm's, step by step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402 - after the skip

from weevit.nn.vit import Options, VisionTransformer  # noqa: E402
from weevit.optim import nadamw as nadamw_module  # noqa: E402
from weevit.optim.nadamuon import NAdaMuon, is_matrix  # noqa: E402
from weevit.optim.nadamw import NAdamW, chunks  # noqa: E402
from weevit.optim.optimizer import clip_gradients, create_optimizer, param_groups, set_rate  # noqa: E402
from weevit.recipes.schema import LoopPart, OptimPart, Recipe  # noqa: E402
from weevit.zoo.architectures import get_architecture  # noqa: E402

SHAPES = [(5,), (7, 9), (1, 4, 6), (8, 3, 4, 4), (300, 4), (600, 4), (3, 50), (1, 1, 8)]
SETTINGS = {"betas": (0.9, 0.98), "eps": 1e-8, "weight_decay": 0.06}
KINDS = [
    "vit_tiny_patch16_224",
    "vit_wee_patch16_reg1_gap_256",
    "vit_dwee_patch16_reg1_gap_256",
    "vit_pwee_patch16_reg1_gap_256",
    "vit_dpwee_patch16_reg1_gap_256",
    "vit_so150m_patch16_reg4_gap_256",
    "vit_so150m2_patch16_reg1_gap_256",
    "vit_medium_patch16_rope_reg1_gap_256",
    "vit_mediumd_patch16_rope_reg1_gap_256",
]


def parameters(seed: int = 0) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


def drive(optimizer: Any, tensors: list[nn.Parameter], steps: range) -> None:
    """Random gradients that shrink over four orders of magnitude, a rate that moves, a parameter that rests."""
    for step in steps:
        generator = torch.Generator().manual_seed(100 + step)
        for index, parameter in enumerate(tensors):
            gradient = torch.randn(parameter.shape, generator=generator) * 10 ** (-step / 10)
            parameter.grad = None if index == 1 and step % 3 == 2 else gradient
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (1 + step % 5)
        optimizer.step()


def theirs(name: str) -> Callable[[list[nn.Parameter]], Any]:
    optim = pytest.importorskip("timm.optim")
    if name == "nadamuon":
        return lambda tensors: optim.Muon(tensors, lr=1e-3, algo="adamuon", nesterov=True, **SETTINGS)
    return lambda tensors: optim.NAdamW(tensors, lr=1e-3, **SETTINGS)


OURS = {"nadamw": NAdamW, "nadamuon": NAdaMuon}


@pytest.mark.oracle
@pytest.mark.parametrize("name", OURS)
def test_forty_steps_give_the_numbers_of_timm(name: str) -> None:
    ours, other = parameters(), parameters()
    drive(OURS[name](ours, lr=1e-3, **SETTINGS), ours, range(40))
    drive(theirs(name)(other), other, range(40))
    for own, expected in zip(ours, other, strict=True):
        assert torch.allclose(own, expected, rtol=0, atol=1e-6 * float(expected.detach().abs().max()))


def test_nadamw_is_not_torch_s_nadam() -> None:
    ours, other = parameters(), parameters()
    drive(NAdamW(ours, lr=1e-3, **SETTINGS), ours, range(40))
    drive(torch.optim.NAdam(other, lr=1e-3, decoupled_weight_decay=True, **SETTINGS), other, range(40))
    assert any(float((own - got).detach().abs().max()) > 1e-3 for own, got in zip(ours, other, strict=True))


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, cut = parameters(), parameters()
    drive(NAdamW(whole, **SETTINGS), whole, range(5))
    monkeypatch.setattr(nadamw_module.chunks, "__defaults__", (20,))
    drive(NAdamW(cut, **SETTINGS), cut, range(5))
    assert all(torch.equal(a, b) for a, b in zip(whole, cut, strict=True))


def test_chunks_hold_every_parameter_once() -> None:
    tensors = parameters()
    found = list(chunks(tensors, 70))
    assert [tensor for chunk in found for tensor in chunk] == tensors
    assert all(len(chunk) == 1 or sum(t.numel() for t in chunk) <= 70 for chunk in found)
    assert list(chunks([])) == []


@pytest.mark.parametrize("name", ["nadamw", "nadamuon", "adamw"])
def test_a_state_dict_goes_on_with_the_same_bits(name: str) -> None:
    make = {**OURS, "adamw": lambda tensors, **settings: torch.optim.AdamW(tensors, fused=True, **settings)}[name]
    straight, broken = parameters(), parameters()
    drive(make(straight, **SETTINGS), straight, range(20))
    first = make(broken, **SETTINGS)
    drive(first, broken, range(9))
    copies = [nn.Parameter(parameter.detach().clone()) for parameter in broken]
    second = make(copies, **SETTINGS)
    second.load_state_dict(first.state_dict())
    drive(second, copies, range(9, 20))
    assert all(torch.equal(a, b) for a, b in zip(straight, copies, strict=True))


def test_a_closure_is_called_for_the_loss() -> None:
    for cls in OURS.values():
        tensors = parameters()
        optimizer = cls(tensors, lr=1e-3)

        def closure(tensors: list[nn.Parameter] = tensors) -> Any:
            total = sum((tensor**2).sum() for tensor in tensors)
            total.backward()
            return total.detach()

        before = optimizer.step(closure)
        optimizer.zero_grad()
        assert float(before) > float(closure())


def test_which_parameters_are_matrices() -> None:
    found = {shape: is_matrix(torch.zeros(shape)) for shape in SHAPES}
    assert [shape for shape, matrix in found.items() if matrix] == [(7, 9), (8, 3, 4, 4), (300, 4)]


@pytest.mark.oracle
def test_matrices_are_those_of_timm() -> None:
    suitable = pytest.importorskip("timm.optim.muon")._is_suitable_for_muon
    for shape in [*SHAPES, (4, 512), (4, 513), (192, 3, 16, 16), (64, 1, 3, 3), (1000, 192), (2, 5)]:
        assert is_matrix(torch.zeros(shape)) == suitable(torch.zeros(shape)), shape


# ---- groups


def model(name: str, depth: int = 3) -> VisionTransformer:
    with torch.device("meta"):
        return VisionTransformer(replace(get_architecture(name), depth=depth), Options(num_classes=10))


def of_timm(name: str, layer_decay: float | None, registers: str) -> dict[str, tuple[float, float]]:
    """Parameter name -> (weight decay, rate's factor) of timm's own optimiser factory."""
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        module = timm.create_model(name, depth=3, num_classes=10)
    if registers == "as_published":  # what `no_weight_decay` said before timm 1.0.29
        module.no_weight_decay = lambda: {"pos_embed", "cls_token", "dist_token"}
    optimizer = timm.optim.create_optimizer_v2(module, "nadamw", lr=1.0, weight_decay=0.05, layer_decay=layer_decay)
    names = {parameter: name for name, parameter in module.named_parameters()}
    return {
        names[parameter]: (group["weight_decay"], group.get("lr_scale", 1.0))
        for group in optimizer.param_groups
        for parameter in group["params"]
    }


@pytest.mark.oracle
@pytest.mark.parametrize("registers", ["as_published", "fixed"])
@pytest.mark.parametrize("layer_decay", [None, 0.75])
@pytest.mark.parametrize("name", KINDS)
def test_groups_are_those_of_timm(name: str, layer_decay: float | None, registers: Any) -> None:
    groups = param_groups(model(name), 0.05, layer_decay, registers)
    found = {each: (group["weight_decay"], group["lr_scale"]) for group in groups for each in group["names"]}
    assert found == of_timm(name, layer_decay, registers)


def test_registers_are_decayed_as_published_or_not() -> None:
    for registers, expected in (("as_published", 0.05), ("fixed", 0.0)):
        groups = param_groups(model("vit_wee_patch16_reg1_gap_256"), 0.05, registers=registers)  # type: ignore[arg-type]
        assert [group["weight_decay"] for group in groups if "reg_token" in group["names"]] == [expected]


def test_frozen_parameters_are_in_no_group() -> None:
    module = model("vit_tiny_patch16_224")
    module.blocks[0].requires_grad_(False)
    names = [name for group in param_groups(module, 0.05, 0.75) for name in group["names"]]
    assert not any(name.startswith("blocks.0.") for name in names)
    assert len(names) == len([p for p in module.parameters() if p.requires_grad])


@pytest.mark.parametrize("name", ["nadamw", "adamw", "nadamuon"])
def test_a_recipe_s_optimiser_has_its_settings_and_every_group_its_share_of_the_rate(name: Any) -> None:
    module = VisionTransformer(replace(get_architecture("vit_micro_patch16_reg1_gap_64"), depth=2))
    part = OptimPart(name=name, base_lr=8e-4, betas=(0.8, 0.99), layer_decay=0.5, weight_decay=0.1)
    optimizer = create_optimizer(module, Recipe(optim=part, loop=LoopPart(batch_size=128)))
    assert {group["lr"] / group["lr_scale"] for group in optimizer.param_groups} == {4e-4}  # a quarter of the batch
    assert {group["betas"] for group in optimizer.param_groups} == {(0.8, 0.99)}
    set_rate(optimizer, 1e-3)
    assert sorted({group["lr"] for group in optimizer.param_groups}) == [1.25e-4, 2.5e-4, 5e-4, 1e-3]
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert set(optimizer.state) == set(module.parameters())


# ---- clipping


@pytest.mark.oracle
@pytest.mark.parametrize(("clip", "mode"), [(0.5, "norm"), (1e6, "norm"), (0.01, "value"), (None, "norm")])
def test_clipping_is_that_of_timm(clip: float | None, mode: Any) -> None:
    dispatch = pytest.importorskip("timm.utils").dispatch_clip_grad
    ours, other = parameters(), parameters()
    for own, expected in zip(ours, other, strict=True):
        own.grad, expected.grad = own.detach().clone(), expected.detach().clone()
    if clip is not None:
        dispatch(other, clip, mode)
    norm = clip_gradients(ours, OptimPart(clip=clip, clip_mode=mode))
    assert float(norm) == pytest.approx(sum(float((p.detach() ** 2).sum()) for p in ours) ** 0.5, rel=1e-6)
    assert all(torch.equal(own.grad, expected.grad) for own, expected in zip(ours, other, strict=True))


def test_the_norm_says_what_is_not_finite() -> None:
    tensors = parameters()
    tensors[0].grad = torch.full_like(tensors[0], float("nan"))
    assert not torch.isfinite(clip_gradients(tensors, OptimPart()))
