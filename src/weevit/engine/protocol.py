"""What an engine is asked and what it answers, whichever it is."""

from __future__ import annotations

from collections.abc import Sequence
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


def block_indices(layers: Sequence[int] | None, depth: int) -> tuple[int, ...]:
    """Blocks as indices from 0, each once, in order; None means the last.

    Raises:
        UsageError: there is no such block.
    """
    wanted = (depth - 1,) if layers is None else tuple(layers)
    wrong = [layer for layer in wanted if not -depth <= layer < depth]
    if wrong:
        raise UsageError(
            f"The blocks are 0 to {depth - 1} (or -{depth} to -1 from the end); there is no block {wrong[0]}.",
            f"The last one is {depth - 1}.",
        )
    return tuple(sorted({layer % depth for layer in wanted}))


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
