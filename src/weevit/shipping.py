"""A loaded model for another process or machine: its settings, and its weights where the file is not there."""

from __future__ import annotations

import tempfile
import weakref
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from weevit.errors import ChecksumError
from weevit.predict import Predictor
from weevit.store.files import sha256_file
from weevit.zoo.checkpoint import Checkpoint


@dataclass(frozen=True)
class Shipped:
    """What opens the same model elsewhere; it can be pickled.

    Attributes:
        checkpoint: the model, without its numbers.
        sha256: of the file of its numbers.
        options: the arguments of `Predictor` but for the threads.
    """

    checkpoint: Checkpoint
    sha256: str
    options: dict[str, Any]

    def open(self, weights: bytes, threads: int | None = None) -> Predictor:
        """The model with a number of threads; by default as many as this machine has for it.

        Args:
            weights: the bytes of the file, written to a temporary folder where this machine does not have the file.
            threads: to compute with.

        Raises:
            ChecksumError: other bytes.
        """
        checkpoint, cleanup = self.checkpoint, None
        if not _is_there(checkpoint.path, self.sha256):
            folder = tempfile.TemporaryDirectory(prefix="weevit-")
            cleanup = folder.cleanup
            path = Path(folder.name, checkpoint.path.name)
            path.write_bytes(weights)
            if not _is_there(path, self.sha256):
                raise ChecksumError(f"The weights of {checkpoint.name} changed on their way.", "Start the job again.")
            checkpoint = replace(checkpoint, path=path)
        predictor = Predictor(checkpoint, threads=threads, **self.options)
        if cleanup:
            weakref.finalize(predictor, cleanup)
        return predictor


def ship(predictor: Predictor) -> Shipped:
    """A model as it can be sent; its weights are the bytes of `predictor.checkpoint.path`."""
    spec = predictor.preprocessing
    options = {
        "image_size": (spec.height, spec.width),
        "engine": predictor.engine,
        "precision": predictor.precision,
        "device": predictor.device,
        "limits": predictor.limits,
        "reduced_jpeg": predictor.reduced_jpeg,
    }
    return Shipped(predictor.checkpoint, predictor.checkpoint.sha256, options)


def _is_there(path: Path, sha256: str) -> bool:
    try:
        return sha256_file(path) == sha256
    except OSError:
        return False
