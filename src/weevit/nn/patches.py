"""From pixels to patch tokens, and the learned positions of a grid of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from weevit.arguments import whole
from weevit.errors import UsageError
from weevit.nn.layers import is_traced
from weevit.zoo.architectures import PATCH
from weevit.zoo.fields import MAX_SIDE

Size = tuple[int, int]


class PatchEmbed(nn.Module):
    """Patches of 16 x 16 pixels to tokens. The attributes are timm's.

    Attributes:
        img_size: (height, width) of the images in pixels; see `strict_img_size`.
        strict_img_size: refuse other sizes; if False, only sizes with incomplete patches.
        norm: an identity, to be replaced.
    """

    flatten = True
    dynamic_img_pad = False

    def __init__(self, in_chans: int, width: int, img_size: Size, strict_img_size: bool = True) -> None:
        super().__init__()
        self.patch_size: Size = (PATCH, PATCH)
        self.strict_img_size = strict_img_size
        self.set_input_size(img_size)
        self.proj = nn.Conv2d(in_chans, width, PATCH, PATCH)
        self.norm = nn.Identity()

    @property
    def grid_size(self) -> Size:
        """Rows and columns of patches."""
        return self.dynamic_feat_size(self.img_size)

    @property
    def num_patches(self) -> int:
        """Rows times columns."""
        return self.grid_size[0] * self.grid_size[1]

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, height, width] -> [B, P, D], row by row; UsageError for another image size."""
        self._check(x)
        return self.norm(self.proj(x).flatten(2).transpose(1, 2))

    def _check(self, x: Tensor) -> None:
        if is_traced(x):  # a traced tensor has no size
            return
        if x.ndim != 4 or x.shape[1] != self.proj.in_channels:
            raise UsageError(
                f"This model takes images [B, {self.proj.in_channels}, height, width]: {list(x.shape)} was given.",
                "x.unsqueeze(0) makes a batch of one image." if x.ndim == 3 else "",
            )
        size = int(x.shape[-2]), int(x.shape[-1])
        if not self.strict_img_size:
            check_size(size, most=None)
        elif size != self.img_size:
            raise UsageError(
                f"This model takes {self.img_size[0]} x {self.img_size[1]} px; the image has {size[0]} x {size[1]}.",
                "set_input_size(...) changes it, dynamic_img_size=True lets it take any size.",
            )

    def set_input_size(self, img_size: int | Size | None = None, patch_size: int | Size | None = None) -> None:
        """Set another image size; UsageError for incomplete patches or another patch size than 16."""
        if patch_size not in (None, PATCH, (PATCH, PATCH)):
            raise UsageError(f"The patches of these models have {PATCH} x {PATCH} px: {patch_size} was given.")
        if img_size is not None:
            self.img_size = check_size(img_size)

    def dynamic_feat_size(self, img_size: Sequence[int]) -> Size:
        """Rows and columns of patches of an image of this (height, width)."""
        return img_size[0] // PATCH, img_size[1] // PATCH

    def feat_ratio(self, as_scalar: bool = True) -> int | Size:
        """Pixels along each side of a patch."""
        return PATCH if as_scalar else self.patch_size


def check_size(size: int | Sequence[int], most: int | None = MAX_SIDE) -> Size:
    """(height, width) from a pair or the side of a square; UsageError for incomplete patches or a side above `most`."""
    given = list(size) if isinstance(size, list | tuple) else [size, size]
    if len(given) != 2:
        raise UsageError(f"An image size is one number of pixels or (height, width): {size} was given.")
    height, width = (whole("img_size", side, 1, most) for side in given)
    if height % PATCH or width % PATCH:
        raise UsageError(f"An image size is a multiple of {PATCH} pixels: {height} x {width} is not.")
    return height, width


def resample(positions: Tensor, prefix: int, old: Size, new: Size) -> Tensor:
    """Learned positions [1, prefix + P, D] for another grid: antialiased bicubic, as timm's."""
    front, table = positions[:, :prefix], positions[:, prefix:]
    table = table.float().unflatten(1, old).permute(0, 3, 1, 2)  # [1, D, R, C]
    table = F.interpolate(table, size=new, mode="bicubic", antialias=True)
    return torch.cat([front, table.flatten(2).transpose(1, 2).to(positions.dtype)], dim=1)


def positions_for(positions: Tensor, prefix: int, old: Size, new: Size) -> Tensor:
    """Learned positions for a grid, resampled if it differs. One step for torch.fx, which has no sizes."""
    return positions if new == old else resample(positions, prefix, old, new)
