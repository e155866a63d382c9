"""The family as one `torch.nn.Module`, from an architecture's row; the forward pass from top to bottom.

Shapes:
    B  images          P  patches, R x C of them          N  tokens: prefix (class token, registers) + patches
    D  embed_dim       K  classes
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from weevit.errors import UsageError
from weevit.graph.positions import rope_tables
from weevit.nn.blocks import Drops, ParallelBlock, SerialBlock
from weevit.nn.features import FeatureInfo, take_indices
from weevit.nn.layers import PatchDropout, Rope
from weevit.zoo.architectures import NORM_EPS, PATCH, Architecture

Size = tuple[int, int]
Pool = Literal["token", "avg", ""]


@dataclass(frozen=True)
class Options:
    """What may differ between two modules of one architecture; the names are timm's.

    Attributes:
        num_classes: width of the head, 0 for none.
        in_chans: image channels.
        img_size: (height, width) in pixels, multiples of 16; the native size where None.
        global_pool: `token`, `avg`, or empty for no pooling; the architecture's own where None.
        dynamic_img_size: take images of any size, resampling positions in each forward pass.
        drop_rate: dropout before the head.
        pos_drop_rate: after positions were added.
        patch_drop_rate: share of patches left out in training.
        proj_drop_rate: after projections; attn_drop_rate: of attention maps.
        drop_path_rate: of whole branches, rising from 0 in the first block to this in the last.
        fix_init: scale the output projections down with depth; the architecture's habit where None.
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


class PatchEmbed(nn.Module):
    """Patches of 16 x 16 pixels to tokens."""

    def __init__(self, in_chans: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_chans, width, PATCH, PATCH)

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, height, width] -> [B, P, D], row by row."""
        return self.proj(x).flatten(2).transpose(1, 2)  # type: ignore[no-any-return]


class VisionTransformer(nn.Module):
    """Any architecture of the family. Methods and the names in its state dict are timm's.

    Attributes:
        arch: the row; `pool` and `norm` are those of this module.
        pretrained_cfg: what the weights were made to see, as timm has it; empty where there are none.
    """

    def __init__(self, arch: Architecture, options: Options | None = None) -> None:
        super().__init__()
        options = options or Options()
        self.arch = arch = _with_pool(arch, options.global_pool)
        self.global_pool = arch.pool if options.global_pool is None else options.global_pool
        self.options = options
        self.num_classes = options.num_classes
        self.img_size = options.img_size or (arch.img_size, arch.img_size)
        check_size(self.img_size)
        self.num_features = self.embed_dim = self.head_hidden_size = D = arch.embed_dim
        self.num_prefix_tokens = arch.num_prefix
        self.grad_checkpointing = False
        self.pretrained_cfg: dict[str, Any] = {}

        if arch.class_token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, D))
        if arch.registers:
            self.reg_token = nn.Parameter(torch.zeros(1, arch.registers, D))
        if arch.position == "learned":
            rows, columns = self.grid
            covered = arch.num_prefix if arch.embeds_prefix else 0
            self.pos_embed = nn.Parameter(torch.zeros(1, covered + rows * columns, D))
        self.patch_embed = PatchEmbed(options.in_chans, D)
        self.pos_drop = nn.Dropout(options.pos_drop_rate)
        self.patch_drop = PatchDropout(options.patch_drop_rate, arch.num_prefix)
        block = ParallelBlock if arch.block == "parallel" else SerialBlock
        self.blocks = nn.ModuleList(block(arch, index, _drops(options, arch, index)) for index in range(arch.depth))
        norm = nn.LayerNorm(D, eps=NORM_EPS)
        self.norm = norm if arch.norm == "before_pool" else nn.Identity()
        self.fc_norm = norm if arch.norm == "after_pool" else nn.Identity()
        self.head_drop = nn.Dropout(options.drop_rate)
        self.head = nn.Linear(D, options.num_classes) if options.num_classes else nn.Identity()
        self._ropes: dict[tuple[Size, torch.device], Rope] = {}
        if self.patch_embed.proj.weight.device.type != "meta":
            initialise(self)

    # ---- forward

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, height, width] normalised pixels -> [B, K] logits."""
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """Pixels -> [B, N, D] tokens after the last block (and after its norm, where that comes before the pool)."""
        x, _ = self._pass(x, ())
        return self.norm(x)  # type: ignore[no-any-return]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """[B, N, D] -> [B, K] logits, or with `pre_logits` the [B, D] embedding that the head sees."""
        x = self.head_drop(self.fc_norm(self.pool(x)))
        return x if pre_logits else self.head(x)

    def pool(self, x: Tensor) -> Tensor:
        """[B, N, D] -> [B, D]: the class token, or the mean over patches; all tokens where there is no pool."""
        if self.global_pool == "token":
            return x[:, 0]
        return x[:, self.num_prefix_tokens :].mean(dim=1) if self.global_pool == "avg" else x

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        return_prefix_tokens: bool = False,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: Literal["NCHW", "NLC"] = "NCHW",
        intermediates_only: bool = False,
    ) -> Any:
        """Block outputs as taps of the one forward pass; arguments and results are timm's.

        Args:
            x: [B, channels, height, width] normalised pixels.
            indices: the last n blocks for a number, all for None, else these (negative ones count from the end).
            return_prefix_tokens: give (patches, prefix) pairs.
            norm: apply the last norm to each.
            stop_early: compute no block after the last one that is wanted.
            output_fmt: `NCHW` maps [B, D, R, C], or `NLC` tokens [B, P, D].
            intermediates_only: leave out the final tokens.

        Returns:
            (tokens [B, N, D], list of intermediates), or the list alone.
        """
        if output_fmt not in ("NCHW", "NLC"):
            raise UsageError(f"output_fmt is 'NCHW' or 'NLC': {output_fmt!r} was given.")
        wanted = take_indices(indices, len(self.blocks))
        rows, columns = x.shape[-2] // PATCH, x.shape[-1] // PATCH
        x, taps = self._pass(x, wanted, max(wanted) if stop_early else None)
        split = [(self.norm(tap) if norm else tap).split_with_sizes(self._token_sizes(tap), dim=1) for tap in taps]
        patches = [tokens for _, tokens in split]
        if output_fmt == "NCHW":
            patches = [tokens.transpose(1, 2).unflatten(2, (rows, columns)).contiguous() for tokens in patches]
        found: list[Any] = patches
        if return_prefix_tokens:
            found = [(own, prefix) for own, (prefix, _) in zip(patches, split, strict=True)]
        return found if intermediates_only else (self.norm(x), found)

    def _pass(self, x: Tensor, taps: Sequence[int], last: int | None = None) -> tuple[Tensor, list[Tensor]]:
        """Pixels -> tokens after the last block, [B, N, D], and those after the blocks in `taps`."""
        self._check_input(x)
        x, rope = self.tokens(x)  # [B, N, D]
        seen = []
        for index, block in enumerate(self.blocks):
            if self.grad_checkpointing and self.training:
                x = checkpoint(block, x, rope, use_reentrant=False)
            else:
                x = block(x, rope)  # [B, N, D]
            if index in taps:
                seen.append(x)
            if index == last:
                break
        return x, seen

    def tokens(self, x: Tensor) -> tuple[Tensor, Rope | None]:
        """[B, channels, height, width] -> [B, N, D] tokens with their positions, and rotary tables where used."""
        grid = x.shape[-2] // PATCH, x.shape[-1] // PATCH
        x = self.patch_embed(x)  # [B, P, D]
        prefix = [getattr(self, name) for name in ("cls_token", "reg_token") if hasattr(self, name)]
        prefix = [token.expand(x.shape[0], -1, -1) for token in prefix]
        if self.arch.position == "learned":
            positions = self._positions(grid)
            if self.arch.embeds_prefix:
                x = torch.cat([*prefix, x], dim=1) + positions  # [B, N, D]
            else:
                x = torch.cat([*prefix, x + positions], dim=1)  # [B, N, D]
        else:
            x = torch.cat([*prefix, x], dim=1)  # [B, N, D]
        x, kept = self.patch_drop(self.pos_drop(x))
        return x, self._rope(grid, x, kept)

    def _positions(self, grid: Size) -> Tensor:
        if grid == self.grid:
            return self.pos_embed
        return resample(self.pos_embed, self.arch.num_prefix if self.arch.embeds_prefix else 0, self.grid, grid)

    def _rope(self, grid: Size, x: Tensor, kept: Tensor | None) -> Rope | None:
        """Rotary tables of the patches; they are not in checkpoints, but made when first needed."""
        if self.arch.position != "rope":
            return None
        key = grid, x.device
        if key not in self._ropes:
            with torch.inference_mode(False):  # kept for later calls too, which may be training
                pairs = (torch.from_numpy(table[self.arch.num_prefix :]) for table in rope_tables(self.arch, grid))
                cosine, sine = (table.repeat_interleave(2, dim=-1).to(x.device) for table in pairs)
            self._ropes[key] = cosine, sine
        cosine, sine = self._ropes[key]
        return (cosine, sine) if kept is None else (cosine[kept][:, None], sine[kept][:, None])

    def _token_sizes(self, x: Tensor) -> list[int]:
        return [self.num_prefix_tokens, x.shape[1] - self.num_prefix_tokens]

    def _check_input(self, x: Tensor) -> None:
        if torch.compiler.is_compiling():
            return
        size = int(x.shape[-2]), int(x.shape[-1])
        if self.options.dynamic_img_size:
            check_size(size)
        elif size != self.img_size:
            raise UsageError(
                f"This model takes {self.img_size[0]} x {self.img_size[1]} px; the image has {size[0]} x {size[1]}.",
                "set_input_size(...) changes it, dynamic_img_size=True lets it take any size.",
            )

    # ---- what timm's users call

    @property
    def grid(self) -> Size:
        """Rows and columns of patches."""
        return self.img_size[0] // PATCH, self.img_size[1] // PATCH

    @property
    def default_cfg(self) -> dict[str, Any]:
        """timm's older name of `pretrained_cfg`."""
        return self.pretrained_cfg

    @property
    def feature_info(self) -> FeatureInfo:
        """What each block's output is."""
        rows = [
            {"module": f"blocks.{i}", "num_chs": self.embed_dim, "reduction": PATCH} for i in range(self.arch.depth)
        ]
        return FeatureInfo(rows)

    def get_classifier(self) -> nn.Module:
        """The head."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: Pool | None = None) -> None:
        """A new head of that width (0 for none), freshly initialised as torch does; another pool if given.

        Raises:
            UsageError: `token` for a model without class token.
        """
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

    def no_weight_decay(self) -> set[str]:
        """Parameters that weight decay leaves alone, apart from those of one dimension."""
        return {"pos_embed", "cls_token", "reg_token"}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Patterns that sort parameters by depth, for layer decay."""
        del coarse
        return {
            "stem": r"^cls_token|reg_token|pos_embed|patch_embed",
            "blocks": [(r"^blocks\.(\d+)", None), (r"^norm", (99999,))],
        }

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade a second forward pass for the memory of the activations."""
        self.grad_checkpointing = enable

    def set_input_size(self, img_size: Size) -> None:
        """Take images of another size from now on; learned positions are resampled."""
        check_size(img_size)
        if self.arch.position == "learned" and img_size != self.img_size:
            grid = img_size[0] // PATCH, img_size[1] // PATCH
            self.pos_embed = nn.Parameter(self._positions(grid).detach().clone(), self.pos_embed.requires_grad)
        self.img_size = img_size
        if self.pretrained_cfg:
            self.pretrained_cfg = {**self.pretrained_cfg, "input_size": (self.options.in_chans, *img_size)}


def resample(positions: Tensor, prefix: int, old: Size, new: Size) -> Tensor:
    """Learned positions [1, prefix + P, D] for another grid: antialiased bicubic, as timm's."""
    front, table = positions[:, :prefix], positions[:, prefix:]
    table = table.float().unflatten(1, old).permute(0, 3, 1, 2)  # [1, D, R, C]
    table = F.interpolate(table, size=new, mode="bicubic", antialias=True)
    return torch.cat([front, table.flatten(2).transpose(1, 2).to(positions.dtype)], dim=1)


def check_size(size: Size) -> None:
    """Refuse image sizes that are not made of whole patches."""
    if any(side < PATCH or side % PATCH for side in size):
        raise UsageError(f"An image size is a multiple of {PATCH} pixels: {size[0]} x {size[1]} is not.")


def _with_pool(arch: Architecture, pool: Pool | None) -> Architecture:
    """The row with another pool. As in timm, averaging puts the last norm behind it, other pools put it before."""
    if pool is None or pool == arch.pool:
        return arch
    if pool == "token" and not arch.class_token:
        raise UsageError(f"{arch.name} has no class token to pool.", "global_pool='avg'")
    if pool not in ("token", "avg", ""):
        raise UsageError(f"global_pool is 'token', 'avg' or '': {pool!r} was given.")
    return replace(arch, pool=pool or arch.pool, norm="after_pool" if pool == "avg" else "before_pool")


def _drops(options: Options, arch: Architecture, index: int) -> Drops:
    share = index / (arch.depth - 1) if arch.depth > 1 else 0.0
    return Drops(options.attn_drop_rate, options.proj_drop_rate, options.drop_path_rate * share)


def initialise(model: VisionTransformer) -> None:
    """Fresh weights, as timm makes them for each part of the family.

    Linear layers: normal with std 0.02, cut at two units; biases 0. Positions the same. Class token and registers:
    std 1e-6 with learned positions, 0.02 with rotary ones. With `fix_init`, which timm's RoPE models always have, the
    output projections of block i (from 0) are divided by sqrt(2 (i + 1)); these models' heads are 1000 times smaller.
    """
    rope = model.arch.position == "rope"
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for name in ("pos_embed", "cls_token", "reg_token"):
        token = getattr(model, name, None)
        if token is not None:
            nn.init.trunc_normal_(token, std=0.02 if rope or name == "pos_embed" else 1e-6, a=-2.0, b=2.0)
    fix = rope if model.options.fix_init is None else model.options.fix_init
    with torch.no_grad():
        for index, block in enumerate(model.blocks if fix else ()):
            for layer in _output_projections(block):
                layer.weight.div_(math.sqrt(2.0 * (index + 1)))
        if rope and isinstance(model.head, nn.Linear):
            model.head.weight.mul_(0.001)


def _output_projections(block: nn.Module) -> list[nn.Linear]:
    if isinstance(block, SerialBlock):
        return [block.attn.proj, block.mlp.fc2]
    names = ("attn_out_proj", "mlp_out_proj", "out_proj")
    return [getattr(block, name) for name in names if hasattr(block, name)]


def to_tensor(array: np.ndarray) -> Tensor:
    """A tensor over the array's own memory where that may be written, else over a copy."""
    return torch.from_numpy(array if array.flags.writeable else array.copy())
