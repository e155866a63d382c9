"""Feature maps as a module, and their facts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import index
from typing import TYPE_CHECKING, Literal, TypeAlias, TypedDict, cast

from torch import Tensor, nn

from weevit.errors import UsageError
from weevit.nn.patches import PatchEmbed

if TYPE_CHECKING:
    from weevit.nn.vit import VisionTransformer

Intermediates: TypeAlias = list[Tensor] | list[tuple[Tensor, Tensor]]
"""Patches of each block; or (patches, prefix) of each."""


class BlockInfo(TypedDict):
    """The output of a block: its module's name, its width, and the pixels per cell of its map."""

    module: str
    num_chs: int
    reduction: int


class FeatureInfo(list[BlockInfo]):
    """The outputs of the blocks, a row each; the methods are timm's."""

    def channels(self) -> list[int]:
        """Width of each."""
        return [row["num_chs"] for row in self]

    def reduction(self) -> list[int]:
        """Pixels per cell of the map."""
        return [row["reduction"] for row in self]

    def module_name(self) -> list[str]:
        """Name of each module."""
        return [row["module"] for row in self]

    def get_dicts(self) -> list[BlockInfo]:
        """The rows."""
        return list(self)


class Taps(nn.Module):
    """Block outputs as taps of a transformer's one forward pass; arguments and results are timm's."""

    blocks: nn.Sequential | nn.ModuleList
    norm: nn.Module
    fc_norm: nn.Module
    patch_embed: PatchEmbed
    num_prefix_tokens: int
    _pass: Callable[..., tuple[Tensor, list[Tensor]]]
    reset_classifier: Callable[..., None]

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        return_prefix_tokens: bool = False,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: Literal["NCHW", "NLC"] = "NCHW",
        intermediates_only: bool = False,
        output_dict: bool = False,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Intermediates | tuple[Tensor, Intermediates] | dict[str, Tensor | list[Tensor]]:
        """The outputs of some blocks.

        Args:
            x: [B, channels, height, width] normalised pixels.
            indices: the last n blocks for a number, all for None, else a list (negative numbers count from the end).
            return_prefix_tokens: give (patches, prefix) pairs.
            norm: apply the last norm to each.
            stop_early: compute no block after the last one in `indices`.
            output_fmt: `NCHW` maps [B, D, R, C], or `NLC` tokens [B, P, D].
            intermediates_only: leave out the final tokens.
            output_dict: a dict with `image_features`, `image_intermediates`, `image_intermediates_prefix`.
            attn_mask, is_causal: as in `Context`.

        Returns:
            (tokens [B, N, D], list of intermediates), or the list alone, or the dict.
        """
        if output_fmt not in ("NCHW", "NLC"):
            raise UsageError(f"output_fmt is 'NCHW' or 'NLC': {output_fmt!r} was given.")
        wanted = take_indices(indices, len(self.blocks))
        grid = self.patch_embed.dynamic_feat_size(x.shape[-2:])
        x, taps = self._pass(x, wanted, max(wanted) if stop_early else None, attn_mask, is_causal)
        taps = [self.norm(tap) if norm else tap for tap in taps]
        prefix = [tap[:, : self.num_prefix_tokens] for tap in taps]
        found = [tap[:, self.num_prefix_tokens :] for tap in taps]
        if output_fmt == "NCHW":
            found = [tokens.transpose(1, 2).unflatten(2, grid).contiguous() for tokens in found]
        if output_dict:
            named: dict[str, Tensor | list[Tensor]] = {"image_intermediates": found}
            named.update({"image_intermediates_prefix": prefix} if return_prefix_tokens else {})
            return named if intermediates_only else {**named, "image_features": self.norm(x)}
        pairs: Intermediates = list(zip(found, prefix, strict=True)) if return_prefix_tokens else found
        return pairs if intermediates_only else (self.norm(x), pairs)

    def get_intermediate_layers(
        self,
        x: Tensor,
        n: int | Sequence[int] = 1,
        reshape: bool = False,
        return_prefix_tokens: bool = False,
        norm: bool = False,
        attn_mask: Tensor | None = None,
    ) -> Intermediates:
        """`forward_intermediates` with DINO's arguments: a list of tokens, or of maps with `reshape`."""
        found = self.forward_intermediates(
            x,
            n,
            return_prefix_tokens,
            norm,
            output_fmt="NCHW" if reshape else "NLC",
            intermediates_only=True,
            attn_mask=attn_mask,
        )
        return cast("Intermediates", found)

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove the blocks after the last index, and the head (and last norm); returns the indices."""
        wanted = take_indices(indices, len(self.blocks))
        self.blocks = self.blocks[: max(wanted) + 1]
        if prune_norm:
            self.norm = nn.Identity()
        if prune_head:
            self.fc_norm = nn.Identity()
            self.reset_classifier(0, "")
        return wanted


class FeatureExtractor(nn.Module):
    """`features_only=True`: the maps of some blocks.

    Args:
        model: its head is removed.
        out_indices: the last n blocks for a number, else a list.
    """

    def __init__(self, model: VisionTransformer, out_indices: int | Sequence[int] = 3) -> None:
        super().__init__()
        self.model = model
        self.out_indices = take_indices(out_indices, len(model.blocks))
        self.feature_info = FeatureInfo(model.feature_info[index] for index in self.out_indices)
        model.prune_intermediate_layers(self.out_indices, prune_norm=True)
        self.pretrained_cfg = self.default_cfg = model.pretrained_cfg

    def forward(self, x: Tensor) -> list[Tensor]:
        """[B, channels, height, width] -> a list of [B, D, R, C]."""
        return cast("list[Tensor]", self.model.forward_intermediates(x, self.out_indices, intermediates_only=True))


def take_indices(indices: int | Iterable[int] | None, depth: int) -> list[int]:
    """Block indices from 0, in order, of the last n, all or the given blocks; UsageError for one out of range."""
    if indices is None:
        return list(range(depth))
    try:
        wanted = [index(own) for own in indices] if isinstance(indices, Iterable) else _last(index(indices), depth)
    except TypeError:  # no whole numbers
        wanted = []
    if not wanted or not all(-depth <= own < depth for own in wanted):
        raise UsageError(f"The blocks are 0 to {depth - 1}, or -{depth} to -1 from the end: {indices!r} was given.")
    return sorted({own % depth for own in wanted})


def _last(count: int, depth: int) -> list[int]:
    return list(range(depth - count, depth)) if 0 < count <= depth else []
