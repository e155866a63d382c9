"""Images of a run: curves of its metrics, and a sheet of training images as the model sees them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from weevit.runs.saved import Row
from weevit.store.cache import cache_folder
from weevit.store.files import replace_file
from weevit.telemetry import keep_caches_in
from weevit.training.watch import SHARES
from weevit.zoo.weights import Preprocessing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CURVES, SAMPLES = "curves.png", "samples.png"

_TITLES = {"loss": "loss", "top1": "top-1, %", "map": "mAP, %", "lr": "learning rate", "grad_norm": "gradient norm"}
PANELS: dict[str, tuple[tuple[str, str], ...]] = {
    "loss": (("loss", "training"), ("val_loss", "validation"), ("ema_val_loss", "validation, averaged weights")),
    "top1": (("top1", "weights"), ("ema_top1", "averaged weights")),
    "map": (("map", "weights"), ("ema_map", "averaged weights")),
    "lr": (("lr", ""),),
    "grad_norm": (("grad_norm", ""),),
}
"""Panel -> (column of the metrics, its name in the legend)."""


def draw_curves(path: Path, rows: list[Row], steps_per_epoch: int) -> bool:
    """Write the curves over epochs as a PNG, a panel per kind of figure; False without rows or matplotlib."""
    panels = {
        name: lines for name, lines in PANELS.items() if any(column in row for column, _ in lines for row in rows)
    }
    keep_caches_in(cache_folder())
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    if not panels:
        return False
    figure = Figure(figsize=(4.2 * len(panels), 3.2))
    figure.subplots_adjust(left=0.2 / len(panels), right=1 - 0.1 / len(panels), top=0.9, bottom=0.15, wspace=0.3)
    FigureCanvasAgg(figure)
    for axes, (name, lines) in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels.items(), strict=True):
        for column, label in lines:
            _line(axes, column, label, rows, steps_per_epoch)
        axes.set_title(_TITLES[name], fontsize=10)
        axes.set_xlabel("epoch")
        if name in SHARES:
            axes.set_ylim(top=min(axes.get_ylim()[1], 100.5))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[1]:
            axes.legend(fontsize=8, frameon=False)
    path.parent.mkdir(exist_ok=True)
    replace_file(path, lambda tmp: figure.savefig(tmp, dpi=110, format="png"))
    return True


def _line(axes: Axes, column: str, label: str, rows: list[Row], steps_per_epoch: int) -> None:
    points = [(row["step"] / steps_per_epoch, row[column]) for row in rows if column in row]
    if not points:
        return
    scale = 100 if column.removeprefix("ema_") in SHARES else 1
    x, y = zip(*points, strict=True)
    few: dict[str, Any] = {"marker": "o", "markersize": 3} if len(points) <= 40 else {}
    axes.plot(x, [value * scale for value in y], label=label or None, linewidth=1.4, **few)


def to_pixels(images: Tensor, spec: Preprocessing) -> npt.NDArray[np.uint8]:
    """Normalised images [B, 3, H, W] as uint8 [B, H, W, 3]."""
    channels_last = images.float().cpu().permute(0, 2, 3, 1).numpy()
    pixels = (channels_last * np.array(spec.std) + np.array(spec.mean)) * 255
    found: npt.NDArray[np.uint8] = np.clip(np.round(pixels), 0, 255).astype(np.uint8)
    return found


_COLUMNS, _ROWS = 8, 4
"""Size of the sheet of samples, at most."""


def draw_samples(path: Path, images: Tensor, spec: Preprocessing) -> None:
    """Write the first images of a batch [B, 3, H, W], as the model sees them, as one PNG."""
    pixels = to_pixels(images[: _COLUMNS * _ROWS], spec)
    height, width, gap = pixels.shape[1], pixels.shape[2], 4
    across = min(_COLUMNS, len(pixels))
    down = -(-len(pixels) // across)
    sheet = Image.new("RGB", (across * (width + gap) + gap, down * (height + gap) + gap), "white")
    for index, own in enumerate(pixels):
        row, column = divmod(index, across)
        sheet.paste(Image.fromarray(own), (gap + column * (width + gap), gap + row * (height + gap)))
    if sheet.width > 2048:
        sheet = sheet.resize((2048, round(sheet.height * 2048 / sheet.width)), Image.Resampling.BICUBIC)
    path.parent.mkdir(exist_ok=True)
    replace_file(path, lambda tmp: sheet.save(tmp, "png"))
