"""Losses against timm's and PyTorch's."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from weevit.training.loss import class_weights, loss, shares, soft_targets  # noqa: E402 - after the skip
from weevit.training.schema import LossPart  # noqa: E402

B, K = 12, 7


def logits() -> Any:
    return 3 * torch.randn(B, K, generator=torch.Generator().manual_seed(0))


def classes() -> Any:
    return torch.randint(K, (B,), generator=torch.Generator().manual_seed(1))


def mixed(smoothing: float) -> Any:
    """What timm's mixup makes of `classes`, 0.3 of each with 0.7 of its mirror image."""
    mixup_target = pytest.importorskip("timm.data.mixup").mixup_target
    return mixup_target(classes(), K, 0.3, smoothing)


@pytest.mark.oracle
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_of_classes_and_of_mixtures(smoothing: float) -> None:
    theirs = pytest.importorskip("timm.loss")
    part = LossPart(smoothing=smoothing)
    hard = theirs.LabelSmoothingCrossEntropy(smoothing)(logits(), classes())
    assert loss(logits(), classes(), part).item() == pytest.approx(hard.item(), rel=1e-6)
    soft = theirs.SoftTargetCrossEntropy()(logits(), mixed(smoothing))
    assert loss(logits(), mixed(0.0), part).item() == pytest.approx(soft.item(), rel=1e-6)


@pytest.mark.oracle
@pytest.mark.parametrize("sum_classes", [False, True])
@pytest.mark.parametrize("threshold", [None, 0.2])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_binary_cross_entropy(smoothing: float, threshold: float | None, sum_classes: bool) -> None:
    theirs = pytest.importorskip("timm.loss").BinaryCrossEntropy(
        smoothing=smoothing, target_threshold=threshold, sum_classes=sum_classes
    )
    part = LossPart(kind="bce", smoothing=smoothing, target_threshold=threshold, sum=sum_classes)
    assert loss(logits(), classes(), part).item() == pytest.approx(theirs(logits(), classes()).item(), rel=1e-6)
    of_mixture = theirs(logits(), mixed(smoothing))
    assert loss(logits(), mixed(0.0), part).item() == pytest.approx(of_mixture.item(), rel=1e-6)


@pytest.mark.oracle
def test_binary_cross_entropy_of_labels() -> None:
    labels = (torch.rand(B, K, generator=torch.Generator().manual_seed(2)) < 0.3).to(torch.uint8)
    theirs = pytest.importorskip("timm.loss").BinaryCrossEntropy(smoothing=0.1, smooth_dense=True)
    found = loss(logits(), labels, LossPart(kind="bce", smoothing=0.1), multi_label=True)
    assert found.item() == pytest.approx(theirs(logits(), labels.float()).item(), rel=1e-6)


def test_class_weights() -> None:
    targets = torch.tensor([0] * 6 + [1] * 3 + [3])
    weights = class_weights(targets, 4)
    assert weights.tolist() == pytest.approx([10 / 24, 10 / 12, 0.0, 10 / 4])
    few = logits()[:10, :4]
    wanted = torch.nn.functional.one_hot(targets, 4).float()
    expected = torch.nn.functional.cross_entropy(few, wanted, weight=weights)  # of shares: not divided by weights
    assert loss(few, targets, LossPart(smoothing=0.0), weights=weights).item() == pytest.approx(expected.item())


def test_half_precision_is_reckoned_in_float32() -> None:
    half = logits().half()
    assert loss(half, classes(), LossPart()).dtype == torch.float32
    assert loss(half, classes(), LossPart()).item() == loss(half.float(), classes(), LossPart()).item()


def test_a_threshold_brings_mixtures_back_to_labels() -> None:
    part = LossPart(kind="bce", smoothing=0.0, target_threshold=0.2)
    found = soft_targets(torch.tensor([[0.75, 0.25, 0.0], [0.9, 0.1, 0.0]]), 3, part)
    assert found.tolist() == [[1, 1, 0], [1, 0, 0]]


@pytest.mark.parametrize(("batch", "pieces"), [(12, 1), (12, 3), (10, 4), (3, 8), (7, 7)])
def test_pieces_add_up_to_the_batch(batch: int, pieces: int) -> None:
    weight = torch.randn(K, K, generator=torch.Generator().manual_seed(3), requires_grad=True)
    x, y = logits()[:batch], classes()[:batch]
    whole = loss(x @ weight, y, LossPart())
    (expected,) = torch.autograd.grad(whole, weight)
    found = list(shares(batch, pieces))
    assert len(found) <= pieces
    values = [loss(x[piece] @ weight, y[piece], LossPart()) * share for piece, share in found]
    for value in values:
        value.backward()
    assert sum(value.item() for value in values) == pytest.approx(whole.item(), rel=1e-6)
    assert torch.allclose(weight.grad, expected, atol=1e-6)
