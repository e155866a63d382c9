"""Class names: ImageNet-1k and ImageNet-12k as (synset, name), in the order of the heads.

Synset ids and lemmas are WordNet's; the order of the 11,821 classes is timm's.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple


class Label(NamedTuple):
    """One class.

    Attributes:
        id: the unique name: a synset (`n07860988`) for ImageNet, the folder's name for your classes.
        name: for people: `dough`.
    """

    id: str
    name: str


_FILES = {1000: "imagenet_1k.tsv", 11821: "imagenet_12k.tsv"}


@cache
def imagenet_labels(num_classes: int) -> tuple[Label, ...] | None:
    """The labels of an ImageNet head of that width: 1,000 or 11,821; None for any other width."""
    if num_classes not in _FILES:
        return None
    text = (Path(__file__).parent / _FILES[num_classes]).read_text(encoding="utf-8")
    return tuple(Label(*line.split("\t", 1)) for line in text.splitlines())
