"""Losses against timm's and PyTorch's."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from weevit.optim.loss import class_weights, loss, smoothed  # noqa: E402 - after the skip
from weevit.recipes.schema import LossPart  # noqa: E402
from weevit.training.step import cut  # noqa: E402

B, K = 12, 7


def logits() -> Any:
    return 3 * torch.randn(B, K, generator=torch.Generator().manual_seed(0))


def classes() -> Any:
    return torch.randint(K, (B,), generator=torch.Generator().manual_seed(1))


def mixed(part: LossPart) -> Any:
    """0.3 of each with 0.7 of its mirror image."""
    wanted = smoothed(classes(), K, part)
    return wanted * 0.3 + wanted.flip(0) * (1 - 0.3)


@pytest.mark.oracle
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_mixed_targets_are_those_of_timm_to_the_last_bit(smoothing: float) -> None:
    theirs = pytest.importorskip("timm.data.mixup").mixup_target(classes(), K, 0.3, smoothing)
    assert torch.equal(mixed(LossPart(smoothing=smoothing)), theirs)


@pytest.mark.oracle
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_of_classes_and_of_mixtures(smoothing: float) -> None:
    theirs = pytest.importorskip("timm.loss")
    part = LossPart(smoothing=smoothing)
    hard = theirs.LabelSmoothingCrossEntropy(smoothing)(logits(), classes())
    assert loss(logits(), smoothed(classes(), K, part), part).item() == pytest.approx(hard.item(), rel=1e-6)
    soft = theirs.SoftTargetCrossEntropy()(logits(), mixed(part))
    assert loss(logits(), mixed(part), part).item() == soft.item()


@pytest.mark.oracle
@pytest.mark.parametrize("sum_classes", [False, True])
@pytest.mark.parametrize("threshold", [None, 0.2])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_binary_cross_entropy(smoothing: float, threshold: float | None, sum_classes: bool) -> None:
    theirs = pytest.importorskip("timm.loss").BinaryCrossEntropy(
        smoothing=smoothing, target_threshold=threshold, sum_classes=sum_classes
    )
    part = LossPart(kind="bce", smoothing=smoothing, target_threshold=threshold, sum=sum_classes)
    for found, expected in (
        (loss(logits(), smoothed(classes(), K, part), part), theirs(logits(), classes())),
        (loss(logits(), mixed(part), part), theirs(logits(), mixed(part))),
    ):
        assert found.item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.oracle
def test_binary_cross_entropy_of_labels() -> None:
    labels = (torch.rand(B, K, generator=torch.Generator().manual_seed(2)) < 0.3).to(torch.uint8)
    theirs = pytest.importorskip("timm.loss").BinaryCrossEntropy(smoothing=0.1, smooth_dense=True)
    part = LossPart(kind="bce", smoothing=0.1)
    found = loss(logits(), smoothed(labels, K, part, multi_label=True), part)
    assert found.item() == pytest.approx(theirs(logits(), labels.float()).item(), rel=1e-6)


def test_class_weights() -> None:
    targets = torch.tensor([0] * 6 + [1] * 3 + [3])
    weights = class_weights(targets, 4)
    assert weights.tolist() == pytest.approx([10 / 24, 10 / 12, 0.0, 10 / 4])
    few, part = logits()[:10, :4], LossPart(smoothing=0.0)
    wanted = smoothed(targets, 4, part)
    expected = torch.nn.functional.cross_entropy(few, wanted, weight=weights)  # of shares: not divided by weights
    assert loss(few, wanted, part, weights).item() == pytest.approx(expected.item())


def test_half_precision_is_reckoned_in_float32() -> None:
    half, wanted = logits().half(), smoothed(classes(), K, LossPart())
    assert loss(half, wanted, LossPart()).dtype == torch.float32
    assert loss(half, wanted, LossPart()).item() == loss(half.float(), wanted, LossPart()).item()


def test_a_threshold_brings_mixtures_back_to_labels() -> None:
    part, few = LossPart(kind="bce", target_threshold=0.2), logits()[:2, :3]
    shares_, labels = torch.tensor([[0.75, 0.25, 0.0], [0.9, 0.1, 0.0]]), torch.tensor([[1.0, 1, 0], [1, 0, 0]])
    assert loss(few, shares_, part).item() == loss(few, labels, LossPart(kind="bce")).item()


@pytest.mark.parametrize(("batch", "pieces"), [(12, 1), (12, 3), (10, 4), (3, 8), (7, 7)])
def test_pieces_add_up_to_the_batch(batch: int, pieces: int) -> None:
    weight = torch.randn(K, K, generator=torch.Generator().manual_seed(3), requires_grad=True)
    x, wanted = logits()[:batch], smoothed(classes()[:batch], K, LossPart())
    whole = loss(x @ weight, wanted, LossPart())
    (expected,) = torch.autograd.grad(whole, weight)
    found = list(cut(batch, pieces))
    assert len(found) <= pieces
    assert [row for piece in found for row in range(batch)[piece]] == list(range(batch))
    shares = [(piece.stop - piece.start) / batch for piece in found]
    values = [
        loss(x[piece] @ weight, wanted[piece], LossPart()) * share for piece, share in zip(found, shares, strict=True)
    ]
    for value in values:
        value.backward()
    assert sum(value.item() for value in values) == pytest.approx(whole.item(), rel=1e-6)
    assert torch.allclose(weight.grad, expected, atol=1e-6)
