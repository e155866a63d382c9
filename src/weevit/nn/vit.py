"""The family as one `torch.nn.Module`, from an architecture's row; the forward pass from top to bottom.

Shapes:
    B  images          P  patches, R x C of them          N  tokens: prefix (class token, registers) + patches
    D  embed_dim       K  classes
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
import torch.fx
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from weevit.arguments import whole
from weevit.errors import UsageError
from weevit.graph.positions import rope_tables
from weevit.nn.blocks import Drops, ParallelBlock, SerialBlock
from weevit.nn.features import FeatureInfo, Taps
from weevit.nn.initialise import initialise, scale_down
from weevit.nn.layers import Dropout, PatchDropout, Rope
from weevit.nn.patches import PatchEmbed, Size, positions_for
from weevit.zoo.architectures import NORM_EPS, Architecture
from weevit.zoo.fields import MAX_CLASSES

Pool = Literal["token", "avg", ""]

torch.fx.wrap("positions_for")


@dataclass(frozen=True)
class Options:
    """The options of a module of one architecture; the names are timm's.

    Attributes:
        num_classes: width of the head, 0 for none.
        in_chans: image channels.
        img_size: (height, width) in pixels, multiples of 16; the native size where None.
        global_pool: `token`, `avg`, or empty for no pooling; the architecture's own where None.
        dynamic_img_size: take images of any size, resampling positions in each forward pass.
        drop_rate: dropout before the head.
        pos_drop_rate: dropout after the positions.
        patch_drop_rate: share of patches dropped in training.
        proj_drop_rate: dropout after projections; attn_drop_rate: of attention maps.
        drop_path_rate: dropout of whole branches, rising from 0 in the first block to this in the last.
        fix_init: scale the output projections down with depth; the architecture's default where None.
    """

    num_classes: int = 1000
    in_chans: int = 3
    img_size: Size | None = None
    global_pool: Pool | None = None
    dynamic_img_size: bool = False
    drop_rate: float = 0.0
    pos_drop_rate: float = 0.0
    patch_drop_rate: float = 0.0
    proj_drop_rate: float = 0.0
    attn_drop_rate: float = 0.0
    drop_path_rate: float = 0.0
    fix_init: bool | None = None


class VisionTransformer(Taps):
    """Any architecture of the family. Methods, attributes and the names in its state dict are timm's.

    Attributes:
        arch: the row, with the pool and norm of this module.
        pretrained_cfg: timm's facts on the weights; empty without weights.
        norm_pre: an identity, to be replaced.
        first_only: in training, `forward` of a model with a class token computes the last block for that token alone.
            `weevit.train` sets it; hooks on `blocks` as a whole are then not called.
    """

    attn_pool = None
    pool_include_prefix = False

    def __init__(self, arch: Architecture, options: Options | None = None) -> None:
        super().__init__()
        options = options or Options()
        self.arch = arch = _with_pool(arch, options.global_pool)
        self.global_pool: Pool = arch.pool if options.global_pool is None else options.global_pool
        self.options = options
        self.num_classes = options.num_classes
        self.num_features = self.embed_dim = self.head_hidden_size = D = arch.embed_dim
        self.num_prefix_tokens, self.num_reg_tokens = arch.num_prefix, arch.registers
        self.has_class_token, self.no_embed_class = arch.class_token, not arch.embeds_prefix
        self.dynamic_img_size = options.dynamic_img_size
        self.grad_checkpointing = self.first_only = False
        self.pretrained_cfg: dict[str, object] = {}

        img_size = options.img_size or (arch.img_size, arch.img_size)
        patches = PatchEmbed(options.in_chans, D, img_size, strict_img_size=not options.dynamic_img_size)
        learned = arch.position == "learned"
        self.cls_token = nn.Parameter(torch.zeros(1, 1, D)) if arch.class_token else None
        self.reg_token = nn.Parameter(torch.zeros(1, arch.registers, D)) if arch.registers else None
        indices = patches.num_patches + (arch.num_prefix if arch.embeds_prefix else 0)
        self.pos_embed = nn.Parameter(torch.zeros(1, indices, D)) if learned else None
        self.patch_embed = patches
        self.pos_drop = nn.Dropout(options.pos_drop_rate)
        self.patch_drop = PatchDropout(options.patch_drop_rate, arch.num_prefix, return_indices=not learned)
        self.norm_pre = nn.Identity()
        block = ParallelBlock if arch.block == "parallel" else SerialBlock
        blocks = [block(arch, index, _drops(options, arch, index)) for index in range(arch.depth)]
        # A sequence can be called as a whole; with rotary positions it cannot, since each block is given the tables.
        self.blocks = nn.Sequential(*blocks) if learned else nn.ModuleList(blocks)
        norm = nn.LayerNorm(D, eps=NORM_EPS)
        self.norm = norm if arch.norm == "before_pool" else nn.Identity()
        self.fc_norm = norm if arch.norm == "after_pool" else nn.Identity()
        self.head_drop = Dropout(options.drop_rate)
        self.head = nn.Linear(D, options.num_classes) if options.num_classes else nn.Identity()
        self._ropes: dict[tuple[Size, torch.device], Rope] = {}
        if self.patch_embed.proj.weight.device.type != "meta":
            initialise(self)

    # ---- forward

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """[B, channels, height, width] normalised pixels -> [B, K] logits; for the rest see `Context`."""
        if self.first_only and self.training and self.global_pool == "token" and attn_mask is None and not is_causal:
            x, _ = self._pass(x, (), first_only=True)
            return self.forward_head(self.norm(x))
        return self.forward_head(self.forward_features(x, attn_mask, is_causal))

    def forward_features(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """Pixels -> [B, N, D] tokens after the last block (and after its norm, where that comes before the pool)."""
        x, _ = self._pass(x, (), attn_mask=attn_mask, is_causal=is_causal)
        return self.norm(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """[B, N, D] -> [B, K] logits, or with `pre_logits` the [B, D] input of the head."""
        x = self.head_drop(self.fc_norm(self.pool(x)))
        return x if pre_logits else self.head(x)

    def pool(self, x: Tensor, pool_type: Pool | None = None) -> Tensor:
        """[B, N, D] -> [B, D]: the class token, or the mean over patches; all tokens without a pool."""
        wanted = self.global_pool if pool_type is None else pool_type
        if wanted == "avg":
            return x[:, self.num_prefix_tokens :].mean(dim=1)
        _check_pool(wanted)
        return x[:, 0] if wanted == "token" else x

    def _pass(
        self,
        x: Tensor,
        taps: Sequence[int],
        last: int | None = None,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
        first_only: bool = False,
    ) -> tuple[Tensor, list[Tensor]]:
        """Pixels -> tokens after the last block, [B, N, D] (or only the first of them), and after those in `taps`."""
        x, rope = self.tokens(x)  # [B, N, D]
        again = self.grad_checkpointing and self.training
        # torch.fx takes no `bool` of its stand-ins: the mask is asked for first, and is_causal not where there is one
        if (
            isinstance(self.blocks, nn.Sequential)
            and attn_mask is None
            and not (is_causal or taps or again or first_only)
        ):
            return self.blocks(x), []  # called as a whole, as timm does: a hook on it fires
        seen = []
        for index, block in enumerate(self.blocks):
            context = (attn_mask, is_causal, rope, first_only and index == len(self.blocks) - 1)
            if again:
                x = checkpoint(block, x, *context, use_reentrant=False)
            else:
                x = block(x, *context)  # [B, N, D]
            if index in taps:
                seen.append(x)
            if index == last:
                break
        return x, seen

    def tokens(self, x: Tensor) -> tuple[Tensor, Rope | None]:
        """[B, channels, height, width] -> [B, N, D] tokens with their positions, and rotary tables where used."""
        grid = self.patch_embed.dynamic_feat_size(x.shape[-2:]) if self.dynamic_img_size else self.grid
        x = self._pos_embed(self.patch_embed(x), grid)  # [B, N, D]
        kept: Tensor | None = None
        if self.patch_drop.return_indices:
            x, kept = self.patch_drop(x)
        else:
            x = self.patch_drop(x)
        return self.norm_pre(x), self._rope(grid, kept)

    def _pos_embed(self, x: Tensor, grid: Size | None = None) -> Tensor:
        """Patches [B, P, D] -> [B, N, D]: with the prefix, and with learned positions (of this grid)."""
        prefix = [token.expand(x.shape[0], -1, -1) for token in (self.cls_token, self.reg_token) if token is not None]
        if self.pos_embed is None:
            return self.pos_drop(torch.cat([*prefix, x], dim=1))
        positions = self._positions(grid or self.grid)
        if self.no_embed_class:
            x = torch.cat([*prefix, x + positions], dim=1)
        else:
            x = torch.cat([*prefix, x], dim=1) + positions
        return self.pos_drop(x)

    def _positions(self, grid: Size) -> Tensor:
        prefix = 0 if self.no_embed_class else self.num_prefix_tokens
        assert self.pos_embed is not None
        return positions_for(self.pos_embed, prefix, self.grid, grid)

    def _rope(self, grid: Size, kept: Tensor | None) -> Rope | None:
        """Rotary tables of the patches; they are not in checkpoints, but computed on first use."""
        if self.pos_embed is not None:
            return None
        key = grid, self.patch_embed.proj.weight.device
        if key not in self._ropes:
            with torch.inference_mode(False):  # kept for later calls, which may train
                pairs = (torch.from_numpy(table[self.arch.num_prefix :]) for table in rope_tables(self.arch, grid))
                cosine, sine = (table.repeat_interleave(2, dim=-1).to(key[1]) for table in pairs)
            if type(cosine) is not Tensor:  # a stand-in of FakeTensorMode's, which no later call could use
                return cosine, sine
            self._ropes[key] = cosine, sine
        cosine, sine = self._ropes[key]
        return (cosine, sine) if kept is None else (cosine[kept][:, None], sine[kept][:, None])

    # ---- timm's methods

    @property
    def img_size(self) -> Size:
        """(height, width) of the images in pixels."""
        return self.patch_embed.img_size

    @property
    def grid(self) -> Size:
        """Rows and columns of patches."""
        return self.patch_embed.grid_size

    @property
    def in_chans(self) -> int:
        """Image channels."""
        return self.options.in_chans

    @property
    def default_cfg(self) -> dict[str, object]:
        """timm's older name of `pretrained_cfg`."""
        return self.pretrained_cfg

    @property
    def feature_info(self) -> FeatureInfo:
        """Facts on each block's output."""
        ratio = self.patch_embed.patch_size[0]
        return FeatureInfo(
            {"module": f"blocks.{index}", "num_chs": self.embed_dim, "reduction": ratio}
            for index in range(self.arch.depth)
        )

    def get_classifier(self) -> nn.Module:
        """The head."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: Pool | None = None) -> None:
        """Set a new head (0: none), initialised as torch does, and another pool; UsageError for invalid ones."""
        num_classes = whole("num_classes", num_classes, 0, MAX_CLASSES)
        if global_pool is not None:
            _with_pool(self.arch, global_pool)
            self.global_pool = global_pool
        self.num_classes = num_classes
        if self.pretrained_cfg:  # the old head's class names are not the new one's
            kept = {key: value for key, value in self.pretrained_cfg.items() if not key.startswith("label_")}
            self.pretrained_cfg = {**kept, "num_classes": num_classes}
        weight = self.patch_embed.proj.weight
        if num_classes:
            self.head = nn.Linear(self.embed_dim, num_classes, device=weight.device, dtype=weight.dtype)
        else:
            self.head = nn.Identity()
        self.head.train(self.training)

    def no_weight_decay(self) -> set[str]:
        """Parameters without weight decay, apart from those of one dimension."""
        return {"pos_embed", "cls_token", "reg_token"}

    def group_matcher(self, coarse: bool = False) -> dict[str, object]:
        """Patterns that sort parameters by depth, for layer decay."""
        del coarse
        return {
            "stem": r"^cls_token|reg_token|pos_embed|patch_embed|norm_pre",
            "blocks": [(r"^blocks\.(\d+)", None), (r"^norm", (99999,))],
        }

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade a second forward pass for the memory of the activations."""
        self.grad_checkpointing = enable

    def set_input_size(self, img_size: int | Size | None = None, patch_size: int | Size | None = None) -> None:
        """Set another image size, and resample learned positions; UsageError for incomplete patches."""
        before = self.grid
        self.patch_embed.set_input_size(img_size, patch_size)
        if self.pos_embed is not None and self.grid != before:
            prefix = 0 if self.no_embed_class else self.num_prefix_tokens
            positions = positions_for(self.pos_embed.detach(), prefix, before, self.grid)
            self.pos_embed = nn.Parameter(positions.clone(), self.pos_embed.requires_grad)
        if self.pretrained_cfg:
            self.pretrained_cfg = {**self.pretrained_cfg, "input_size": (self.in_chans, *self.img_size)}

    def init_weights(self) -> None:
        """Fill the module with fresh weights, as `create_model` does; the mode is timm's default."""
        initialise(self)

    def fix_init_weight(self) -> None:
        """Scale the output projections down with depth."""
        scale_down(self)


def _check_pool(pool: str) -> None:
    if pool not in ("token", "avg", ""):
        raise UsageError(f"global_pool is 'token', 'avg' or '': {pool!r} was given.")


def _with_pool(arch: Architecture, pool: Pool | None) -> Architecture:
    """The row with another pool. As in timm, the last norm follows an average pool, and precedes others."""
    if pool is None or pool == arch.pool:
        return arch
    if pool == "token" and not arch.class_token:
        raise UsageError(f"{arch.name} has no class token to pool.", "global_pool='avg'")
    _check_pool(pool)
    return replace(arch, pool=pool or arch.pool, norm="after_pool" if pool == "avg" else "before_pool")


def _drops(options: Options, arch: Architecture, index: int) -> Drops:
    share = index / (arch.depth - 1) if arch.depth > 1 else 0.0
    return Drops(options.attn_drop_rate, options.proj_drop_rate, options.drop_path_rate * share)


def to_tensor(array: np.ndarray) -> Tensor:
    """A tensor that shares the array's memory if it is writable, else a copy."""
    return torch.from_numpy(array if array.flags.writeable else array.copy())
