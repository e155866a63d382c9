"""Calibration: run images through the float32 graph and keep what bounds its activations."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from weevit.engine.session import Pixels, Request, open_session
from weevit.errors import CheckpointError
from weevit.graph.layers import Array
from weevit.predict import Predictor
from weevit.text import typed

MOST_TOKENS = 512
"""Images whose tokens are kept, the first ones: 0.9 GB of a ViT-B. Ranges take in all images."""

MOST_SIZE = 1e18
"""Of an input: squares of larger numbers overflow, and no trained model has them."""


@dataclass
class Observed:
    """What calibration saw, by the names of `weevit.graph.observing`.

    Attributes:
        low, high: layer -> (inputs) smallest and largest number of each input.
        tokens: layer -> (images * tokens, inputs): some tokens of at most `MOST_TOKENS` images, whole.
        images: how many.
    """

    low: dict[str, Array] = field(default_factory=dict)
    high: dict[str, Array] = field(default_factory=dict)
    tokens: dict[str, Array] = field(default_factory=dict)
    images: int = 0

    def size(self, layer: str) -> Array:
        """(inputs), the largest size of each input."""
        return np.maximum(-self.low[layer], self.high[layer])


def observe(predictor: Predictor, batches: Iterable[Pixels]) -> Observed:
    """What a model's layers see of some images.

    Args:
        predictor: of a checkpoint in float32.
        batches: images as the model sees them, (B, height, width, channels) uint8.

    Raises:
        EngineError: the graph could not be run.
        CheckpointError: what goes through it is not finite.
    """
    checkpoint, spec = predictor.checkpoint, predictor.preprocessing
    request = Request(spec.height, spec.width, observed=True)
    session = open_session(checkpoint, request, predictor.threads.count, cache=False)
    found = Observed()
    tokens: dict[str, list[Array]] = {}
    for batch in batches:
        wanted = max(0, MOST_TOKENS - found.images)
        found.images += len(batch)
        for name, values in session.run(batch).items():
            layer, _, what = name.rpartition(".")
            if what == "tokens" and wanted:
                tokens.setdefault(layer, []).append(values[:wanted].reshape(-1, values.shape[-1]))
            elif what == "low":
                own = values.min(axis=0)
                found.low[layer] = np.minimum(own, found.low.get(layer, own))
            elif what == "high":
                own = values.max(axis=0)
                found.high[layer] = np.maximum(own, found.high.get(layer, own))
    found.tokens = {layer: np.concatenate(parts) for layer, parts in tokens.items()}
    wrong = next((layer for layer in found.low if not found.size(layer).max() < MOST_SIZE), None)  # NaN is not less
    if wrong is not None:
        raise CheckpointError(
            f"{checkpoint.name} computes NaN, infinity or numbers above {MOST_SIZE:g} for these images ({wrong}): no "
            "range holds them.",
            f"weevit classify IMAGE --model {typed(checkpoint.source)}   says whether it has answers",
        )
    return found
