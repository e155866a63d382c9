"""Feature maps as a module of their own, and what is known of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from weevit.errors import UsageError

if TYPE_CHECKING:
    from weevit.nn.vit import VisionTransformer


@dataclass
class FeatureInfo:
    """What the blocks' outputs are; the methods are timm's."""

    info: list[dict[str, Any]] = field(default_factory=list)

    def channels(self) -> list[int]:
        """Width of each."""
        return [int(row["num_chs"]) for row in self.info]

    def reduction(self) -> list[int]:
        """Pixels for each cell of the map."""
        return [int(row["reduction"]) for row in self.info]

    def module_name(self) -> list[str]:
        """Where each is taken."""
        return [str(row["module"]) for row in self.info]

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.info[index]

    def __len__(self) -> int:
        return len(self.info)


class FeatureExtractor(nn.Module):
    """`features_only=True`: the maps of some blocks.

    Args:
        model: its head is taken off.
        out_indices: the last n blocks for a number, else these.
    """

    def __init__(self, model: VisionTransformer, out_indices: int | Sequence[int] = 3) -> None:
        super().__init__()
        self.model = model
        self.out_indices = take_indices(out_indices, len(model.blocks))
        self.feature_info = FeatureInfo([model.feature_info[index] for index in self.out_indices])
        model.reset_classifier(0, "")
        model.norm = model.fc_norm = nn.Identity()
        model.blocks = model.blocks[: max(self.out_indices) + 1]
        self.pretrained_cfg = model.pretrained_cfg

    def forward(self, x: Tensor) -> list[Tensor]:
        """[B, channels, height, width] -> a list of [B, D, R, C]."""
        found: list[Tensor] = self.model.forward_intermediates(x, self.out_indices, intermediates_only=True)
        return found


def take_indices(indices: int | Iterable[int] | None, depth: int) -> list[int]:
    """Which blocks are meant: the last n, all, or these; from 0, in order.

    Raises:
        UsageError: there is no such block.
    """
    if indices is None:
        return list(range(depth))
    wanted = list(range(-indices, 0)) if isinstance(indices, int) else list(indices)
    wrong = [index for index in wanted if not -depth <= index < depth]
    if wrong or not wanted:
        raise UsageError(f"The blocks are 0 to {depth - 1}, or -{depth} to -1 from the end; {indices} was given.")
    return sorted({index % depth for index in wanted})
