"""TensorBoard: the metrics as curves. A resumed run writes its event files again, without duplicate points."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from weevit.runs.folder import BOARD
from weevit.runs.saved import Row
from weevit.store.extras import needed

_GROUPS = {"loss": "train", "lr": "train", "grad_norm": "train", "images_per_second": "speed", "data_wait": "speed"}
_LEFT_OUT = frozenset(["step", "epoch", "seen"])


class Board:
    """Writes TensorBoard event files where wanted; MissingExtraError where TensorBoard is not installed."""

    def __init__(self, folder: Path, wanted: bool) -> None:
        self._folder = folder / BOARD
        what = "--tensorboard needs TensorBoard."
        self._kind = needed("torch.utils.tensorboard", "train", what).SummaryWriter if wanted else None
        self._writer: Any = None

    def restart(self, *histories: list[Row]) -> None:
        """Write all rows so far."""
        if self._kind is None:
            return
        shutil.rmtree(self._folder, ignore_errors=True)
        self._writer = self._kind(str(self._folder))
        for rows in histories:
            for row in rows:
                self.add(row)

    def add(self, row: Row) -> None:
        """Add a point to the curve of each figure of the row."""
        if self._writer is None:
            return
        for name, value in row.items():
            if name not in _LEFT_OUT and isinstance(value, int | float):
                self._writer.add_scalar(f"{_GROUPS.get(name, 'validation')}/{name}", value, row["step"])

    def close(self) -> None:
        """Flush everything to the disk."""
        if self._writer is not None:
            self._writer.close()
