"""TensorBoard: the rows of metrics as curves. A run that resumes makes its event files anew: no point stands twice."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from weevit.store.extras import missing
from weevit.training.run_folder import BOARD
from weevit.training.saved import Row

_GROUPS = {"loss": "train", "lr": "train", "grad_norm": "train", "images_per_second": "speed", "data_wait": "speed"}
_LEFT_OUT = frozenset(["step", "epoch", "seen"])


class Board:
    """Writes TensorBoard event files where wanted; MissingExtraError where TensorBoard is not installed."""

    def __init__(self, folder: Path, wanted: bool) -> None:
        self._folder = folder / BOARD
        self._writer: Any = None
        self._new = _writer if wanted else None
        if wanted:
            _writer_class()

    def restart(self, *histories: list[Row]) -> None:
        """Begin anew with all rows so far."""
        if self._new is None:
            return
        shutil.rmtree(self._folder, ignore_errors=True)
        self._writer = self._new(self._folder)
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
        """See all of it onto the disk."""
        if self._writer is not None:
            self._writer.close()


def _writer(folder: Path) -> Any:
    return _writer_class()(str(folder))


def _writer_class() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise missing("train", "--tensorboard needs TensorBoard.") from error
    return SummaryWriter
