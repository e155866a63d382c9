"""A fit on int8 embeddings: the backbone is calibrated on the images that the head is fitted to."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from weevit.datasets.dataset import TRAIN, Dataset
from weevit.engine.ahead import batches
from weevit.errors import DatasetError
from weevit.predict import Predictor
from weevit.quantization.images import FEWEST_CALIBRATED, crops
from weevit.quantization.observe import observe
from weevit.quantization.quantize import answering_like, quantized_tensors, write_quantized

IMAGES = 128
"""Training images to calibrate on, at most."""


def in_int8(predictor: Predictor, dataset: Dataset, folder: Path) -> Predictor:
    """A backbone in int8, with the image size, threads and limits of its original.

    The draw and the file are the same every time, so that embeddings that are kept are found again.

    Args:
        predictor: in float32.
        dataset: with a `train` split.
        folder: for the checkpoint, which has to stay as long as its predictor.

    Raises:
        UsageError: the model is quantised already.
        DatasetError: too few training images can be read.
    """
    predictor.checkpoint.check_floats()
    sources = dataset.split(TRAIN).sources
    order = np.random.default_rng(0).permutation(len(sources))[:IMAGES]
    seen = [pixels for pixels, _ in crops(predictor, [(sources[index], None) for index in order]) if pixels is not None]
    if len(seen) < FEWEST_CALIBRATED:
        raise DatasetError(
            f"Of {len(order)} training images {len(seen)} could be read; int8 takes {FEWEST_CALIBRATED} or more.",
            "weevit data check   lists what cannot be read" if len(seen) < len(order) else "--precision fp32",
        )
    observed = observe(predictor, (np.stack(some) for some in batches(seen, 8)))
    tensors, how = quantized_tensors(predictor, observed)
    return answering_like(predictor, write_quantized(folder, predictor, tensors, how))


@contextmanager
def set_aside(folder: Path) -> Iterator[Path]:
    """A folder in a run's folder for what is gone afterwards; what a killed process leaves, the next one removes."""
    own = folder / f".int8.{secrets.token_hex(4)}.tmp"
    own.mkdir()
    try:
        yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)
