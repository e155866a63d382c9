"""The images for calibration: held-out ones, if there are enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from weevit.datasets.dataset import Split
from weevit.fitting.calibration import FEWEST
from weevit.fitting.heads import Floats
from weevit.fitting.search import Images, Search
from weevit.search.embeddings import Embedded

_SEEN = 2
"""Different images of a class that the judging head must have seen: with one it knows much less than the final head,
and is far less confident."""

_MOST_LEFT_OUT = 0.02
"""Share of training images that may lack such a judge. If all of them were wrong, a temperature from the rest would be
off by this share: two points at most."""


@dataclass(frozen=True)
class Judged:
    """Logits of images that the head was not fitted to, and their targets.

    Attributes:
        logits: (n, K).
        targets: (n), or (n, K).
        why_not: why they do not suffice for a calibration, for people; empty where they do.
    """

    logits: Floats
    targets: npt.NDArray[Any]
    why_not: str = ""


def out_of_fold(found: Search, images: Images) -> Judged:
    """The training images, each by the head that did not see it; none where that would mislead."""
    indices = np.flatnonzero(found.seen >= _SEEN)
    total, why_not = len(found.seen), ""
    if total - len(indices) > _MOST_LEFT_OUT * total:
        why_not = (
            f"for {total - len(indices):,} of {total:,} training images there are fewer than {_SEEN} others of their "
            "class to learn it from"
        )
        indices = indices[:0]
    elif len(indices) < FEWEST:
        why_not = f"{len(indices):,} training images are too few, {FEWEST} are needed"
    return Judged(found.logits[indices], images.targets[indices], why_not)


def answered(logits: Floats, split: Split, embedded: Embedded) -> Judged:
    """The images of a split that have an answer."""
    few = int(embedded.ok.sum()) < FEWEST
    why_not = f"{embedded.ok.sum():,} validation images are too few, {FEWEST} are needed" if few else ""
    return Judged(logits[embedded.ok], split.targets[embedded.ok], why_not)
