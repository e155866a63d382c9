"""The losses of the recipes, timm's numbers: cross-entropy and binary cross-entropy of classes, mixtures and labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from weevit.recipes.schema import LossPart


def smoothed(targets: Tensor, num_classes: int, part: LossPart, multi_label: bool = False) -> Tensor:
    """The targets as shares of classes, before they are mixed.

    Smoothing moves a class's share towards 1 / K, and a label, true or not, towards a half. It precedes mixing, as in
    timm: afterwards the last bit would differ, and the biases of the keys, whose gradient is rounding noise, would
        diverge
    from timm's.

    Args:
        targets: (B,) class indices, or (B, K) labels of 0 and 1.
        num_classes: K.
        part: part of the recipe.
        multi_label: the targets are independent labels.

    Returns:
        (B, K) float32.
    """
    even = 0.5 if multi_label else 1 / num_classes
    off = part.smoothing * even
    wanted = targets if targets.ndim == 2 else F.one_hot(targets, num_classes)
    return torch.where(wanted.bool(), 1 - part.smoothing + off, off)


def loss(logits: Tensor, wanted: Tensor, part: LossPart, weights: Tensor | None = None) -> Tensor:
    """The mean loss of a batch, in float32 or better.

    Args:
        logits: (B, K).
        wanted: (B, K) from `smoothed`, mixed or not.
        part: part of the recipe; with a threshold, `wanted` becomes 1 above it and else 0.
        weights: (K,) class weights, as `class_weights` gives them.

    Returns:
        A scalar: cross-entropy; or binary cross-entropy, summed over classes with `part.sum`, else their mean.
    """
    logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    wanted = wanted.to(logits.dtype)
    if part.kind == "bce":
        if part.target_threshold is not None:
            wanted = (wanted > part.target_threshold).to(wanted.dtype)
        each = F.binary_cross_entropy_with_logits(logits, wanted, weights, reduction="none")  # [B, K]
        return each.sum(dim=1).mean() if part.sum else each.mean()
    each = -wanted * F.log_softmax(logits, dim=1)  # [B, K]
    return (each if weights is None else each * weights).sum(dim=1).mean()


def class_weights(targets: Tensor, num_classes: int) -> Tensor:
    """Weights that make all classes count alike, and leave their sum unchanged.

    Args:
        targets: (n,) class indices, or (n, K) labels, of the whole training split.
        num_classes: K.

    Returns:
        (K,) float32, n / (K * n_of_class); 0 for a class without an image.
    """
    counts = targets.float().sum(dim=0) if targets.ndim == 2 else torch.bincount(targets, minlength=num_classes).float()
    weights: Tensor = counts.sum() / (num_classes * counts.clamp(min=1))
    return torch.where(counts > 0, weights, torch.zeros_like(weights))
