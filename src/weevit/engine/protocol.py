"""What an engine is asked and what it answers, whichever it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from weevit.errors import UsageError

Pixels = npt.NDArray[np.uint8]
Outputs = dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Request:
    """Which graph is wanted; the fields are those of `weevit.graph.vit.GraphOptions`, but cost no import of onnx."""

    height: int
    width: int
    features: tuple[int, ...] = ()
    attention: tuple[int, ...] = ()
    observed: bool = False

    def checked(self, pixels: npt.ArrayLike, channels: int) -> Pixels:
        """A batch that a user cropped: an engine would round other numbers to uint8, or tell in words of its own.

        Raises:
            UsageError: no image, another type or another shape.
        """
        found = np.asarray(pixels)
        if found.dtype != np.uint8 or found.shape[1:] != (self.height, self.width, channels) or not len(found):
            raise UsageError(
                f"Cropped images are uint8 of shape (images, {self.height}, {self.width}, {channels}), at least one: "
                f"{found.dtype} of shape {found.shape} was given.",
                "model.run(...) takes images of any size.",
            )
        return found


class Session(Protocol):
    """A loaded graph."""

    def run(self, pixels: Pixels, steady: bool = False) -> Outputs:
        """One batch, (B, height, width, 3) uint8 -> output name -> float32 array with B rows. Threads may share it.

        Args:
            pixels: the batch.
            steady: with onnxruntime, an image's answer is then the same to the last bit whatever else is in the batch
                and however many threads there are; a batch of an odd size costs one image more.

        Raises:
            EngineError: the engine gave up; the message has its words.
        """
        ...
