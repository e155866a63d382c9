"""Evaluation on the validation split, with the pixels of `weevit eval` and of timm's evaluation transform."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from weevit.datasets.dataset import Split
from weevit.errors import ImageError, TrainingError
from weevit.evaluation import metrics
from weevit.images.preprocess import preprocess
from weevit.images.source import Source, open_image
from weevit.training.ranks import Ranks
from weevit.zoo.weights import Preprocessing

KEPT_BYTES = 512 << 20
"""Prepared images are kept in memory up to this size: most validation splits are small."""

Pixels = npt.NDArray[np.uint8]

Answers = tuple[npt.NDArray[np.float32], npt.NDArray[Any]]
"""(n, K) logits, and n targets."""


class Validation:
    """A split, or a rank's share of it, prepared once where it fits into memory.

    Attributes:
        split: the images and their classes, of all ranks.
        spec: their preprocessing.
        bad: image -> (kind, error), of unreadable images; they have no logits.
    """

    def __init__(self, split: Split, spec: Preprocessing, batch: int, threads: int, ranks: Ranks | None = None) -> None:
        self.split, self.spec, self.batch, self.threads = split, spec, batch, threads
        rank, world = (ranks.rank, ranks.world) if ranks else (0, 1)
        first, stop = (len(split) * one // world for one in (rank, rank + 1))
        self._share = split if world == 1 else split.take(range(first, stop))
        self.bad: dict[str, tuple[str, str]] = {}
        self._kept: list[Pixels | None] | None = None

    def logits(
        self,
        model: nn.Module,
        device: torch.device,
        autocast: Callable[[], AbstractContextManager[Any]],
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Answers | None:
        """The logits of a model on the split, or on this rank's share.

        Returns:
            ((n, K) float32 logits, their n targets) of the readable images, in order; None after a request to stop.
        """
        mean, std = (torch.tensor(value, device=device).view(1, 3, 1, 1) for value in (self.spec.mean, self.spec.std))
        found: list[Tensor] = []
        good: list[int] = []
        was_training = model.training
        model.eval()
        try:
            with torch.inference_mode():
                for indices, pixels in self._batches():
                    if should_stop():
                        return None
                    x = torch.from_numpy(pixels).to(device, non_blocking=True).permute(0, 3, 1, 2)
                    with autocast():
                        found.append(model((x.float() / 255 - mean) / std).float().cpu())
                    good += indices
        finally:
            model.train(was_training)
        logits = torch.cat(found).numpy() if found else np.empty((0, 0), np.float32)
        return logits, self._share.targets[good]

    def _batches(self) -> Iterator[tuple[list[int], Pixels]]:
        indices: list[int] = []
        images: list[Pixels] = []
        for index, image in enumerate(self._images()):
            if image is not None:
                indices.append(index)
                images.append(image)
            if len(images) == self.batch or (images and index == len(self._share) - 1):
                yield indices, np.stack(images)
                indices, images = [], []

    def _images(self) -> Iterator[Pixels | None]:
        """Each image prepared, None for an unreadable one."""
        if self._kept is not None:
            yield from self._kept
            return
        keep = len(self._share) * self.spec.height * self.spec.width * 3 <= KEPT_BYTES
        kept: list[Pixels | None] = []
        with ThreadPoolExecutor(self.threads, "weevit-validation") as pool:
            for start in range(0, len(self._share), self.batch):  # at most one batch is decoded ahead
                for image in pool.map(self._prepare, self._share.sources[start : start + self.batch]):
                    if keep:
                        kept.append(image)
                    yield image
        if keep:
            self._kept = kept

    def _prepare(self, source: Source) -> Pixels | None:
        try:
            return preprocess(open_image(source), self.spec)
        except ImageError as error:
            self.bad[source.name] = error.kind, error.message
            return None


def figures(logits: npt.NDArray[np.float32], targets: npt.NDArray[Any]) -> dict[str, float]:
    """The figures of an evaluation: `val_loss`, `top1`, `top5` (of more than five classes); of labels also `map`.

    Args:
        logits: (n, K).
        targets: (n,) classes, or (n, K) labels of 0 and 1.

    Raises:
        TrainingError: there are none.
    """
    if not len(targets):
        raise TrainingError("None of the validation images could be read.", "weevit data check")
    if targets.ndim == 2:
        loss = nn.functional.binary_cross_entropy_with_logits(
            torch.from_numpy(logits), torch.from_numpy(targets).float()
        )
        found = dict(metrics.multi_label(metrics.sigmoid(logits), targets))
        return {"val_loss": float(loss), "map": found["map"]}
    judged = metrics.judge(logits, targets)
    found = dict(metrics.accuracy(judged, logits.shape[1]))
    return {"val_loss": metrics.log_loss(judged)} | {name: found[name] for name in ("top1", "top5") if name in found}
