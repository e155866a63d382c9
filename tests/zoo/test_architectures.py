"""Every row of the family against timm's own model: tensor names and shapes, one by one."""

from __future__ import annotations

import pytest

from weevit.errors import UnknownModelError
from weevit.zoo.architectures import ARCHITECTURES, NORM_EPS, PATCH, get_architecture
from weevit.zoo.layout import from_timm_name, tensor_shapes, to_timm_name


@pytest.fixture(scope="module")
def create_on_meta():
    """timm's model of that name without memory for its weights."""
    timm, torch = pytest.importorskip("timm"), pytest.importorskip("torch")
    import timm_rows  # noqa: F401  (weevit's own row)

    def create(name: str, **kwargs: object):
        with torch.device("meta"):
            return timm.create_model(name, **kwargs)

    return create


@pytest.mark.oracle
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_names_and_shapes_are_those_of_timm(name: str, create_on_meta) -> None:
    arch = get_architecture(name)
    model = create_on_meta(name, num_classes=1000)
    theirs = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    ours = {to_timm_name(key, arch): shape for key, shape in tensor_shapes(arch, 1000).items()}
    assert ours == theirs
    assert model.pretrained_cfg["input_size"][1:] == (arch.img_size, arch.img_size)
    assert (model.global_pool, model.num_prefix_tokens) == (arch.pool, arch.num_prefix)
    norm = model.norm if arch.norm == "before_pool" else model.fc_norm
    assert norm.eps == NORM_EPS


@pytest.mark.oracle
def test_variants_of_a_row_are_those_of_timm(create_on_meta) -> None:
    model = create_on_meta("vit_tiny_patch16_224", num_classes=0, img_size=(256, 384), in_chans=1)
    theirs = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    arch = get_architecture("vit_tiny_patch16_224")
    assert tensor_shapes(arch, 0, (16, 24), 1) == theirs


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_names_go_there_and_back(name: str) -> None:
    arch = get_architecture(name)
    for tensor in tensor_shapes(arch, 10):
        theirs = to_timm_name(tensor, arch)
        assert from_timm_name(f"module._orig_mod.{theirs}", arch) == tensor


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_widths_divide(name: str) -> None:
    arch = get_architecture(name)
    assert arch.head_dim * arch.num_heads == arch.embed_dim
    assert arch.img_size % PATCH == 0


def test_unknown_names_are_told_the_nearest() -> None:
    with pytest.raises(UnknownModelError, match="vit_pwee_patch16_reg1_gap_256"):
        get_architecture("vit_pwe_patch16_reg1_gap_256")
