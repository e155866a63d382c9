"""Parameters, multiply-accumulates and activations against a count of what timm's models really run."""

from __future__ import annotations

import csv
from pathlib import Path

import fakes
import pytest

from weevit.zoo.architectures import ARCHITECTURES, get_architecture
from weevit.zoo.counts import count

PWEE = count(get_architecture("vit_pwee_patch16_reg1_gap_256"), 1000)


def test_the_published_figures_of_pwee() -> None:
    assert PWEE.params == 15_253_480
    assert (round(PWEE.gmacs, 2), round(PWEE.gmacs_linear, 2)) == (4.37, 3.82)
    assert (round(PWEE.mactivations, 2), round(PWEE.mactivations_linear, 1)) == (15.87, 10.6)


def test_parameters_are_those_of_the_facts(shared: Path) -> None:
    with (shared / "facts" / "weights.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["name"] for row in rows} == set(fakes.PUBLISHED)
    for row in rows:
        weight = fakes.PUBLISHED[row["name"]]
        assert count(weight.architecture, weight.num_classes).params == int(row["params"]), row["name"]


def counted(model, size: int) -> dict[str, int]:
    """Run a model on the meta device and add up what each operator does."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    totals = dict.fromkeys(
        ("linear_macs", "attention_macs", "norm_macs", "linear_activations", "attention_activations"), 0
    )

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            kind = func.overloadpacket.__name__
            if kind in ("addmm", "mm"):
                left = args[1] if kind == "addmm" else args[0]
                totals["linear_macs"] += out.numel() * left.shape[-1]
                totals["linear_activations"] += out.numel()
            elif kind == "convolution":
                totals["linear_macs"] += out.numel() * args[1][0].numel()
                totals["linear_activations"] += out.numel()
            elif kind == "bmm":
                totals["attention_macs"] += out.numel() * args[0].shape[-1]
                totals["attention_activations"] += out.numel()
            elif kind == "native_layer_norm":
                totals["norm_macs"] += 5 * out[0].numel()
            return out

    with torch.no_grad(), Count():
        model(torch.empty(1, 3, size, size, device="meta"))
    return totals


@pytest.mark.oracle
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_counts_are_those_of_a_run(name: str) -> None:
    timm, torch = pytest.importorskip("timm"), pytest.importorskip("torch")
    import timm_rows  # noqa: F401  (weevit's own row)

    arch = get_architecture(name)
    fused = timm.layers.config.use_fused_attn()
    timm.layers.set_fused_attn(False)  # a fused kernel would hide the two products
    try:
        with torch.device("meta"):
            model = timm.create_model(name, num_classes=1000).eval()
        totals = counted(model, arch.img_size)
    finally:
        timm.layers.set_fused_attn(bool(fused))
    ours = count(arch, 1000)
    assert sum(p.numel() for p in model.parameters()) == ours.params
    assert {key: getattr(ours, key) for key in totals} == totals
