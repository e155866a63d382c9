"""How faithful the maps of `weevit explain` are: patches are removed in their order, and the class is watched.

    python benchmarks/explain_deletion.py [--photos 100]

Mean probability of the predicted class over the removal, ViT-Ti, shared photos; low is faithful. Beside it: a random
order, the reverse, plain rollout (attention alone), and the class token's attention in the last block alone.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
from common import photos, vit_tiny

import weevit
from weevit.explain.relevance import Explanation, deletion, explain_source, rollout
from weevit.images.source import Source


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=100)
    count = parser.parse_args().photos
    model, files = weevit.load(vit_tiny()), photos()
    scores: dict[str, list[float]] = {}
    for path in files[:: max(1, len(files) // count)][:count]:
        explanation = explain_source(model, Source(path.name, path))
        found = deletion(model, explanation)
        values = {"weevit explain": found.map, "random order": found.random, "least relevant first": found.reverse}
        for name, other in others(explanation).items():
            values[name] = deletion(model, other).map
        for name, value in values.items():
            scores.setdefault(name, []).append(value)
    for name, own in sorted(scores.items(), key=lambda item: np.mean(item[1])):
        print(f"{np.mean(own):.3f}  {name}")
    print(f"({count} photos)")


def others(explanation: Explanation) -> dict[str, Explanation]:
    """The same explanation with other maps."""
    steps = [attention.mean(axis=0) for _, attention in sorted(explanation.result.attention.items())]
    start = np.zeros(len(steps[0]), dtype=np.float32)
    start[0] = 1
    maps = {"plain rollout": rollout(steps, start), "last block's class token": steps[-1][0]}
    shape = explanation.relevance.shape
    return {name: replace(explanation, relevance=values[1:].reshape(shape)) for name, values in maps.items()}


if __name__ == "__main__":
    main()
