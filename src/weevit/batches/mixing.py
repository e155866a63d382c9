"""Mixup and cutmix: a batch mixed with itself in reverse order, images and targets alike, as in timm.

The draws (`draw`) are separate from their application (`apply`). Mixing smooths no targets: the loss does, and since
both are linear, their order does not matter.

Sources: arXiv:1710.09412 (mixup), arXiv:1905.04899 (cutmix).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from weevit.batches.seeding import keyed
from weevit.recipes.schema import MixPart

Box = tuple[int, int, int, int]
"""Top, bottom, left, right in pixels; the last row and column are not in it."""


@dataclass(frozen=True)
class Share:
    """The images of a batch that one rank computes: as many from its beginning as from its end.

    The i-th image and the i-th from the end, which are mixed, are so on the same rank.

    Attributes:
        rows: their indices in the batch, in order.
        size: images in the batch.
        ranks: how many ranks compute these images, each for itself.
    """

    rows: Sequence[int]
    size: int
    ranks: int = 1

    @classmethod
    def of(cls, size: int, rank: int = 0, world: int = 1) -> Share:
        """The share of a rank; all images, on every rank, where there are not two for each."""
        pairs = size // 2
        if world == 1 or pairs < world:
            return cls(range(size), size, world)
        first, last = rank * pairs // world, (rank + 1) * pairs // world
        middle = range(pairs, size - pairs) if rank == world - 1 else range(0)
        return cls([*range(first, last), *middle, *range(size - last, size - first)], size)

    @property
    def whole(self) -> bool:
        """Whether it is the whole batch."""
        return len(self.rows) == self.size


@dataclass(frozen=True)
class Mix:
    """The mix of an image with its partner.

    Attributes:
        share: share of itself, in image and target; the rest is the partner's.
        box: cutmix: the box taken from the partner; None for mixup.
    """

    share: float = 1.0
    box: Box | None = None


def mix(
    images: Tensor,
    targets: Tensor,
    part: MixPart,
    num_classes: int,
    key: tuple[int, int],
    share: Share | None = None,
) -> tuple[Tensor, Tensor]:
    """Mix a batch by its draws. The i-th image's partner is the i-th from the end.

    Args:
        images: (B, 3, H, W) float, changed in place.
        targets: (B,) class indices, or (B, K) labels.
        part: part of the recipe; without mixing, both are returned unchanged.
        num_classes: K.
        key: seed of the recipe, and updates before this one.
        share: the images among those of the batch, where they are not all; each beside its partner.

    Returns:
        The images, and (B, K) float32 shares of classes.
    """
    if not part.active:
        return images, targets
    share = share or Share.of(len(images))
    drawn = draw(part, share.size, (images.shape[2], images.shape[3]), keyed("mix", *key))
    return apply(images, targets, [drawn[row] for row in share.rows], num_classes)


def draw(part: MixPart, count: int, size: tuple[int, int], rng: Random) -> list[Mix]:
    """The draws of a batch of `count` images of (height, width) `size`.

    One for each image: all equal in mode `batch`, equal for both of a `pair`; in mode `pair` the middle image of an odd
    batch is not mixed.
    """
    if part.mode == "batch":
        return [_draw_one(part, size, rng)] * count
    if part.mode == "elem":
        return [_draw_one(part, size, rng) for _ in range(count)]
    half = [_draw_one(part, size, rng) for _ in range(count // 2)]
    return half + [Mix()] * (count % 2) + half[::-1]


def _draw_one(part: MixPart, size: tuple[int, int], rng: Random) -> Mix:
    if rng.random() >= part.prob:
        return Mix()
    cut = part.cutmix > 0 and (part.mixup == 0 or rng.random() < part.switch)
    alpha = part.cutmix if cut else part.mixup
    share = rng.betavariate(alpha, alpha)
    return _draw_box(share, size, rng) if cut else Mix(share)


def _draw_box(share: float, size: tuple[int, int], rng: Random) -> Mix:
    """A box of the image's shape around a random pixel; the part outside is cut off and does not count."""
    ratio = math.sqrt(1 - share)
    edges: list[int] = []
    for length in size:
        cut, centre = int(length * ratio), int(rng.random() * length)
        edges += [max(0, centre - cut // 2), min(length, centre + (cut + 1) // 2)]
    top, bottom, left, right = edges
    return Mix(1 - (bottom - top) * (right - left) / (size[0] * size[1]), (top, bottom, left, right))


def apply(images: Tensor, targets: Tensor, drawn: Sequence[Mix], num_classes: int) -> tuple[Tensor, Tensor]:
    """Mix a batch as drawn; images (B, 3, H, W) are changed in place. Returns them and (B, K) float32 targets."""
    wanted = targets.float() if targets.ndim == 2 else F.one_hot(targets, num_classes).float()
    own, other = _shares([one.share for one in drawn], wanted)
    _mix_images(images, drawn)
    return images, wanted * own + wanted.flip(0) * other


def _mix_images(images: Tensor, drawn: Sequence[Mix]) -> None:
    if all(one.share == 1 for one in drawn):
        return
    partners = images.flip(0)
    alike = len(set(drawn)) == 1
    for index, one in [(slice(None), drawn[0])] if alike else [(slice(i, i + 1), one) for i, one in enumerate(drawn)]:
        if one.box:
            top, bottom, left, right = one.box
            images[index, :, top:bottom, left:right] = partners[index, :, top:bottom, left:right]
    blended = [1.0 if one.box else one.share for one in drawn]
    if min(blended) < 1:
        own, other = _shares(blended, images)
        images.mul_(own).add_(partners.mul_(other))


def _shares(shares: Sequence[float], like: Tensor) -> tuple[Tensor, Tensor]:
    """The shares of an image and of its partner: (B, 1, ...) with the number of dimensions of `like`, on its device."""
    pair = torch.tensor([shares, [1 - share for share in shares]], dtype=torch.float64).to(like.dtype)
    own, other = pair.to(like.device, non_blocking=True).view(2, len(shares), *[1] * (like.ndim - 1))
    return own, other
