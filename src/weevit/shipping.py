"""A loaded model for another process or machine: its settings, and its weights where the file is not there."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import weakref
from collections.abc import Callable
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

    def open(self, read: Callable[[], bytes], threads: int | None = None) -> Predictor:
        """The model with a number of threads; by default as many as this machine has for it.

        Args:
            read: gives the bytes of the file, which are written to a temporary folder; called where this machine does
                not have the file.
            threads: to compute with.

        Raises:
            ChecksumError: other bytes.
        """
        if _is_there(self.checkpoint.path, self.sha256):
            return Predictor(self.checkpoint, threads=threads, **self.options)
        weights = read()
        if hashlib.sha256(weights).hexdigest() != self.sha256:
            raise ChecksumError(f"The weights of {self.checkpoint.name} changed on their way.", "Start the job again.")
        folder = tempfile.mkdtemp(prefix="weevit-")
        path = Path(folder, self.checkpoint.path.name)
        path.write_bytes(weights)
        predictor = Predictor(replace(self.checkpoint, path=path), threads=threads, **self.options)
        weakref.finalize(predictor, shutil.rmtree, folder, ignore_errors=True)
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
